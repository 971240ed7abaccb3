//! Lion.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Optimizer, Update};
use crate::base::vectors;

/// Lion, whose steps are signs (Chen and others, "Symbolic discovery of optimization algorithms", 2023). Its
/// rate is 3 to 10 times smaller, and its weight decay as much larger, than AdamW's. Biases and norms are not
/// decayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lion {
    /// The learning rate, before the schedule.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Each step multiplies weights by `1 − lr · weight_decay`.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// How much of the average counts in the step, and how fast the average forgets.
    pub betas: [f64; 2],
}

impl Default for Lion {
    fn default() -> Self {
        Self { lr: 1e-4, weight_decay: 0.1, betas: [0.9, 0.99] }
    }
}

impl Optimizer for Lion {
    fn slots(&self) -> usize {
        1
    }

    fn update(&self, update: &Update, weights: &mut [f32], grad: &mut [f32], state: &mut [&mut [f32]]) {
        let [m] = state else { return };
        let lr = update.lr as f32;
        let keep = (1.0 - update.lr * self.weight_decay * update.decay) as f32;
        let [now, average] = self.betas.map(|beta| beta as f32);
        vectors!({
            for ((w, g), m) in weights.iter_mut().zip(grad.iter()).zip(m.iter_mut()) {
                let direction = now * *m + (1.0 - now) * *g;
                let sign = if direction > 0.0 {
                    1.0
                } else if direction < 0.0 {
                    -1.0
                } else {
                    0.0
                };
                *w = *w * keep - lr * sign;
                *m = average * *m + (1.0 - average) * *g;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paper's algorithm 2 by hand, for two steps.
    #[test]
    fn steps_are_signs_of_the_interpolated_gradient() {
        let lion = Lion { lr: 0.1, weight_decay: 0.5, betas: [0.9, 0.99] };
        let (mut w, mut m) = ([1.0f32, -1.0, 0.0], [0.0f32; 3]);
        let update = Update { lr: 0.1, step: 1, decay: 1.0 };
        lion.update(&update, &mut w, &mut [2.0, -2.0, 0.0], &mut [&mut m]);
        // w · (1 − 0.05) ∓ 0.1.
        assert!((w[0] - 0.85).abs() < 1e-6 && (w[1] + 0.85).abs() < 1e-6 && w[2] == 0.0, "{w:?}");
        assert!((m[0] - 0.02).abs() < 1e-6);
        // 0.9 · 0.02 − 0.1 · 0.1 > 0, so the sign stays although the gradient turned.
        lion.update(&update, &mut w, &mut [-0.1, 0.0, 0.0], &mut [&mut m]);
        assert!((w[0] - (0.85 * 0.95 - 0.1)).abs() < 1e-6, "{w:?}");
    }
}
