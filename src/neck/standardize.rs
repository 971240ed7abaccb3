//! Standardisation fitted on the training rows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Subtracts from each feature its mean over the training rows and divides by its standard deviation:
/// `(x − mean) / sqrt(variance + eps)`. Fitted in one streaming pass before the first epoch; constant
/// from then on, and part of the exported model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Standardize {
    /// Added to the variance, so that a feature that never varies becomes zero.
    #[schemars(range(min = 0.0))]
    pub eps: f64,
}

impl Default for Standardize {
    fn default() -> Self {
        Self { eps: 1e-6 }
    }
}
