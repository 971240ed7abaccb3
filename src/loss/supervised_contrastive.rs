//! The supervised contrastive loss.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::similarity::Similarity;
use super::{Loss, LossSum};
use crate::graph::{Real, Targets};

/// The supervised contrastive loss (Khosla and others, 2020) of embeddings `[batch, dim]` of length one: those
/// of a class are drawn together and away from all others in the batch. Rows whose class has no other row in the
/// batch do not count; `train.sampler: {kind: pk}` sees to it that there are others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SupervisedContrastive {
    /// What cosines are divided by.
    #[schemars(range(min = 1.0e-4))]
    pub temperature: f64,
}

impl Default for SupervisedContrastive {
    fn default() -> Self {
        Self { temperature: 0.1 }
    }
}

impl SupervisedContrastive {
    pub(super) fn build<F: Real>(&self, width: usize) -> Box<dyn Loss<F>> {
        Box::new(Ready { temperature: self.temperature, width, similarity: Similarity::default() })
    }
}

struct Ready<F> {
    temperature: f64,
    width: usize,
    similarity: Similarity<F>,
}

impl<F: Real> Loss<F> for Ready<F> {
    fn compute(&mut self, outputs: &[F], targets: Targets<'_>, row_losses: &mut [f64], grad: &mut [F]) -> LossSum {
        let Targets::Classes(classes) = targets else { return LossSum::default() };
        let rows = classes.len();
        grad.fill(F::ZERO);
        row_losses.fill(0.0);
        let others = |i: usize| classes.iter().enumerate().filter(move |(j, c)| *j != i && **c == classes[i]);
        let anchors = (0..rows).filter(|i| others(*i).next().is_some()).count();
        if anchors == 0 {
            return LossSum::default();
        }
        self.similarity.forward(outputs, outputs, self.width, 1.0 / self.temperature);
        let scale = 1.0 / (anchors as f64 * self.temperature);
        for (i, products) in self.similarity.products.chunks_exact_mut(rows).enumerate() {
            let positives = others(i).count();
            if positives == 0 {
                products.fill(F::ZERO);
                continue;
            }
            let all = || products.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, x)| x.wide());
            let largest = all().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = all().map(|x| (x - largest).exp()).sum::<f64>().ln() + largest;
            let share = 1.0 / positives as f64;
            let mut loss = 0.0;
            for (j, x) in products.iter_mut().enumerate() {
                let log_p = x.wide() - log_sum;
                let mut slope = log_p.exp();
                if j == i {
                    slope = 0.0;
                } else if classes[j] == classes[i] {
                    loss -= share * log_p;
                    slope -= share;
                }
                *x = F::of(slope * scale);
            }
            row_losses[i] = loss;
        }
        self.similarity.backward(outputs, outputs, self.width, grad, None);
        LossSum { sum: row_losses.iter().sum(), weight: anchors as f64 }
    }
}
