//! Learning-rate schedules: the factor on the optimiser's rate at each step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod constant;
mod cosine;

pub use constant::Constant;
pub use cosine::Cosine;

/// How the learning rate changes over the run. It is set before every step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SchedulerConfig {
    /// The optimiser's rate, after the warm-up.
    Constant(Constant),
    /// Half a cosine from the optimiser's rate down to `min_lr`.
    Cosine(Cosine),
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self::Cosine(Cosine::default())
    }
}
