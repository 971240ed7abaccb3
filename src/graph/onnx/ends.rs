//! How a model ends: its own output, and the last layer below it.

use std::collections::HashSet;

use super::proto::{GraphProto, ModelProto, NodeProto};
use crate::base::suggest::did_you_mean;
use crate::base::{Error, Result};

/// The output that is meant where a file has several.
const USUAL: &str = "logits";
/// Layers of weights.
const LAYERS: [&str; 4] = ["Gemm", "MatMul", "Conv", "ConvTranspose"];
/// Operators whose first input is the tensor, and the others sizes that may be computed.
const SIZED: [&str; 7] = ["Reshape", "Expand", "Slice", "Resize", "Squeeze", "Unsqueeze", "Pad"];

/// The name of a model's output: its only one, or the one called `logits`.
///
/// # Errors
/// It has several, which are listed.
pub fn own_output(model: &ModelProto) -> Result<String> {
    let outputs: Vec<&str> = model.graph.iter().flat_map(|graph| &graph.output).map(|v| v.name.as_str()).collect();
    match outputs[..] {
        [one] => Ok(one.into()),
        _ if outputs.contains(&USUAL) => Ok(USUAL.into()),
        _ => {
            let listed = outputs.join("`, `");
            Err(Error::bad_input(format!("the model has the outputs `{listed}`; which one is meant is not known"))
                .hint("name it as `model.full.output`"))
        }
    }
}

/// What enters the node that makes a tensor, if that is one of these operators.
pub fn below(model: &ModelProto, tensor: &str, operators: &[&str]) -> Option<String> {
    let node = maker(model.graph.as_ref()?, tensor)?;
    let found = node.is_standard() && operators.contains(&node.op_type.as_str());
    found.then(|| node.input_name(0).map(str::to_string))?
}

/// What enters the last layer of weights below a tensor, a matrix product or a convolution, where everything between
/// them has one input.
///
/// # Errors
/// There is no such tensor, with the nearest name; there is no such layer: the paths of the network join above the last one.
pub fn last_layer(model: &ModelProto, tensor: &str) -> Result<String> {
    let none = || {
        Error::bad_input(format!("the model has no last layer below `{tensor}` that could be trained alone"))
            .hint("use mode `last_block`, with the tensor to train from as `train_from`")
    };
    let graph = model.graph.as_ref().ok_or_else(none)?;
    if maker(graph, tensor).is_none() {
        let near = did_you_mean(tensor, graph.node.iter().flat_map(|node| &node.output).map(String::as_str));
        return Err(Error::bad_input(format!("the model has no tensor `{tensor}`{near}")));
    }
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs = graph.input.iter().map(|v| v.name.as_str());
    let mut dynamic: HashSet<&str> = inputs.filter(|name| !constants.contains(name)).collect();
    for node in &graph.node {
        if node.input.iter().any(|name| dynamic.contains(name.as_str())) {
            dynamic.extend(node.output.iter().map(String::as_str));
        }
    }
    let mut at = tensor;
    loop {
        let node = maker(graph, at).ok_or_else(none)?;
        let computed: Vec<&str> = node.input.iter().map(String::as_str).filter(|n| dynamic.contains(n)).collect();
        at = match computed[..] {
            [one] => one,
            [first, ..] if SIZED.contains(&node.op_type.as_str()) && node.input_name(0) == Some(first) => first,
            _ => return Err(none()),
        };
        if node.is_standard() && LAYERS.contains(&node.op_type.as_str()) {
            return Ok(at.into());
        }
    }
}

fn maker<'a>(graph: &'a GraphProto, tensor: &str) -> Option<&'a NodeProto> {
    graph.node.iter().find(|node| node.output.iter().any(|output| output == tensor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::onnx::make;
    use crate::graph::onnx::proto::{DataType, TensorProto};

    /// x → Flatten → Gemm(w) → Relu → MatMul(v) → Add(b) → Softmax, and Add(x, x) beside it.
    fn model() -> ModelProto {
        let node = |op: &str, inputs: &[&str], output: &str| make::node(op, inputs, &[output], Vec::new());
        let weight = |name: &str| TensorProto::from_f32(name, &[2, 2], &[1.0; 4]);
        let graph = GraphProto {
            node: vec![
                node("Flatten", &["x"], "flat"),
                node("Gemm", &["flat", "w"], "hidden"),
                node("Relu", &["hidden"], "active"),
                node("MatMul", &["active", "v"], "product"),
                node("Add", &["product", "b"], "logits"),
                node("Softmax", &["logits"], "probabilities"),
                node("Add", &["x", "active"], "joined"),
            ],
            initializer: ["w", "v", "b"].map(weight).to_vec(),
            input: vec![make::value_info("x", DataType::Float, None)],
            output: vec![make::value_info("probabilities", DataType::Float, None)],
            ..GraphProto::default()
        };
        ModelProto { graph: Some(graph), ..ModelProto::default() }
    }

    #[test]
    fn the_end_of_a_model_is_found() {
        let mut model = model();
        assert_eq!(own_output(&model).unwrap(), "probabilities");
        assert_eq!(below(&model, "probabilities", &["Softmax"]).as_deref(), Some("logits"));
        assert_eq!(below(&model, "logits", &["Softmax"]), None);
        assert_eq!(last_layer(&model, "logits").unwrap(), "active");
        assert_eq!(last_layer(&model, "active").unwrap(), "flat");
        assert!(last_layer(&model, "joined").unwrap_err().to_string().contains("no last layer"));
        let graph = model.graph.as_mut().unwrap();
        graph.output.push(make::value_info("features", DataType::Float, None));
        assert!(own_output(&model).unwrap_err().to_string().contains("`probabilities`, `features`"));
        model.graph.as_mut().unwrap().output.push(make::value_info("logits", DataType::Float, None));
        assert_eq!(own_output(&model).unwrap(), "logits");
    }
}
