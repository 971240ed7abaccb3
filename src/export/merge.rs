//! One model of the cut backbone, neck and head.

use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};
use crate::graph::onnx::proto::ModelProto;
use crate::graph::onnx::splice;
use crate::graph::op::{self, L2Norm, Softmax};
use crate::graph::{Graph, Weights, print};
use crate::sample::image::ImagePreprocess;

/// What the nodes above the cut are named with.
const PREFIX: &str = "caft/";

/// What is made of the head's outputs inside the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Nothing: the file gives `logits`.
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
    /// 8-bit pixels `[batch, height, width, 3]` of the network's size; scaling and normalisation are inside.
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

    /// What the file's output is called.
    pub fn output(self) -> &'static str {
        match self {
            Self::None => "logits",
            Self::Softmax | Self::Sigmoid => "probabilities",
            Self::L2 => "embeddings",
        }
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

/// Appends the graph above the cut to the cut model `backbone`, whose outputs have the names of the graph's
/// inputs, and puts the preprocess before it if asked for. The batch stays free.
///
/// # Errors
/// A weight is missing; the backbone's operators are too old, or its tensors' names clash; it has several inputs.
pub fn merge(
    mut backbone: ModelProto,
    graph: &Graph,
    weights: &Weights,
    activation: Activation,
    (input, preprocess): (Input, Option<&ImagePreprocess>),
) -> Result<ModelProto> {
    let mut graph = graph.clone();
    let (_, logits) = graph.outputs().first().ok_or_else(|| Error::bad_input("the trained part has no output"))?;
    let logits = *logits;
    let value = match activation {
        Activation::None => logits,
        Activation::Softmax => graph.node("activation", Softmax, &[logits])?,
        Activation::Sigmoid => graph.node("activation", op::Activation::Sigmoid, &[logits])?,
        Activation::L2 => graph.node("activation", L2Norm, &[logits])?,
    };
    graph.output("exported", value);
    let printed = print::print(&graph, weights, PREFIX)?;
    let name = printed.outputs.last().map(|(_, name)| name.clone()).unwrap_or_default();
    let row = graph.shape(value).dims.clone();
    splice::append(&mut backbone, &printed, (&name, activation.output(), &row))?;
    match (input, preprocess) {
        (Input::Tensor, Some(_)) => splice::rename_input(&mut backbone, input.name())?,
        (Input::Tensor, None) => {}
        (Input::Pixels, Some(steps)) => {
            let [_, height, width] = steps.output_shape();
            splice::prepend_pixels(&mut backbone, input.name(), [height, width], (steps.scale, steps.mean, steps.std))?;
        }
        (Input::Pixels, None) => return Err(Error::bad_input("only a network that takes pictures takes pixels")),
    }
    backbone.producer_name = "caft".into();
    backbone.producer_version = env!("CARGO_PKG_VERSION").into();
    Ok(backbone)
}
