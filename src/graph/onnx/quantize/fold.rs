//! What must be constant before weights are quantised is made so.

use std::collections::HashMap;

use crate::base::Result;
use crate::graph::onnx::pool::drop_unused;
use crate::graph::onnx::proto::{DataType, GraphProto, ModelProto, NodeProto, TensorProto};

/// Puts names of constants in place of `Identity` and `Constant` nodes that give them, and batch norms into the
/// convolutions before them: weights are quantised as they finally are.
///
/// # Errors
/// A constant whose bytes do not fit its shape.
pub fn fold(model: &mut ModelProto) -> Result<()> {
    let Some(graph) = &mut model.graph else { return Ok(()) };
    constants(graph);
    norms(graph)?;
    drop_unused(graph, &[]);
    Ok(())
}

fn constants(graph: &mut GraphProto) {
    let mut known: HashMap<String, String> =
        graph.initializer.iter().map(|t| (t.name.clone(), t.name.clone())).collect();
    let outputs: Vec<String> = graph.output.iter().map(|value| value.name.clone()).collect();
    for node in &mut graph.node {
        for input in &mut node.input {
            if let Some(name) = known.get(input) {
                input.clone_from(name);
            }
        }
        let Some(output) = node.output.first().filter(|output| !outputs.contains(output)).cloned() else { continue };
        if node.is("Identity") {
            if let Some(name) = node.input.first().and_then(|input| known.get(input)).cloned() {
                known.insert(output, name);
            }
        } else if node.is("Constant")
            && let Some(tensor) = node.attribute("value").and_then(|attribute| attribute.t.clone())
        {
            graph.initializer.push(TensorProto { name: output.clone(), ..tensor });
            known.insert(output.clone(), output);
        }
    }
    // What a subgraph captures by another name keeps its node.
    let mut captured = std::collections::HashSet::new();
    for node in &graph.node {
        crate::graph::onnx::walk::for_each_use(node, &mut |name| {
            captured.insert(name.to_string());
        });
    }
    let made: Vec<String> = graph.initializer.iter().map(|tensor| tensor.name.clone()).collect();
    graph.node.retain(|node| {
        let idle = |name: &String| !captured.contains(name) && !outputs.contains(name);
        let given = |name: &String| made.contains(name);
        match node.op_type.as_str() {
            "Constant" => !node.output.iter().all(given),
            "Identity" => !node.output.iter().all(idle),
            _ => true,
        }
    });
}

/// `y = scale · (conv(x) + bias - mean) / √(variance + ε) + shift` as one convolution.
fn norms(graph: &mut GraphProto) -> Result<()> {
    let mut uses: HashMap<&str, usize> = HashMap::new();
    graph.node.iter().flat_map(|node| &node.input).for_each(|name| *uses.entry(name).or_default() += 1);
    graph.output.iter().for_each(|value| *uses.entry(&value.name).or_default() += 1);
    let makers: HashMap<&str, usize> =
        graph.node.iter().enumerate().filter_map(|(i, node)| Some((node.output.first()?.as_str(), i))).collect();
    let mut pairs = Vec::new();
    for (at, node) in graph.node.iter().enumerate().filter(|(_, node)| node.is("BatchNormalization")) {
        let Some(&conv) = node.input.first().and_then(|input| makers.get(input.as_str())) else { continue };
        let alone = uses.get(node.input[0].as_str()) == Some(&1) && node.int_or("training_mode", 0) == 0;
        if alone && graph.node[conv].is("Conv") && node.input.len() == 5 && node.output.len() == 1 {
            pairs.push((conv, at));
        }
    }
    let mut gone = Vec::new();
    for (conv, norm) in pairs {
        if let Some((weight, bias)) = folded(graph, &graph.node[conv], &graph.node[norm])? {
            let output = graph.node[norm].output[0].clone();
            let node = &mut graph.node[conv];
            node.input.truncate(2);
            node.input[1].clone_from(&weight.name);
            node.input.push(bias.name.clone());
            node.output[0] = output;
            graph.initializer.extend([weight, bias]);
            gone.push(norm);
        }
    }
    let mut index = 0..;
    graph.node.retain(|_| index.next().is_some_and(|at| !gone.contains(&at)));
    Ok(())
}

fn folded(graph: &GraphProto, conv: &NodeProto, norm: &NodeProto) -> Result<Option<(TensorProto, TensorProto)>> {
    let constant = |name: &str| {
        let tensor = graph.initializer.iter().find(|tensor| tensor.name == name)?;
        (tensor.data_type() == DataType::Float).then_some(tensor)
    };
    let Some(weight) = constant(&conv.input[1]) else { return Ok(None) };
    let Some(parts) = norm.input[1..].iter().map(|name| constant(name)).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let [scale, shift, mean, variance] = &parts.iter().map(|t| t.to_f32()).collect::<Result<Vec<_>>>()?[..] else {
        return Ok(None);
    };
    let channels = scale.len();
    let bias = match conv.input_name(2) {
        None => vec![0.0; channels],
        Some(name) => match constant(name) {
            Some(tensor) => tensor.to_f32()?,
            None => return Ok(None),
        },
    };
    let (dims, mut values) = (weight.shape()?, weight.to_f32()?);
    let sizes = [shift.len(), mean.len(), variance.len(), bias.len(), dims.first().copied().unwrap_or(0)];
    if channels == 0 || sizes.iter().any(|&size| size != channels) {
        return Ok(None);
    }
    let epsilon = norm.float("epsilon").unwrap_or(1e-5);
    let factors: Vec<f32> = (0..channels).map(|c| scale[c] / (variance[c] + epsilon).sqrt()).collect();
    let per = values.len() / channels;
    values
        .chunks_exact_mut(per.max(1))
        .zip(&factors)
        .for_each(|(row, factor)| row.iter_mut().for_each(|w| *w *= factor));
    let bias: Vec<f32> = (0..channels).map(|c| (bias[c] - mean[c]) * factors[c] + shift[c]).collect();
    let output = &norm.output[0];
    Ok(Some((
        TensorProto::from_f32(format!("{output}/weight"), &dims, &values),
        TensorProto::from_f32(format!("{output}/bias"), &[channels], &bias),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::onnx::testing::tiny_cnn;

    #[test]
    fn norms_go_into_their_convolutions() {
        let mut model = tiny_cnn();
        fold(&mut model).unwrap();
        let graph = model.graph.unwrap();
        assert!(graph.node.iter().all(|node| !node.is("BatchNormalization") && !node.is("Constant")));
        let conv = graph.node.iter().find(|node| node.is("Conv")).unwrap();
        assert_eq!(conv.input.len(), 3);
        let constant = |name: &str| graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
        let (before, b) = (tiny_cnn().graph.unwrap(), 0);
        let of = |name: &str| before.initializer.iter().find(|t| t.name == name).unwrap().to_f32().unwrap()[b];
        let factor = of("stem.bn.weight") / (of("stem.bn.running_var") + 1e-5).sqrt();
        let weight = constant(&conv.input[1]).to_f32().unwrap()[0];
        assert!((weight - of("stem.weight") * factor).abs() < 1e-6);
        let bias = constant(&conv.input[2]).to_f32().unwrap()[0];
        assert!((bias - (of("stem.bn.bias") - of("stem.bn.running_mean") * factor)).abs() < 1e-6);
    }
}
