//! A running average of the weights.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A running average of the weights (Polyak and Juditsky, 1992): after each step
/// `average ← decay · average + (1 − decay) · weights`, from the weights after the first step (PyTorch's
/// `get_ema_multi_avg_fn`). Validation, the best checkpoint and what comes out of the run are the average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ema {
    /// How much of the average stays at each step.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub decay: f64,
}

impl Default for Ema {
    fn default() -> Self {
        Self { decay: 0.999 }
    }
}
