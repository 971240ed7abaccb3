//! Rank 2: optimisers and learning-rate schedules, one file per kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod adamw;
mod schedule;
mod sgd;

pub use adamw::AdamW;
pub use schedule::{Constant, Cosine, SchedulerConfig};
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
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::AdamW(AdamW::default())
    }
}
