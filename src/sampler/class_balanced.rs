//! Every class equally often.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Pool, Round};
use crate::base::Result;

/// Every class equally often: an epoch has as many rows as there are training rows; those of rare classes
/// repeat, those of common ones are left out in turn. For classes of very different sizes, where weights in the
/// loss would make steps uneven.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClassBalanced {}

pub(super) fn order(pool: &Pool<'_>) -> Result<Vec<u32>> {
    let by_class = pool.by_class()?;
    let classes = by_class.len();
    let mut order = Vec::with_capacity(pool.rows.len());
    for (i, rows) in by_class.into_iter().enumerate() {
        let share = pool.rows.len() / classes + usize::from(i < pool.rows.len() % classes);
        let mut round = Round::new(rows, pool.stream(&format!("class {i}")));
        order.extend((0..share).map(|_| round.draw()));
    }
    pool.stream("order").shuffle(&mut order);
    Ok(order)
}
