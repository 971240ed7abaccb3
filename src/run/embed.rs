//! Embeddings of samples: what the frozen backbone gives, what enters the head, or what the head gives.

use std::collections::HashMap;

use super::context::Context;
use super::predict::{Predictor, all_rows};
use crate::base::progress::{Event, Unit, work};
use crate::base::suggest::one_of;
use crate::base::{Error, Result};
use crate::data::{DataConfig, Targets};
use crate::export::embeddings::{Embeddings, Names};
use crate::graph::op::{Concat, Flatten};
use crate::graph::{Graph, Origin, Task, ValueId};
use crate::neck::MASK;
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
    /// The layer of a run where nothing is said.
    pub fn of(predictor: &Predictor) -> Self {
        if predictor.plan().plan.train.loss().task() == Task::Embedding { Self::Head } else { Self::Neck }
    }

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
    /// All rows of some data, by default the run's own, with their labels.
    ///
    /// # Errors
    /// Those of the data; rows of other fields than the run's.
    pub fn of_data(predictor: &Predictor, data: Option<&DataConfig>, context: &Context<'_>) -> Result<Self> {
        let dataset = predictor.load_data(data.unwrap_or(&predictor.plan().plan.data), context)?;
        let labels = match &dataset.targets {
            Targets::Classes { names, of_row } => of_row.iter().map(|class| names[*class as usize].clone()).collect(),
            Targets::MultiLabel { names, of_row } => {
                let joined = |labels: &Vec<u32>| {
                    labels.iter().map(|label| names[*label as usize].as_str()).collect::<Vec<_>>().join(", ")
                };
                of_row.iter().map(joined).collect()
            }
            // Numbers tell rows apart, and not together; a picture with a mask is of many classes.
            Targets::Values { .. } | Targets::Masks { .. } => Vec::new(),
            // Rows of one first sample look for the same, whatever row it was in.
            Targets::Pairs { names, of_row } => {
                let mut first: HashMap<u32, String> = HashMap::new();
                let rows = dataset.rows.iter().zip(of_row.chunks_exact(names.len().max(1)));
                rows.map(|(row, samples)| first.entry(samples[0]).or_insert_with(|| row.origin.to_string()).clone())
                    .collect()
            }
        };
        let (samples, ids) = dataset.rows.into_iter().map(|row| (row.samples.to_vec(), row.origin.to_string())).unzip();
        Ok(Self { samples, ids, labels })
    }
}

/// What embeddings are taken of.
#[derive(Debug, Clone, Copy)]
pub struct Taken<'a> {
    /// Where in the network.
    pub layer: Layer,
    /// The only field whose samples are embedded, by the backbone that it has of its own.
    pub field: Option<&'a str>,
    /// The run, as a user names it.
    pub run: &'a str,
}

