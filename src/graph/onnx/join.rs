//! Several models side by side in one.

use std::collections::HashSet;

use super::cut::{Names, default_opset};
use super::make;
use super::proto::{DimensionValue, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use crate::base::{Error, Result};

/// The oldest version of the operators that [`raise`] knows how to leave.
const OLDEST: i64 = 13;

/// Puts models side by side: the result has the inputs and outputs of all. Every name of a model, those of its inputs
/// and outputs too, begins with the model's own prefix, so that none clash. Older models are raised to the newest
/// version of the operators among them.
///
/// # Errors
/// There is no model; one is too old to be raised, or has a node that a newer version has no equal of; two have
/// different functions of one name.
pub fn join(models: Vec<(String, ModelProto)>) -> Result<ModelProto> {
    let opsets = models.iter().map(|(_, model)| default_opset(model)).collect::<Result<Vec<_>>>()?;
    let newest = opsets.into_iter().max().unwrap_or_default();
    let mut models = models.into_iter();
    let Some((prefix, mut all)) = models.next() else { return Err(Error::bad_input("there is no model to join")) };
    prepare(&mut all, &prefix, newest)?;
    for (prefix, mut model) in models {
        prepare(&mut model, &prefix, newest)?;
        all.ir_version = all.ir_version.max(model.ir_version);
        for set in model.opset_import {
            match all.opset_import.iter_mut().find(|known| known.domain == set.domain) {
                Some(known) => known.version = known.version.max(set.version),
                None => all.opset_import.push(set),
            }
        }
        for function in model.functions {
            let is_same = |known: &FunctionProto| known.name == function.name && known.domain == function.domain;
            match all.functions.iter().find(|known| is_same(known)) {
                Some(known) if *known == function => {}
                Some(_) => {
                    let name = &function.name;
                    return Err(Error::bad_input(format!("two models have different functions called `{name}`"))
                        .hint("export them with their functions inlined"));
                }
                None => all.functions.push(function),
            }
        }
        let (graph, other) = (all.graph.get_or_insert_default(), model.graph.unwrap_or_default());
        graph.node.extend(other.node);
        graph.initializer.extend(other.initializer);
        graph.sparse_initializer.extend(other.sparse_initializer);
        graph.input.extend(other.input);
        graph.output.extend(other.output);
        graph.value_info.extend(other.value_info);
        graph.quantization_annotation.extend(other.quantization_annotation);
    }
    Ok(all)
}

fn prepare(model: &mut ModelProto, prefix: &str, newest: i64) -> Result<()> {
    raise(model, newest)?;
    // `ai.onnx` is the other name of the standard set.
    for set in &mut model.opset_import {
        if set.domain == "ai.onnx" {
            set.domain.clear();
        }
    }
    add_prefix(model.graph.get_or_insert_default(), prefix);
    Ok(())
}

/// Rewrites a model for a newer version of the operators: `Reduce…` take their axes as an input from version 18 on,
/// `Split` says how many parts it makes, and from version 20 on `GridSample` has other words for its modes.
///
/// # Errors
/// It is older than version 13, or has a node whose meaning changed.
fn raise(model: &mut ModelProto, newest: i64) -> Result<()> {
    let own = default_opset(model)?;
    if own == newest {
        return Ok(());
    }
    let refuse = |what: String| {
        Err(Error::bad_input(what).hint("export both models with the same version of the ONNX operators (opset)"))
    };
    if own < OLDEST {
        return refuse(format!(
            "a model in version {own} of the ONNX operators cannot be joined to one in version {newest}"
        ));
    }
    let mut graph = model.graph.take().unwrap_or_default();
    let mut names = Names::of(&graph);
    let mut constants = Vec::new();
    let refused = raise_nodes(&mut graph.node, (own, newest), &mut names, &mut constants);
    graph.initializer.extend(constants);
    model.graph = Some(graph);
    if let Some(node) = refused {
        return refuse(format!("the node `{node}` means something else in version {newest} of the ONNX operators"));
    }
    for set in model.opset_import.iter_mut().filter(|set| set.domain.is_empty() || set.domain == "ai.onnx") {
        set.version = newest;
    }
    Ok(())
}

/// Gives the name of a node that cannot be raised.
fn raise_nodes(
    nodes: &mut [NodeProto],
    (own, newest): (i64, i64),
    names: &mut Names,
    constants: &mut Vec<TensorProto>,
) -> Option<String> {
    let passes = |version: i64| own < version && newest >= version;
    for node in nodes {
        if node.is_standard() {
            let op = node.op_type.as_str();
            if op.starts_with("Reduce") && op != "ReduceSum" && passes(18) {
                if let Some(at) = node.attribute.iter().position(|attribute| attribute.name == "axes") {
                    let axes = node.attribute.remove(at).ints;
                    let name = names.fresh(&format!("{}/axes", node.output.first().map_or("", String::as_str)));
                    constants.push(TensorProto::from_i64(&name, &[axes.len()], &axes));
                    node.input.push(name);
                }
            } else if op == "Split" && passes(18) && node.input_name(1).is_none() {
                node.attribute.push(make::int("num_outputs", node.output.len() as i64));
            } else if op == "GridSample" && passes(20) {
                let mode = match node.text("mode") {
                    None | Some("bilinear") => "linear",
                    Some("bicubic") => "cubic",
                    Some(_) => "nearest",
                };
                node.attribute.retain(|attribute| attribute.name != "mode");
                node.attribute.push(make::text("mode", mode));
            } else if (op == "GroupNormalization" && passes(21)) || (op == "Upsample") {
                return Some(node.name.clone());
            }
        }
        for graph in node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs))
        {
            // What a branch takes may be a constant of the graph around it.
            if let Some(refused) = raise_nodes(&mut graph.node, (own, newest), names, constants) {
                return Some(refused);
            }
        }
    }
    None
}

