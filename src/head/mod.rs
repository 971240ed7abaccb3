//! Rank 2: heads, one file per kind. A head is a function from its config, the shape of what it
//! gets and the task to nodes of a [`Graph`]; trainers and exporters never see it. Most heads are trained by
//! steps; those that [`HeadConfig::solved`] names are solved at once from the features.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::graph::op::Flatten;
use crate::graph::{Graph, Task, ValueId};

mod cosine;
mod embedding;
mod identity;
mod knn;
mod linear;
mod logistic;
mod mlp;
mod multi_label;
mod nearest_mean;
mod regression;
mod ridge;
mod solved;

pub use cosine::Cosine;
pub use embedding::{Embedding, Projections};
pub use identity::Identity;
pub use knn::{Kept, Knn, VoteWeights};
pub use linear::Linear;
pub use logistic::Logistic;
pub use mlp::{Activation, Mlp};
pub use multi_label::MultiLabel;
pub use nearest_mean::NearestMean;
pub use regression::Regression;
pub use ridge::Ridge;
pub use solved::{Distance, OneOrPath, Solved};

use solved::{MAX_MEMORY_GB, weight_and_bias};

/// What maps features to the task's outputs. Their number comes from the data: one per class, label or value.
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
    /// A vote of the nearest training rows, or the mean of their values.
    Knn(Knn),
    /// The nearest class mean.
    NearestMean(NearestMean),
    /// One logit per label, for rows with any number of labels.
    MultiLabel(MultiLabel),
    /// One number per value, in the data's own units.
    Regression(Regression),
    /// A projection to an embedding, for retrieval.
    Embedding(Embedding),
    /// Nothing: the network's own outputs are taken.
    Identity(Identity),
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
            Self::MultiLabel(labels) => labels.build(graph, features, outputs),
            Self::Regression(regression) => regression.build(graph, features, outputs),
            Self::Embedding(embedding) => embedding.build(graph, features),
            Self::Identity(identity) => identity.build(graph, features, outputs),
        }
    }
}

impl HeadConfig {
    /// The head where a recipe names none.
    pub fn of_task(task: Task) -> Self {
        match task {
            Task::MultiLabel => Self::MultiLabel(MultiLabel::default()),
            Task::Values => Self::Regression(Regression::default()),
            Task::Classes => Self::default(),
            Task::Embedding => Self::Embedding(Embedding::default()),
        }
    }

    /// How many outputs a row has, from so many classes, labels or values.
    pub fn width(&self, targets: usize) -> usize {
        if let Self::Embedding(embedding) = self { embedding.dim as usize } else { targets }
    }

    /// What the outputs are, from rows labelled for `task`; `None` if the head is not for such rows.
    pub fn task(&self, task: Task) -> Option<Task> {
        match (self, task) {
            (Self::Embedding(_), Task::Classes | Task::Embedding) => Some(Task::Embedding),
            // Fields that belong together have no numbers to be predicted.
            (_, Task::Embedding) => None,
            (Self::Linear(_) | Self::Mlp(_) | Self::Ridge(_) | Self::Identity(_), _) => Some(task),
            (Self::Knn(Knn { keeps: Kept::Auto | Kept::Values, .. }), Task::Values) => Some(task),
            (Self::Knn(Knn { keeps: Kept::Values, .. }), _) => None,
            (Self::MultiLabel(_), Task::MultiLabel) | (Self::Regression(_), Task::Values) => Some(task),
            (Self::MultiLabel(_) | Self::Regression(_) | Self::Embedding(_), _) => None,
            (_, task) => (task == Task::Classes).then_some(task),
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
