//! One model of the cut backbone, neck and head.

use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};
use crate::graph::onnx::proto::{DataType, ModelProto};
use crate::graph::onnx::{input_names, join, make, splice};
use crate::graph::op::{self, L2Norm, Softmax};
use crate::graph::print::Printed;
use crate::graph::{Graph, Task, Weights, print};
use crate::neck::MASK;
use crate::sample::Transform;

/// What the nodes above the cut are named with.
const PREFIX: &str = "caft/";

/// What is made of the head's outputs inside the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Nothing: the file gives `logits`, or `embeddings`.
    #[default]
    None,
    /// Probabilities that sum to 1: the file gives `probabilities`.
    Softmax,
    /// A probability for each output: the file gives `probabilities`.
    Sigmoid,
    /// Vectors of length one: the file gives `embeddings`.
    L2,
}

/// What the file takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The network's own input, after scaling and normalisation.
    #[default]
    Tensor,
    /// 8-bit pixels `[batch, height, width, 3]` of the network's size, in place of each picture; scaling and
    /// normalisation are inside.
    Pixels,
}

impl Activation {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Softmax => "softmax",
            Self::Sigmoid => "sigmoid",
            Self::L2 => "l2",
        }
    }

    /// What the file's output is called, given what the outputs are.
    pub fn output(self, task: Task) -> &'static str {
        match self {
            Self::None if task == Task::Embedding => "embeddings",
            Self::None => "logits",
            Self::Softmax | Self::Sigmoid => "probabilities",
            Self::L2 => "embeddings",
        }
    }

    /// Refuses what has no meaning for such outputs.
    ///
    /// # Errors
    /// Probabilities of numbers or of embeddings, or one of several labels.
    pub fn check(self, task: Task) -> Result<()> {
        let fits = match self {
            Self::None => true,
            Self::Softmax => task == Task::Classes,
            Self::Sigmoid => matches!(task, Task::Classes | Task::MultiLabel),
            Self::L2 => matches!(task, Task::Classes | Task::Embedding),
        };
        if fits {
            return Ok(());
        }
        let what = format!("`{}` has no meaning for {}", self.name(), task.name());
        Err(Error::bad_input(what).hint("export with `--activation none`"))
    }

    /// Applies it to one row of outputs.
    pub fn apply(self, row: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Softmax => {
                Softmax::row(row);
            }
            Self::Sigmoid => row.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
            Self::L2 => L2Norm::row(row),
        }
    }
}

impl Input {
    /// What the file's input is called; that of tensors is Hugging Face's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tensor => "pixel_values",
            Self::Pixels => "pixels",
        }
    }
}

/// The frozen part of a run: one cut backbone.
pub struct Frozen<'a> {
    /// The cut model.
    pub model: ModelProto,
    /// The field it takes, where each has a backbone of its own; the file's inputs are then called `FIELD.INPUT`.
    pub field: Option<&'a str>,
    /// How its input is made.
    pub transform: &'a Transform,
    /// Its outputs as the graph above calls them, and whether a row of each is a list of tokens.
    pub outputs: Vec<(String, bool)>,
}

/// The trained part of a run.
pub struct Above<'a> {
    /// The graph for rows of so many tokens.
    pub graph: &'a dyn Fn(usize) -> Result<Graph>,
    /// Its weights.
    pub weights: &'a Weights,
    /// What its outputs are.
    pub task: Task,
    /// What the file's output is called.
    pub output: &'static str,
}

/// Numbers of tokens that graphs are made for, to see where the number shows in them.
const LENGTHS: [usize; 2] = [11, 13];

/// One model of the frozen parts and the graph above them. The batch stays free, and so does the number of tokens of
/// a text; which of them are real is taken from the network's own attention mask.
///
/// # Errors
/// A weight is missing; operators are too old, or tensors' names clash; the graph above is for one number of tokens;
/// pixels where nothing takes pictures.
pub fn merge(frozen: Vec<Frozen<'_>>, above: &Above<'_>, activation: Activation, input: Input) -> Result<ModelProto> {
    activation.check(above.task)?;
    let varies = frozen.iter().flat_map(|part| &part.outputs).any(|(_, per_token)| *per_token);
    let (printed, row) = print_above(above, activation, LENGTHS[0])?;
    let printed =
        if varies { of_any_length(printed, &print_above(above, activation, LENGTHS[1])?.0)? } else { printed };

    if input == Input::Pixels && !frozen.iter().any(|part| matches!(part.transform, Transform::Image(_))) {
        return Err(Error::bad_input("a network of texts takes no pixels").hint("export with `--input tensor`"));
    }
    let masks: Vec<Mask> = frozen.iter().flat_map(masks).collect();
    let mut parts = Vec::with_capacity(frozen.len());
    for part in frozen {
        let prefix = part.field.map(|field| format!("{field}."));
        let names: Vec<String> = part.outputs.iter().map(|(name, _)| name.clone()).collect();
        let mut model = with_input(part, input)?;
        if prefix.is_none() {
            // One field of several, alone.
            splice::rename_outputs(&mut model, &names);
        }
        parts.push((prefix, model));
    }
    let mut model = match &mut parts[..] {
        [(None, _)] => parts.remove(0).1,
        _ => join(parts.into_iter().map(|(prefix, model)| (prefix.unwrap_or_default(), model)).collect())?,
    };
    masks.into_iter().for_each(|mask| mask.add(&mut model));
    let name = printed.outputs.last().map(|(_, name)| name.clone()).unwrap_or_default();
    splice::append(&mut model, &printed, (&name, above.output, &row))?;
    model.producer_name = "caft".into();
    model.producer_version = env!("CARGO_PKG_VERSION").into();
    Ok(model)
}

