//! Rates that fall at epochs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Progress, warmed_up};

/// Multiplies the rate by `factor` every `every_epochs` epochs, after a linear warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// Epochs (parts of one too) over which the rate rises linearly to the optimiser's.
    #[schemars(range(min = 0.0))]
    pub warmup_epochs: f64,
    /// Epochs between two falls, counted from the beginning of the run.
    #[schemars(range(min = 1))]
    pub every_epochs: u32,
    /// What the rate is multiplied by.
    #[schemars(range(min = 0.0))]
    pub factor: f64,
}

impl Default for Step {
    fn default() -> Self {
        Self { warmup_epochs: 0.0, every_epochs: 10, factor: 0.1 }
    }
}

/// Multiplies the rate by `factor` after each of some epochs, after a linear warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MultiStep {
    /// Epochs (parts of one too) over which the rate rises linearly to the optimiser's.
    #[schemars(range(min = 0.0))]
    pub warmup_epochs: f64,
    /// How many epochs are done when the rate falls.
    pub milestones: Vec<u32>,
    /// What the rate is multiplied by.
    #[schemars(range(min = 0.0))]
    pub factor: f64,
}

impl Default for MultiStep {
    fn default() -> Self {
        Self { warmup_epochs: 0.0, milestones: vec![30, 40], factor: 0.1 }
    }
}

/// Multiplies the rate by `factor` after each epoch, after a linear warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exponential {
    /// Epochs (parts of one too) over which the rate rises linearly to the optimiser's.
    #[schemars(range(min = 0.0))]
    pub warmup_epochs: f64,
    /// What the rate is multiplied by.
    #[schemars(range(min = 0.0))]
    pub factor: f64,
}

impl Default for Exponential {
    fn default() -> Self {
        Self { warmup_epochs: 0.0, factor: 0.95 }
    }
}

/// The rate after `falls` falls.
fn fallen(lr: f64, factor: f64, falls: u64) -> f64 {
    lr * factor.powi(i32::try_from(falls).unwrap_or(i32::MAX))
}

impl Step {
    pub(super) fn lr(&self, lr: f64, at: Progress) -> f64 {
        let falls = at.epoch() / u64::from(self.every_epochs.max(1));
        warmed_up(lr, at, self.warmup_epochs, |_| fallen(lr, self.factor, falls))
    }
}

impl MultiStep {
    pub(super) fn lr(&self, lr: f64, at: Progress) -> f64 {
        let falls = self.milestones.iter().filter(|epoch| u64::from(**epoch) <= at.epoch()).count() as u64;
        warmed_up(lr, at, self.warmup_epochs, |_| fallen(lr, self.factor, falls))
    }
}

impl Exponential {
    pub(super) fn lr(&self, lr: f64, at: Progress) -> f64 {
        warmed_up(lr, at, self.warmup_epochs, |_| fallen(lr, self.factor, at.epoch()))
    }
}
