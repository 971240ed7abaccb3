//! Means over places, in the form whose last bit does not depend on the batch.

use super::cut::Names;
use super::make;
use super::proto::{DataType, GraphProto, ModelProto, NodeProto, TensorProto};
use super::shape::{self, Dim, Facts, Known, axis_of};

/// Turns every `ReduceMean` over the places of a map or the tokens of a sequence into a `GlobalAveragePool`, and sums
/// and means over the channels of a map into a convolution.
///
/// How ONNX Runtime splits the sums of a `ReduceMean` depends on the size of the batch, and with it the last bit
/// of a sample's features; pools and convolutions take each sample by itself. Means over the last axis, as in
/// norms, stay as they are: the runtime fuses them. Constants that nothing uses afterwards go, but for those in
/// `keep`.
pub fn steady_means(model: &mut ModelProto, opset: i64, keep: &[&str]) {
    let facts = shape::infer(model);
    let Some(graph) = &mut model.graph else { return };
    let mut names = Names::of(graph);
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        match (pooled_axes(&facts, &node, opset), channel_weight(&facts, &node, opset)) {
            (Some(order), _) => pool(&node, order, &mut names, &mut nodes),
            (None, Some((channels, weight))) => {
                let name = names.fresh(&format!("{}/weight", node.name));
                graph.initializer.push(TensorProto::from_f32(&name, &[1, channels, 1, 1], &vec![weight; channels]));
                let mut conv = make::node("Conv", &[&node.input[0], &name], &[&node.output[0]], Vec::new());
                conv.name = format!("{}/Conv", node.name);
                nodes.push(conv);
            }
            _ => nodes.push(node),
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

/// How many channels a sum or mean over the channels of a map has, and what each counts.
fn channel_weight(facts: &Facts, node: &NodeProto, opset: i64) -> Option<(usize, f32)> {
    if !(node.is("ReduceSum") || node.is("ReduceMean"))
        || facts.get(node.input.first()?)?.element != DataType::Float
        || node.int_or("keepdims", 1) == 0
    {
        return None;
    }
    let known = Known::new(facts, node, opset);
    let &[Dim::BATCH, Dim::Known(channels), _, _] = known.dims(0)? else { return None };
    let axes = known.ints_input_or_attribute(1, "axes")?;
    if axes != [1] && axes != [-3] {
        return None;
    }
    let weight = if node.is("ReduceSum") { 1.0 } else { 1.0 / channels as f32 };
    Some((usize::try_from(channels).ok().filter(|channels| *channels > 0)?, weight))
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
    fn sums_over_channels_become_convolutions() {
        let mut b = Builder::new("sum", 13, 0);
        let x = b.input("x", [1, 8, 4, 4].map(make::Size::from).to_vec());
        let axes = b.ints(&[1]);
        let y = b.op("ReduceSum", &[&x, &axes], Vec::new());
        b.output(&y, "y", vec![]);
        let mut model = b.finish();
        let before = shape::infer(&model)[&y].dims.clone();
        steady_means(&mut model, 13, &[]);
        assert_eq!(shape::infer(&model)[&y].dims, before);
        let graph = model.graph.unwrap();
        let operators: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(operators, ["Conv", "Identity"]);
        assert_eq!(graph.initializer[0].to_f32().unwrap(), [1.0; 8]);
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
