//! Binary cross-entropy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClassWeighting, ClassWeights, Loss, LossSum, TargetFacts, element_wise};
use crate::base::{Error, Result};
use crate::graph::{Real, Targets};

/// Binary cross-entropy of logits `[batch, labels]` against labels that each hold or do not, averaged over
/// rows and labels (PyTorch's `BCEWithLogitsLoss`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BinaryCrossEntropy {
    /// How much a row that has a label counts against one that has not: `balanced` is how many have not
    /// for each that has, over the training rows.
    pub pos_weight: ClassWeights,
}

impl BinaryCrossEntropy {
    pub(super) fn build<F: Real>(&self, facts: &TargetFacts) -> Result<Box<dyn Loss<F>>> {
        let labels = facts.width;
        let weights = match &self.pos_weight {
            ClassWeights::Rule(ClassWeighting::Uniform) => vec![1.0; labels],
            ClassWeights::Rule(ClassWeighting::Balanced) => {
                // A label that no training row has is never weighed.
                let weight = |n: &usize| if *n == 0 { 1.0 } else { (facts.rows - n) as f64 / *n as f64 };
                facts.class_counts.iter().map(weight).collect()
            }
            ClassWeights::Each(weights) if weights.len() != labels => {
                let n = weights.len();
                return Err(Error::bad_input(format!("`pos_weight` has {n} numbers, but there are {labels} labels")));
            }
            ClassWeights::Each(weights) => weights.clone(),
        };
        if !weights.iter().all(|w| w.is_finite() && *w >= 0.0) {
            return Err(Error::bad_input("`pos_weight` must be 0 or more"));
        }
        Ok(Box::new(Ready { weights }))
    }
}

struct Ready {
    weights: Vec<f64>,
}

impl<F: Real> Loss<F> for Ready {
    fn compute(&mut self, outputs: &[F], targets: Targets<'_>, row_losses: &mut [f64], grad: &mut [F]) -> LossSum {
        let Targets::MultiLabel { values, .. } = targets else { return LossSum::default() };
        element_wise(outputs, values, self.weights.len(), row_losses, grad, |label, x, y| {
            // −w · y · log σ(x) − (1 − y) · log(1 − σ(x)), with log(1 + e^{−|x|}) so that nothing overflows.
            let soft = (-x.abs()).exp().ln_1p();
            let (plus, minus) = (soft + x.max(0.0), soft + (-x).max(0.0));
            let (w, sigmoid) = (self.weights[label], (-minus).exp());
            (w * y * minus + (1.0 - y) * plus, (1.0 - y) * sigmoid - w * y * (1.0 - sigmoid))
        })
    }
}
