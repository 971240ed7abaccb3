//! Rows at random, by weight.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Pool;
use crate::base::{Error, Result};

/// Rows drawn at random and with replacement, each as likely as the weight of its class, or as its own weight in the
/// column that `data.weight` names (PyTorch's `WeightedRandomSampler`). An epoch has as many rows as there are training
/// rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Weighted {
    /// How likely a row of each class is against rows of others, in the order of the class names. Without it rows have
    /// the weights of `data.weight`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 0.0)))]
    pub weights: Vec<f64>,
}

impl Weighted {
    /// Whether rows have weights of their own.
    pub fn by_row(&self) -> bool {
        self.weights.is_empty()
    }

    pub(super) fn order(&self, pool: &Pool<'_>) -> Result<Vec<u32>> {
        let of_rows = if self.by_row() { pool.weights } else { None };
        if self.by_row() && of_rows.is_none() {
            return Err(Error::bad_input("`train.sampler: {kind: weighted}` needs `weights` of classes")
                .hint("or name a column of the table with a weight for each row as `data.weight`"));
        }
        if of_rows.is_none() && self.weights.len() != pool.classes {
            let (n, classes) = (self.weights.len(), pool.classes);
            return Err(Error::bad_input(format!(
                "`train.sampler.weights` has {n} numbers, but there are {classes} classes"
            )));
        }
        let mut total = 0.0;
        let bounds: Vec<f64> = pool
            .rows
            .iter()
            .map(|row| {
                total += match of_rows {
                    Some(weights) => f64::from(weights[*row as usize]),
                    None => self.weights[pool.class_of[*row as usize] as usize],
                };
                total
            })
            .collect();
        if !(total.is_finite() && total > 0.0) {
            let key = if of_rows.is_some() { "data.weight" } else { "train.sampler.weights" };
            return Err(Error::bad_input(format!("weights of `{key}` must be 0 or more, and not all 0")));
        }
        let stream = pool.stream("weighted");
        let draw = |i: usize| {
            let at = (stream.u64(i as u64) >> 11) as f64 / (1u64 << 53) as f64 * total;
            pool.rows[bounds.partition_point(|bound| *bound <= at).min(pool.rows.len() - 1)]
        };
        Ok((0..pool.rows.len()).map(draw).collect())
    }
}
