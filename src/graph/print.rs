//! A graph as ONNX nodes and initialisers, in plain data that an exporter splices into a file.

use super::op::{OnnxAttribute, OnnxInput, OnnxNode};
use super::{Graph, Origin, Shape, Tensor, ValueId, Weights};
use crate::base::Result;

/// The ONNX form (opset 17) of a graph in evaluation mode. Inputs keep their names; all other names begin
/// with the prefix.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Printed {
    /// The nodes, in order.
    pub nodes: Vec<PrintedNode>,
    /// f32 initialisers.
    pub tensors: Vec<(String, Tensor)>,
    /// int64 initialisers of one dimension, such as shapes.
    pub ints: Vec<(String, Vec<i64>)>,
    /// The names of the graph's outputs, in order: its own name, and the name of the value here.
    pub outputs: Vec<(String, String)>,
}

/// One ONNX node, of which one output is used.
#[derive(Debug, Clone, PartialEq)]
pub struct PrintedNode {
    /// The ONNX operator.
    pub op_type: &'static str,
    /// Unique; also the used output's name.
    pub name: String,
    /// How many outputs it has before that one; nothing reads them.
    pub skipped_outputs: usize,
    /// Names of values.
    pub inputs: Vec<String>,
    /// Attributes.
    pub attributes: Vec<(&'static str, OnnxAttribute)>,
}

/// Prints a graph with its weights.
///
/// # Errors
/// A weight is missing or has another shape.
pub fn print(graph: &Graph, weights: &Weights, prefix: &str) -> Result<Printed> {
    let mut printed = Printed::default();
    let name = |id: ValueId| -> String {
        let value = &graph.values()[id.0];
        match value.origin {
            Origin::Input => value.name.clone(),
            _ => format!("{prefix}{}", value.name),
        }
    };
    for (i, value) in graph.values().iter().enumerate() {
        let shape = value.shape.dims.clone();
        let values = match &value.origin {
            Origin::Parameter { .. } | Origin::Buffer { .. } => weights.get(&value.name, &shape)?.to_vec(),
            Origin::Constant(values) => values.clone(),
            Origin::Input | Origin::Node(_) => continue,
        };
        printed.tensors.push((name(ValueId(i)), Tensor { shape, values }));
    }
    for node in graph.nodes() {
        let shapes: Vec<&Shape> = node.inputs.iter().map(|id| graph.shape(*id)).collect();
        let form = node.op.onnx(&shapes);
        let output = name(node.output);
        let inner = |i: usize| if i + 1 == form.len() { output.clone() } else { format!("{output}/{i}") };
        for (i, part) in form.iter().enumerate() {
            let mut inputs = Vec::with_capacity(part.inputs.len());
            for (j, input) in part.inputs.iter().enumerate() {
                let constant = format!("{output}/{i}/{j}");
                inputs.push(match input {
                    OnnxInput::Input(k) => name(node.inputs[*k]),
                    OnnxInput::Node(k) => inner(*k),
                    OnnxInput::Tensor(tensor) => {
                        printed.tensors.push((constant.clone(), tensor.clone()));
                        constant
                    }
                    OnnxInput::Ints(values) => {
                        printed.ints.push((constant.clone(), values.clone()));
                        constant
                    }
                });
            }
            let OnnxNode { op_type, skipped_outputs, .. } = *part;
            let attributes = part.attributes.clone();
            printed.nodes.push(PrintedNode { op_type, name: inner(i), skipped_outputs, inputs, attributes });
        }
    }
    printed.outputs = graph.outputs().iter().map(|(own, id)| (own.clone(), name(*id))).collect();
    Ok(printed)
}

#[cfg(test)]
mod tests {
    use super::super::op::{Gemm, Normalize};
    use super::super::{Init, Origin};
    use super::*;

    #[test]
    fn nodes_and_initialisers_have_unique_names_that_fit_together() {
        let mut graph = Graph::new();
        let x = graph.input("cls", &[2, 4]).unwrap();
        let mean = graph.buffer("neck.mean", &[4], Init::Fill(0.0)).unwrap();
        let scale = graph.buffer("neck.scale", &[4], Init::Fill(1.0)).unwrap();
        let x = graph.node("neck", Normalize, &[x, mean, scale]).unwrap();
        let weight = graph.parameter("head.weight", &[3, 4], Init::fan_in(4), true).unwrap();
        let y = graph.node("head", Gemm, &[x, weight]).unwrap();
        graph.output("logits", y);
        let printed = print(&graph, &graph.initial_weights(0), "caft/").unwrap();
        let types: Vec<&str> = printed.nodes.iter().map(|n| n.op_type).collect();
        assert_eq!(types, ["Sub", "Mul", "Transpose", "MatMul"]);
        assert_eq!(printed.outputs, [("logits".to_string(), "caft/head".to_string())]);
        let mut known: Vec<String> = printed.tensors.iter().map(|(n, _)| n.clone()).collect();
        known.extend(graph.values().iter().filter(|v| v.origin == Origin::Input).map(|v| v.name.clone()));
        for node in &printed.nodes {
            assert!(node.inputs.iter().all(|i| known.contains(i)), "{node:?}");
            assert!(!known.contains(&node.name));
            known.push(node.name.clone());
        }
    }
}
