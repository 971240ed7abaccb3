//! Rank 2: optimisers and learning-rate schedules, one file per kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod adam;
mod adamw;
mod early_stopping;
mod ema;
mod groups;
mod lamb;
mod lbfgs;
mod lion;
mod moments;
mod schedule;
mod sgd;

pub use adam::Adam;
pub use adamw::AdamW;
pub use early_stopping::EarlyStopping;
pub use ema::Ema;
pub use groups::{Factors, ParameterGroup, factors};
pub use lamb::Lamb;
pub use lbfgs::{Lbfgs, LbfgsState};
pub use lion::Lion;
pub use schedule::{
    Constant, Cosine, Exponential, Linear, MultiStep, OneCycle, Plateau, Polynomial, Progress, SchedulerConfig, Step,
};
pub use sgd::Sgd;

/// How parameters follow their gradients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OptimizerConfig {
    /// Adam with decoupled weight decay.
    #[serde(rename = "adamw")]
    AdamW(AdamW),
    /// Stochastic gradient descent, with momentum.
    Sgd(Sgd),
    /// Adam, with weight decay in the gradient.
    Adam(Adam),
    /// Lion, whose steps are signs.
    Lion(Lion),
    /// AdamW with each parameter's step scaled to its length, for very large batches.
    Lamb(Lamb),
    /// L-BFGS over all training rows at once, for small heads.
    Lbfgs(Lbfgs),
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::AdamW(AdamW::default())
    }
}

/// What an update needs to know besides the gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// The learning rate of this step.
    pub lr: f64,
    /// The step's number, from 1.
    pub step: u64,
    /// What the weight decay is multiplied by for this parameter: 0 for biases and norms.
    pub decay: f64,
}

/// An update rule whose steps are element-wise: any part of a parameter can be updated on its own, so that
/// chunks go to several threads and stacked heads can each have a rate.
pub trait Optimizer: Send + Sync {
    /// State tensors per parameter, zero before the first step; at most [`MAX_SLOTS`].
    fn slots(&self) -> usize;

    /// Updates weights in place. `state` holds [`Optimizer::slots`] slices of the same length as `weights`.
    /// Where [`Optimizer::trust`] says something, the weights stay, and `grad` becomes the step's direction.
    fn update(&self, update: &Update, weights: &mut [f32], grad: &mut [f32], state: &mut [&mut [f32]]);

    /// For rules that look at a whole parameter: what the step's direction is multiplied by, besides the
    /// rate, by the Euclidean lengths of the parameter and of the direction, which `lengths` measures. `None` if
    /// there is no such rule.
    fn trust(&self, _lengths: &dyn Fn() -> (f64, f64)) -> Option<f64> {
        None
    }
}

/// The most state tensors per parameter.
pub const MAX_SLOTS: usize = 2;

impl OptimizerConfig {
    /// Makes the update rule ready; `None` for L-BFGS, which sees all rows at once.
    pub fn build(&self) -> Option<Box<dyn Optimizer>> {
        Some(match self {
            Self::AdamW(adamw) => Box::new(adamw.clone()),
            Self::Sgd(sgd) => Box::new(sgd.clone()),
            Self::Adam(adam) => Box::new(adam.clone()),
            Self::Lion(lion) => Box::new(lion.clone()),
            Self::Lamb(lamb) => Box::new(lamb.clone()),
            Self::Lbfgs(_) => return None,
        })
    }

    /// The learning rate, before the schedule.
    pub fn lr(&self) -> f64 {
        match self {
            Self::AdamW(adamw) => adamw.lr,
            Self::Sgd(sgd) => sgd.lr,
            Self::Adam(adam) => adam.lr,
            Self::Lion(lion) => lion.lr,
            Self::Lamb(lamb) => lamb.lr,
            Self::Lbfgs(lbfgs) => lbfgs.lr,
        }
    }
}
