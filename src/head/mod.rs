//! Rank 2: heads, one file per kind. A head is a function from its config, the shape of what it
//! gets and the task to nodes of a [`Graph`]; trainers and exporters never see it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::graph::op::Flatten;
use crate::graph::{Graph, ValueId};

mod cosine;
mod linear;
mod mlp;

pub use cosine::Cosine;
pub use linear::Linear;
pub use mlp::{Activation, Mlp};

/// What maps features to the task's outputs. The number of outputs comes from the data: one per class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HeadConfig {
    /// One fully connected layer: `logits = features · weightᵀ + bias`.
    Linear(Linear),
    /// Fully connected layers with activations between them.
    Mlp(Mlp),
    /// The cosine between features and one vector per class, times a scale.
    Cosine(Cosine),
}

impl HeadConfig {
    /// Adds the head's nodes: from features `[batch, …]` to logits `[batch, outputs]`. Names begin with `head`.
    ///
    /// # Errors
    /// The head cannot take features of this shape.
    pub fn build(&self, graph: &mut Graph, features: ValueId, outputs: usize) -> Result<ValueId> {
        match self {
            Self::Linear(linear) => linear.build(graph, features, outputs),
            Self::Mlp(mlp) => mlp.build(graph, features, outputs),
            Self::Cosine(cosine) => cosine.build(graph, features, outputs),
        }
    }
}

impl Default for HeadConfig {
    fn default() -> Self {
        Self::Linear(Linear::default())
    }
}

/// Features as rows of one dimension.
fn flat(graph: &mut Graph, features: ValueId) -> Result<ValueId> {
    if graph.shape(features).dims.len() == 1 { Ok(features) } else { graph.node("head.flatten", Flatten, &[features]) }
}
