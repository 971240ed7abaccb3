//! Rank 2: metrics, one file per kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::graph::Targets;

mod confusion;
mod top_k;

pub use confusion::{Confusion, argmax};
pub use top_k::TopK;

/// What is measured on a split. Results are named `split/metric`, such as `test/accuracy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricName {
    /// The share of rows whose class has the highest output.
    Accuracy,
    /// The share of rows whose class is among the five highest outputs.
    #[serde(rename = "top5_accuracy")]
    Top5Accuracy,
    /// The mean over classes of each class's F1 score.
    #[serde(rename = "macro_f1")]
    MacroF1,
    /// The mean of the recall of each class that occurs.
    BalancedAccuracy,
}

impl MetricName {
    /// Every metric.
    pub const ALL: [Self; 4] = [Self::Accuracy, Self::Top5Accuracy, Self::MacroF1, Self::BalancedAccuracy];

    /// The name in recipes and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Top5Accuracy => "top5_accuracy",
            Self::MacroF1 => "macro_f1",
            Self::BalancedAccuracy => "balanced_accuracy",
        }
    }

    /// Whether more is better.
    pub fn maximize(self) -> bool {
        true
    }

    /// An empty measurement of outputs of `width` numbers per row.
    pub fn start(self, width: usize) -> Box<dyn Metric> {
        match self {
            Self::Accuracy => Box::new(TopK::new(1, width)),
            Self::Top5Accuracy => Box::new(TopK::new(5, width)),
            Self::MacroF1 => Box::new(Confusion::new(width, Confusion::macro_f1)),
            Self::BalancedAccuracy => Box::new(Confusion::new(width, Confusion::balanced_accuracy)),
        }
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
        let score = |i: usize| ((i * 37 + i / 7 * 13) % 101) as f32 / 50.0 - 1.0;
        let outputs: Vec<f32> = (0..truth.len() * width).map(score).collect();
        for name in MetricName::ALL {
            let mut metric = name.start(width);
            // In two batches.
            metric.update(&outputs[..10 * width], Targets::Classes(&truth[..10]));
            metric.update(&outputs[10 * width..], Targets::Classes(&truth[10..]));
            let (ours, theirs) = (metric.value(), reference[name.name()].as_f64().unwrap());
            assert!((ours - theirs).abs() < 1e-9, "{}: {ours}, not {theirs}", name.name());
            assert_eq!(serde_json::to_value(name).unwrap(), name.name());
        }
    }
}
