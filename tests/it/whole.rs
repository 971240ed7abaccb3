//! Whole models, `model.full`, in every mode.

use caft::graph::onnx::proto::{DataType, TensorProto};
use caft::graph::onnx::{self, make};

use super::project::{Project, Ran};

const RECIPE: &str = "
model: {full: {onnx: whole.onnx}}
data:
  kind: image_folder
  train: {path: data/train}
  test: {path: data/test}
  preprocess: {resize: {size: 32, mode: exact}, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
train: {epochs: 20, batch_size: 8, optimizer: {kind: adamw, lr: 3.0e-3}}
";

/// A convolutional network with a classifier of its own for two classes, and a softmax behind it if asked for.
fn project(per_class: usize, softmax: bool) -> Project {
    let project = Project::new(per_class);
    let mut model = onnx::testing::tiny_cnn();
    let graph = model.graph.as_mut().unwrap();
    for tensor in &mut graph.initializer {
        let values: Vec<f32> = (0..32).map(|i| (i * 37 % 101) as f32 / 500.0).collect();
        match tensor.name.as_str() {
            "fc.weight" => *tensor = TensorProto::from_f32("fc.weight", &[2, 16], &values),
            "fc.bias" => *tensor = TensorProto::from_f32("fc.bias", &[2], &[0.0; 2]),
            _ => {}
        }
    }
    let sizes = Some(vec!["N".into(), 2.into()]);
    graph.output = vec![make::value_info("logits", DataType::Float, sizes.clone())];
    if softmax {
        graph.node.push(make::node("Softmax", &["logits"], &["probabilities"], Vec::new()));
        graph.output = vec![make::value_info("probabilities", DataType::Float, sizes)];
    }
    onnx::write(&model, &project.path("whole.onnx")).unwrap();
    project.write("whole.yaml", RECIPE);
    project
}

fn run(project: &Project, words: &[&str]) -> Ran {
    let mut all = vec!["run", "whole.yaml", "--json"];
    all.extend(words);
    project.run(&all)
}

fn trained(project: &Project, record: &serde_json::Value) -> Vec<String> {
    let folder = project.path(record["path"].as_str().unwrap());
    let (weights, _) = caft::graph::Weights::load(&folder.join("checkpoint/best.safetensors")).unwrap();
    weights.0.into_keys().collect()
}

#[test]
fn a_whole_model_is_trained_in_every_mode() {
    let project = project(12, true);
    let modes: [(&[&str], &str, usize); 4] = [
        (&["train.optimizer.lr=0.03"], "backbone.fc.weight", 2),
        (&["++model.full.mode=last_block", "++model.full.train_from=layer2"], "backbone.layer2.0.weight", 17),
        (&["++model.full.mode=full"], "backbone.stem.weight", 32),
        (&["++model.full.mode=scratch"], "backbone.stem.weight", 32),
    ];
    for (words, deepest, count) in modes {
        let ran = run(&project, words);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let record = ran.json();
        assert!(record["metrics"]["test/accuracy"].as_f64().unwrap() >= 0.9, "{words:?}: {record}");
        let names = trained(&project, &record);
        assert!(names.iter().any(|name| name == deepest) && names.len() == count, "{words:?}: {names:?}");
        assert!(names.iter().all(|name| name.starts_with("backbone.")), "{names:?}");
        let path = record["path"].as_str().unwrap();
        project.picture("new/a.png", true, 1000);
        let predicted = project.run(&["predict", path, "new/a.png", "--json"]).json();
        assert_eq!(predicted["predictions"][0]["label"], "warm", "{predicted}");
        // The exported file is compared with the run before it is kept.
        let exported = project.run(&["export", path]);
        assert_eq!(exported.code, Some(0), "{exported:?}");
    }
    // An extended recipe may say the mode alone.
    project.write("mode.yaml", "model: {backbone: {mode: last_block, train_from: layer2}}\n");
    project.write("whole.yaml", &format!("extends: [./mode.yaml]{RECIPE}"));
    let ran = run(&project, &[]);
    assert!(trained(&project, &ran.json()).contains(&"backbone.layer2.0.weight".to_string()), "{ran:?}");
}

#[test]
fn what_a_whole_model_cannot_be_is_told() {
    let project = project(2, false);
    let fails = |words: &[&str], expected: &str| {
        let ran = run(&project, words);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(expected), "{ran:?}");
    };
    fails(&["++model.head={kind: mlp}"], "model.head={kind: mlp} (command line): does not go with `model.full`");
    fails(&["++model.neck={kind: gap}"], "model.neck={kind: gap} (command line): does not go with `model.full`");
    fails(&["++model.full.mode=last_block"], "is missing; it names the block");
    fails(&["++model.full.train_from=layer2"], "is for mode `last_block`");
    fails(&["++model.full.output=logit"], "did you mean `logits`?");
    onnx::write(&onnx::testing::tiny_cnn(), &project.path("whole.onnx")).unwrap();
    fails(&[], "the network gives 10 values, and the data have 2 classes");
}
