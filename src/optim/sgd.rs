//! Stochastic gradient descent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Optimizer, Update};
use crate::base::vectors;

/// Stochastic gradient descent with momentum, as PyTorch's `SGD`: `v ← momentum · v + g`, and
/// `w ← w − lr · v` (Nesterov: `w ← w − lr · (g + momentum · v)`). Biases are not decayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sgd {
    /// The learning rate, before the schedule.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// How much of the last step's direction stays.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// Nesterov's look-ahead.
    pub nesterov: bool,
    /// Adds `weight_decay · w` to the gradient.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0 }
    }
}

impl Optimizer for Sgd {
    fn slots(&self) -> usize {
        usize::from(self.momentum > 0.0)
    }

    fn update(&self, update: &Update, weights: &mut [f32], grad: &mut [f32], state: &mut [&mut [f32]]) {
        let (lr, momentum) = (update.lr as f32, self.momentum as f32);
        let decay = (self.weight_decay * update.decay) as f32;
        let [velocity] = state else {
            vectors!(weights.iter_mut().zip(grad.iter()).for_each(|(w, g)| *w -= lr * (*g + decay * *w)));
            return;
        };
        let nesterov = self.nesterov;
        vectors!({
            for ((w, g), v) in weights.iter_mut().zip(grad.iter()).zip(velocity.iter_mut()) {
                let g = *g + decay * *w;
                // The first velocity is the gradient, because `v` begins at 0.
                *v = momentum * *v + g;
                *w -= lr * if nesterov { g + momentum * *v } else { *v };
            }
        });
    }
}
