//! Rank 2: losses, one file per kind.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::graph::parallel::CHUNK;
use crate::graph::{Real, Targets, Task};

mod arcface;
mod binary_cross_entropy;
mod cross_entropy;
mod focal;
mod multiple_negatives_ranking;
mod regression;
mod similarity;
mod supervised_contrastive;
mod triplet;

pub use arcface::Arcface;
pub use binary_cross_entropy::BinaryCrossEntropy;
pub use cross_entropy::{ClassWeighting, ClassWeights, CrossEntropy};
pub use focal::Focal;
pub use multiple_negatives_ranking::MultipleNegativesRanking;
pub use regression::{Huber, Mse};
pub use supervised_contrastive::SupervisedContrastive;
pub use triplet::{Mining, Triplet};

/// What training makes small.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LossConfig {
    /// Softmax cross-entropy of logits against class numbers.
    CrossEntropy(CrossEntropy),
    /// Focal loss: cross-entropy in which easy rows count less.
    Focal(Focal),
    /// Binary cross-entropy of each label's logit.
    BinaryCrossEntropy(BinaryCrossEntropy),
    /// The mean of squared differences.
    Mse(Mse),
    /// Squares of small differences, sizes of large ones.
    Huber(Huber),
    /// Draws embeddings of a class together and away from all others of the batch.
    SupervisedContrastive(SupervisedContrastive),
    /// Rows are to be nearer to their class than to others, by a margin.
    Triplet(Triplet),
    /// Each row of a pair is to be nearer to the other than to those of other pairs in the batch.
    MultipleNegativesRanking(MultipleNegativesRanking),
    /// Cross-entropy with a margin on the angle to the row's own class.
    Arcface(Arcface),
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

    /// Like [`Loss::compute`], with the same bits, for outputs `[width, rows]`, in whose place the gradient is put; or
    /// `None`, and nothing is done, if it knows no way that is quicker.
    fn compute_transposed(
        &mut self,
        _outputs: &mut [F],
        _targets: Targets<'_>,
        _row_losses: &mut [f64],
    ) -> Option<LossSum> {
        None
    }
}

/// What a loss may need to know of the training rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetFacts {
    /// Outputs per row: classes, labels, values, or the numbers of an embedding.
    pub width: usize,
    /// Training rows.
    pub rows: usize,
    /// Training rows of each class or label; empty if targets are values.
    pub class_counts: Vec<usize>,
    /// The mean and the standard deviation of each value over the training rows; empty if targets are not values.
    pub moments: Vec<(f64, f64)>,
}

impl LossConfig {
    /// The loss where a recipe names none.
    pub fn of_task(task: Task) -> Self {
        match task {
            Task::Classes => Self::default(),
            Task::MultiLabel => Self::BinaryCrossEntropy(BinaryCrossEntropy::default()),
            Task::Values => Self::Mse(Mse::default()),
            Task::Embedding => Self::SupervisedContrastive(SupervisedContrastive::default()),
        }
    }

    /// What outputs it is for.
    pub fn task(&self) -> Task {
        match self {
            Self::CrossEntropy(_) | Self::Focal(_) | Self::Arcface(_) => Task::Classes,
            Self::BinaryCrossEntropy(_) => Task::MultiLabel,
            Self::Mse(_) | Self::Huber(_) => Task::Values,
            Self::SupervisedContrastive(_) | Self::Triplet(_) | Self::MultipleNegativesRanking(_) => Task::Embedding,
        }
    }

    /// Whether it compares the fields of rows that are pairs.
    pub fn takes_pairs(&self) -> bool {
        matches!(self, Self::Triplet(_) | Self::MultipleNegativesRanking(_))
    }

    /// Makes the loss ready.
    ///
    /// # Errors
    /// Settings that do not fit the targets, such as another number of class weights.
    pub fn build<F: Real>(&self, facts: &TargetFacts) -> Result<Box<dyn Loss<F>>> {
        match self {
            Self::CrossEntropy(config) => config.build(facts),
            Self::Focal(config) => config.build(facts),
            Self::BinaryCrossEntropy(config) => config.build(facts),
            Self::Mse(config) => config.build(facts),
            Self::Huber(config) => config.build(facts),
            Self::SupervisedContrastive(config) => Ok(config.build(facts.width)),
            Self::Triplet(config) => Ok(config.build(facts.width)),
            Self::MultipleNegativesRanking(config) => Ok(config.build(facts.width)),
            Self::Arcface(config) => config.build(facts),
        }
    }
}

