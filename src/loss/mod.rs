//! Rank 2: losses, one file per kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod cross_entropy;

pub use cross_entropy::{ClassWeighting, ClassWeights, CrossEntropy};

/// What training makes small.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LossConfig {
    /// Softmax cross-entropy of logits against class numbers.
    CrossEntropy(CrossEntropy),
}

impl Default for LossConfig {
    fn default() -> Self {
        Self::CrossEntropy(CrossEntropy::default())
    }
}
