//! Softmax cross-entropy.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Loss, LossSum, TargetFacts};
use crate::base::{Error, Result, vectors};
use crate::graph::op::{LANES, Lanes, Softmax};
use crate::graph::parallel::CHUNK;
use crate::graph::{Real, Targets};

/// Softmax cross-entropy of logits `[batch, classes]` against class numbers, averaged over the batch
/// (with class weights: the weighted average, as PyTorch's `reduction="mean"`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CrossEntropy {
    /// The share of the target's probability that is spread evenly over all classes.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub label_smoothing: f64,
    /// How much a row of each class counts.
    pub class_weights: ClassWeights,
}

/// How much a row of each class counts: a rule by name, or one weight per class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ClassWeights {
    /// A rule.
    Rule(ClassWeighting),
    /// One weight per class, in the order of the class names.
    Each(Vec<f64>),
}

/// A rule that gives each class its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeighting {
    /// All classes count alike.
    Uniform,
    /// Inversely to how often a class occurs: `rows / (classes · rows of the class)` over the training rows.
    Balanced,
}

impl Default for ClassWeights {
    fn default() -> Self {
        Self::Rule(ClassWeighting::Uniform)
    }
}

impl ClassWeights {
    /// One weight per class.
    ///
    /// # Errors
    /// Another number of weights, or one that is negative or not finite, or all zero.
    pub fn resolve(&self, facts: &TargetFacts) -> Result<Vec<f64>> {
        let classes = facts.width;
        match self {
            Self::Rule(ClassWeighting::Uniform) => Ok(vec![1.0; classes]),
            Self::Rule(ClassWeighting::Balanced) => {
                let rows: usize = facts.class_counts.iter().sum();
                // A class without training rows is never weighed.
                let weight = |n: &usize| if *n == 0 { 0.0 } else { rows as f64 / (classes * n) as f64 };
                Ok(facts.class_counts.iter().map(weight).collect())
            }
            Self::Each(weights) if weights.len() != classes => {
                let n = weights.len();
                Err(Error::bad_input(format!("`class_weights` has {n} numbers, but there are {classes} classes")))
            }
            Self::Each(weights) => {
                if !weights.iter().all(|w| w.is_finite() && *w >= 0.0) || weights.iter().sum::<f64>() <= 0.0 {
                    return Err(Error::bad_input("`class_weights` must be 0 or more, and not all 0"));
                }
                Ok(weights.clone())
            }
        }
    }
}

impl CrossEntropy {
    pub(super) fn build<F: Real>(&self, facts: &TargetFacts) -> Result<Box<dyn Loss<F>>> {
        let weights = self.class_weights.resolve(facts)?;
        let mean = weights.iter().sum::<f64>() / weights.len().max(1) as f64;
        Ok(Box::new(Ready { smoothing: self.label_smoothing, weights, mean }))
    }
}

/// With smoothing ε, class weights w and C classes, a row of class y counts
/// `(1 − ε) · w_y · −log p_y + ε/C · Σ_c w_c · −log p_c`, and the batch is divided by `Σ w_y`
/// (PyTorch's `CrossEntropyLoss`).
struct Ready {
    smoothing: f64,
    weights: Vec<f64>,
    /// The mean of `weights`.
    mean: f64,
}

impl<F: Real> Loss<F> for Ready {
    fn compute(&mut self, outputs: &[F], targets: Targets<'_>, row_losses: &mut [f64], grad: &mut [F]) -> LossSum {
        let Targets::Classes(classes) = targets else { return LossSum::default() };
        let width = self.weights.len();
        let weight: f64 = classes.iter().map(|y| self.weights[*y as usize]).sum();
        let scale = F::of(if weight > 0.0 { 1.0 / weight } else { 0.0 });
        let spread = self.smoothing / width as f64;
        let rows = (CHUNK / width).max(1);
        let parts = outputs.par_chunks(rows * width).zip(classes.par_chunks(rows));
        let results = grad.par_chunks_mut(rows * width).zip(row_losses.par_chunks_mut(rows));
        parts.zip(results).for_each(|((outputs, classes), (grad, losses))| {
            grad.copy_from_slice(outputs);
            vectors!(Softmax::rows(grad, width, losses));
            let grads = grad.chunks_exact_mut(width).zip(losses);
            for ((logits, y), (grad, loss)) in outputs.chunks_exact(width).zip(classes).zip(grads) {
                let y = *y as usize;
                let log_sum = *loss;
                let own = (1.0 - self.smoothing) * self.weights[y];
                *loss = own * (log_sum - logits[y].wide());
                let total = F::of(own + self.smoothing * self.mean) * scale;
                grad.iter_mut().for_each(|g| *g *= total);
                if self.smoothing > 0.0 {
                    for ((w, x), g) in self.weights.iter().zip(logits).zip(grad.iter_mut()) {
                        *loss += spread * w * (log_sum - x.wide());
                        *g -= F::of(spread * w) * scale;
                    }
                }
                grad[y] -= F::of(own) * scale;
            }
        });
        LossSum { sum: row_losses.iter().sum(), weight }
    }

