//! Means over places, in the form whose last bit does not depend on the batch.

use super::cut::Names;
use super::make;
use super::proto::{DataType, GraphProto, ModelProto, NodeProto};
use super::shape::{self, Facts, Known, axis_of};

/// Turns every `ReduceMean` over the places of a map or the tokens of a sequence into a `GlobalAveragePool`.
///
/// How ONNX Runtime splits the sums of a `ReduceMean` depends on the size of the batch, and with it the last bit
/// of a sample's features; a pool sums each channel of a sample by itself. Means over the last axis, as in
/// norms, stay as they are: the runtime fuses them. Constants that nothing uses afterwards go, but for those in
/// `keep`.
pub fn steady_means(model: &mut ModelProto, opset: i64, keep: &[&str]) {
    let facts = shape::infer(model);
    let Some(graph) = &mut model.graph else { return };
    let mut names = Names::of(graph);
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        match pooled_axes(&facts, &node, opset) {
            Some(order) => pool(&node, order, &mut names, &mut nodes),
            None => nodes.push(node),
        }
    }
    graph.node = nodes;
    drop_unused(graph, keep);
}

/// The order of the axes that puts those of a mean behind the channels, if it is one over places.
fn pooled_axes(facts: &Facts, node: &NodeProto, opset: i64) -> Option<&'static [i64]> {
    if !node.is("ReduceMean") || facts.get(node.input.first()?)?.element != DataType::Float {
        return None;
    }
    let known = Known::new(facts, node, opset);
    let rank = known.dims(0)?.len();
    let axes = known.ints_input_or_attribute(1, "axes")?;
    let mut axes: Vec<usize> = axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Option<_>>()?;
    axes.sort_unstable();
    let keeps = node.int_or("keepdims", 1) != 0;
    match (rank, &axes[..], keeps) {
        (4, [2, 3], _) => Some(&[]),
        (4, [1, 2], false) => Some(&[0, 3, 1, 2]),
        (3, [1], false) => Some(&[0, 2, 1]),
        _ => None,
    }
}

fn pool(mean: &NodeProto, order: &[i64], names: &mut Names, nodes: &mut Vec<NodeProto>) {
    let (input, output) = (&mean.input[0], &mean.output[0]);
    let keeps = mean.int_or("keepdims", 1) != 0;
    let mut add = |op: &str, input: &str, output: &str, attributes| {
        let mut node = make::node(op, &[input], &[output], attributes);
        node.name = format!("{}/{op}", mean.name);
        nodes.push(node);
    };
    let mut from = input.clone();
    if !order.is_empty() {
        from = names.fresh(&format!("{output}/channels_first"));
        add("Transpose", input, &from, vec![make::ints("perm", order)]);
    }
    if keeps {
        return add("GlobalAveragePool", &from, output, Vec::new());
    }
    let pooled = names.fresh(&format!("{output}/pooled"));
    add("GlobalAveragePool", &from, &pooled, Vec::new());
    add("Flatten", &pooled, output, vec![make::int("axis", 1)]);
}

/// The axes that were inputs may be used by nobody now.
pub(super) fn drop_unused(graph: &mut GraphProto, keep: &[&str]) {
    let mut used = std::collections::HashSet::new();
    graph.node.iter().for_each(|node| {
        super::walk::for_each_use(node, &mut |name| {
            used.insert(name.to_string());
        });
    });
    used.extend(graph.output.iter().map(|value| value.name.clone()).chain(keep.iter().map(ToString::to_string)));
    graph.initializer.retain(|tensor| used.contains(&tensor.name));
    graph.node.retain(|node| !node.is("Constant") || node.output.iter().any(|name| used.contains(name)));
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, tiny_vit};
    use super::*;

    fn operators(axes: &[i64], keep: i64, shape: &[usize]) -> Vec<String> {
        let mut b = Builder::new("mean", 13, 0);
        let x = b.input("x", shape.iter().map(|&size| size.into()).collect());
        let y = b.op("ReduceMean", &[&x], vec![make::ints("axes", axes), make::int("keepdims", keep)]);
        b.output(&y, "y", vec![]);
        let mut model = b.finish();
        let before = shape::infer(&model)[&y].dims.clone();
        steady_means(&mut model, 13, &[]);
        assert_eq!(shape::infer(&model)[&y].dims, before);
        model.graph.unwrap().node.into_iter().map(|node| node.op_type).collect()
    }

    #[test]
    fn means_over_places_become_pools_of_the_same_shape() {
        assert_eq!(operators(&[2, 3], 1, &[1, 8, 4, 4]), ["GlobalAveragePool", "Identity"]);
        assert_eq!(operators(&[-1, -2], 0, &[1, 8, 4, 4]), ["GlobalAveragePool", "Flatten", "Identity"]);
        assert_eq!(operators(&[1], 0, &[1, 9, 8]), ["Transpose", "GlobalAveragePool", "Flatten", "Identity"]);
        assert_eq!(operators(&[1, 2], 0, &[1, 3, 3, 8]), ["Transpose", "GlobalAveragePool", "Flatten", "Identity"]);
        assert_eq!(operators(&[-1], 1, &[1, 9, 8]), ["ReduceMean", "Identity"]);
    }

    #[test]
    fn norms_stay() {
        let mut model = tiny_vit();
        let before = model.graph.as_ref().unwrap().node.len();
        steady_means(&mut model, 17, &[]);
        let nodes = model.graph.unwrap().node;
        assert!(nodes.len() <= before && nodes.iter().any(|node| node.is("ReduceMean")));
    }
}
