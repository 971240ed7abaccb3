//! Metrics of how well a class's probability ranks its rows above the others.

use super::Metric;
use crate::graph::Targets;
use crate::graph::op::Softmax;

/// Keeps all outputs, because ranking needs them: 4 bytes per row and class.
pub struct Ranking {
    width: usize,
    /// Probabilities of classes, or logits of labels.
    scores: Vec<f32>,
    /// Whether each row is of each class, where rows are of one; of labels, row-major.
    truth: Truth,
    of_class: fn(&mut [(f32, bool)]) -> Option<f64>,
}

enum Truth {
    Classes(Vec<u32>),
    Labels(Vec<bool>),
}

impl Ranking {
    /// No rows yet, and the value of one class from (score, whether the row is of the class).
    pub fn new(width: usize, of_class: fn(&mut [(f32, bool)]) -> Option<f64>) -> Self {
        Self { width, scores: Vec::new(), truth: Truth::Classes(Vec::new()), of_class }
    }
}

impl Metric for Ranking {
    fn bytes_per_row(&self) -> usize {
        4 * (self.width + 1)
    }

    fn update(&mut self, outputs: &[f32], targets: Targets<'_>) {
        let start = self.scores.len();
        match targets {
            Targets::Classes(classes) => {
                self.scores.extend_from_slice(outputs);
                self.scores[start..].chunks_exact_mut(self.width).for_each(|row| {
                    Softmax::row(row);
                });
                if let Truth::Classes(all) = &mut self.truth {
                    all.extend_from_slice(classes);
                }
            }
            Targets::MultiLabel { values, .. } => {
                self.scores.extend_from_slice(outputs);
                if start == 0 {
                    self.truth = Truth::Labels(Vec::new());
                }
                if let Truth::Labels(all) = &mut self.truth {
                    all.extend(values.iter().map(|y| *y > 0.5));
                }
            }
            Targets::Values { .. } | Targets::Pairs { .. } => {}
        }
    }

    /// The mean over classes that occur (and do not fill all rows); with two classes, the value of the second.
    fn value(&self) -> f64 {
        let first = if self.width == 2 && matches!(self.truth, Truth::Classes(_)) { 1 } else { 0 };
        let mut pairs = Vec::with_capacity(self.scores.len() / self.width.max(1));
        let (mut sum, mut count) = (0.0, 0u32);
        for class in first..self.width {
            pairs.clear();
            let rows = self.scores.chunks_exact(self.width).enumerate();
            pairs.extend(rows.map(|(row, scores)| {
                let is = match &self.truth {
                    Truth::Classes(classes) => classes[row] as usize == class,
                    Truth::Labels(labels) => labels[row * self.width + class],
                };
                (scores[class], is)
            }));
            if let Some(value) = (self.of_class)(&mut pairs) {
                sum += value;
                count += 1;
            }
        }
        sum / f64::from(count.max(1))
    }
}

/// The area under the ROC curve: the chance that a row of the class ranks above another, equals counting half.
pub fn auroc(pairs: &mut [(f32, bool)]) -> Option<f64> {
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut positives, mut area) = (0.0, 0.0, 0.0);
    for group in pairs.chunk_by(|a, b| a.0 == b.0) {
        let hits = group.iter().filter(|(_, hit)| *hit).count() as f64;
        let misses = group.len() as f64 - hits;
        area += hits * (below + 0.5 * misses);
        below += misses;
        positives += hits;
    }
    (positives > 0.0 && below > 0.0).then(|| area / (positives * below))
}

/// `Σ (recall gained · precision)` over thresholds, as scikit-learn's `average_precision_score`.
pub fn average_precision(pairs: &mut [(f32, bool)]) -> Option<f64> {
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = pairs.iter().filter(|(_, hit)| *hit).count() as f64;
    let (mut seen, mut found, mut sum) = (0.0, 0.0, 0.0);
    for group in pairs.chunk_by(|a, b| a.0 == b.0) {
        let hits = group.iter().filter(|(_, hit)| *hit).count() as f64;
        seen += group.len() as f64;
        found += hits;
        sum += hits * found / seen;
    }
    (positives > 0.0).then(|| sum / positives)
}
