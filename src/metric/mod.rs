//! Rank 2: metrics, one file per kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
