//! Rank 2: metrics, one file per kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::graph::Targets;

mod calibration;
mod confusion;
mod ranking;
mod top_k;

pub use calibration::Calibration;
pub use confusion::{Confusion, argmax};
pub use ranking::{Ranking, auroc, average_precision};
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
    /// The share of rows whose class has the highest output.
    Accuracy "accuracy" |width| Box::new(TopK::new(1, width)),
    /// The share of rows whose class is among the three highest outputs.
    Top3Accuracy "top3_accuracy" |width| Box::new(TopK::new(3, width)),
    /// The share of rows whose class is among the five highest outputs.
    Top5Accuracy "top5_accuracy" |width| Box::new(TopK::new(5, width)),
    /// The mean of the recall of each class that occurs.
    BalancedAccuracy "balanced_accuracy" |width| Box::new(Confusion::new(width, Confusion::balanced_accuracy)),
    /// The mean over classes of the share of rows predicted as the class that are of it.
    MacroPrecision "macro_precision" |width| Box::new(Confusion::new(width, Confusion::macro_precision)),
    /// The mean over classes of the share of rows of the class that are predicted as it; a class that
    /// is predicted but never occurs counts 0.
    MacroRecall "macro_recall" |width| Box::new(Confusion::new(width, Confusion::macro_recall)),
    /// The mean over classes of each class's F1 score.
    MacroF1 "macro_f1" |width| Box::new(Confusion::new(width, Confusion::macro_f1)),
    /// The mean over rows of the F1 score of the row's class.
    WeightedF1 "weighted_f1" |width| Box::new(Confusion::new(width, Confusion::weighted_f1)),
    /// Cohen's kappa: agreement beyond chance.
    CohenKappa "cohen_kappa" |width| Box::new(Confusion::new(width, Confusion::cohen_kappa)),
    /// The area under the ROC curve of softmax probabilities, each class against the rest; the mean over classes.
    Auroc "auroc" |width| Box::new(Ranking::new(width, auroc)),
    /// The average precision of softmax probabilities, each class against the rest; the mean over classes.
    AveragePrecision "average_precision" |width| Box::new(Ranking::new(width, average_precision)),
    /// The expected calibration error of the highest softmax probability, in 15 bins; less is better.
    CalibrationError "calibration_error" |width| Box::new(Calibration::new(width)),
}

impl MetricName {
    /// Whether more is better.
    pub fn maximize(self) -> bool {
        !matches!(self, Self::CalibrationError)
    }
}

/// A measurement that takes rows batch by batch.
pub trait Metric: Send {
    /// Takes outputs `[rows, width]` with their targets.
    fn update(&mut self, outputs: &[f32], targets: Targets<'_>);

    /// The value over all rows so far; 0 for none.
    fn value(&self) -> f64;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/reference/metrics.py` wrote scikit-learn's values.
    #[test]
    fn values_are_scikit_learns() {
        let reference: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/reference/metrics.json")).unwrap();
        let truth: Vec<u32> = serde_json::from_value(reference["truth"].clone()).unwrap();
        let width = 7;
        let score = |i: usize| ((i * 367 + i * i % 97 * 5) % 1009) as f32 / 504.0 - 1.0;
        let outputs: Vec<f32> = (0..truth.len() * width).map(score).collect();
        for name in MetricName::ALL.iter().copied() {
            let mut metric = name.start(width);
            // In two batches.
            metric.update(&outputs[..10 * width], Targets::Classes(&truth[..10]));
            metric.update(&outputs[10 * width..], Targets::Classes(&truth[10..]));
            let (ours, theirs) = (metric.value(), reference[name.name()].as_f64().unwrap());
            assert!((ours - theirs).abs() < 1e-7, "{}: {ours}, not {theirs}", name.name());
            assert_eq!(serde_json::to_value(name).unwrap(), name.name());
        }
    }
}
