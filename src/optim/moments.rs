//! What Adam, AdamW and LAMB share: their settings, and the averages of the gradient and of its square.

use super::Update;

/// Declares the settings of an optimiser that keeps both averages. The arguments are its documentation, its
/// name, its default rate, weight decay and `eps`, and the documentation of its weight decay.
macro_rules! moments {
    ($(#[$doc:meta])* $name:ident, $lr:literal, $decay:literal, $eps:literal, $(#[$decay_doc:meta])*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            /// The learning rate, before the schedule.
            #[schemars(range(min = 0.0))]
            pub lr: f64,
            $(#[$decay_doc])*
            #[schemars(range(min = 0.0))]
            pub weight_decay: f64,
            /// How fast the averages of the gradient and of its square forget.
            #[schemars(inner(range(min = 0.0, max = 1.0)))]
            pub betas: [f64; 2],
            /// Added to the root of the average square.
            #[schemars(range(min = 0.0))]
            pub eps: f64,
        }

        impl Default for $name {
            fn default() -> Self {
                Self { lr: $lr, weight_decay: $decay, betas: [0.9, 0.999], eps: $eps }
            }
        }
    };
}
pub(super) use moments;

/// The numbers of one step.
pub(super) struct Rates {
    rate: f32,
    root: f32,
    gain: f32,
    keep_square: f32,
    gain_square: f32,
    eps: f32,
}

impl Rates {
    /// With the averages' bias corrected.
    pub fn new([beta1, beta2]: [f64; 2], eps: f64, lr: f64, update: &Update) -> Self {
        let step = i32::try_from(update.step).unwrap_or(i32::MAX);
        Self {
            rate: (lr / (1.0 - beta1.powi(step))) as f32,
            root: (1.0 / (1.0 - beta2.powi(step)).sqrt()) as f32,
            gain: (1.0 - beta1) as f32,
            keep_square: beta2 as f32,
            gain_square: (1.0 - beta2) as f32,
            eps: eps as f32,
        }
    }

    /// Updates the averages and returns what to subtract from the weight.
    #[inline(always)]
    pub fn step(&self, g: f32, m: &mut f32, v: &mut f32) -> f32 {
        *m += (g - *m) * self.gain;
        *v = *v * self.keep_square + g * g * self.gain_square;
        self.rate * *m / (v.sqrt() * self.root + self.eps)
    }
}
