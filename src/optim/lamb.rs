//! LAMB.

use super::moments::{Rates, moments};
use super::{Optimizer, Update};
use crate::base::vectors;

moments! {
    /// LAMB (You and others, "Large batch optimization for deep learning", 2020): AdamW whose step on each
    /// parameter is scaled to the length of the parameter. For very large batches. Biases and norms are not
    /// decayed.
    Lamb, 1e-2, 0.01, 1e-6,
    /// Adds `weight_decay · w` to the step's direction.
}

impl Optimizer for Lamb {
    fn slots(&self) -> usize {
        2
    }

    fn update(&self, update: &Update, weights: &mut [f32], grad: &mut [f32], state: &mut [&mut [f32]]) {
        let [m, v] = state else { return };
        let rates = Rates::new(self.betas, self.eps, 1.0, update);
        let decay = (self.weight_decay * update.decay) as f32;
        vectors!({
            for (((w, g), m), v) in weights.iter().zip(grad).zip(m.iter_mut()).zip(v.iter_mut()) {
                *g = rates.step(*g, m, v) + decay * *w;
            }
        });
    }

    /// `|w| / |direction|`, and 1 where one of them is 0.
    fn trust(&self, lengths: &dyn Fn() -> (f64, f64)) -> Option<f64> {
        let (weights, direction) = lengths();
        Some(if weights > 0.0 && direction > 0.0 { weights / direction } else { 1.0 })
    }
}
