//! A power of what remains.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Progress, warmed_up};

/// `min_lr + (lr − min_lr) · (share of the steps that remains)^power`, after a linear warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Polynomial {
    /// Epochs (parts of one too) over which the rate rises linearly to the optimiser's.
    #[schemars(range(min = 0.0))]
    pub warmup_epochs: f64,
    /// The rate at the end.
    #[schemars(range(min = 0.0))]
    pub min_lr: f64,
    /// The power; 1 is a straight line.
    #[schemars(range(min = 0.0))]
    pub power: f64,
}

impl Default for Polynomial {
    fn default() -> Self {
        Self { warmup_epochs: 0.0, min_lr: 0.0, power: 0.9 }
    }
}

impl Polynomial {
    pub(super) fn lr(&self, lr: f64, at: Progress) -> f64 {
        warmed_up(lr, at, self.warmup_epochs, |done| self.min_lr + (lr - self.min_lr) * (1.0 - done).powf(self.power))
    }
}
