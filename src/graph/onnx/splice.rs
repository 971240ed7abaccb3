//! Splicing: nodes put behind a model's outputs or before its input.

use std::collections::HashMap;

use super::cut::{Names, default_opset, rename};
use super::make::{self, Size};
use super::proto::{AttributeProto, DataType, GraphProto, ModelProto, NodeProto, TensorProto};
use crate::base::{Error, Result};
use crate::graph::op::OnnxAttribute;
use crate::graph::print::{Printed, PrintedNode};

/// The oldest version of the operators that a printed graph can be written in.
const OLDEST_OPSET: i64 = 11;

/// Appends a printed graph, whose inputs are outputs of the model by their names. The model's outputs become the
/// one output `(name in the printed graph, name to be, shape of a row)`.
///
/// # Errors
/// The model's operators are too old, an input is no output of the model, or a name is taken.
pub fn append(model: &mut ModelProto, printed: &Printed, output: (&str, &str, &[usize])) -> Result<()> {
    let opset = default_opset(model)?;
    if opset < OLDEST_OPSET {
        let what =
            format!("the backbone is written in version {opset} of the ONNX operators; {OLDEST_OPSET} is needed");
        return Err(Error::bad_input(what).hint("export the backbone again with a newer opset"));
    }
    let graph = model.graph.get_or_insert_default();
    let mut names = Names::of(graph);
    let own = printed.nodes.iter().map(|n| &n.name).chain(printed.tensors.iter().map(|(n, _)| n));
    for name in own.chain(printed.ints.iter().map(|(n, _)| n)) {
        if names.taken(name) {
            return Err(Error::bad_input(format!("the backbone has a tensor `{name}` already")));
        }
        names.take(name);
    }
    let mut ints: HashMap<&str, &Vec<i64>> = printed.ints.iter().map(|(n, v)| (n.as_str(), v)).collect();
    for node in &printed.nodes {
        graph.node.extend(adapted(node, opset, &mut ints, &mut names, &mut graph.initializer));
    }
    for (name, tensor) in &printed.tensors {
        graph.initializer.push(TensorProto::from_f32(name, &tensor.shape, &tensor.values));
    }
    for (name, values) in printed.ints.iter().filter(|(name, _)| ints.contains_key(name.as_str())) {
        graph.initializer.push(TensorProto::from_i64(name, &[values.len()], values));
    }
    let (value, wanted, row) = output;
    if names.taken(wanted) {
        rename(graph, wanted, &names.fresh(&format!("{wanted}_inner")));
    }
    graph.node.push(make::node("Identity", &[value], &[wanted], Vec::new()));
    let shape = std::iter::once(Size::from("batch")).chain(row.iter().map(|&size| Size::from(size))).collect();
    graph.output = vec![make::value_info(wanted, DataType::Float, Some(shape))];
    // What older versions of the tensors were said to be may no longer hold.
    graph.value_info.clear();
    Ok(())
}

/// A printed node, which is in version 17 of the operators, in another version. Constants that become attributes
/// are taken out of `ints`.
fn adapted(
    node: &PrintedNode,
    opset: i64,
    ints: &mut HashMap<&str, &Vec<i64>>,
    names: &mut Names,
    constants: &mut Vec<TensorProto>,
) -> Vec<NodeProto> {
    let mut attributes: Vec<AttributeProto> =
        node.attributes.iter().map(|(name, value)| attribute(name, value)).collect();
    let mut inputs: Vec<&str> = node.inputs.iter().map(String::as_str).collect();
    let reduces = node.op_type.starts_with("Reduce");
    // `ReduceSum` took its axes as an input from version 13 on, the others from 18 on.
    let axes_are_input = if node.op_type == "ReduceSum" { opset >= 13 } else { opset >= 18 };
    let axes;
    if reduces && axes_are_input && inputs.len() == 1 {
        if let Some(at) = attributes.iter().position(|a| a.name == "axes") {
            let values = attributes.remove(at).ints;
            axes = names.fresh(&format!("{}/axes", node.name));
            constants.push(TensorProto::from_i64(&axes, &[values.len()], &values));
            inputs.push(&axes);
        }
    } else if inputs.len() == 2
        && ((node.op_type == "ReduceSum" && !axes_are_input)
            || (matches!(node.op_type, "Squeeze" | "Unsqueeze") && opset < 13))
        && let Some(values) = ints.remove(inputs[1])
    {
        attributes.push(make::ints("axes", values));
        inputs.pop();
    }
    if node.op_type == "LayerNormalization" && opset < 17 {
        return layer_norm(node, names, constants);
    }
    let mut outputs: Vec<String> = (0..node.skipped_outputs).map(|i| format!("{}/unused_{i}", node.name)).collect();
    outputs.push(node.name.clone());
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let mut made = make::node(node.op_type, &inputs, &outputs, attributes);
    made.name.clone_from(&node.name);
    vec![made]
}

