//! One field of rows that are pairs, whose network is a file of its own.

use crate::base::{Error, Result};
use crate::plan::ResolvedPlan;

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
