//! Data sets of a hub, in parquet, read from a recipe as a user runs it.

use super::hub::{Hub, Kind};
use super::project::{Project, ran};
use serde_json::json;

/// Files as the hub has CIFAR-10 and CIFAR-100; `tests/reference/hub_parquet.py` made them.
const FILES: [(&str, &[u8]); 4] = [
    ("cifar10/plain_text/train-00000-of-00002.parquet", include_bytes!("../reference/hub/cifar10-train-0.parquet")),
    ("cifar10/plain_text/train-00001-of-00002.parquet", include_bytes!("../reference/hub/cifar10-train-1.parquet")),
    ("cifar10/plain_text/test-00000-of-00001.parquet", include_bytes!("../reference/hub/cifar10-test.parquet")),
    ("cifar100/cifar100/train-00000-of-00001.parquet", include_bytes!("../reference/hub/cifar100-train.parquet")),
];

#[test]
fn data_sets_of_the_hub_are_read_by_a_star_and_offline_again() {
    let (hub, project) = (Hub::start(), Project::new(1));
    for (name, bytes) in FILES {
        hub.add(&format!("datasets/owner/{name}"), Kind::Large, bytes);
    }
    let recipe = std::fs::read_to_string(project.path("recipe.yaml")).unwrap();
    let (model, rest) = recipe.split_once("data:").unwrap();
    let train = &rest[rest.find("train: {epochs").unwrap()..];
    let run = |data: &str, arguments: &[&str]| {
        let steps = "preprocess: {resize: {size: 32, mode: exact}, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}";
        project.write("hub.yaml", &format!("{model}data:\n  {data}\n  {steps}\n{train}"));
        let mut command = project.command(&[&["run", "hub.yaml", "--json"], arguments].concat());
        let ran = ran(command.env("HF_ENDPOINT", &hub.url).output().unwrap());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.json()
    };
    let sets = "train: {path: hf:datasets/owner/cifar10/plain_text/train-*.parquet}
  test: {path: hf:datasets/owner/cifar10/plain_text/test-*.parquet}";
    let ten = format!("kind: cifar10\n  {sets}");
    let first = run(&ten, &[]);
    assert_eq!(first["activations"], json!({"computed": 24, "reused": 0}));
    assert_eq!(first["metrics"]["test/accuracy"], 1.0, "red and blue are told apart");
    let offline = run(&ten, &["--offline", "train.seed=5"]);
    assert_eq!(offline["activations"], json!({"computed": 0, "reused": 24}));

    // The same files as any parquet are the same run: the names of the classes are in them.
    let any = run(&format!("kind: parquet\n  image: img\n  {sets}"), &[]);
    assert_eq!(any["id"], first["id"]);

    let hundred = "train: {path: hf:datasets/owner/cifar100/cifar100/train-*.parquet}\n  test: {fraction: 0.5}";
    for (labels, class) in [("fine", "fine_91"), ("coarse", "coarse_4")] {
        let record = run(&format!("kind: cifar100\n  labels: {labels}\n  {hundred}"), &[]);
        let plan = project.path(record["path"].as_str().unwrap()).join("plan.json");
        assert!(std::fs::read_to_string(plan).unwrap().contains(class), "{labels}");
    }
}
