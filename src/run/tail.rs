//! The part of the backbone that is trained, found in the source model before anything is computed.

use std::path::Path;

use super::engine::Source;
use super::resolve::Resolved;
use crate::base::{Error, Result};
use crate::data::Row;
use crate::graph::Graph;
use crate::graph::import::{Start, Tail, Texts};
use crate::graph::onnx::proto::{GraphProto, ModelProto};
use crate::graph::onnx::splice::{UNFOLDED, metadata};
use crate::graph::onnx::{self, OutputSpec};
use crate::graph::op::Op;
use crate::plan::Plan;
use crate::recipe::Mode;
use crate::sample::Ready;
use crate::sample::image::ImagePreprocess;
use crate::sample::text::{TextInput, TextPreprocess};

/// What of the backbone is trained; `None` in mode `frozen`.
///
/// # Errors
/// Those of [`Tail::find`] and [`Tail::build`]; a model to be trained whole whose BatchNorm was folded away.
pub fn find(plan: &Plan, source: &Source) -> Result<Option<Tail>> {
    let tail = of_file(plan, &source.model.path)?;
    tail.iter().try_for_each(|tail| check(tail, plan, source))?;
    Ok(tail)
}

/// [`find`] in a model's file, of which nothing else is looked at.
///
/// # Errors
/// Those of [`Tail::find`]; a model to be trained whole whose BatchNorm was folded away.
pub fn of_file(plan: &Plan, path: &Path) -> Result<Option<Tail>> {
    let backbone = &plan.model.backbone;
    let Some(config) = &backbone.tail else { return Ok(None) };
    let model = onnx::read(path)?;
    if let Some(steps) = backbone.preprocess.text() {
        return of_texts(model, &backbone.outputs, config.from.as_deref(), steps).map(Some);
    }
    let from = match &config.from {
        Some(from) => from.clone(),
        None => {
            refuse_folded(&model)?;
            input(&model)?
        }
    };
    let row = backbone.preprocess.image().map(ImagePreprocess::output_shape);
    Tail::find(model, &backbone.outputs, &from, row.as_ref().map(<[usize; 3]>::as_slice)).map(Some)
}

/// What is trained of a network of texts, from a block or a tensor on, or else from its first weights.
fn of_texts(model: ModelProto, outputs: &[OutputSpec], from: Option<&str>, steps: &TextPreprocess) -> Result<Tail> {
    let inputs = model.graph.iter().flat_map(|graph| &graph.input);
    let mask = inputs.map(|input| &input.name).find(|name| steps.inputs.takes(name) == Some(TextInput::Mask)).cloned();
    let tokens = steps.pad_to.unwrap_or(steps.max_tokens) as usize;
    Tail::of_texts(model, outputs, from, Texts { tokens, mask })
}

/// Tells what cannot be trained now, not after the pass over the data.
fn check(tail: &Tail, plan: &Plan, source: &Source) -> Result<()> {
    let shapes: Option<Vec<Vec<usize>>> = tail.row_shapes().into_iter().collect();
    let Some(shapes) = shapes else { return Ok(()) };
    let mut graph = Graph::new();
    let inputs = tail.frontier().iter().zip(shapes).map(|(spec, shape)| graph.input(&spec.name, &shape));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    tail.build(&mut graph, &inputs, start(plan))?;
    let tables = graph.nodes().iter().filter(|node| matches!(node.op, Op::Embedding(_)));
    let largest = tables.filter_map(|node| graph.shape(*node.inputs.first()?).dims.first().copied()).max();
    if let (Some(entries), Ready::Text(encoder)) = (largest, &source.ready)
        && encoder.vocabulary() > entries
    {
        let tokens = encoder.vocabulary();
        return Err(Error::bad_input(format!(
            "the tokenizer has {tokens} tokens, and the network that is trained on them a table of {entries}"
        ))
        .hint("name the network's own `tokenizer.json`"));
    }
    Ok(())
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

/// Rows whose length is looked at.
const LOOKED_AT: usize = 1000;

/// That texts are much shorter than what they are padded to, in words: all of it is trained on.
pub fn padding(resolved: &Resolved) -> Option<String> {
    let (Ready::Text(encoder), Some(_)) = (&resolved.source.ready, &resolved.tail) else { return None };
    let padded = encoder.steps().pad_to? as usize;
    let length = |row: &Row| -> Option<usize> {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        row.samples.first()?.read(&mut first).ok()?;
        let pair = row.samples.get(1).map(|sample| sample.read(&mut second)).transpose().ok()?;
        Some(encoder.encode(&first, pair.map(|()| second.as_slice())).ok()?.real)
    };
    let longest = resolved.dataset.rows.iter().take(LOOKED_AT).filter_map(length).max()?;
    (2 * longest <= padded).then(|| {
        let factor = padded / longest;
        format!(
            "texts have at most {longest} tokens (of the first {LOOKED_AT}), and are padded to {padded}: with \
             `data.preprocess.max_tokens: {longest}` a step would take about a {factor}th of the time"
        )
    })
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
