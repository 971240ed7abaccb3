//! Single operators against ONNX Runtime, read from a file and printed into one; `tests/reference/operators.py`
//! wrote the numbers.

use std::collections::BTreeMap;

use prost::Message;
use serde::Deserialize;

use super::*;
use crate::graph::execution::{Execution, Pass};
use crate::graph::onnx::make::{self, Size};
use crate::graph::onnx::proto::{DataType, GraphProto, ModelProto, OperatorSetIdProto, TensorProto};
use crate::graph::onnx::{OutputSpec, Select};
use crate::graph::op::OnnxAttribute;
use crate::graph::{Graph, Init, Op, Origin, print};

const ROWS: usize = 2;

#[derive(Deserialize)]
struct Case {
    model: String,
    shape: Vec<usize>,
    output: Vec<f32>,
}

fn decode(hex: &str) -> ModelProto {
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    ModelProto::decode(bytes.as_slice()).unwrap()
}

/// Everything above the model's input.
fn whole(model: ModelProto, shape: &[usize]) -> Graph {
    let output = [OutputSpec { name: "out".into(), tensor: "y".into(), select: Select::All }];
    let tail = Tail::find(model, &output, "x", Some(shape)).unwrap();
    let mut graph = Graph::new();
    let input = graph.input("x", shape).unwrap();
    let ends = tail.build(&mut graph, &[input], Start::Pretrained).unwrap();
    graph.output("out", ends[0]);
    graph
}

fn outputs(graph: &Graph, training: bool) -> Vec<f32> {
    let mut run: Execution<f32> = Execution::new(graph, &graph.initial_weights(0), ROWS, true).unwrap();
    let x = run.value_mut(graph.inputs()[0]);
    x.iter_mut().enumerate().for_each(|(i, x)| *x = 2.0 * ((i * 37 % 101) as f32 / 50.0 - 1.0));
    run.forward(ROWS, Pass { training, seed: 0, step: 1, ..Pass::EVALUATION });
    run.value(graph.outputs()[0].1).to_vec()
}

/// The printed form of a graph as a model.
fn printed(graph: &Graph, shape: &[usize]) -> ModelProto {
    let printed = print::print(graph, &graph.initial_weights(0), "p/").unwrap();
    let mut proto = GraphProto::default();
    for node in &printed.nodes {
        let attributes = node.attributes.iter().map(|(name, value)| match value {
            OnnxAttribute::Int(value) => make::int(name, *value),
            OnnxAttribute::Float(value) => make::float(name, *value),
            OnnxAttribute::Ints(values) => make::ints(name, values),
            OnnxAttribute::Text(text) => make::text(name, text),
        });
        let inputs: Vec<&str> = node.inputs.iter().map(String::as_str).collect();
        proto.node.push(make::node(node.op_type, &inputs, &[&node.name], attributes.collect()));
    }
    proto.node.push(make::node("Identity", &[&printed.outputs[0].1], &["y"], Vec::new()));
    proto.initializer.extend(printed.tensors.iter().map(|(name, t)| TensorProto::from_f32(name, &t.shape, &t.values)));
    proto.initializer.extend(printed.ints.iter().map(|(name, v)| TensorProto::from_i64(name, &[v.len()], v)));
    let sizes = |dims: &[usize]| std::iter::once(Size::from("n")).chain(dims.iter().map(|d| Size::from(*d))).collect();
    proto.input.push(make::value_info("x", DataType::Float, Some(sizes(shape))));
    let out = &graph.shape(graph.outputs()[0].1).dims;
    proto.output.push(make::value_info("y", DataType::Float, Some(sizes(out))));
    let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
    ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(proto), ..ModelProto::default() }
}

#[test]
fn operators_give_onnx_runtimes_numbers_as_read_and_as_printed() {
    let cases: BTreeMap<String, Case> =
        serde_json::from_str(include_str!("../../../tests/reference/operators.json")).unwrap();
    for (name, case) in cases {
        let graph = whole(decode(&case.model), &case.shape);
        let again = whole(printed(&graph, &case.shape), &case.shape);
        for (form, graph) in [("read", &graph), ("printed", &again)] {
            let out = outputs(graph, false);
            assert_eq!(out.len(), case.output.len(), "{name}, {form}");
            for (ours, theirs) in out.iter().zip(&case.output) {
                assert!((ours - theirs).abs() < 1e-5 * theirs.abs().max(1.0), "{name}, {form}: {ours}, not {theirs}");
            }
        }
    }
}

#[test]
fn weights_drawn_anew_do_not_depend_on_the_file() {
    let cases: BTreeMap<String, Case> =
        serde_json::from_str(include_str!("../../../tests/reference/operators.json")).unwrap();
    let case = &cases["batch_norm"];
    let output = [OutputSpec { name: "out".into(), tensor: "y".into(), select: Select::All }];
    let tail = Tail::find(decode(&case.model), &output, "x", Some(&case.shape)).unwrap();
    let mut graph = Graph::new();
    let input = graph.input("x", &case.shape).unwrap();
    tail.build(&mut graph, &[input], Start::Drawn).unwrap();
    for value in graph.values() {
        if let Origin::Parameter { init, .. } | Origin::Buffer { init } = &value.origin {
            assert!(matches!(init, Init::Fill(_)), "{}", value.name);
        }
    }
    assert!(matches!(graph.nodes()[0].op, Op::BatchNorm(_)));
}
