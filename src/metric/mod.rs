//! Rank 2: metrics, one file per kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::graph::{Targets, Task};

mod calibration;
mod per_class;
mod ranking;
pub mod regression;
pub mod retrieval;
mod top_k;

pub use calibration::Calibration;
pub use per_class::{PerClass, argmax};
pub use ranking::{Ranking, auroc, average_precision};
pub use regression::Pairs;
pub use retrieval::Retrieval;
pub use top_k::TopK;

macro_rules! metrics {
    ($($(#[$doc:meta])* $variant:ident $name:literal $start:expr,)*) => {
        /// What is measured on a split. Results are named `split/metric`, such as `test/accuracy`. Of
        /// classes, the prediction is the highest output.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum MetricName {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl MetricName {
            /// Every metric.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in recipes and results.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// An empty measurement of outputs of `width` numbers per row.
            pub fn start(self, width: usize) -> Box<dyn Metric> {
                match self {
                    $(Self::$variant => { let start: fn(usize) -> Box<dyn Metric> = $start; start(width) })*
                }
            }
        }
    };
}

metrics! {
    /// The share of rows whose class has the highest output; of several labels per row, of those whose labels
    /// are all right.
    Accuracy "accuracy" |width| Box::new(TopK::new(1, width)),
    /// The share of rows whose class is among the three highest outputs.
    Top3Accuracy "top3_accuracy" |width| Box::new(TopK::new(3, width)),
    /// The share of rows whose class is among the five highest outputs.
    Top5Accuracy "top5_accuracy" |width| Box::new(TopK::new(5, width)),
    /// The mean of the recall of each class that occurs.
    BalancedAccuracy "balanced_accuracy" |width| Box::new(PerClass::new(width, PerClass::balanced_accuracy)),
    /// The mean over classes of the share of rows predicted as the class that are of it.
    MacroPrecision "macro_precision" |width| Box::new(PerClass::new(width, PerClass::macro_precision)),
    /// The mean over classes of the share of rows of the class that are predicted as it; a class that
    /// is predicted but never occurs counts 0.
    MacroRecall "macro_recall" |width| Box::new(PerClass::new(width, PerClass::macro_recall)),
    /// The mean over classes of each class's F1 score.
    MacroF1 "macro_f1" |width| Box::new(PerClass::new(width, PerClass::macro_f1)),
    /// The mean over rows of the F1 score of the row's class.
    WeightedF1 "weighted_f1" |width| Box::new(PerClass::new(width, PerClass::weighted_f1)),
    /// The precision of each class, weighted by its rows.
    WeightedPrecision "weighted_precision" |width| Box::new(PerClass::new(width, PerClass::weighted_precision)),
    /// The recall of each class, weighted by its rows.
    WeightedRecall "weighted_recall" |width| Box::new(PerClass::new(width, PerClass::weighted_recall)),
    /// The precision of all predictions of all classes together.
    MicroPrecision "micro_precision" |width| Box::new(PerClass::new(width, PerClass::micro_precision)),
    /// The recall of all rows of all classes together.
    MicroRecall "micro_recall" |width| Box::new(PerClass::new(width, PerClass::micro_recall)),
    /// The F1 score of all classes together.
    MicroF1 "micro_f1" |width| Box::new(PerClass::new(width, PerClass::micro_f1)),
    /// The mean over classes that occur or are predicted of intersection over union: rows of the class predicted as it,
    /// of rows of the class or predicted as it. Of masks the rows are places.
    MeanIou "mean_iou" |width| Box::new(PerClass::new(width, PerClass::mean_iou)),
    /// Cohen's kappa: agreement beyond chance.
    CohenKappa "cohen_kappa" |width| Box::new(PerClass::new(width, PerClass::cohen_kappa)),
    /// The area under the ROC curve of softmax probabilities, each class against the rest; the mean over classes.
    Auroc "auroc" |width| Box::new(Ranking::new(width, auroc)),
    /// The average precision of softmax probabilities, each class against the rest; the mean over classes.
    AveragePrecision "average_precision" |width| Box::new(Ranking::new(width, average_precision)),
    /// The expected calibration error of the highest softmax probability, in 15 bins; less is better.
    CalibrationError "calibration_error" |width| Box::new(Calibration::new(width)),
    /// The mean size of the differences of numbers; less is better.
    Mae "mae" |width| Box::new(Pairs::new(width, regression::mae)),
    /// The root of the mean square of the differences of numbers; less is better.
    Rmse "rmse" |width| Box::new(Pairs::new(width, regression::rmse)),
    /// The share of the variance of numbers that is explained.
    R2 "r2" |width| Box::new(Pairs::new(width, regression::r2)),
    /// Spearman's correlation of the ranks of numbers.
    Spearman "spearman" |width| Box::new(Pairs::new(width, regression::spearman)),
    /// Of embeddings: the share of rows whose nearest other row is of their class; of pairs, of different first fields for
    /// which the nearest of all others is the second of their row.
    RecallAt1 "recall_at_1" |width| Box::new(Retrieval::new(width, |_| 1, retrieval::found)),
    /// Of embeddings: the share of rows (of pairs: of first fields) with what they look for among the five nearest.
    RecallAt5 "recall_at_5" |width| Box::new(Retrieval::new(width, |_| 5, retrieval::found)),
    /// Of embeddings: the share of rows (of pairs: of first fields) with what they look for among the ten nearest.
    RecallAt10 "recall_at_10" |width| Box::new(Retrieval::new(width, |_| 10, retrieval::found)),
    /// Of embeddings: the mean over rows (of pairs: over first fields) of one over the rank of the first that is looked
    /// for among the ten nearest.
    MrrAt10 "mrr_at_10" |width| Box::new(Retrieval::new(width, |_| 10, retrieval::reciprocal_rank)),
    /// Of embeddings: the mean average precision among as many nearest as there are to be found: others of the class, or
    /// seconds of the same first field.
    MapAtR "map_at_r" |width| Box::new(Retrieval::new(width, |wanted| wanted, retrieval::map_at_r)),
    /// Of embeddings: the normalised discounted cumulative gain of the ten nearest.
    NdcgAt10 "ndcg_at_10" |width| Box::new(Retrieval::new(width, |_| 10, retrieval::ndcg)),
}

impl MetricName {
    /// Whether more is better.
    pub fn maximize(self) -> bool {
        !matches!(self, Self::CalibrationError | Self::Mae | Self::Rmse)
    }

    /// Whether it measures such outputs.
    pub fn fits(self, task: Task) -> bool {
        let of_classes = matches!(
            self,
            Self::Top3Accuracy
                | Self::Top5Accuracy
                | Self::BalancedAccuracy
                | Self::CohenKappa
                | Self::MeanIou
                | Self::CalibrationError
        );
        let of_values = matches!(self, Self::Mae | Self::Rmse | Self::R2 | Self::Spearman);
        let of_embeddings = matches!(
            self,
            Self::RecallAt1 | Self::RecallAt5 | Self::RecallAt10 | Self::MrrAt10 | Self::MapAtR | Self::NdcgAt10
        );
        match task {
            Task::Classes => !of_values && !of_embeddings,
            Task::MultiLabel => !of_classes && !of_values && !of_embeddings,
            Task::Values => of_values,
            Task::Embedding => of_embeddings,
        }
    }

    /// What is measured where a recipe names nothing.
    pub fn of_task(task: Task) -> Vec<Self> {
        match task {
            Task::Classes => vec![Self::Accuracy, Self::MacroF1],
            Task::MultiLabel => vec![Self::AveragePrecision, Self::MacroF1],
            Task::Values => vec![Self::Rmse, Self::R2],
            Task::Embedding => vec![Self::RecallAt1, Self::MapAtR],
        }
    }
}

/// A measurement that takes rows batch by batch.
pub trait Metric: Send {
    /// Takes outputs `[rows, width]` with their targets.
    fn update(&mut self, outputs: &[f32], targets: Targets<'_>);

    /// The value over all rows so far; 0 for none.
    fn value(&self) -> f64;

    /// Bytes that it keeps of each row.
    fn bytes_per_row(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/reference/metrics.py` wrote scikit-learn's values.
    #[test]
    fn values_are_scikit_learns() {
        let reference: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/reference/metrics.json")).unwrap();
        let numbers = |value: &serde_json::Value| serde_json::from_value::<Vec<f32>>(value.clone()).unwrap();
        let truth: Vec<u32> = serde_json::from_value(reference["truth"].clone()).unwrap();
        let width = 7;
        let labels = numbers(&reference["multi_label"]["labels"]);
        let values = numbers(&reference["values"]["targets"]);
        let score = |i: usize| ((i * 367 + i * i % 97 * 5) % 1009) as f32 / 504.0 - 1.0;
        let outputs: Vec<f32> = (0..truth.len() * width).map(score).collect();
        let mut compared = 0;
        for name in MetricName::ALL.iter().copied() {
            assert_eq!(serde_json::to_value(name).unwrap(), name.name());
            for task in [Task::Classes, Task::MultiLabel, Task::Values, Task::Embedding] {
                if !name.fits(task) {
                    continue;
                }
                let targets = |a: usize, b: usize| match task {
                    Task::Classes | Task::Embedding => Targets::Classes(&truth[a..b]),
                    Task::MultiLabel => Targets::MultiLabel { width, values: &labels[a * width..b * width] },
                    Task::Values => Targets::Values { width, values: &values[a * width..b * width] },
                };
                let theirs = match task {
                    Task::Classes => &reference,
                    Task::Embedding => &reference["embedding"],
                    Task::MultiLabel => &reference["multi_label"],
                    Task::Values => &reference["values"],
                };
                let mut metric = name.start(width);
                // In two batches.
                metric.update(&outputs[..10 * width], targets(0, 10));
                metric.update(&outputs[10 * width..], targets(10, truth.len()));
                let (ours, theirs) = (metric.value(), theirs[name.name()].as_f64().unwrap());
                assert!((ours - theirs).abs() < 1e-6, "{} of {}: {ours}, not {theirs}", name.name(), task.name());
                compared += 1;
            }
        }
        assert!(compared > MetricName::ALL.len());
    }

    #[test]
    fn values_across_fields_are_the_references() {
        let reference: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/reference/metrics.json")).unwrap();
        let reference = &reference["pairs"];
        let samples: Vec<u32> = serde_json::from_value(reference["samples"].clone()).unwrap();
        let score = |i: usize| ((i * 367 + i * i % 97 * 5) % 1009) as f32 / 504.0 - 1.0;
        let mut outputs: Vec<f32> = (0..60 * 7).filter(|i| i % 7 < 6).map(score).collect();
        outputs.chunks_exact_mut(6).step_by(3).for_each(|row| row.copy_within(0..2, 2));
        for name in MetricName::ALL.iter().filter(|name| name.fits(Task::Embedding)) {
            let mut metric = name.start(6);
            for rows in [0..25, 25..60] {
                let targets = Targets::Pairs { fields: 3, samples: &samples[rows.start * 3..rows.end * 3] };
                metric.update(&outputs[rows.start * 6..rows.end * 6], targets);
            }
            let (ours, theirs) = (metric.value(), reference[name.name()].as_f64().unwrap());
            assert!((ours - theirs).abs() < 1e-6, "{}: {ours}, not {theirs}", name.name());
        }
    }

    #[test]
    fn nothing_measured_is_zero() {
        for name in MetricName::ALL {
            assert_eq!(name.start(3).value(), 0.0, "{}", name.name());
        }
    }
}
