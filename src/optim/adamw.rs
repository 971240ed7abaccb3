//! Adam with decoupled weight decay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019; defaults as PyTorch's). Biases are not
/// decayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdamW {
    /// The learning rate, before the schedule.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Each step multiplies weights by `1 − lr · weight_decay`.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// How fast the averages of the gradient and of its square forget.
    pub betas: [f64; 2],
    /// Added to the root of the average square.
    #[schemars(range(min = 0.0))]
    pub eps: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { lr: 1e-3, weight_decay: 0.01, betas: [0.9, 0.999], eps: 1e-8 }
    }
}
