//! `configs/vit_base_cifar.yaml` as it is shipped, through a hub on loopback that serves files of the right
//! interface and breaks the connection half-way.

use std::io::Cursor;
use std::sync::Arc;

use caft::graph::onnx;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::hub::{Fault, Hub, Kind};
use super::project::{Project, ran};

const MODEL: &str = "Xenova/vit-base-patch16-224-in21k/onnx/model.onnx";
const DATA: &str = "datasets/uoft-cs/cifar10/plain_text";

/// Pictures of 32 × 32 in ten classes, told apart by their colour, as the hub publishes CIFAR-10.
fn cifar_parquet(per_class: u64, seed: u64) -> Vec<u8> {
    let schema = "message schema { optional group img { optional binary bytes; optional binary path (UTF8); } \
                  optional int64 label; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    let rows: Vec<(u64, i64)> = (0..per_class * 10).map(|i| (i, (i % 10) as i64)).collect();
    let pictures: Vec<ByteArray> = rows.iter().map(|(i, label)| picture(seed * 1000 + i, *label).into()).collect();
    let names: Vec<ByteArray> = rows.iter().map(|(i, _)| ByteArray::from(format!("{i}.png").as_str())).collect();
    let labels: Vec<i64> = rows.iter().map(|(_, label)| *label).collect();
    for values in [&pictures, &names] {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(values, Some(&vec![2; rows.len()]), None).unwrap();
        column.close().unwrap();
    }
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&labels, Some(&vec![1; rows.len()]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    file.into_inner().unwrap()
}

fn picture(seed: u64, label: i64) -> Vec<u8> {
    let random = caft::base::random::Stream::new(seed, 0);
    let base = [label & 1, label >> 1 & 1, label >> 2 & 1].map(|bit| 40 + 130 * bit as u64);
    let stripe = 60 * (label >> 3) as u64;
    let picture = image::RgbImage::from_fn(32, 32, |x, y| {
        let noise = random.below(u64::from(y * 32 + x), 20);
        let stripe = if y % 8 < 4 { stripe } else { 0 };
        image::Rgb(base.map(|value| (value + noise + stripe).min(255) as u8))
    });
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn the_headline_recipe_runs_from_a_hub_that_breaks_off() {
    let project = Project::new(0);
    let hub = Hub::start();
    let model = project.path("vit.onnx");
    onnx::write(&onnx::testing::vit_base_like(), &model).unwrap();
    let model = std::fs::read(model).unwrap();
    hub.add_with(MODEL, Kind::Large, model.clone(), [Fault::DropAfter(model.len() / 2)]);
    hub.add(&format!("{DATA}/train-00000-of-00001.parquet"), Kind::Large, cifar_parquet(6, 1));
    hub.add(&format!("{DATA}/test-00000-of-00001.parquet"), Kind::Large, cifar_parquet(2, 2));

    let plan = project.run(&["check", "vit_base_cifar"]);
    assert_eq!(plan.code, Some(0), "{plan:?}");
    let run = |extra: &[&str]| {
        let arguments = [&["run", "vit_base_cifar", "--json"], extra].concat();
        ran(project.command(&arguments).env("HF_ENDPOINT", &hub.url).output().unwrap())
    };
    let offline = run(&["--offline"]);
    assert_ne!(offline.code, Some(0), "nothing is here yet: {offline:?}");
    let first = run(&["train.epochs=5"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let record = first.json();
    assert_eq!(record["activations"]["computed"], 80);
    assert!(record["metrics"]["test/accuracy"].as_f64().unwrap() > 0.2, "{record}");
    let requests = hub.requests();
    assert!(requests.iter().any(|request| request.contains("range=bytes=")), "it resumed: {requests:?}");

    hub.go_down();
    let again = run(&["train.epochs=6", "--offline"]);
    assert_eq!(again.code, Some(0), "everything is here: {again:?}");
    assert_eq!(again.json()["activations"]["computed"], 0);
}

#[test]
fn a_hub_that_has_nothing_is_told_in_one_clear_error() {
    let project = Project::new(0);
    let hub = Hub::start();
    let ran = ran(project.command(&["run", "vit_base_cifar"]).env("HF_ENDPOINT", &hub.url).output().unwrap());
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("vit-base-patch16-224-in21k"), "{ran:?}");
}
