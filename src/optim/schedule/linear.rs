//! A straight line.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Progress, warmed_up};

/// A straight line from the optimiser's rate down to `min_lr`, after a linear warm-up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Linear {
    /// Epochs (parts of one too) over which the rate rises linearly to the optimiser's.
    #[schemars(range(min = 0.0))]
    pub warmup_epochs: f64,
    /// The rate at the end.
    #[schemars(range(min = 0.0))]
    pub min_lr: f64,
}

impl Linear {
    pub(super) fn lr(&self, lr: f64, at: Progress) -> f64 {
        warmed_up(lr, at, self.warmup_epochs, |done| self.min_lr + (lr - self.min_lr) * (1.0 - done))
    }
}
