//! One fully connected layer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One fully connected layer. Features of more than one dimension are flattened first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Linear {
    /// Whether each output has a bias.
    pub bias: bool,
}

impl Default for Linear {
    fn default() -> Self {
        Self { bias: true }
    }
}
