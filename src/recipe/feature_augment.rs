//! `train.augment`: changes to stored features at training time, which cost no pass of the backbone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A change to the features of every training batch, drawn anew in every step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FeatureAugment {
    /// Adds normal noise.
    Noise(Noise),
    /// Sets values to zero and divides the others by the share that stays.
    Dropout(FeatureDropout),
    /// Multiplies each row by a random factor, as brightness does to a picture.
    Scale(Scale),
    /// Mixes each row, and its target, with another row of the batch (Zhang et al., 2018).
    Mixup(Mixup),
}

/// Adds normal noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// The noise's standard deviation, as a share of the root mean square of the batch's values.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub std: f64,
}

/// Sets values to zero and divides the others by the share that stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureDropout {
    /// The share of values that are zero.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub rate: f64,
}

/// Multiplies each row by a random factor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The factor is drawn evenly from 1 ± this.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub range: f64,
}

/// Mixes each row, and its target, with another row of the batch: `λ·a + (1 − λ)·b`, with one λ per batch from
/// Beta(alpha, alpha). The loss is that of both targets, weighed in the same way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mixup {
    /// Both parameters of the Beta distribution; small ones mix little.
    #[schemars(range(min = 0.01, max = 4.0))]
    pub alpha: f64,
}
