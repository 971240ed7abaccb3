//! Adam.

use super::moments::{Rates, moments};
use super::{Optimizer, Update};
use crate::base::vectors;

moments! {
    /// Adam (Kingma and Ba, 2015; defaults as PyTorch's): weight decay is added to the gradient. Biases and
    /// norms are not decayed.
    Adam, 1e-3, 0.0, 1e-8,
    /// Adds `weight_decay · w` to the gradient.
}

impl Optimizer for Adam {
    fn slots(&self) -> usize {
        2
    }

    fn update(&self, update: &Update, weights: &mut [f32], grad: &mut [f32], state: &mut [&mut [f32]]) {
        let [m, v] = state else { return };
        let rates = Rates::new(self.betas, self.eps, update.lr, update);
        let decay = (self.weight_decay * update.decay) as f32;
        vectors!({
            for (((w, g), m), v) in weights.iter_mut().zip(grad).zip(m.iter_mut()).zip(v.iter_mut()) {
                *w -= rates.step(*g + decay * *w, m, v);
            }
        });
    }
}
