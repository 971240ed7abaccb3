//! The graph that a plan trains, and how it says to train.

use crate::base::Result;
use crate::graph::Graph;
use crate::graph::import::Tail;
use crate::plan::{ModelPlan, Plan, ResolvedPlan};
use crate::run::targets::{self, Base};
use crate::train::{self, InputSpec, TrainConfig};

/// The graph that a finished run is used by: [`graph`] at all its places, with the postprocessing behind it.
///
/// # Errors
/// Those of [`graph`].
pub fn graph_in_use(
    plan: &ResolvedPlan,
    tail: Option<&Tail>,
    inputs: &[InputSpec],
    stored_rows: usize,
) -> Result<Graph> {
    targets::of(plan.target).graph_in_use(plan, Base { tail, inputs, stored_rows })
}

/// The graph above the cut: what of the backbone is trained, neck and head, which keeps `stored_rows` rows if it
/// keeps any.
///
/// # Errors
/// The neck or the head does not fit the outputs of the cut; a node of the backbone cannot be trained.
pub fn graph(plan: &ResolvedPlan, tail: Option<&Tail>, inputs: &[InputSpec], stored_rows: usize) -> Result<Graph> {
    targets::of(plan.target).graph(plan, Base { tail, inputs, stored_rows })
}

/// The part of [`graph`] that makes the embedding of one field of pairs, over the inputs of that field.
///
/// # Errors
/// Those of [`graph`].
pub fn graph_of_field(plan: &ResolvedPlan, inputs: &[InputSpec], field: &str) -> Result<Graph> {
    let ModelPlan { neck, head, .. } = &plan.plan.model;
    train::build_graph_of_pairs(neck, head, inputs, &plan.classes, Some(field))
}

/// How the plan says to train.
pub fn config(plan: &Plan) -> TrainConfig {
    TrainConfig {
        recipe: plan.train.clone(),
        metrics: plan.metrics.clone(),
        order_seed: plan.seeds.order,
        seed: plan.seeds.train,
    }
}
