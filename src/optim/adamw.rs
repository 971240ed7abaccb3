//! Adam with decoupled weight decay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Optimizer, Update};

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

impl Optimizer for AdamW {
    fn slots(&self) -> usize {
        2
    }

    fn update(&self, update: &Update, weights: &mut [f32], grad: &[f32], state: &mut [&mut [f32]]) {
        let [m, v] = state else { return };
        let rates = Self::rates(self.betas, update);
        let keep = if update.decay { (1.0 - update.lr * self.weight_decay) as f32 } else { 1.0 };
        for (((w, g), m), v) in weights.iter_mut().zip(grad).zip(m.iter_mut()).zip(v.iter_mut()) {
            *w = *w * keep - rates.step(*g, m, v, self.eps as f32);
        }
    }
}

impl AdamW {
    /// Adam's numbers of one step, with the averages' bias corrected.
    pub(super) fn rates([beta1, beta2]: [f64; 2], update: &Update) -> Rates {
        let step = i32::try_from(update.step).unwrap_or(i32::MAX);
        Rates {
            rate: (update.lr / (1.0 - beta1.powi(step))) as f32,
            root: (1.0 / (1.0 - beta2.powi(step)).sqrt()) as f32,
            gain: (1.0 - beta1) as f32,
            keep_square: beta2 as f32,
            gain_square: (1.0 - beta2) as f32,
        }
    }
}

pub(super) struct Rates {
    rate: f32,
    root: f32,
    gain: f32,
    keep_square: f32,
    gain_square: f32,
}

impl Rates {
    /// Updates the averages and returns what to subtract from the weight.
    #[inline(always)]
    pub fn step(&self, g: f32, m: &mut f32, v: &mut f32, eps: f32) -> f32 {
        *m += (g - *m) * self.gain;
        *v = *v * self.keep_square + g * g * self.gain_square;
        self.rate * *m / (v.sqrt() * self.root + eps)
    }
}
