//! Rank 2: optimisers and learning-rate schedules, one file per kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod adam;
mod adamw;
mod early_stopping;
mod lion;
mod schedule;
mod sgd;

pub use adam::Adam;
pub use adamw::AdamW;
pub use early_stopping::EarlyStopping;
pub use lion::Lion;
pub use schedule::{
    Constant, Cosine, Exponential, Linear, MultiStep, OneCycle, Polynomial, Progress, SchedulerConfig, Step,
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
    /// Whether weight decay applies to this parameter.
    pub decay: bool,
}

/// An element-wise update rule: any part of a parameter can be updated on its own, so that chunks go to
/// several threads and stacked heads can each have a rate.
pub trait Optimizer: Send + Sync {
    /// State tensors per parameter, zero before the first step; at most [`MAX_SLOTS`].
    fn slots(&self) -> usize;

    /// Updates weights in place. `state` holds [`Optimizer::slots`] slices of the same length as `weights`.
    fn update(&self, update: &Update, weights: &mut [f32], grad: &[f32], state: &mut [&mut [f32]]);
}

/// The most state tensors per parameter.
pub const MAX_SLOTS: usize = 2;

impl OptimizerConfig {
    /// Makes the update rule ready.
    pub fn build(&self) -> Box<dyn Optimizer> {
        match self {
            Self::AdamW(adamw) => Box::new(adamw.clone()),
            Self::Sgd(sgd) => Box::new(sgd.clone()),
            Self::Adam(adam) => Box::new(adam.clone()),
            Self::Lion(lion) => Box::new(lion.clone()),
        }
    }

    /// The learning rate, before the schedule.
    pub fn lr(&self) -> f64 {
        match self {
            Self::AdamW(adamw) => adamw.lr,
            Self::Sgd(sgd) => sgd.lr,
            Self::Adam(adam) => adam.lr,
            Self::Lion(lion) => lion.lr,
        }
    }
}
