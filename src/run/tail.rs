//! The part of the backbone that is trained, found in the source model before anything is computed.

use super::engine::Source;
use crate::base::{Error, Result};
use crate::graph::Graph;
use crate::graph::import::{Start, Tail};
use crate::graph::onnx;
use crate::graph::onnx::proto::{GraphProto, ModelProto};
use crate::graph::onnx::splice::{UNFOLDED, metadata};
use crate::plan::Plan;
use crate::recipe::Mode;
use crate::sample::image::ImagePreprocess;

/// What of the backbone is trained; `None` in mode `frozen`.
///
/// # Errors
/// Those of [`Tail::find`] and [`Tail::build`]; a model to be trained whole whose BatchNorm was folded away.
pub fn find(plan: &Plan, source: &Source) -> Result<Option<Tail>> {
    let backbone = &plan.model.backbone;
    let Some(config) = &backbone.tail else { return Ok(None) };
    let model = onnx::read(&source.model.path)?;
    let from = match &config.from {
        Some(from) => from.clone(),
        None => {
            refuse_folded(&model)?;
            input(&model)?
        }
    };
    // A text's length is its own.
    let row = backbone.preprocess.image().map(ImagePreprocess::output_shape);
    let tail = Tail::find(model, &backbone.outputs, &from, row.as_ref().map(<[usize; 3]>::as_slice))?;
    // What cannot be trained is told now, not after the pass over the data.
    let shapes: Option<Vec<Vec<usize>>> = tail.row_shapes().into_iter().collect();
    if let Some(shapes) = shapes {
        let mut graph = Graph::new();
        let inputs = tail.frontier().iter().zip(shapes).map(|(spec, shape)| graph.input(&spec.name, &shape));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        tail.build(&mut graph, &inputs, start(plan))?;
    }
    Ok(Some(tail))
}

/// What becomes of the norms of a trained part with convolutions, in words.
pub fn norms(tail: &Tail) -> Option<String> {
    match tail.convolutions_and_batch_norms() {
        [0, 0] => None,
        [convolutions, 0] => Some(format!(
            "no BatchNorm in the file: the {convolutions} convolutions that are trained have theirs folded into weight and \
             bias, if they had one, and train as if it were frozen, which no batch is too small for"
        )),
        [_, norms] => Some(format!("{norms} BatchNorms train on the statistics of each batch, and keep running ones")),
    }
}

/// What the weights of the trained part are before training.
pub fn start(plan: &Plan) -> Start {
    match &plan.model.backbone.tail {
        Some(tail) if tail.mode == Mode::Scratch => Start::Drawn,
        _ => Start::Pretrained,
    }
}

/// The model's only input.
fn input(model: &ModelProto) -> Result<String> {
    let empty = GraphProto::default();
    let graph = model.graph.as_ref().unwrap_or(&empty);
    let constant = |name: &str| graph.initializer.iter().any(|t| t.name == name);
    let inputs: Vec<&str> = graph.input.iter().map(|v| v.name.as_str()).filter(|name| !constant(name)).collect();
    match inputs[..] {
        [input] => Ok(input.into()),
        _ => Err(Error::bad_input(format!("the model has the inputs `{}`; one is needed", inputs.join("`, `")))),
    }
}

/// Refuses convolutional networks from which the exporter took the normalisation: trained from the input on they
/// would be other networks than the one whose weights they have.
fn refuse_folded(model: &ModelProto) -> Result<()> {
    let nodes = || model.graph.iter().flat_map(|graph| &graph.node);
    let convolutions = nodes().filter(|node| node.is("Conv")).count();
    // Older exports spell LayerNorm out.
    let normalises = nodes().any(|node| node.op_type.contains("Normalization") || node.is("Sqrt"));
    if convolutions < 2 || normalises || metadata(model, UNFOLDED).is_some() {
        return Ok(());
    }
    Err(Error::bad_input("the model has convolutions but no normalisation: its BatchNorm was folded into them")
        .hint("make an export that keeps it, which says so also of a network that never had any: `caft engine export MODEL --train` (PyTorch's `training=TrainingMode.PRESERVE, do_constant_folding=False`); or use mode `last_block`"))
}
