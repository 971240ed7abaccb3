//! Embeddings of samples: what the frozen backbone gives, what enters the head, or what the head gives.

use super::context::Context;
use super::predict::{Predictor, all_rows};
use crate::base::progress::{Event, Unit, work};
use crate::base::{Error, Result};
use crate::data::{self, LoadContext, Targets};
use crate::export::embeddings::{Embeddings, Names};
use crate::graph::op::{Concat, Flatten};
use crate::graph::{Graph, Origin, ValueId};
use crate::sample::Sample;
use crate::sample::pipeline::Item;
use crate::train::{self, Prediction};

/// Samples that are worked on at a time.
const BLOCK: usize = 1024;

/// Where in the network embeddings are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layer {
    /// The outputs of the frozen backbone, joined.
    Cut,
    /// What enters the head: after the neck.
    #[default]
    Neck,
    /// What the head gives.
    Head,
}

impl Layer {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Neck => "neck",
            Self::Head => "head",
        }
    }
}

/// Samples with their names and, where known, their labels.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The fields of every sample.
    pub samples: Vec<Vec<Sample>>,
    /// What each is called.
    pub ids: Vec<String>,
    /// The label of each; empty where there are none.
    pub labels: Vec<String>,
}

impl Inputs {
    /// All rows of the data of a run, with their labels.
    ///
    /// # Errors
    /// Those of the data.
    pub fn of_data(predictor: &Predictor, context: &Context<'_>) -> Result<Self> {
        let plan = &predictor.plan().plan;
        let fetcher = context.fetcher();
        let load = LoadContext { fetcher: &fetcher, home: context.home, seed: plan.seeds.data };
        let dataset = data::load(&plan.data, &load)?;
        let labels = match &dataset.targets {
            Targets::Classes { names, of_row } => of_row.iter().map(|class| names[*class as usize].clone()).collect(),
            _ => Vec::new(),
        };
        let (samples, ids) = dataset.rows.into_iter().map(|row| (row.samples, row.origin)).unzip();
        Ok(Self { samples, ids, labels })
    }
}

/// Computes the embeddings of some samples, in their order.
///
/// # Errors
/// A sample cannot be read; an exported file has no such layer; those of the engine.
pub fn embed(
    predictor: &mut Predictor,
    inputs: Inputs,
    (layer, run): (Layer, &str),
    context: &Context<'_>,
) -> Result<Embeddings> {
    let (mut values, mut width) = (Vec::new(), 0);
    let total = inputs.ids.len();
    work(context.progress, "embedding", Some(total as u64), Unit::Samples, || -> Result<()> {
        for (samples, ids) in inputs.samples.chunks(BLOCK).zip(inputs.ids.chunks(BLOCK)) {
            let items: Vec<Item<'_>> = samples
                .iter()
                .zip(ids)
                .enumerate()
                .map(|(index, (samples, origin))| Item { index, samples, origin })
                .collect();
            let features = predictor.in_memory(&items, context)?;
            let (graph, weights) = predictor.graph_for(&features)?;
            let graph = graph_to(&graph, layer)?;
            let found = graph.outputs().first().map_or(0, |(_, id)| graph.shape(*id).last());
            if width != 0 && width != found {
                return Err(Error::bad_input(
                    "rows have different numbers of tokens, which are no vectors of one width",
                )
                .hint("take `--layer head`, or a neck that pools them"));
            }
            width = found;
            values.extend(train::predict(&graph, weights, &features, &all_rows(&features), Prediction::Raw)?);
            let done = (values.len() / width.max(1)) as u64;
            context.progress.event(Event::WorkAdvanced { done, detail: String::new() });
        }
        Ok(())
    })?;
    let names = Names { ids: inputs.ids, labels: inputs.labels, run: run.into(), layer: layer.name().into() };
    Ok(Embeddings { width, values, names })
}

/// The graph above the cut with a layer, as one row of numbers per sample, for its output.
fn graph_to(graph: &Graph, layer: Layer) -> Result<Graph> {
    let mut graph = graph.clone();
    let value = match layer {
        Layer::Head => graph.outputs().first().map(|(_, id)| *id),
        Layer::Neck => head_input(&graph),
        Layer::Cut => {
            let inputs = graph.inputs().to_vec();
            let mut flat = Vec::with_capacity(inputs.len());
            for (i, id) in inputs.into_iter().enumerate() {
                flat.push(flattened(&mut graph, id, &format!("embedding.{i}"))?);
            }
            match flat[..] {
                [one] => Some(one),
                _ => Some(graph.node("embedding.joined", Concat { axis: 0 }, &flat)?),
            }
        }
    };
    let value = value.ok_or_else(|| {
        Error::bad_input(format!("this model has no layer `{}`", layer.name()))
            .hint("of an exported file only what it gives can be had: `--layer head`")
    })?;
    let value = flattened(&mut graph, value, "embedding")?;
    graph.set_only_output("embedding", value);
    Ok(graph)
}

fn flattened(graph: &mut Graph, value: ValueId, name: &str) -> Result<ValueId> {
    if graph.shape(value).dims.len() == 1 { Ok(value) } else { graph.node(name, Flatten, &[value]) }
}

/// What the first node of the head reads that is not the head's own.
fn head_input(graph: &Graph) -> Option<ValueId> {
    let of_head = |id: ValueId| {
        let name = &graph.values()[id.index()].name;
        name == "head" || name.starts_with("head.")
    };
    let nodes = graph.nodes().iter().filter(|node| of_head(node.output));
    let mut inputs = nodes.flat_map(|node| node.inputs.iter().copied());
    inputs.find(|id| !of_head(*id) && matches!(graph.values()[id.index()].origin, Origin::Input | Origin::Node(_)))
}