/// Computes the embeddings of some samples, in their order.
///
/// # Errors
/// A sample cannot be read; an exported file has no such layer; those of the engine.
pub fn embed(predictor: &mut Predictor, inputs: Inputs, taken: Taken<'_>, context: &Context<'_>) -> Result<Embeddings> {
    if taken.field.is_none() && predictor.is_of_pairs() {
        let fields = one_of(predictor.classes().iter().map(String::as_str));
        return Err(Error::bad_input("the fields of a row have an embedding each")
            .hint(format!("say of which with `--field`: {fields}")));
    }
    let (mut values, mut width) = (Vec::new(), 0);
    let total = inputs.ids.len();
    work(context.progress, "embedding", Some(total as u64), Unit::Samples, || -> Result<()> {
        for (samples, ids) in inputs.samples.chunks(BLOCK).zip(inputs.ids.chunks(BLOCK)) {
            let items: Vec<Item<'_>> = samples
                .iter()
                .zip(ids)
                .enumerate()
                .map(|(index, (samples, origin))| Item { index, samples, origin: origin.into() })
                .collect();
            let own = taken.field.map(|field| predictor.inputs_of_field(field)).transpose()?;
            let features = match taken.field {
                Some(field) => predictor.in_memory_of(field, &items, context)?,
                None => predictor.in_memory(&items, context)?,
            };
            let (graph, weights) = predictor.graph_for(&features)?;
            let field = taken.field.filter(|_| predictor.is_of_pairs());
            let graph = graph_to(&graph, taken.layer, own.as_deref(), field)?;
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
    let names = Names {
        ids: inputs.ids,
        labels: inputs.labels,
        run: taken.run.into(),
        layer: taken.layer.name().into(),
        field: taken.field.unwrap_or_default().into(),
    };
    Ok(Embeddings { width, values, names })
}

/// The graph above the cut with a layer, as one row of numbers per sample, for its output; `own` are the inputs that it
/// may depend on. Of pairs each `field` has a head.
fn graph_to(graph: &Graph, layer: Layer, own: Option<&[String]>, field: Option<&str>) -> Result<Graph> {
    let mut graph = graph.clone();
    let values = match (layer, own) {
        (Layer::Cut, _) => {
            let name = |id: &ValueId| &graph.values()[id.index()].name;
            // Masks say where tokens are, and are none themselves.
            let is_mask = |id: &ValueId| name(id).ends_with(MASK);
            let is_own = |id: &ValueId| own.is_none_or(|own| own.contains(name(id)));
            graph.inputs().iter().copied().filter(|id| is_own(id) && !is_mask(id)).collect()
        }
        (Layer::Neck, _) if field.is_some() => {
            head_input(&graph, &format!("head.{}", field.unwrap_or_default())).into_iter().collect()
        }
        (_, Some(own)) => last_of(&graph, own),
        (Layer::Head, None) => graph.outputs().first().map(|(_, id)| *id).into_iter().collect(),
        (Layer::Neck, None) => head_input(&graph, "head").into_iter().collect::<Vec<ValueId>>(),
    };
    let mut flat = Vec::with_capacity(values.len());
    for (i, id) in values.into_iter().enumerate() {
        flat.push(flattened(&mut graph, id, &format!("embedding.{i}"))?);
    }
    let value = match flat[..] {
        [] => {
            return Err(Error::bad_input(format!("this model has no layer `{}`", layer.name()))
                .hint("of an exported file only what it gives can be had: `--layer head`"));
        }
        [one] => one,
        _ => graph.node("embedding.joined", Concat { axis: 0 }, &flat)?,
    };
    graph.set_only_output("embedding", value);
    Ok(graph)
}

/// The last values that depend on some inputs and on no other, where what is made of several fields begins.
fn last_of(graph: &Graph, own: &[String]) -> Vec<ValueId> {
    let (mut of_own, mut of_others) = (vec![false; graph.values().len()], vec![false; graph.values().len()]);
    for id in graph.inputs() {
        let is_own = own.contains(&graph.values()[id.index()].name);
        (of_own[id.index()], of_others[id.index()]) = (is_own, !is_own);
    }
    for node in graph.nodes() {
        let any = |marks: &[bool]| node.inputs.iter().any(|id| marks[id.index()]);
        let found = (any(&of_own), any(&of_others));
        (of_own[node.output.index()], of_others[node.output.index()]) = found;
    }
    let alone = |id: &ValueId| of_own[id.index()] && !of_others[id.index()];
    let mut last: Vec<ValueId> = graph.outputs().iter().map(|(_, id)| *id).filter(alone).collect();
    let joining = graph.nodes().iter().filter(|node| of_own[node.output.index()] && of_others[node.output.index()]);
    for id in joining.flat_map(|node| &node.inputs).filter(|id| alone(id)) {
        if !last.contains(id) {
            last.push(*id);
        }
    }
    last
}

fn flattened(graph: &mut Graph, value: ValueId, name: &str) -> Result<ValueId> {
    if graph.shape(value).dims.len() == 1 { Ok(value) } else { graph.node(name, Flatten, &[value]) }
}

/// What the first node of a head reads that is not the head's own.
fn head_input(graph: &Graph, head: &str) -> Option<ValueId> {
    let of_head = |id: ValueId| {
        let name = &graph.values()[id.index()].name;
        name.strip_prefix(head).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let nodes = graph.nodes().iter().filter(|node| of_head(node.output));
    let mut inputs = nodes.flat_map(|node| node.inputs.iter().copied());
    inputs.find(|id| !of_head(*id) && matches!(graph.values()[id.index()].origin, Origin::Input | Origin::Node(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::op::{Gelu, L2Norm};

    #[test]
    fn a_fields_own_part_ends_where_fields_meet() {
        let mut graph = Graph::new();
        let (image, text) = (graph.input("image.cls", &[4]).unwrap(), graph.input("text.cls", &[3]).unwrap());
        let image = graph.node("neck.image", L2Norm, &[image]).unwrap();
        let text = graph.node("neck.text", Gelu, &[text]).unwrap();
        let all = graph.node("neck.concat", Concat { axis: 0 }, &[image, text]).unwrap();
        graph.output("logits", all);
        let to = |layer, own: &str| {
            let graph = graph_to(&graph, layer, Some(&[own.to_string()]), None).unwrap();
            graph.shape(graph.outputs()[0].1).dims.clone()
        };
        assert_eq!((to(Layer::Cut, "image.cls"), to(Layer::Neck, "text.cls")), (vec![4], vec![3]));
        assert_eq!(last_of(&graph, &["text.cls".to_string()]), [text]);
        assert_eq!(graph_to(&graph, Layer::Cut, None, None).unwrap().outputs().len(), 1);
    }
}
