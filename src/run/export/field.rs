//! One field of rows that are pairs, whose network is a file of its own.

use crate::base::{Error, Result};
use crate::head::{HeadConfig, Projections};
use crate::plan::ResolvedPlan;

/// The fields that are exported, each with the name of its folder: the first alone, without a folder, where all go
/// through the same network.
pub fn exported(plan: &ResolvedPlan) -> Vec<(String, Option<String>)> {
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
        return fields.into_iter().take(1).map(|field| (field.clone(), None)).collect();
    }
    fields.into_iter().map(|field| (field.clone(), Some(field.clone()))).collect()
}

/// The plan of a field alone, as if rows had no other.
///
/// # Errors
/// There is no such field.
pub fn alone(plan: &ResolvedPlan, field: &str) -> Result<ResolvedPlan> {
    let missing = || Error::bad_input(format!("the run has no backbone of `{field}`"));
    let (place, _, backbone) = plan.plan.model.towers.get_full(field).ok_or_else(missing)?;
    let tower = tower(plan, place);
    let mut own = ResolvedPlan { towers: Vec::new(), classes: Vec::new(), target: plan.target, ..tower.clone() };
    own.plan = plan.plan.tower(backbone);
    own.plan.data = plan.plan.data.only(field).ok_or_else(missing)?;
    Ok(own)
}

/// The resolved plan of the tower at a place, for its engine.
pub fn tower(plan: &ResolvedPlan, place: usize) -> &ResolvedPlan {
    place.checked_sub(1).and_then(|place| plan.towers.get(place)).unwrap_or(plan)
}
