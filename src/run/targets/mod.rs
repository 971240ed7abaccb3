//! What depends on the kind of the targets, one file per kind: what of the data is a row of training, which graph is
//! trained and which one is used, what is measured beside the recipe's metrics, and which files an export writes. What
//! is made of outputs in use is for [`postprocess`](crate::postprocess).
//!
//! A further kind is a file here and its line in [`of`]; the rest of the interpreter does not know which there are.

mod classes;
mod kept;
mod masks;
mod multi_label;
mod pairs;
mod parts;
mod values;

use std::collections::BTreeMap;

pub use kept::Kept;
pub use parts::{Grid, NOTHING, Parts};

use crate::base::{Digest, Result};
use crate::data::{self, TargetKind};
use crate::graph::import::Tail;
use crate::graph::{Graph, Weights};
use crate::plan::ResolvedPlan;
use crate::run::tail;
use crate::train::{self, Features, InputSpec};

/// What the trained part stands on.
#[derive(Clone, Copy)]
pub struct Base<'a> {
    /// What of the backbone is trained.
    pub tail: Option<&'a Tail>,
    /// The inputs of the graph: what is stored.
    pub inputs: &'a [InputSpec],
    /// Training rows, for heads that keep them.
    pub stored_rows: usize,
}

/// A kind of targets.
pub trait Kind: Sync {
    /// The targets of some rows as trainers take them.
    ///
    /// # Errors
    /// They are of another kind.
    fn kept(&self, targets: &data::Targets, rows: &[usize]) -> Result<Kept>;

    /// The graph that is trained: what of the backbone is, neck and head.
    ///
    /// # Errors
    /// The neck or the head does not fit the outputs of the cut; a node of the backbone cannot be trained.
    fn graph(&self, plan: &ResolvedPlan, base: Base<'_>) -> Result<Graph> {
        let model = &plan.plan.model;
        let tail = base.tail.map(|tail| (tail, tail::start(&plan.plan)));
        train::build_graph_above(tail, &model.neck, &model.head, base.inputs, plan.classes.len(), base.stored_rows)
    }

    /// The graph that a finished run is used by, with its postprocessing.
    ///
    /// # Errors
    /// Those of [`Self::graph`]; the postprocessing does not take its outputs.
    fn graph_in_use(&self, plan: &ResolvedPlan, base: Base<'_>) -> Result<Graph> {
        let mut graph = self.graph(plan, base)?;
        postprocess(plan, &mut graph)?;
        Ok(graph)
    }

    /// The targets of whole samples, where a sample has several rows.
    ///
    /// # Errors
    /// They cannot be read.
    fn whole(&self, _: &Samples<'_>) -> Result<Option<Box<dyn Whole>>> {
        Ok(None)
    }

    /// Whether rows are read in parts, so that what is computed of a sample must be stored.
    fn must_be_stored(&self) -> bool {
        false
    }

    /// The files that an export writes: each the field that it takes, where it is one of several, and its folder.
    fn files(&self, _: &ResolvedPlan) -> Vec<(Option<String>, Option<String>)> {
        vec![(None, None)]
    }
}

/// The samples that rows are made of.
pub struct Samples<'a> {
    /// What was trained, or is to be.
    pub plan: &'a ResolvedPlan,
    /// The rows of the data.
    pub data: &'a [data::Row],
    /// What they are labelled with.
    pub targets: &'a data::Targets,
    /// In their order.
    pub views: &'a [View],
}

/// A view of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The row of the data.
    pub row: usize,
    /// The sample's digest, by which its views are drawn.
    pub digest: Digest,
    /// Which view; 0 is the plain sample.
    pub number: u32,
}

/// The targets of whole samples, of which the rows of training are parts.
pub trait Whole: Send + Sync {
    /// The parts, given what is stored of a sample.
    ///
    /// # Errors
    /// What is stored has no parts.
    fn parts(&self, inputs: &[InputSpec]) -> Result<Parts>;

    /// What the outputs of the graph in use, whose inputs are whole samples, are worth on some of them.
    ///
    /// # Errors
    /// Those of the cache and of the graph.
    fn measure(&self, graph: &Graph, weights: &Weights, features: &dyn Features, samples: &[u32]) -> Result<Measured>;
}

/// What outputs are worth on some samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// By name.
    pub metrics: BTreeMap<&'static str, f64>,
    /// Of each class how much is there, found, and found right.
    pub classes: Vec<PerClass>,
    /// Of each sample what is true and what was found, for people, from the one with the least that is right.
    pub worst: Vec<Seen>,
}

/// A class in some samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerClass {
    /// What is of it.
    pub there: u64,
    /// What was taken for it.
    pub found: u64,
    /// What of it was taken for it.
    pub right: u64,
}

/// A sample with what is true of it and what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Which sample.
    pub sample: u32,
    /// The share that is right.
    pub right: f64,
    /// Height and width of what is true and what was found.
    pub size: [usize; 2],
    /// The class of each pixel, [`VOID`](crate::sample::image::mask::VOID) for none.
    pub truth: Vec<u8>,
    /// The class that it was taken for.
    pub found: Vec<u8>,
}

/// The kind of some targets.
pub fn of(kind: TargetKind) -> &'static dyn Kind {
    match kind {
        TargetKind::Classes => &classes::Classes,
        TargetKind::MultiLabel => &multi_label::MultiLabel,
        TargetKind::Values => &values::Values,
        TargetKind::Pairs => &pairs::Pairs,
        TargetKind::Masks => &masks::Masks,
    }
}

/// Adds the postprocessing of a plan, if it has one, to a graph.
fn postprocess(plan: &ResolvedPlan, graph: &mut Graph) -> Result<()> {
    let (Some(postprocess), Some((_, outputs))) = (&plan.plan.model.postprocess, graph.outputs().first()) else {
        return Ok(());
    };
    let made = postprocess.build(graph, *outputs)?;
    graph.set_only_output(postprocess.output().name, made);
    Ok(())
}
