//! Softmax cross-entropy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
