//! Tails of the tiny models: what crosses, what becomes of the nodes, and errors.

use super::*;
use crate::graph::onnx::testing::{tiny_cnn, tiny_vit};
use crate::graph::onnx::{OutputSpec, Select};
use crate::graph::{Graph, Op, Origin};

fn spec(name: &str, tensor: &str, select: Select) -> OutputSpec {
    OutputSpec { name: name.into(), tensor: tensor.into(), select }
}

fn build(tail: &Tail) -> Graph {
    let mut graph = Graph::new();
    let mut inputs = Vec::new();
    for (spec, shape) in tail.frontier().iter().zip(tail.row_shapes()) {
        inputs.push(graph.input(&spec.name, &shape.unwrap()).unwrap());
    }
    for end in tail.build(&mut graph, &inputs, Start::Pretrained).unwrap() {
        graph.output("out", end);
    }
    graph
}

#[test]
fn a_stage_of_a_residual_network_is_trained_from_the_tensor_that_enters_it() {
    let pooled = [spec("pooled", "/Flatten_output_0", Select::All)];
    for from in ["layer2", "/layer1/Relu_output_0"] {
        let tail = Tail::find(tiny_cnn(), &pooled, from, None).unwrap();
        let crossing: Vec<&str> = tail.frontier().iter().map(|s| s.tensor.as_str()).collect();
        assert_eq!(crossing, ["/layer1/Relu_output_0"]);
        let graph = build(&tail);
        assert_eq!(graph.shape(graph.outputs()[0].1).to_string(), "[batch, 16]");
        let named = |name: &str| graph.values().iter().find(|v| v.name == name).map(|v| v.origin.clone());
        assert!(matches!(named("backbone.layer2.0.weight"), Some(Origin::Parameter { decay: true, .. })));
        assert!(matches!(named("backbone.layer2.0.bn.running_mean"), Some(Origin::Buffer { .. })));
        assert!(named("backbone.layer1.0.weight").is_none());
        assert_eq!(graph.values()[graph.outputs()[0].1.index()].name, "pooled");
    }
}

#[test]
fn a_skip_connection_crosses() {
    let pooled = [spec("pooled", "/Flatten_output_0", Select::All)];
    let inner =
        tiny_cnn().graph.unwrap().node.iter().find(|n| n.name.starts_with("/layer2/0/Relu")).unwrap().output[0].clone();
    let tail = Tail::find(tiny_cnn(), &pooled, &inner, None).unwrap();
    assert_eq!(tail.frontier().len(), 2, "{:?}", tail.frontier());
    build(&tail);
}

#[test]
fn a_block_inside_another_is_found_by_its_path() {
    let pooled = [spec("pooled", "/Flatten_output_0", Select::All)];
    let tail = Tail::find(tiny_cnn(), &pooled, "layer2.0", None).unwrap();
    // The shortcut is beside the block and not in it.
    assert_eq!(tail.frontier().len(), 2, "{:?}", tail.frontier());
    build(&tail);
    assert!(Tail::find(tiny_cnn(), &pooled, "layer2.1", None).is_err());
}

#[test]
fn a_block_of_a_transformer_becomes_few_operators() {
    let outputs = [spec("cls", "/norm/Add_1_output_0", Select::Token { index: 0 })];
    let tail = Tail::find(tiny_vit(), &outputs, "blocks.1", None).unwrap();
    assert_eq!(tail.frontier().len(), 1, "{:?}", tail.frontier());
    let graph = build(&tail);
    let count = |is: fn(&Op) -> bool| graph.nodes().iter().filter(|n| is(&n.op)).count();
    assert_eq!(count(|op| matches!(op, Op::LayerNorm(_))), 3);
    assert_eq!(count(|op| matches!(op, Op::Attention(_))), 1);
    assert_eq!(count(|op| matches!(op, Op::Gelu(_))), 1);
    assert_eq!(count(|op| matches!(op, Op::Gemm(_))), 6);
}

#[test]
fn what_cannot_be_trained_is_named_with_the_nearest_cut_that_can() {
    let mut model = tiny_cnn();
    let nodes = &mut model.graph.as_mut().unwrap().node;
    let relu = nodes.iter_mut().find(|n| n.name == "/layer1/Relu").unwrap();
    relu.op_type = "Softsign".into();
    let pooled = [spec("pooled", "/Flatten_output_0", Select::All)];
    let tail = Tail::find(model, &pooled, "layer1", None).unwrap();
    let mut graph = Graph::new();
    let input = graph.input("x", &[8, 16, 16]).unwrap();
    let error = tail.build(&mut graph, &[input], Start::Pretrained).unwrap_err();
    assert_eq!(error.to_string(), "the node `/layer1/Relu` (Softsign) cannot be trained");
    assert_eq!(error.hint_text(), Some("above it, the model can be trained from `/layer1/Relu_output_0` on"));
}

#[test]
fn tensors_that_lead_nowhere_are_refused() {
    let find =
        |outputs: &[OutputSpec], from: &str| Tail::find(tiny_cnn(), outputs, from, None).unwrap_err().to_string();
    let c4 = [spec("c4", "/layer1/Relu_output_0", Select::All)];
    assert_eq!(find(&c4, "layer2"), "`c4` does not depend on `layer2`, so nothing would be trained");
    assert_eq!(find(&c4, "layer3"), "the model has no tensor or block `layer3`; did you mean `layer1`?");
}
