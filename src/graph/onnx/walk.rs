//! Visits to every graph and tensor of a model, also those inside attributes and functions.

use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use crate::base::Result;

/// Calls `visit` with every tensor: initialisers, attributes, and those of subgraphs and functions.
///
/// # Errors
/// The first that `visit` gives.
pub fn for_each_tensor_mut(
    model: &mut ModelProto,
    visit: &mut dyn FnMut(&mut TensorProto) -> Result<()>,
) -> Result<()> {
    if let Some(graph) = &mut model.graph {
        in_graph(graph, visit)?;
    }
    for function in &mut model.functions {
        in_attributes(&mut function.attribute_proto, visit)?;
        in_nodes(&mut function.node, visit)?;
    }
    Ok(())
}

fn in_graph(graph: &mut GraphProto, visit: &mut dyn FnMut(&mut TensorProto) -> Result<()>) -> Result<()> {
    for tensor in &mut graph.initializer {
        visit(tensor)?;
    }
    for sparse in &mut graph.sparse_initializer {
        sparse.values.iter_mut().chain(&mut sparse.indices).try_for_each(&mut *visit)?;
    }
    in_nodes(&mut graph.node, visit)
}

fn in_nodes(nodes: &mut [NodeProto], visit: &mut dyn FnMut(&mut TensorProto) -> Result<()>) -> Result<()> {
    nodes.iter_mut().try_for_each(|node| in_attributes(&mut node.attribute, visit))
}

fn in_attributes(
    attributes: &mut [AttributeProto],
    visit: &mut dyn FnMut(&mut TensorProto) -> Result<()>,
) -> Result<()> {
    for attribute in attributes {
        attribute.t.iter_mut().chain(&mut attribute.tensors).try_for_each(&mut *visit)?;
        for sparse in attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors) {
            sparse.values.iter_mut().chain(&mut sparse.indices).try_for_each(&mut *visit)?;
        }
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            in_graph(graph, visit)?;
        }
    }
    Ok(())
}

/// The subgraphs of a node: branches and loop bodies.
pub fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs))
}

/// Calls `visit` with every name that a node takes from the graph it stands in: its inputs, and what its
/// subgraphs capture.
pub fn for_each_use<'a>(node: &'a NodeProto, visit: &mut dyn FnMut(&'a str)) {
    node.input.iter().filter(|name| !name.is_empty()).for_each(|name| visit(name));
    for graph in subgraphs(node) {
        captures(graph, visit);
    }
}

/// Names a graph uses but does not make itself.
fn captures<'a>(graph: &'a GraphProto, visit: &mut dyn FnMut(&'a str)) {
    let mut own: std::collections::HashSet<&str> = graph.input.iter().map(|v| v.name.as_str()).collect();
    own.extend(graph.initializer.iter().map(|t| t.name.as_str()));
    own.extend(graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref()).map(|t| t.name.as_str()));
    for node in &graph.node {
        own.extend(node.output.iter().map(String::as_str));
    }
    let mut outer = |name: &'a str| {
        if !own.contains(name) {
            visit(name);
        }
    };
    graph.node.iter().for_each(|node| for_each_use(node, &mut outer));
    graph.output.iter().for_each(|value| outer(&value.name));
}
