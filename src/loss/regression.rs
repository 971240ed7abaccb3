//! Losses of numbers against numbers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Loss, LossSum, TargetFacts, element_wise};
use crate::base::Result;
use crate::graph::{Real, Targets};

/// The mean of squared differences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mse {
    /// Divides differences by the standard deviation of each value over the training rows, so that the loss,
    /// and with it the learning rate, does not depend on their unit.
    pub standardize: bool,
}

/// Huber's loss: half the square of differences up to `delta`, and their size beyond it, so that outliers count less
/// (Huber, 1964; PyTorch's `HuberLoss`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Huber {
    /// Where the square ends, in standard deviations if `standardize` is on.
    #[schemars(range(min = 1.0e-12))]
    pub delta: f64,
    /// Divides differences by the standard deviation of each value over the training rows.
    pub standardize: bool,
}

impl Default for Mse {
    fn default() -> Self {
        Self { standardize: true }
    }
}

impl Default for Huber {
    fn default() -> Self {
        Self { delta: 1.0, standardize: true }
    }
}

impl Mse {
    pub(super) fn build<F: Real>(&self, facts: &TargetFacts) -> Result<Box<dyn Loss<F>>> {
        Ok(Box::new(Ready { factors: factors(self.standardize, facts), delta: None }))
    }
}

impl Huber {
    pub(super) fn build<F: Real>(&self, facts: &TargetFacts) -> Result<Box<dyn Loss<F>>> {
        Ok(Box::new(Ready { factors: factors(self.standardize, facts), delta: Some(self.delta) }))
    }
}

/// What differences of each value are multiplied by.
fn factors(standardize: bool, facts: &TargetFacts) -> Vec<f64> {
    let factor = |deviation: &f64| if standardize && *deviation > 0.0 { 1.0 / deviation } else { 1.0 };
    facts.moments.iter().map(|(_, deviation)| factor(deviation)).collect()
}

struct Ready {
    factors: Vec<f64>,
    /// Where Huber's square ends; `None` for the plain square.
    delta: Option<f64>,
}

impl<F: Real> Loss<F> for Ready {
    fn compute(&mut self, outputs: &[F], targets: Targets<'_>, row_losses: &mut [f64], grad: &mut [F]) -> LossSum {
        let Targets::Values { values, .. } = targets else { return LossSum::default() };
        element_wise(outputs, values, self.factors.len(), row_losses, grad, |i, x, y| {
            let factor = self.factors[i];
            let d = (x - y) * factor;
            match self.delta {
                None => (d * d, 2.0 * d * factor),
                Some(delta) if d.abs() <= delta => (0.5 * d * d, d * factor),
                Some(delta) => (delta * (d.abs() - 0.5 * delta), delta * d.signum() * factor),
            }
        })
    }
}
