//! `caft engine`, as a user sees it.

use caft::graph::onnx::make::Size;
use caft::graph::onnx::{self, testing};

use super::hub::{Fault, Hub, Kind};
use super::project::{Project, ran};

const NORM: &str = "/norm/Add_1_output_0";

#[test]
fn an_engine_is_inspected_built_listed_verified_and_removed() {
    let project = Project::new(1);
    onnx::write(&testing::frozen_vit(), &project.path("vit.onnx")).unwrap();
    let seen = project.run(&["engine", "inspect", "vit.onnx", "--svg", "vit.svg"]);
    assert_eq!(seen.code, Some(0), "{seen:?}");
    assert!(seen.stdout.contains(&format!("cls         [16]      {NORM}  token=0")), "{}", seen.stdout);
    let svg = std::fs::read_to_string(project.path("vit.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    let json = project.run(&["engine", "inspect", "vit.onnx", "--json"]).json();
    assert_eq!(json["outputs"][0]["shape"], "[batch, 17, 16]");

    let unsaid = project.run(&["engine", "build", "vit.onnx"]);
    assert_eq!(unsaid.code, Some(2), "{unsaid:?}");
    assert!(unsaid.stderr.contains(&format!("`--output cls={NORM}:token=0`")), "{unsaid:?}");

    let outputs = [format!("cls={NORM}:token=0"), format!("mean={NORM}:mean_tokens=1"), format!("tokens={NORM}")];
    let build = ["engine", "build", "vit.onnx", "--json", "-o", &outputs[0], "-o", &outputs[1], "-o", &outputs[2]];
    let manifest = project.run(&build).json();
    assert_eq!(manifest["checks"][0]["batch_invariant"], true, "{manifest}");
    for parity in manifest["checks"][0]["parity"].as_array().unwrap() {
        assert!(parity["cosine"].as_f64().unwrap() > 0.999_999, "{manifest}");
        assert!(parity["max_difference"].as_f64().unwrap() < 1e-5, "{manifest}");
    }
    assert_eq!(manifest["outputs"][2]["shape"], serde_json::json!([17, 16]));

    let verified = project.run(&["engine", "verify", "vit", "--samples", "2"]);
    assert!(verified.stdout.contains("the same to the bit in every batch"), "{verified:?}");
    assert_eq!(project.run(&["engine", "ls", "--json"]).json().as_array().unwrap().len(), 1);
    let real = project.run(&["engine", "verify", "vit", "--pictures", "data/train"]);
    assert!(real.stdout.contains("on 2 samples (pictures of data/train)"), "{real:?}");
    let shown = project.run(&["engine", "show", "vit"]).stdout;
    for part in ["operator set 17", "digest ", "f32    [17, 16]", "FLOPs a sample", "licence     not known"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let slip = project.run(&["engine", "show", "vitt"]);
    assert!(slip.code == Some(2) && slip.stderr.contains("did you mean `vit`?"), "{slip:?}");
    assert_eq!(project.run(&["engine", "rm", "vit"]).code, Some(0));
    assert_eq!(project.run(&["engine", "ls", "--json"]).json(), serde_json::json!([]));
}

#[test]
fn an_engine_in_fp16_is_half_as_large_and_agrees() {
    let project = Project::new(1);
    onnx::write(&testing::tiny_vit(), &project.path("vit.onnx")).unwrap();
    onnx::write(&testing::tiny_cnn(), &project.path("cnn.onnx")).unwrap();
    for (model, output) in [("vit.onnx", format!("tokens={NORM}")), ("cnn.onnx", "c=/Flatten_output_0".to_string())] {
        let build = |precision: &str| {
            project.run(&["engine", "build", model, "-o", &output, "--precision", precision, "--json"]).json()
        };
        let (single, half) = (build("fp32"), build("fp16"));
        let bytes = |manifest: &serde_json::Value| manifest["files"]["model.onnx"]["bytes"].as_u64().unwrap();
        assert!(bytes(&half) < bytes(&single), "{half}");
        assert_eq!(half["precision"], "fp16");
        let checks = &half["checks"][0];
        let cosine = checks["parity"][0]["cosine"].as_f64().unwrap();
        assert!(cosine > 0.9999 && cosine < 1.0, "{half}");
        assert_eq!(checks["batch_invariant"], true, "{half}");
    }
    let refused = project.run(&["engine", "build", "vit.onnx", "-o", &format!("t={NORM}"), "--precision", "fp8"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("fp8"), "{refused:?}");
}

#[test]
fn an_engine_takes_pictures_of_another_size() {
    let project = Project::new(1);
    onnx::write(&testing::frozen_vit(), &project.path("vit.onnx")).unwrap();
    let outputs = [format!("cls={NORM}:token=0"), format!("tokens={NORM}")];
    let build = ["engine", "build", "vit.onnx", "--json", "-o", &outputs[0], "-o", &outputs[1], "--image-size", "64"];
    let manifest = project.run(&build).json();
    assert_eq!(manifest["inputs"][0]["shape"], serde_json::json!([3, 64, 64]));
    assert_eq!(manifest["outputs"][1]["shape"], serde_json::json!([65, 16]));
    assert_eq!(manifest["checks"][0]["batch_invariant"], true);
    assert!(manifest["checks"][0]["parity"][0]["cosine"].as_f64().unwrap() > 0.999_999, "{manifest}");

    let ran = project.run(&["run", "recipe.yaml", "data.preprocess.resize.size=64", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let flat = project.run(&["engine", "build", "vit.onnx", "-o", &outputs[0], "--image-size", "60"]);
    assert_eq!(flat.code, Some(0), "a border that fills no patch is left out: {flat:?}");
}

#[test]
fn a_shape_that_only_running_tells_is_learnt() {
    let project = Project::new(1);
    let mut b = testing::Builder::new("crop", 18, 0);
    let image = b.input("image", vec!["n".into(), 3.into(), 8.into(), 8.into()]);
    let size = b.ints(&[3, 4, 6]);
    let cropped = b.op("CenterCropPad", &[&image, &size], vec![onnx::make::ints("axes", &[1, 2, 3])]);
    b.output(&cropped, "cropped", vec![Size::from("n"), Size::from("c"), Size::from("h"), Size::from("w")]);
    onnx::write(&b.finish(), &project.path("crop.onnx")).unwrap();
    let manifest = project.run(&["engine", "build", "crop.onnx", "-o", &format!("c={cropped}:gap"), "--json"]).json();
    assert_eq!(manifest["outputs"][0]["shape"], serde_json::json!([3]));
    assert!(manifest["checks"][0]["parity"][0]["cosine"].as_f64().unwrap() > 0.999_999, "{manifest}");
}

#[test]
fn a_model_of_a_hub_comes_with_the_files_that_its_weights_are_in() {
    let (project, hub) = (Project::new(1), Hub::start());
    onnx::write_split(&testing::tiny_vit(), &project.path("model.onnx"), 1 << 10).unwrap();
    let bytes = |name: &str| std::fs::read(project.path(name)).unwrap();
    let data = bytes("model.onnx.data");
    hub.add("me/vit/onnx/model.onnx", Kind::Large, bytes("model.onnx"));
    hub.add("me/vit/onnx/model.onnx.data", Kind::Large, data.clone());
    hub.add("me/half/model.onnx", Kind::Large, bytes("model.onnx"));
    let mut escapes = bytes("model.onnx");
    while let Some(at) = escapes.windows(15).position(|name| name == b"model.onnx.data") {
        escapes[at..at + 15].copy_from_slice(b"../el.onnx.data");
    }
    hub.add("me/escapes/model.onnx", Kind::Large, escapes);
    hub.add("me/damaged/model.onnx", Kind::Large, bytes("model.onnx"));
    hub.add_with("me/damaged/model.onnx.data", Kind::Large, data.clone(), vec![Fault::Corrupt; 8]);
    hub.add("me/short/model.onnx", Kind::Large, bytes("model.onnx"));
    hub.add("me/short/model.onnx.data", Kind::Large, &data[..data.len() / 2]);
    let build_at = |home: &str, address: &str, more: &[&str]| {
        let output = format!("cls={NORM}:token=0");
        let words = [&["engine", "build", address, "-o", &output, "--json"], more].concat();
        let mut command = project.command(&words);
        ran(command.env("HF_ENDPOINT", &hub.url).env("CAFT_HOME", project.path(home)).output().unwrap())
    };
    let build = |address: &str, more: &[&str]| build_at("home", address, more);
    let built = build("hf:me/vit/onnx/model.onnx@main", &[]);
    assert_eq!(built.code, Some(0), "{built:?}");
    assert_eq!(built.json()["checks"][0]["batch_invariant"], true, "{built:?}");
    let local = build("model.onnx", &[]).json();
    assert_eq!(local["source"]["digest"], built.json()["source"]["digest"], "the same weights, wherever they lie");
    for (repo, said) in [
        ("half", "model.onnx.data"),
        ("damaged", "model.onnx.data"),
        ("short", "but that file has"),
        ("escapes", "keeps values in `../el.onnx.data`"),
    ] {
        // What was fetched once is known by its digest, whichever repository has it; so each has a home of its own.
        let refused = build_at(&format!("home-{repo}"), &format!("hf:me/{repo}/model.onnx@main"), &[]);
        assert!(refused.code != Some(0) && refused.stdout.is_empty(), "{refused:?}");
        assert!(refused.stderr.contains(said), "{repo}: {refused:?}");
    }
    assert!(!hub.requests().iter().any(|request| request.contains("/el.onnx.data")), "{:?}", hub.requests());
    hub.go_down();
    let offline = build("hf:me/vit/onnx/model.onnx@main", &["--offline"]);
    assert_eq!(offline.json()["source"], built.json()["source"]);
}

/// An interpreter that sees no installed packages, and one whose packages are stubs that "export" a file.
#[cfg(unix)]
pub fn interpreter(project: &Project, name: &str, stubs: Option<&str>) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = stubs.map(|folder| format!("PYTHONPATH={} ", project.path(folder).display())).unwrap_or_default();
    project.write(name, &format!("#!/bin/sh\n{path}exec python3 -S \"$@\"\n"));
    std::fs::set_permissions(project.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    project.path(name).display().to_string()
}

#[test]
#[cfg(unix)]
fn an_export_says_what_to_install_and_writes_nothing_that_is_no_model() {
    let project = Project::new(1);
    let bare = interpreter(&project, "bare", None);
    let lacking = project.run(&["engine", "export", "resnet18", "--python", &bare]);
    assert_eq!(lacking.code, Some(2), "{lacking:?}");
    assert!(lacking.stderr.contains("lacks the packages `torch`, `torchvision`, `onnx`"), "{lacking:?}");
    assert!(lacking.stderr.contains("-m pip install torch torchvision onnx"), "{lacking:?}");
    assert!(!project.path("resnet18.onnx").exists());

    for module in ["timm", "onnx"] {
        project.write(&format!("stubs/{module}.py"), TIMM);
    }
    project.write("stubs/torch.py", TORCH);
    let stubbed = interpreter(&project, "stubbed", Some("stubs"));
    let export = ["engine", "export", "timm:tiny", "--weights", "random", "--python", &stubbed, "--image-size", "32"];
    project.write("made.onnx", "<html>");
    let page = project.run(&export);
    assert!(page.code == Some(2) && page.stderr.contains("is not an ONNX model"), "{page:?}");
    assert!(!project.path("tiny.onnx").exists());
    onnx::write(&testing::tiny_cnn(), &project.path("made.onnx")).unwrap();
    let made = project.run(&export);
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(made.stdout.contains("next: caft engine inspect tiny.onnx"), "{made:?}");
    assert_eq!(onnx::read(&project.path("tiny.onnx")).unwrap(), testing::tiny_cnn());
    let trained = project.run(&[&export[..], &["--train"]].concat());
    assert_eq!(trained.code, Some(0), "{trained:?}");
    // What was exported unfolded says so.
    let model = onnx::read(&project.path("tiny_train.onnx")).unwrap();
    assert_eq!(onnx::splice::metadata(&model, onnx::splice::UNFOLDED), Some("true"));
    let unknown = project.run(&["engine", "export", "timm:none", "--python", &stubbed]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("timm has no model `none`"), "{unknown:?}");
}

#[cfg(unix)]
const TIMM: &str = "
class Net:
    def eval(self): return self
def is_model(name): return name == 'tiny'
def create_model(name, pretrained): return Net()
class Graph: node = []; value_info = []
class Model: graph = Graph()
def load(path, load_external_data): return Model()
def save(model, path): pass
";

#[cfg(unix)]
const TORCH: &str = "
import shutil, types
class Module:
    def __init__(self): pass
    def eval(self): return self
    def modules(self): return []
class NoGrad:
    def __enter__(self): pass
    def __exit__(self, *_): pass
class Generator:
    def manual_seed(self, seed): return self
nn = types.SimpleNamespace(Module=Module)
no_grad = NoGrad
Tensor = list
def manual_seed(seed): pass
def randn(*size, generator=None): return []
def export(net, image, path, **_): shutil.copy('made.onnx', path)
onnx = types.SimpleNamespace(export=export, TrainingMode=types.SimpleNamespace(PRESERVE='preserve'))
";
