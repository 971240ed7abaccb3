//! Rank 2: heads, one file per kind. A head is a function from its config, the shape of what it
//! gets and the task to nodes of a [`Graph`](crate::graph::Graph); trainers and exporters never see it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod linear;

pub use linear::Linear;

/// What maps features to the task's outputs. The number of outputs comes from the data: one per class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HeadConfig {
    /// One fully connected layer: `logits = features · weightᵀ + bias`.
    Linear(Linear),
}

impl Default for HeadConfig {
    fn default() -> Self {
        Self::Linear(Linear::default())
    }
}