fn attribute(name: &str, value: &OnnxAttribute) -> AttributeProto {
    match value {
        OnnxAttribute::Int(value) => make::int(name, *value),
        OnnxAttribute::Float(value) => make::float(name, *value),
        OnnxAttribute::Ints(values) => make::ints(name, values),
        OnnxAttribute::Text(text) => make::text(name, text),
    }
}

/// `LayerNormalization` over the last axis in operators that all versions have.
fn layer_norm(node: &PrintedNode, names: &mut Names, constants: &mut Vec<TensorProto>) -> Vec<NodeProto> {
    let epsilon = node.attributes.iter().find_map(|(name, value)| match value {
        OnnxAttribute::Float(value) if *name == "epsilon" => Some(*value),
        _ => None,
    });
    let eps = names.fresh(&format!("{}/epsilon", node.name));
    constants.push(TensorProto::from_f32(&eps, &[], &[epsilon.unwrap_or(1e-5)]));
    let inner: [String; 6] = std::array::from_fn(|i| names.fresh(&format!("{}/norm_{i}", node.name)));
    let [x, scale, bias] = [0, 1, 2].map(|i| node.inputs.get(i).map_or("", String::as_str));
    let last = || vec![make::ints("axes", &[-1])];
    let mut nodes = vec![
        make::node("ReduceMean", &[x], &[&inner[0]], last()),
        make::node("Sub", &[x, &inner[0]], &[&inner[1]], Vec::new()),
        make::node("Mul", &[&inner[1], &inner[1]], &[&inner[2]], Vec::new()),
        make::node("ReduceMean", &[&inner[2]], &[&inner[3]], last()),
    ];
    let [deviation, root, normed, scaled] =
        ["deviation", "root", "normed", "scaled"].map(|what| names.fresh(&format!("{}/{what}", node.name)));
    nodes.extend([
        make::node("Add", &[&inner[3], &eps], &[&deviation], Vec::new()),
        make::node("Sqrt", &[&deviation], &[&root], Vec::new()),
        make::node("Div", &[&inner[1], &root], &[&normed], Vec::new()),
        make::node("Mul", &[&normed, scale], &[&scaled], Vec::new()),
        make::node("Add", &[&scaled, bias], &[&node.name], Vec::new()),
    ]);
    nodes
}

/// Gives the only input another name.
///
/// # Errors
/// There is not exactly one, or the name is taken.
pub fn rename_input(model: &mut ModelProto, to: &str) -> Result<()> {
    let graph = model.graph.get_or_insert_default();
    let from = only_input(graph)?;
    if from != to {
        let mut names = Names::of(graph);
        if names.taken(to) {
            rename(graph, to, &names.fresh(&format!("{to}_inner")));
        }
        rename(graph, &from, to);
        graph.input[0].name = to.to_string();
    }
    Ok(())
}

/// Gives the outputs other names, in their order.
pub fn rename_outputs(model: &mut ModelProto, to: &[String]) {
    let graph = model.graph.get_or_insert_default();
    let from: Vec<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    for (from, to) in from.iter().zip(to).filter(|(from, to)| from != to) {
        let mut names = Names::of(graph);
        if names.taken(to) {
            rename(graph, to, &names.fresh(&format!("{to}_inner")));
        }
        rename(graph, from, to);
    }
}

fn only_input(graph: &GraphProto) -> Result<String> {
    match &graph.input[..] {
        [input] => Ok(input.name.clone()),
        several => Err(Error::bad_input(format!("the model has {} inputs; one is needed", several.len()))),
    }
}

/// Puts scaling and normalisation before the only input, which becomes `name`: 8-bit pixels
/// `[batch, side, side, 3]`, red first. Values are `(pixel · scale − mean) / std`, in this order.
///
/// # Errors
/// There is not exactly one input, or the name is taken.
pub fn prepend_pixels(
    model: &mut ModelProto,
    name: &str,
    [height, width]: [usize; 2],
    (scale, mean, std): (f32, [f32; 3], [f32; 3]),
) -> Result<()> {
    let graph = model.graph.get_or_insert_default();
    let inner = only_input(graph)?;
    let mut names = Names::of(graph);
    if names.taken(name) {
        return Err(Error::bad_input(format!("the backbone has a tensor `{name}` already")));
    }
    let mut constant = |what: &str, dims: &[usize], values: &[f32]| {
        let name = names.fresh(&format!("{name}/{what}"));
        graph.initializer.push(TensorProto::from_f32(&name, dims, values));
        name
    };
    let channels = [1, 3, 1, 1];
    let (scale, mean, std) =
        (constant("scale", &[], &[scale]), constant("mean", &channels, &mean), constant("std", &channels, &std));
    let steps = ["float", "planes", "scaled", "centred"].map(|what| names.fresh(&format!("{name}/{what}")));
    let nodes = [
        make::node("Cast", &[name], &[&steps[0]], vec![make::int("to", DataType::Float as i64)]),
        make::node("Transpose", &[&steps[0]], &[&steps[1]], vec![make::ints("perm", &[0, 3, 1, 2])]),
        make::node("Mul", &[&steps[1], &scale], &[&steps[2]], Vec::new()),
        make::node("Sub", &[&steps[2], &mean], &[&steps[3]], Vec::new()),
        make::node("Div", &[&steps[3], &std], &[&inner], Vec::new()),
    ];
    graph.node.splice(0..0, nodes);
    let shape = vec![Size::from("batch"), height.into(), width.into(), 3.into()];
    graph.input = vec![make::value_info(name, DataType::Uint8, Some(shape))];
    Ok(())
}

