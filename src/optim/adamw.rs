//! Adam with decoupled weight decay.

use super::moments::{Rates, moments};
use super::{Optimizer, Update};
use crate::base::vectors;

moments! {
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019; defaults as PyTorch's). Biases and norms
    /// are not decayed.
    AdamW, 1e-3, 0.01, 1e-8,
    /// Each step multiplies weights by `1 − lr · weight_decay`.
}

impl Optimizer for AdamW {
    fn slots(&self) -> usize {
        2
    }

    fn update(&self, update: &Update, weights: &mut [f32], grad: &mut [f32], state: &mut [&mut [f32]]) {
        let [m, v] = state else { return };
        let rates = Rates::new(self.betas, self.eps, update.lr, update);
        let keep = (1.0 - update.lr * self.weight_decay * update.decay) as f32;
        vectors!({
            for (((w, g), m), v) in weights.iter_mut().zip(grad).zip(m.iter_mut()).zip(v.iter_mut()) {
                *w = *w * keep - rates.step(*g, m, v);
            }
        });
    }
}
