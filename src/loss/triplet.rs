//! The triplet loss.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::similarity::Similarity;
use super::{Loss, LossSum};
use crate::graph::{Real, Targets};

/// The triplet loss `max(0, d(a, p) − d(a, n) + margin)` of Euclidean distances between embeddings: a row (a) is to be
/// nearer to rows of its class (p) than to others (n), by a margin. Use `train.sampler: {kind: pk}`. Of rows of three
/// or more fields that belong together (`data.label: {kind: pairs}`) the first is a, the second p, and each further
/// one an n: nothing is mined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Triplet {
    /// By how much other classes are to be farther away.
    #[schemars(range(min = 0.0))]
    pub margin: f64,
    /// Which triplets of a batch of classes count.
    pub mining: Mining,
}

/// Which triplets of a batch count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mining {
    /// For each row the farthest of its class and the nearest of another (Hermans, Beyer and Leibe, 2017).
    #[default]
    Hard,
    /// For each pair of a class the nearest of another class that is farther than the pair's distance; where
    /// there is none, the farthest of another class (Schroff, Kalenichenko and Philbin, 2015).
    SemiHard,
}

impl Default for Triplet {
    fn default() -> Self {
        Self { margin: 0.2, mining: Mining::default() }
    }
}

impl Triplet {
    pub(super) fn build<F: Real>(&self, width: usize) -> Box<dyn Loss<F>> {
        let distances = Vec::new();
        Box::new(Ready { config: self.clone(), width, similarity: Similarity::default(), distances })
    }
}

struct Ready<F> {
    config: Triplet,
    width: usize,
    similarity: Similarity<F>,
    /// `[rows, rows]`.
    distances: Vec<f64>,
}

/// Distances below this have no direction.
const SMALLEST: f64 = 1e-9;

impl<F: Real> Ready<F> {
    /// Calls `each(row, positive, negative)` for the triplets that count.
    fn triplets(&self, classes: &[u32], mut each: impl FnMut(usize, usize, usize)) {
        let rows = classes.len();
        for i in 0..rows {
            let distances = &self.distances[i * rows..][..rows];
            let by = |a: &usize, b: &usize| distances[*a].total_cmp(&distances[*b]);
            let positives = || (0..rows).filter(|j| *j != i && classes[*j] == classes[i]);
            let negatives = || (0..rows).filter(|j| classes[*j] != classes[i]);
            match self.config.mining {
                Mining::Hard => {
                    if let (Some(p), Some(n)) = (positives().max_by(by), negatives().min_by(by)) {
                        each(i, p, n);
                    }
                }
                Mining::SemiHard => {
                    for p in positives() {
                        let farther = negatives().filter(|n| distances[*n] > distances[p]).min_by(by);
                        if let Some(n) = farther.or_else(|| negatives().max_by(by)) {
                            each(i, p, n);
                        }
                    }
                }
            }
        }
    }
}

/// The loss of triplets that are given: the fields of each row.
fn of_fields<F: Real>(
    outputs: &[F],
    (fields, width): (usize, usize),
    margin: f64,
    row_losses: &mut [f64],
    grad: &mut [F],
) -> LossSum {
    let triplets = (row_losses.len() * fields.saturating_sub(2)) as f64;
    let rows = outputs.chunks_exact(fields * width).zip(grad.chunks_exact_mut(fields * width));
    for ((row, grad), row_loss) in rows.zip(row_losses.iter_mut()) {
        let at = |field: usize| &row[field * width..][..width];
        let distance = |field: usize| {
            let pairs = at(0).iter().zip(at(field));
            pairs.map(|(a, b)| (*a - *b).wide().powi(2)).sum::<f64>().sqrt()
        };
        let positive = distance(1);
        for negative in 2..fields {
            let far = distance(negative);
            let loss = positive - far + margin;
            if loss <= 0.0 {
                continue;
            }
            *row_loss += loss;
            for (field, distance, sign) in [(1, positive, 1.0), (negative, far, -1.0)] {
                if distance < SMALLEST {
                    continue;
                }
                let scale = F::of(sign / (distance * triplets));
                for k in 0..width {
                    let step = (at(0)[k] - at(field)[k]) * scale;
                    grad[k] += step;
                    grad[field * width + k] -= step;
                }
            }
        }
    }
    LossSum { sum: row_losses.iter().sum(), weight: triplets }
}

impl<F: Real> Loss<F> for Ready<F> {
    fn compute(&mut self, outputs: &[F], targets: Targets<'_>, row_losses: &mut [f64], grad: &mut [F]) -> LossSum {
        grad.fill(F::ZERO);
        row_losses.fill(0.0);
        if let Targets::Pairs { fields, .. } = targets {
            let width = self.width / fields.max(1);
            return of_fields(outputs, (fields, width), self.config.margin, row_losses, grad);
        }
        let Targets::Classes(classes) = targets else { return LossSum::default() };
        let (rows, width) = (classes.len(), self.width);
        // Differences rather than inner products, which lose the small distances to rounding.
        self.distances.resize(rows * rows, 0.0);
        for i in 0..rows {
            for j in 0..i {
                let pairs = outputs[i * width..][..width].iter().zip(&outputs[j * width..][..width]);
                let distance = pairs.map(|(a, b)| (*a - *b).wide().powi(2)).sum::<f64>().sqrt();
                self.distances[i * rows + j] = distance;
                self.distances[j * rows + i] = distance;
            }
            self.distances[i * rows + i] = 0.0;
        }
        let mut slopes = std::mem::take(&mut self.similarity.products);
        slopes.clear();
        slopes.resize(rows * rows, F::ZERO);
        let mut count = 0u32;
        self.triplets(classes, |i, p, n| {
            count += 1;
            let loss = self.distances[i * rows + p] - self.distances[i * rows + n] + self.config.margin;
            if loss > 0.0 {
                row_losses[i] += loss;
                slopes[i * rows + p] += F::ONE;
                slopes[i * rows + n] -= F::ONE;
            }
        });
        let weight = f64::from(count);
        for i in 0..rows {
            for j in 0..rows {
                let (slope, distance) = (slopes[i * rows + j], self.distances[i * rows + j]);
                if slope == F::ZERO || distance < SMALLEST {
                    continue;
                }
                let scale = F::of(slope.wide() / (distance * weight));
                for k in 0..width {
                    let step = (outputs[i * width + k] - outputs[j * width + k]) * scale;
                    grad[i * width + k] += step;
                    grad[j * width + k] -= step;
                }
            }
        }
        self.similarity.products = slopes;
        LossSum { sum: row_losses.iter().sum(), weight }
    }
}