/// The metadata of a file from which nothing was folded away, so that all of it can be trained.
pub const UNFOLDED: &str = "caft.unfolded";

/// Sets a text of the model's metadata.
pub fn set_metadata(model: &mut ModelProto, key: &str, value: String) {
    use super::proto::StringStringEntryProto;
    match model.metadata_props.iter_mut().find(|entry| entry.key == key) {
        Some(entry) => entry.value = value,
        None => model.metadata_props.push(StringStringEntryProto { key: key.into(), value }),
    }
}

/// A text of the model's metadata.
pub fn metadata<'a>(model: &'a ModelProto, key: &str) -> Option<&'a str> {
    model.metadata_props.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::proto::OperatorSetIdProto;
    use super::*;
    use crate::graph::op::{LayerNorm, Reduce, ReduceKind, Token};
    use crate::graph::{Graph, Init, print};

    fn model(opset: i64) -> ModelProto {
        let graph = GraphProto {
            input: vec![make::value_info("x", DataType::Float, None)],
            output: vec![make::value_info("tokens", DataType::Float, None)],
            node: vec![make::node("Relu", &["x"], &["tokens"], Vec::new())],
            ..GraphProto::default()
        };
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: opset }];
        ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..ModelProto::default() }
    }

    fn printed() -> Printed {
        let mut graph = Graph::new();
        let x = graph.input("tokens", &[3, 4]).unwrap();
        let mean = graph.node("mean", Reduce { kind: ReduceKind::Mean, start: 0, end: 1 }, &[x]).unwrap();
        let token = graph.node("token", Token { index: 1 }, &[x]).unwrap();
        let scale = graph.parameter("scale", &[4], Init::Fill(1.0), false).unwrap();
        let bias = graph.parameter("bias", &[4], Init::Fill(0.0), false).unwrap();
        let normed = graph.node("norm", LayerNorm { eps: 1e-5 }, &[token, scale, bias]).unwrap();
        let _ = mean;
        graph.output("logits", normed);
        print::print(&graph, &graph.initial_weights(0), "caft/").unwrap()
    }

    #[test]
    fn nodes_are_written_in_the_models_own_version_of_the_operators() {
        for (opset, axes_attribute, squeeze_inputs, has_norm) in
            [(11, true, 1, false), (17, true, 2, true), (18, false, 2, true)]
        {
            let mut model = model(opset);
            append(&mut model, &printed(), ("caft/norm", "logits", &[4])).unwrap();
            let graph = model.graph.as_ref().unwrap();
            let node = |op: &str| graph.node.iter().find(|node| node.op_type == op);
            assert_eq!(node("ReduceMean").unwrap().attribute("axes").is_some(), axes_attribute, "{opset}");
            assert_eq!(node("Squeeze").unwrap().input.len(), squeeze_inputs);
            assert_eq!(node("LayerNormalization").is_some(), has_norm);
            assert_eq!(graph.output[0].name, "logits");
        }
        assert!(append(&mut model(9), &printed(), ("caft/norm", "logits", &[4])).is_err());
    }

    #[test]
    fn an_input_gets_a_name_and_pixels_before_it() {
        let mut model = model(17);
        rename_input(&mut model, "pixel_values").unwrap();
        assert_eq!(model.graph.as_ref().unwrap().node[0].input, ["pixel_values"]);
        prepend_pixels(&mut model, "pixels", [2, 2], (1.0 / 255.0, [0.5; 3], [0.5; 3])).unwrap();
        let graph = model.graph.as_ref().unwrap();
        assert_eq!((graph.input.len(), graph.input[0].name.as_str()), (1, "pixels"));
        assert_eq!(graph.node[4].output, graph.node[5].input);
        set_metadata(&mut model, "a", "1".into());
        set_metadata(&mut model, "a", "2".into());
        assert_eq!(metadata(&model, "a"), Some("2"));
    }
}
