//! Rank 2: losses, one file per kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::graph::{Real, Targets};

mod cross_entropy;
mod focal;

pub use cross_entropy::{ClassWeighting, ClassWeights, CrossEntropy};
pub use focal::Focal;

/// What training makes small.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LossConfig {
    /// Softmax cross-entropy of logits against class numbers.
    CrossEntropy(CrossEntropy),
    /// Focal loss: cross-entropy in which easy rows count less.
    Focal(Focal),
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
    fn compute(&mut self, outputs: &[F], targets: Targets<'_>, row_losses: &mut [f64], grad: &mut [F]) -> LossSum;
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
            Self::Focal(config) => config.build(facts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Stream;

    /// Central differences in f64.
    #[test]
    fn gradients_agree_with_finite_differences() {
        let facts = TargetFacts { width: 4, class_counts: vec![1, 2, 3, 4] };
        let weights = || ClassWeights::Each(vec![0.5, 1.0, 2.0, 0.7]);
        let losses = [
            LossConfig::default(),
            LossConfig::CrossEntropy(CrossEntropy { label_smoothing: 0.2, class_weights: weights() }),
            LossConfig::CrossEntropy(CrossEntropy {
                class_weights: ClassWeights::Rule(ClassWeighting::Balanced),
                ..CrossEntropy::default()
            }),
            LossConfig::Focal(Focal::default()),
            LossConfig::Focal(Focal { gamma: 0.0, class_weights: weights() }),
            LossConfig::Focal(Focal { gamma: 1.5, class_weights: weights() }),
        ];
        for config in losses {
            let mut loss: Box<dyn Loss<f64>> = config.build(&facts).unwrap();
            let mut outputs: Vec<f64> = (0..12).map(|i| f64::from(Stream::new(1, 0).normal(i))).collect();
            let mut value = |outputs: &[f64]| {
                let (mut rows, mut grad) = ([0.0; 3], [0.0; 12]);
                let mean = loss.compute(outputs, Targets::Classes(&[0, 3, 2]), &mut rows, &mut grad).mean();
                (mean, grad)
            };
            let (_, grad) = value(&outputs);
            for i in 0..12 {
                let at = outputs[i];
                outputs[i] = at + 1e-5;
                let above = value(&outputs).0;
                outputs[i] = at - 1e-5;
                let below = value(&outputs).0;
                outputs[i] = at;
                let numeric = (above - below) / 2e-5;
                assert!((numeric - grad[i]).abs() < 1e-8, "{config:?} [{i}]: {}, not {numeric}", grad[i]);
            }
        }
    }
}
