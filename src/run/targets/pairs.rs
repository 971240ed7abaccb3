//! Fields of a row that belong together: each has an embedding, and a network of its own in use.

use super::{Base, Kept, Kind};
use crate::base::Result;
use crate::data::Targets;
use crate::graph::Graph;
use crate::head::{HeadConfig, Projections};
use crate::plan::ResolvedPlan;
use crate::train;

/// See the module.
pub struct Pairs;

impl Kind for Pairs {
    fn kept(&self, targets: &Targets, rows: &[usize]) -> Result<Kept> {
        let Targets::Pairs { names, of_row } = targets else { return Err(Kept::of_another_kind()) };
        let fields = names.len();
        Ok(Kept::Pairs(fields, rows.iter().flat_map(|&row| &of_row[row * fields..][..fields]).copied().collect()))
    }

    fn graph(&self, plan: &ResolvedPlan, base: Base<'_>) -> Result<Graph> {
        let model = &plan.plan.model;
        train::build_graph_of_pairs(&model.neck, &model.head, base.inputs, &plan.classes, None)
    }

    /// The first field alone, without a folder, where all go through the same network.
    fn files(&self, plan: &ResolvedPlan) -> Vec<(Option<String>, Option<String>)> {
        let fields: Vec<&String> = plan.plan.model.towers.keys().collect();
        let shared = match &plan.plan.model.head {
            HeadConfig::Embedding(embedding) => embedding.projections == Projections::Shared,
            _ => false,
        };
        let mut backbones = plan.plan.model.towers.values();
        let first = backbones.next();
        let alike = |tower: &ResolvedPlan| {
            let same = |a: &ResolvedPlan| (a.weights, a.tokenizer, a.calibration);
            same(tower) == same(plan)
        };
        if shared && backbones.all(|other| Some(other) == first) && plan.towers.iter().all(alike) {
            return fields.into_iter().take(1).map(|field| (Some(field.clone()), None)).collect();
        }
        fields.into_iter().map(|field| (Some(field.clone()), Some(field.clone()))).collect()
    }
}
