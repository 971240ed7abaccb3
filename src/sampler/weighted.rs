//! Rows at random, by weight.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Pool;
use crate::base::{Error, Result};

/// Rows drawn at random and with replacement, each as likely as the weight of its class (PyTorch's
/// `WeightedRandomSampler`). An epoch has as many rows as there are training rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    /// How likely a row of each class is against rows of others, in the order of the class names.
    #[schemars(length(min = 1), inner(range(min = 0.0)))]
    pub weights: Vec<f64>,
}

impl Weighted {
    pub(super) fn order(&self, pool: &Pool<'_>) -> Result<Vec<u32>> {
        if self.weights.len() != pool.classes {
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
                total += self.weights[pool.class_of[*row as usize] as usize];
                total
            })
            .collect();
        if !(total.is_finite() && total > 0.0) {
            return Err(Error::bad_input("`train.sampler.weights` must be 0 or more, and not all 0"));
        }
        let stream = pool.stream("weighted");
        let draw = |i: usize| {
            let at = (stream.u64(i as u64) >> 11) as f64 / (1u64 << 53) as f64 * total;
            pool.rows[bounds.partition_point(|bound| *bound <= at).min(pool.rows.len() - 1)]
        };
        Ok((0..pool.rows.len()).map(draw).collect())
    }
}
