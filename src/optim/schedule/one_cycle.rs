//! One rise and one fall.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Progress;

/// Half a cosine up from `lr / initial_divisor` to the optimiser's rate and half a cosine down to
/// `lr / (initial_divisor · final_divisor)` (Smith and Topin, 2019; PyTorch's `OneCycleLR`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OneCycle {
    /// The share of the steps that rise.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rise: f64,
    /// The highest rate divided by the first.
    #[schemars(range(min = 1.0))]
    pub initial_divisor: f64,
    /// The first rate divided by the last.
    #[schemars(range(min = 1.0))]
    pub final_divisor: f64,
}

impl Default for OneCycle {
    fn default() -> Self {
        Self { rise: 0.3, initial_divisor: 25.0, final_divisor: 1e4 }
    }
}

impl OneCycle {
    pub(super) fn lr(&self, lr: f64, at: Progress) -> f64 {
        let first = lr / self.initial_divisor;
        let total = (at.steps_per_epoch * at.epochs) as f64;
        let (step, peak, end) = (at.step as f64, self.rise * total - 1.0, total - 1.0);
        let cosine =
            |from: f64, to: f64, done: f64| to + (from - to) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        if step <= peak && peak > 0.0 {
            cosine(first, lr, step / peak)
        } else {
            let done = (step - peak) / (end - peak).max(1.0);
            cosine(lr, first / self.final_divisor, done.clamp(0.0, 1.0))
        }
    }
}
