//! Half a cosine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Progress, warmed_up};

/// Half a cosine from the optimiser's rate down to `min_lr` (Loshchilov and Hutter, 2017), after a linear
/// warm-up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cosine {
    /// Epochs (parts of one too) over which the rate rises linearly to the optimiser's.
    #[schemars(range(min = 0.0))]
    pub warmup_epochs: f64,
    /// The rate at the end.
    #[schemars(range(min = 0.0))]
    pub min_lr: f64,
}

impl Cosine {
    pub(super) fn lr(&self, lr: f64, at: Progress) -> f64 {
        warmed_up(lr, at, self.warmup_epochs, |done| {
            self.min_lr + (lr - self.min_lr) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
        })
    }
}