    fn compute_transposed(
        &mut self,
        outputs: &mut [F],
        targets: Targets<'_>,
        row_losses: &mut [f64],
    ) -> Option<LossSum> {
        let Targets::Classes(classes) = targets else { return None };
        // Smoothing adds up classes in a row's own order.
        if self.smoothing > 0.0 {
            return None;
        }
        let (width, rows) = (self.weights.len(), classes.len());
        let weight: f64 = classes.iter().map(|y| self.weights[*y as usize]).sum();
        let scale = F::of(if weight > 0.0 { 1.0 / weight } else { 0.0 });
        let mut columns: Vec<Lanes<F>> = vec![[F::ZERO; LANES]; width];
        for (block, (classes, losses)) in classes.chunks(LANES).zip(row_losses.chunks_mut(LANES)).enumerate() {
            let count = classes.len();
            let own_of = |class: &u32| self.weights[*class as usize];
            let mut own_logits = [0.0; LANES];
            for (row, (y, logit)) in classes.iter().zip(&mut own_logits).enumerate() {
                *logit = outputs[*y as usize * rows + block * LANES + row].wide();
            }
            let mut totals = [F::ZERO; LANES];
            classes.iter().zip(&mut totals).for_each(|(y, total)| *total = F::of(own_of(y)) * scale);
            let mut log_sums = [0.0; LANES];
            vectors!({
                for (column, from) in columns.iter_mut().zip(outputs.chunks_exact(rows)) {
                    let from = &from[block * LANES..][..count];
                    match <&Lanes<F>>::try_from(from) {
                        Ok(whole) => *column = *whole,
                        Err(_) => column[..count].copy_from_slice(from),
                    }
                }
                Softmax::columns(&mut columns, &mut log_sums);
                for (column, to) in columns.iter_mut().zip(outputs.chunks_exact_mut(rows)) {
                    column.iter_mut().zip(&totals).for_each(|(g, total)| *g *= *total);
                    let to = &mut to[block * LANES..][..count];
                    match <&mut Lanes<F>>::try_from(&mut *to) {
                        Ok(whole) => *whole = *column,
                        Err(_) => to.copy_from_slice(&column[..count]),
                    }
                }
            });
            for (row, (y, loss)) in classes.iter().zip(losses).enumerate() {
                *loss = own_of(y) * (log_sums[row] - own_logits[row]);
                outputs[*y as usize * rows + block * LANES + row] -= totals[row];
            }
        }
        Some(LossSum { sum: row_losses.iter().sum(), weight })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Stream;

    #[test]
    fn transposed_outputs_give_the_same_bits() {
        for (rows, width) in [(1, 2), (16, 10), (37, 3), (256, 100)] {
            let logits: Vec<f32> = (0..rows * width).map(|i| Stream::new(5, 0).normal(i as u64) * 4.0).collect();
            let classes: Vec<u32> = (0..rows).map(|i| (i * 7 % width) as u32).collect();
            let class_weights = ClassWeights::Each((0..width).map(|i| 0.5 + i as f64).collect());
            let facts = TargetFacts { width, rows, ..TargetFacts::default() };
            let targets = Targets::Classes(&classes);
            let mut loss = CrossEntropy { label_smoothing: 0.0, class_weights }.build::<f32>(&facts).unwrap();
            let (mut losses, mut grad) = (vec![0.0; rows], vec![0.0; rows * width]);
            let sum = loss.compute(&logits, targets, &mut losses, &mut grad);
            let mut columns: Vec<f32> = (0..rows * width).map(|i| logits[i % rows * width + i / rows]).collect();
            let mut own = vec![0.0; rows];
            assert_eq!(loss.compute_transposed(&mut columns, targets, &mut own), Some(sum));
            assert_eq!(own, losses);
            assert!((0..rows * width).all(|i| columns[i] == grad[i % rows * width + i / rows]), "{rows}, {width}");
        }
    }
}
