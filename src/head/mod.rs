//! Rank 2: heads, one file per kind. A head is a function from its config, the shape of what it
//! gets and the task to nodes of a [`Graph`]; trainers and exporters never see it. Most heads are trained by
//! steps; those that [`HeadConfig::solved`] names are solved at once from the features.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::graph::op::Flatten;
use crate::graph::{Graph, ValueId};

mod cosine;
mod knn;
mod linear;
mod logistic;
mod mlp;
mod nearest_mean;
mod ridge;
mod solved;

pub use cosine::Cosine;
pub use knn::{Knn, VoteWeights};
pub use linear::Linear;
pub use logistic::Logistic;
pub use mlp::{Activation, Mlp};
pub use nearest_mean::NearestMean;
pub use ridge::Ridge;
pub use solved::{Distance, OneOrPath, Solved};

use solved::{MAX_MEMORY_GB, weight_and_bias};

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
    /// Least squares with a penalty, solved at once.
    Ridge(Ridge),
    /// Logistic regression, solved to its optimum.
    Logistic(Logistic),
    /// A vote of the nearest training rows.
    Knn(Knn),
    /// The nearest class mean.
    NearestMean(NearestMean),
}

impl HeadConfig {
    /// Adds the head's nodes: from features `[batch, …]` to logits `[batch, outputs]`. Names begin with `head`.
    /// `stored_rows` is how many training rows a head that keeps them keeps; others do not look at it.
    ///
    /// # Errors
    /// The head cannot take features of this shape.
    pub fn build(&self, graph: &mut Graph, features: ValueId, outputs: usize, stored_rows: usize) -> Result<ValueId> {
        match self {
            Self::Linear(linear) => linear.build(graph, features, outputs),
            Self::Mlp(mlp) => mlp.build(graph, features, outputs),
            Self::Cosine(cosine) => cosine.build(graph, features, outputs),
            Self::Ridge(ridge) => ridge.build(graph, features, outputs),
            Self::Logistic(logistic) => logistic.build(graph, features, outputs),
            Self::Knn(knn) => knn.build(graph, features, outputs, stored_rows),
            Self::NearestMean(mean) => mean.build(graph, features, outputs),
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