/// The graph above with what is made of its outputs, and the shape of a row of that.
fn print_above(above: &Above<'_>, activation: Activation, tokens: usize) -> Result<(Printed, Vec<usize>)> {
    let mut graph = (above.graph)(tokens)?;
    let (_, logits) = graph.outputs().first().ok_or_else(|| Error::bad_input("the trained part has no output"))?;
    let logits = *logits;
    let value = match activation {
        Activation::None => logits,
        Activation::Softmax => graph.node("activation", Softmax, &[logits])?,
        Activation::Sigmoid => graph.node("activation", op::Activation::Sigmoid, &[logits])?,
        Activation::L2 => graph.node("activation", L2Norm, &[logits])?,
    };
    graph.output("exported", value);
    Ok((print::print(&graph, above.weights, PREFIX)?, graph.shape(value).dims.clone()))
}

/// From one graph printed for two numbers of tokens, the graph for any: the number is left open where a shape has it.
fn of_any_length(mut printed: Printed, other: &Printed) -> Result<Printed> {
    let fixed = || Err(Error::bad_input("what is trained takes one number of tokens only, and cannot be exported"));
    if printed.nodes != other.nodes || printed.tensors != other.tensors || printed.ints.len() != other.ints.len() {
        return fixed();
    }
    for ((_, sizes), (_, others)) in printed.ints.iter_mut().zip(&other.ints) {
        let differ: Vec<usize> = (0..sizes.len()).filter(|&at| others.get(at) != sizes.get(at)).collect();
        match differ[..] {
            [] if sizes.len() == others.len() => {}
            // The batch, which was open, is taken from the input, so that another axis can be.
            [at] if at > 0 && sizes[0] == -1 => (sizes[0], sizes[at]) = (0, -1),
            _ => return fixed(),
        }
    }
    Ok(printed)
}

/// Which tokens are real, as the graph above wants it.
struct Mask {
    /// The input of the network.
    from: String,
    /// The input of the graph above.
    to: String,
}

/// One for each output of a part whose rows are lists of tokens.
fn masks(part: &Frozen<'_>) -> Vec<Mask> {
    let Transform::Text(steps) = part.transform else { return Vec::new() };
    let prefix = part.field.map(|field| format!("{field}.")).unwrap_or_default();
    let of_output =
        |name: &String| Mask { from: format!("{prefix}{}", steps.inputs.mask), to: format!("{name}{MASK}") };
    part.outputs.iter().filter(|(_, per_token)| *per_token).map(|(name, _)| of_output(name)).collect()
}

impl Mask {
    /// Adds it, in floats; a network that takes no mask gets the input.
    fn add(self, model: &mut ModelProto) {
        let is_there = input_names(model).contains(&self.from);
        let graph = model.graph.get_or_insert_default();
        if !is_there {
            let shape = vec!["batch".into(), "tokens".into()];
            graph.input.push(make::value_info(&self.from, DataType::Int64, Some(shape)));
        }
        let float = vec![make::int("to", DataType::Float as i64)];
        graph.node.push(make::node("Cast", &[&self.from], &[&self.to], float));
    }
}

/// A part whose input is as asked for.
fn with_input(part: Frozen<'_>, input: Input) -> Result<ModelProto> {
    let mut model = part.model;
    match (input, part.transform) {
        (Input::Tensor, Transform::Image(_)) => splice::rename_input(&mut model, input.name())?,
        // Beside pictures texts stay what they are.
        (_, Transform::Text(_)) => {}
        (Input::Pixels, Transform::Image(steps)) => {
            let [_, height, width] = steps.output_shape();
            splice::prepend_pixels(&mut model, input.name(), [height, width], (steps.scale, steps.mean, steps.std))?;
        }
    }
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::HeadConfig;
    use crate::neck::NeckChain;

    fn graph(neck: &str, tokens: usize) -> Graph {
        let chain: NeckChain = serde_json::from_str(neck).unwrap();
        let mut graph = Graph::new();
        let x = graph.input("tokens", &[tokens, 8]).unwrap();
        let mask = graph.input("tokens.mask", &[tokens]).unwrap();
        let x = chain.build(&mut graph, &[x, mask]).unwrap();
        let y = HeadConfig::default().build(&mut graph, x, 3, 0).unwrap();
        graph.output("logits", y);
        graph
    }

    #[test]
    fn the_number_of_tokens_is_left_open() {
        let necks = [
            r#"{"kind": "masked_mean"}"#,
            r#"{"kind": "cls_token"}"#,
            r#"[{"kind": "transformer", "heads": 2}, {"kind": "attention_pool", "heads": 2}, {"kind": "standardize"}]"#,
        ];
        for neck in necks {
            let weights = graph(neck, 3).initial_weights(0);
            let build = |tokens: usize| Ok(graph(neck, tokens));
            let above = Above { graph: &build, weights: &weights, task: Task::Classes, output: "logits" };
            let one = print_above(&above, Activation::None, 11).unwrap().0;
            let open = of_any_length(one, &print_above(&above, Activation::None, 13).unwrap().0).unwrap();
            for (name, sizes) in &open.ints {
                assert!(
                    !sizes.contains(&11) && sizes.iter().filter(|size| **size == -1).count() <= 1,
                    "{name} {sizes:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_made_of_outputs_fits_them() {
        assert!(Activation::Softmax.check(Task::MultiLabel).is_err());
        assert!(Activation::Sigmoid.check(Task::MultiLabel).is_ok());
        assert!(Activation::L2.check(Task::Values).is_err());
        assert_eq!(Activation::None.output(Task::Embedding), "embeddings");
    }
}