/// Puts a prefix before every name of a graph: of its tensors, nodes and sizes that vary, also in subgraphs. The batch
/// is the same for all models and keeps its name.
fn add_prefix(graph: &mut GraphProto, prefix: &str) {
    let before = |name: &mut String| {
        if !name.is_empty() {
            name.insert_str(0, prefix);
        }
    };
    // An initialiser may be listed among the inputs too: each list is visited once, so that none is prefixed twice.
    graph.initializer.iter_mut().for_each(|tensor| before(&mut tensor.name));
    graph.sparse_initializer.iter_mut().filter_map(|s| s.values.as_mut()).for_each(|tensor| before(&mut tensor.name));
    let described = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
    described.for_each(|value| {
        before(&mut value.name);
        prefix_sizes(value, prefix);
    });
    for annotation in &mut graph.quantization_annotation {
        before(&mut annotation.tensor_name);
        annotation.quant_parameter_tensor_names.iter_mut().for_each(|entry| before(&mut entry.value));
    }
    for node in &mut graph.node {
        before(&mut node.name);
        node.input.iter_mut().chain(&mut node.output).for_each(before);
        for attribute in &mut node.attribute {
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|inner| add_prefix(inner, prefix));
        }
    }
}

fn prefix_sizes(value: &mut ValueInfoProto, prefix: &str) {
    let Some(shape) = value.tensor_mut().and_then(|tensor| tensor.shape.as_mut()) else { return };
    for (axis, dimension) in shape.dim.iter_mut().enumerate() {
        if let Some(DimensionValue::Param(name)) = &mut dimension.value {
            *name = if axis == 0 { "batch".into() } else { format!("{prefix}{name}") };
        }
    }
}

/// The inputs of a model that are not constants, by their names.
pub fn input_names(model: &ModelProto) -> Vec<String> {
    let Some(graph) = &model.graph else { return Vec::new() };
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    graph.input.iter().map(|value| value.name.clone()).filter(|name| !constants.contains(name.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn models_stand_side_by_side_under_names_of_their_own() {
        let (a, b) = (testing::tiny_text(), testing::tiny_text());
        let alone = a.graph.as_ref().unwrap().node.len();
        let joined = join(vec![("text.".into(), a), ("text_b.".into(), b)]).unwrap();
        let graph = joined.graph.as_ref().unwrap();
        assert_eq!(graph.node.len(), 2 * alone);
        assert_eq!(input_names(&joined).len(), 6);
        assert!(
            graph.output.iter().map(|value| &value.name).eq(["text.last_hidden_state", "text_b.last_hidden_state"])
        );
        let mut made = HashSet::new();
        assert!(graph.node.iter().flat_map(|node| &node.output).all(|name| made.insert(name)));
    }

    #[test]
    fn the_older_model_is_raised() {
        let reduce = |opset: i64, op: &str| {
            let mut b = testing::Builder::new("x", opset, 0);
            let x = b.input("x", vec!["N".into(), 4.into()]);
            let y = b.op(op, &[&x], if opset < 18 { vec![make::ints("axes", &[1])] } else { Vec::new() });
            b.output(&y, "y", vec!["N".into(), 1.into()]);
            b.finish()
        };
        let joined =
            join(vec![("a.".into(), reduce(14, "ReduceMean")), ("b.".into(), reduce(18, "ReduceMax"))]).unwrap();
        assert_eq!(default_opset(&joined).unwrap(), 18);
        let node = &joined.graph.as_ref().unwrap().node[0];
        assert!(node.attribute("axes").is_none());
        assert_eq!(node.input.len(), 2);
        let error = join(vec![("a.".into(), reduce(11, "ReduceMean")), ("b.".into(), reduce(18, "ReduceMax"))]);
        assert!(error.unwrap_err().to_string().contains("version 11"));
    }
}
