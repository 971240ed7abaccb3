//! Adam.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AdamW, Optimizer, Update};

/// Adam (Kingma and Ba, 2015; defaults as PyTorch's): weight decay is added to the gradient. Biases and norms
/// are not decayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Adam {
    /// The learning rate, before the schedule.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Adds `weight_decay · w` to the gradient.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// How fast the averages of the gradient and of its square forget.
    pub betas: [f64; 2],
    /// Added to the root of the average square.
    #[schemars(range(min = 0.0))]
    pub eps: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { lr: 1e-3, weight_decay: 0.0, betas: [0.9, 0.999], eps: 1e-8 }
    }
}

impl Optimizer for Adam {
    fn slots(&self) -> usize {
        2
    }

    fn update(&self, update: &Update, weights: &mut [f32], grad: &[f32], state: &mut [&mut [f32]]) {
        let [m, v] = state else { return };
        let rates = AdamW::rates(self.betas, update);
        let decay = if update.decay { self.weight_decay as f32 } else { 0.0 };
        for (((w, g), m), v) in weights.iter_mut().zip(grad).zip(m.iter_mut()).zip(v.iter_mut()) {
            *w -= rates.step(*g + decay * *w, m, v, self.eps as f32);
        }
    }
}
