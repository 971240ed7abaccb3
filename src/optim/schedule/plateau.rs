//! A rate that falls when nothing improves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Progress, warmed_up};

/// Multiplies the rate by `factor` once the first metric on the validation rows has not improved for more than
/// `patience` epochs, after a linear warm-up (PyTorch's `ReduceLROnPlateau`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Plateau {
    /// Epochs (parts of one too) over which the rate rises linearly to the optimiser's.
    #[schemars(range(min = 0.0))]
    pub warmup_epochs: f64,
    /// What the rate is multiplied by.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub factor: f64,
    /// Epochs without improvement that are waited for.
    pub patience: u32,
    /// The share of the best value by which a better one must differ from it.
    #[schemars(range(min = 0.0))]
    pub threshold: f64,
    /// The least rate.
    #[schemars(range(min = 0.0))]
    pub min_lr: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { warmup_epochs: 0.0, factor: 0.1, patience: 5, threshold: 1e-4, min_lr: 0.0 }
    }
}

impl Plateau {
    /// A function of the values after each epoch, so that there is no state to lose.
    pub(super) fn base_lr(&self, lr: f64, history: &[f64], maximize: bool) -> f64 {
        let (mut rate, mut best, mut waited) = (lr, None, 0);
        for value in history {
            let better = match best {
                None => true,
                Some(best) if maximize => *value > best * (1.0 + self.threshold),
                Some(best) => *value < best * (1.0 - self.threshold),
            };
            if better {
                (best, waited) = (Some(*value), 0);
            } else {
                waited += 1;
            }
            if waited > self.patience {
                (rate, waited) = ((rate * self.factor).max(self.min_lr), 0);
            }
        }
        rate
    }

    pub(super) fn lr(&self, lr: f64, at: Progress) -> f64 {
        warmed_up(lr, at, self.warmup_epochs, |_| lr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/reference/schedules.py` wrote PyTorch's rates.
    #[test]
    fn rates_are_pytorchs() {
        let reference: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/reference/plateau.json")).unwrap();
        let numbers = |key: &str| serde_json::from_value::<Vec<f64>>(reference[key].clone()).unwrap();
        let plateau = Plateau { factor: 0.5, patience: 1, threshold: 0.01, min_lr: 0.02, ..Plateau::default() };
        let values = numbers("values");
        for (key, maximize) in [("max", true), ("min", false)] {
            for (epoch, theirs) in numbers(key).iter().enumerate() {
                let ours = plateau.base_lr(0.1, &values[..epoch], maximize);
                assert!((ours - theirs).abs() < 1e-12, "{key}[{epoch}]: {ours}, not {theirs}");
            }
        }
    }
}
