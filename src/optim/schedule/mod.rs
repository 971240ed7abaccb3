//! Learning-rate schedules: the factor on the optimiser's rate at each step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod constant;
mod cosine;
mod linear;
mod one_cycle;
mod plateau;
mod polynomial;
mod steps;

pub use constant::Constant;
pub use cosine::Cosine;
pub use linear::Linear;
pub use one_cycle::OneCycle;
pub use plateau::Plateau;
pub use polynomial::Polynomial;
pub use steps::{Exponential, MultiStep, Step};

/// How the learning rate changes over the run. It is set before every step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SchedulerConfig {
    /// The optimiser's rate, after the warm-up.
    Constant(Constant),
    /// Half a cosine from the optimiser's rate down to `min_lr`.
    Cosine(Cosine),
    /// A straight line from the optimiser's rate down to `min_lr`.
    Linear(Linear),
    /// Falls by a factor every so many epochs.
    Step(Step),
    /// Falls by a factor after each of some epochs.
    MultiStep(MultiStep),
    /// Falls by a factor after each epoch.
    Exponential(Exponential),
    /// A power of the share of the steps that remains.
    Polynomial(Polynomial),
    /// One rise and one fall, each half a cosine.
    OneCycle(OneCycle),
    /// Falls by a factor when the first metric on the validation rows no longer improves.
    Plateau(Plateau),
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self::Cosine(Cosine::default())
    }
}

/// Where a run is, in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Steps taken before this one.
    pub step: u64,
    /// Steps of one epoch.
    pub steps_per_epoch: u64,
    /// Epochs of the run.
    pub epochs: u64,
}

impl Progress {
    /// Whole epochs done.
    pub fn epoch(&self) -> u64 {
        self.step / self.steps_per_epoch.max(1)
    }
}

impl SchedulerConfig {
    /// Epochs of warm-up.
    pub fn warmup_epochs(&self) -> f64 {
        match self {
            Self::Constant(Constant { warmup_epochs })
            | Self::Cosine(Cosine { warmup_epochs, .. })
            | Self::Linear(Linear { warmup_epochs, .. })
            | Self::Step(Step { warmup_epochs, .. })
            | Self::MultiStep(MultiStep { warmup_epochs, .. })
            | Self::Exponential(Exponential { warmup_epochs, .. })
            | Self::Polynomial(Polynomial { warmup_epochs, .. })
            | Self::Plateau(Plateau { warmup_epochs, .. }) => *warmup_epochs,
            Self::OneCycle(_) => 0.0,
        }
    }

    /// The rate that an epoch starts from: the optimiser's, but for schedules that follow a metric, whose
    /// values after each epoch so far are `history`.
    pub fn base_lr(&self, lr: f64, history: &[f64], maximize: bool) -> f64 {
        match self {
            Self::Plateau(plateau) => plateau.base_lr(lr, history, maximize),
            _ => lr,
        }
    }

    /// The learning rate of a step, from the rate `lr` of [`SchedulerConfig::base_lr`].
    pub fn lr(&self, lr: f64, at: Progress) -> f64 {
        match self {
            Self::Constant(constant) => constant.lr(lr, at),
            Self::Cosine(cosine) => cosine.lr(lr, at),
            Self::Linear(linear) => linear.lr(lr, at),
            Self::Step(step) => step.lr(lr, at),
            Self::MultiStep(steps) => steps.lr(lr, at),
            Self::Exponential(exponential) => exponential.lr(lr, at),
            Self::Polynomial(polynomial) => polynomial.lr(lr, at),
            Self::OneCycle(cycle) => cycle.lr(lr, at),
            Self::Plateau(plateau) => plateau.lr(lr, at),
        }
    }
}

/// A linear warm-up, then `rest(share of the remaining steps that is done, in 0..1)`. The first step's rate
/// is above 0, and the first step after the warm-up has the full rate.
fn warmed_up(lr: f64, at: Progress, warmup_epochs: f64, rest: impl FnOnce(f64) -> f64) -> f64 {
    let warmup = warmup_epochs * at.steps_per_epoch as f64;
    let (step, total) = (at.step as f64, (at.steps_per_epoch * at.epochs) as f64);
    if step < warmup {
        lr * (step + 1.0) / (warmup + 1.0)
    } else {
        rest(((step - warmup) / (total - warmup).max(1.0)).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(config: &SchedulerConfig) -> Vec<f64> {
        (0..8).map(|step| config.lr(0.1, Progress { step, steps_per_epoch: 4, epochs: 2 })).collect()
    }

    #[test]
    fn a_warm_up_rises_to_the_rate() {
        let rates = rates(&SchedulerConfig::Constant(Constant { warmup_epochs: 1.0 }));
        let expected = [0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1, 0.1];
        assert!(rates.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{rates:?}");
    }

    /// `tests/reference/schedules.py` wrote PyTorch's rates.
    #[test]
    fn rates_are_pytorchs() {
        let reference: std::collections::BTreeMap<String, Vec<f64>> =
            serde_json::from_str(include_str!("../../../tests/reference/schedules.json")).unwrap();
        let cases = [
            ("cosine", SchedulerConfig::Cosine(Cosine { min_lr: 0.01, ..Cosine::default() })),
            ("linear", SchedulerConfig::Linear(Linear { min_lr: 0.01, ..Linear::default() })),
            ("step", SchedulerConfig::Step(Step { every_epochs: 2, factor: 0.5, ..Step::default() })),
            (
                "multi_step",
                SchedulerConfig::MultiStep(MultiStep { milestones: vec![1, 3], factor: 0.5, ..MultiStep::default() }),
            ),
            ("exponential", SchedulerConfig::Exponential(Exponential { factor: 0.5, ..Exponential::default() })),
            ("polynomial", SchedulerConfig::Polynomial(Polynomial { power: 2.0, ..Polynomial::default() })),
            ("one_cycle", SchedulerConfig::OneCycle(OneCycle::default())),
        ];
        for (name, config) in &cases {
            let rates = (0..20).map(|step| config.lr(0.1, Progress { step, steps_per_epoch: 4, epochs: 5 }));
            for (i, (ours, theirs)) in rates.zip(&reference[*name]).enumerate() {
                assert!((ours - theirs).abs() < 1e-9, "{name}[{i}]: {ours}, not {theirs}");
            }
        }
        assert_eq!(cases.len(), reference.len());
    }

    /// PyTorch's `CosineAnnealingLR(T_max=8, eta_min=0.01)` at lr 0.1.
    #[test]
    fn the_cosine_is_pytorchs() {
        let rates = rates(&SchedulerConfig::Cosine(Cosine { warmup_epochs: 0.0, min_lr: 0.01 }));
        let at = |k: f64| 0.01 + 0.045 * (1.0 + (std::f64::consts::PI * k / 8.0).cos());
        assert!(rates.iter().enumerate().all(|(k, lr)| (lr - at(k as f64)).abs() < 1e-12), "{rates:?}");
    }
}
