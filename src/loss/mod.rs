//! Rank 2: losses, one file per kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::graph::{Real, Targets};

mod cross_entropy;

pub use cross_entropy::{ClassWeighting, ClassWeights, CrossEntropy};

/// What training makes small.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LossConfig {
    /// Softmax cross-entropy of logits against class numbers.
    CrossEntropy(CrossEntropy),
}

impl Default for LossConfig {
    fn default() -> Self {
        Self::CrossEntropy(CrossEntropy::default())
    }
}

/// The loss of a batch: its mean is `sum / weight`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LossSum {
    /// The sum over rows.
    pub sum: f64,
    /// What to divide by: rows, or the sum of their weights.
    pub weight: f64,
}

impl LossSum {
    /// The mean; 0 for no rows.
    pub fn mean(self) -> f64 {
        if self.weight > 0.0 { self.sum / self.weight } else { 0.0 }
    }

    /// Adds another batch's.
    pub fn add(&mut self, other: Self) {
        self.sum += other.sum;
        self.weight += other.weight;
    }
}

/// A loss, ready to be computed.
pub trait Loss<F: Real>: Send + Sync {
    /// The loss of `outputs` `[rows, width]`, and in `grad`, of the same size, the gradient of its mean.
    /// `row_losses` has room for one number per row.
    fn compute(&self, outputs: &[F], targets: Targets<'_>, row_losses: &mut [f64], grad: &mut [F]) -> LossSum;
}

/// What a loss may need to know of the training rows.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetFacts {
    /// Outputs per row: classes, or values.
    pub width: usize,
    /// Training rows of each class; empty if targets are not classes.
    pub class_counts: Vec<usize>,
}

impl LossConfig {
    /// Makes the loss ready.
    ///
    /// # Errors
    /// Settings that do not fit the targets, such as another number of class weights.
    pub fn build<F: Real>(&self, facts: &TargetFacts) -> Result<Box<dyn Loss<F>>> {
        match self {
            Self::CrossEntropy(config) => config.build(facts),
        }
    }
}
