//! The focal loss.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClassWeights, Loss, LossSum, TargetFacts};
use crate::base::Result;
use crate::graph::op::Softmax;
use crate::graph::parallel::CHUNK;
use crate::graph::{Real, Targets};

/// Focal loss over softmax probabilities, `−w_y · (1 − p_y)^gamma · log p_y`, averaged over the batch (with
/// class weights: divided by their sum): rows that are easy count less (Lin and others, 2017). With `gamma`
/// 0 it is the cross-entropy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Focal {
    /// How much less easy rows count.
    #[schemars(range(min = 0.0))]
    pub gamma: f64,
    /// How much a row of each class counts.
    pub class_weights: ClassWeights,
}

impl Default for Focal {
    fn default() -> Self {
        Self { gamma: 2.0, class_weights: ClassWeights::default() }
    }
}

impl Focal {
    pub(super) fn build<F: Real>(&self, facts: &TargetFacts) -> Result<Box<dyn Loss<F>>> {
        Ok(Box::new(Ready { gamma: self.gamma, weights: self.class_weights.resolve(facts)? }))
    }
}

struct Ready {
    gamma: f64,
    weights: Vec<f64>,
}

impl<F: Real> Loss<F> for Ready {
    fn compute(&mut self, outputs: &[F], targets: Targets<'_>, row_losses: &mut [f64], grad: &mut [F]) -> LossSum {
        let Targets::Classes(classes) = targets else { return LossSum::default() };
        let width = self.weights.len();
        let weight: f64 = classes.iter().map(|y| self.weights[*y as usize]).sum();
        let scale = if weight > 0.0 { 1.0 / weight } else { 0.0 };
        let rows = (CHUNK / width).max(1);
        let parts = outputs.par_chunks(rows * width).zip(classes.par_chunks(rows));
        let results = grad.par_chunks_mut(rows * width).zip(row_losses.par_chunks_mut(rows));
        parts.zip(results).for_each(|((outputs, classes), (grad, losses))| {
            let grads = grad.chunks_exact_mut(width).zip(losses);
            for ((logits, y), (grad, loss)) in outputs.chunks_exact(width).zip(classes).zip(grads) {
                let y = *y as usize;
                grad.copy_from_slice(logits);
                let log_p = logits[y].wide() - Softmax::row(grad).wide();
                let (p, w) = (log_p.exp(), self.weights[y]);
                let miss = (1.0 - p).max(0.0);
                *loss = -w * miss.powf(self.gamma) * log_p;
                // dL/dlogit_j = (dL/d log p_y) · (1[j = y] − p_j), where p' = p.
                let easing = if self.gamma > 0.0 { self.gamma * miss.powf(self.gamma - 1.0) * p * log_p } else { 0.0 };
                let easing = if easing.is_finite() { easing } else { 0.0 };
                let slope = F::of(w * (easing - miss.powf(self.gamma)) * scale);
                grad.iter_mut().for_each(|g| *g = -*g * slope);
                grad[y] += slope;
            }
        });
        LossSum { sum: row_losses.iter().sum(), weight }
    }
}
