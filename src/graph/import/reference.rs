//! Whole tails against PyTorch: outputs and gradients; `tests/reference/tails.py` wrote them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::graph::execution::{Execution, Pass};
use crate::graph::onnx::proto::ModelProto;
use crate::graph::onnx::{OutputSpec, Select};
use crate::graph::{Graph, Origin};
use prost::Message;

#[derive(Deserialize)]
struct Reference {
    shapes: Vec<Vec<usize>>,
    training: bool,
    output: Vec<f64>,
    /// Per weight: Σ g·g, Σ g·w, Σ g·w², Σ |g|.
    grads: BTreeMap<String, [f64; 4]>,
}

const ROWS: usize = 3;

fn numbers(n: usize, factor: usize, modulus: usize) -> Vec<f32> {
    (0..n).map(|i| (i * factor % modulus) as f32 / (modulus / 2) as f32 - 1.0).collect()
}

fn model(bytes: &'static [u8]) -> ModelProto {
    ModelProto::decode(bytes).unwrap()
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, &include_bytes!(concat!("../../../tests/reference/tails/", $name, ".onnx"))[..])),*]
    };
}

fn files() -> [(&'static str, &'static [u8]); 12] {
    files!(
        "resnet",
        "resnet_norms",
        "bottleneck",
        "vgg",
        "densenet",
        "mobilenet_v2",
        "mobilenet_v3",
        "efficientnet",
        "convnext",
        "vit",
        "vit_torchvision",
        "bert",
    )
}

fn reference() -> BTreeMap<String, Reference> {
    serde_json::from_str(include_str!("../../../tests/reference/tails/gradients.json")).unwrap()
}

/// The trained part of a file, with its inputs named `x` and `mask`.
fn tail(bytes: &'static [u8], reference: &Reference) -> Graph {
    let output = [OutputSpec { name: "out".into(), tensor: "y".into(), select: Select::All }];
    let tail = Tail::find(model(bytes), &output, "tail", Some(&reference.shapes[0])).unwrap();
    assert_eq!(tail.frontier().len(), reference.shapes.len(), "{:?}", tail.frontier());
    let mut graph = Graph::new();
    let inputs: Vec<_> = tail
        .frontier()
        .iter()
        .zip(&reference.shapes)
        .map(|(spec, shape)| graph.input(&spec.name, shape).unwrap())
        .collect();
    for end in tail.build(&mut graph, &inputs, Start::Pretrained).unwrap() {
        graph.output("out", end);
    }
    graph
}

/// A forward and a backward pass as the script does it.
fn run(graph: &Graph, reference: &Reference) -> Execution<f32> {
    let mut run: Execution<f32> = Execution::new(graph, &graph.initial_weights(0), ROWS, true).unwrap();
    for (i, id) in graph.inputs().to_vec().into_iter().enumerate() {
        let n = run.value_mut(id).len();
        let values = match i {
            0 => numbers(n, 37, 101),
            // The second sample has but three tokens.
            _ => (0..n).map(|at| if at / 5 == 1 && at % 5 >= 3 { -10000.0 } else { 0.0 }).collect(),
        };
        run.value_mut(id).copy_from_slice(&values);
    }
    run.forward(ROWS, Pass { training: reference.training, seed: 0, step: 1, ..Pass::EVALUATION });
    let out = graph.outputs()[0].1;
    let (_, grad) = run.value_and_grad_mut(out);
    let weighting = numbers(grad.len(), 29, 61);
    grad.copy_from_slice(&weighting);
    run.backward(&[out]);
    run
}

#[test]
fn outputs_and_gradients_are_pytorchs() {
    let references = reference();
    assert_eq!(references.len(), files().len());
    for (name, bytes) in files() {
        let reference = &references[name];
        let graph = tail(bytes, reference);
        let run = run(&graph, reference);
        let out = run.value(graph.outputs()[0].1);
        assert_eq!(out.len(), reference.output.len(), "{name}");
        let length = reference.output.iter().map(|y| y * y).sum::<f64>().sqrt();
        for (ours, theirs) in out.iter().zip(&reference.output) {
            assert!((f64::from(*ours) - theirs).abs() < 1e-5 * length, "{name}: {ours}, not {theirs}");
        }
        let mut compared = 0;
        for id in run.parameters() {
            let value = &graph.values()[id.index()];
            let Origin::Parameter { init: Init::Values(weights), .. } = &value.origin else { panic!("{name}") };
            let expected = reference.grads.get(value.name.strip_prefix("backbone.").unwrap());
            let [squares, first, second, sum] = expected.unwrap_or_else(|| panic!("{name}: {}", value.name));
            let pairs = || run.grad(*id).iter().zip(weights).map(|(g, w)| (f64::from(*g), f64::from(*w)));
            let ours = [
                pairs().map(|(g, _)| g * g).sum::<f64>().sqrt(),
                pairs().map(|(g, w)| g * w).sum(),
                pairs().map(|(g, w)| g * w * w).sum(),
                pairs().map(|(g, _)| g.abs()).sum(),
            ];
            let norm = |power: i32| pairs().map(|(_, w)| w.powi(2 * power)).sum::<f64>().sqrt();
            // A gradient that vanishes for every input is but rounding: of a bias before a normalisation, and of a
            // key's.
            let scale = squares.sqrt().max(1e-2);
            let bounds = [1.0, norm(1), norm(2), (weights.len() as f64).sqrt()].map(|bound| 1e-4 * scale * bound);
            for ((ours, theirs), bound) in ours.iter().zip([&squares.sqrt(), first, second, sum]).zip(bounds) {
                assert!((ours - theirs).abs() < bound, "{name}: {}: {ours}, not {theirs}", value.name);
            }
            compared += 1;
        }
        assert_eq!(compared, reference.grads.len(), "{name}: all weights of the tail, each once");
    }
}