/// A loss that is a mean over the numbers of a row: `each(number, output, target)` gives the loss and its slope.
fn element_wise<F: Real>(
    outputs: &[F],
    targets: &[f32],
    width: usize,
    row_losses: &mut [f64],
    grad: &mut [F],
    each: impl Fn(usize, f64, f64) -> (f64, f64) + Sync,
) -> LossSum {
    let (count, weight) = (width.max(1), row_losses.len() as f64);
    let rows = (CHUNK / count).max(1);
    let scale = 1.0 / (count as f64 * weight.max(1.0));
    let parts = outputs.par_chunks(rows * count).zip(targets.par_chunks(rows * count));
    let results = grad.par_chunks_mut(rows * count).zip(row_losses.par_chunks_mut(rows));
    parts.zip(results).for_each(|((outputs, targets), (grad, losses))| {
        let rows = outputs.chunks_exact(count).zip(targets.chunks_exact(count));
        for (((x, y), grad), loss) in rows.zip(grad.chunks_exact_mut(count)).zip(losses) {
            let mut sum = 0.0;
            for (i, ((x, y), grad)) in x.iter().zip(y).zip(grad).enumerate() {
                let (loss, slope) = each(i, x.wide(), f64::from(*y));
                sum += loss;
                *grad = F::of(slope * scale);
            }
            *loss = sum / count as f64;
        }
    });
    LossSum { sum: row_losses.iter().sum(), weight }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        outputs: Vec<f64>,
        loss: f64,
        gradient: Vec<f64>,
    }

    const ROWS: usize = 8;
    const WIDTH: usize = 6;

    fn numbers(factor: usize, modulus: usize) -> impl Iterator<Item = f32> {
        (0..ROWS * WIDTH).map(move |i| ((i * factor + i * i % 97 * 5) % modulus) as f32 / (modulus / 2) as f32 - 1.0)
    }

    /// Each loss by `tests/reference/losses.py`'s name, with its targets: 0 classes, 1 labels, 2 values, 3 pairs.
    fn cases() -> Vec<(&'static str, LossConfig, usize)> {
        let weights = || ClassWeights::Each(vec![0.5, 1.0, 2.0, 0.7, 1.5, 3.0]);
        let ranking =
            |symmetric| LossConfig::MultipleNegativesRanking(MultipleNegativesRanking { scale: 20.0, symmetric });
        let triplet = |mining| LossConfig::Triplet(Triplet { margin: 0.5, mining });
        vec![
            (
                "cross_entropy",
                LossConfig::CrossEntropy(CrossEntropy { label_smoothing: 0.1, class_weights: weights() }),
                0,
            ),
            ("focal", LossConfig::Focal(Focal::default()), 0),
            ("arcface", LossConfig::Arcface(Arcface::default()), 0),
            ("supervised_contrastive", LossConfig::SupervisedContrastive(SupervisedContrastive::default()), 0),
            ("multiple_negatives_ranking", ranking(false), 0),
            ("multiple_negatives_ranking_symmetric", ranking(true), 0),
            ("triplet_hard", triplet(Mining::Hard), 0),
            ("triplet_semi_hard", triplet(Mining::SemiHard), 0),
            ("fields_ranking", ranking(false), 3),
            ("fields_ranking_symmetric", ranking(true), 3),
            ("fields_triplet", triplet(Mining::Hard), 3),
            ("binary_cross_entropy", LossConfig::BinaryCrossEntropy(BinaryCrossEntropy { pos_weight: weights() }), 1),
            ("mse", LossConfig::Mse(Mse { standardize: false }), 2),
            ("huber", LossConfig::Huber(Huber { delta: 0.7, standardize: false }), 2),
        ]
    }

    /// Eight rows of three fields.
    const SAMPLES: [u32; 24] = [0, 10, 20, 0, 11, 21, 1, 12, 10, 2, 13, 22, 3, 13, 23, 4, 14, 24, 5, 15, 12, 6, 16, 26];

    /// A loss with its gradient, in f64.
    fn compute(config: &LossConfig, facts: &TargetFacts, kind: usize, outputs: &[f64]) -> (f64, Vec<f64>) {
        let labels: Vec<f32> =
            (0..ROWS * WIDTH).map(|i| f32::from(u8::from((i / WIDTH * 5 + i % WIDTH * 3).is_multiple_of(4)))).collect();
        let values: Vec<f32> = numbers(29, 61).map(|x| 3.0 * x).collect();
        let targets = match kind {
            0 => Targets::Classes(&[0, 1, 2, 0, 1, 2, 0, 5]),
            1 => Targets::MultiLabel { width: WIDTH, values: &labels },
            3 => Targets::Pairs { fields: 3, samples: &SAMPLES },
            _ => Targets::Values { width: WIDTH, values: &values },
        };
        let (mut rows, mut grad) = ([0.0; ROWS], vec![0.0; outputs.len()]);
        let mut loss: Box<dyn Loss<f64>> = config.build(facts).unwrap();
        (loss.compute(outputs, targets, &mut rows, &mut grad).mean(), grad)
    }

    fn facts() -> TargetFacts {
        let moments = (0..WIDTH).map(|i| (0.1, 0.5 + i as f64)).collect();
        TargetFacts { width: WIDTH, rows: 20, class_counts: vec![1, 2, 3, 4, 5, 5], moments }
    }

    #[test]
    fn losses_and_gradients_are_pytorchs() {
        let reference: std::collections::BTreeMap<String, Case> =
            serde_json::from_str(include_str!("../../tests/reference/losses.json")).unwrap();
        let cases = cases();
        assert_eq!(cases.len(), reference.len());
        for (name, config, kind) in cases {
            let case = &reference[name];
            let (loss, gradient) = compute(&config, &facts(), kind, &case.outputs);
            assert!((loss - case.loss).abs() < 1e-6, "{name}: {loss}, not {}", case.loss);
            for (i, (ours, theirs)) in gradient.iter().zip(&case.gradient).enumerate() {
                assert!((ours - theirs).abs() < 1e-6, "{name}[{i}]: {ours}, not {theirs}");
            }
        }
    }

    /// Central differences in f64.
    #[test]
    fn gradients_agree_with_finite_differences() {
        let mut cases: Vec<(LossConfig, usize)> = cases().into_iter().map(|(_, config, kind)| (config, kind)).collect();
        let balanced = || ClassWeights::Rule(ClassWeighting::Balanced);
        cases.extend([
            (LossConfig::default(), 0),
            (LossConfig::CrossEntropy(CrossEntropy { class_weights: balanced(), ..CrossEntropy::default() }), 0),
            (LossConfig::Focal(Focal { gamma: 0.0, class_weights: balanced() }), 0),
            (LossConfig::Focal(Focal { gamma: 1.5, class_weights: balanced() }), 0),
            (LossConfig::BinaryCrossEntropy(BinaryCrossEntropy { pos_weight: balanced() }), 1),
            (LossConfig::Mse(Mse::default()), 2),
            (LossConfig::Huber(Huber::default()), 2),
        ]);
        for (config, kind) in cases {
            let mut outputs: Vec<f64> = numbers(367, 1009).map(f64::from).collect();
            let (_, grad) = compute(&config, &facts(), kind, &outputs);
            for i in 0..outputs.len() {
                let at = outputs[i];
                outputs[i] = at + 1e-6;
                let above = compute(&config, &facts(), kind, &outputs).0;
                outputs[i] = at - 1e-6;
                let below = compute(&config, &facts(), kind, &outputs).0;
                outputs[i] = at;
                let numeric = (above - below) / 2e-6;
                assert!((numeric - grad[i]).abs() < 1e-6, "{config:?} [{i}]: {}, not {numeric}", grad[i]);
            }
        }
    }

    #[test]
    fn rows_without_others_of_their_class_do_not_count() {
        let (mut rows, mut grad) = ([1.0; 2], [1.0; 4]);
        let ranking = LossConfig::MultipleNegativesRanking(MultipleNegativesRanking::default());
        for config in [LossConfig::of_task(Task::Embedding), LossConfig::Triplet(Triplet::default()), ranking] {
            let mut loss: Box<dyn Loss<f64>> =
                config.build(&TargetFacts { width: 2, rows: 2, ..TargetFacts::default() }).unwrap();
            let sum = loss.compute(&[1.0, 0.0, 0.0, 1.0], Targets::Classes(&[0, 1]), &mut rows, &mut grad);
            assert_eq!((sum.mean(), grad), (0.0, [0.0; 4]));
        }
    }
}
