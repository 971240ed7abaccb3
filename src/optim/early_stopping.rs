//! When to stop before the last epoch.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ends training once the first metric on the validation rows has not been better than its best for
/// `patience` epochs. The schedule still runs over all of `epochs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EarlyStopping {
    /// Epochs without a new best.
    #[schemars(range(min = 1))]
    pub patience: u32,
}

impl Default for EarlyStopping {
    fn default() -> Self {
        Self { patience: 10 }
    }
}
