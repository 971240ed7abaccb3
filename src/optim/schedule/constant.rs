//! The same rate throughout.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Progress, warmed_up};

/// The optimiser's rate throughout, after a linear warm-up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Constant {
    /// Epochs (parts of one too) over which the rate rises linearly to the optimiser's.
    #[schemars(range(min = 0.0))]
    pub warmup_epochs: f64,
}

impl Constant {
    pub(super) fn lr(&self, lr: f64, at: Progress) -> f64 {
        warmed_up(lr, at, self.warmup_epochs, |_| lr)
    }
}
