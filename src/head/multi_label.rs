//! A logit per label.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Activation, Mlp};
use crate::base::Result;
use crate::graph::{Graph, ValueId};

/// One logit per label, whose sigmoid is the label's probability; for rows with any number of labels. Features of
/// more than one dimension are flattened first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MultiLabel {
    /// The widths of layers before the last; none makes the head linear.
    #[schemars(inner(range(min = 1)))]
    pub hidden: Vec<u32>,
    /// What follows each layer but the last.
    pub activation: Activation,
    /// The share of hidden activations that is dropped in training.
    #[schemars(range(min = 0.0, max = 0.99))]
    pub dropout: f32,
}

impl MultiLabel {
    /// The parameters of an [`Mlp`].
    pub(super) fn build(&self, graph: &mut Graph, features: ValueId, outputs: usize) -> Result<ValueId> {
        let Self { hidden, activation, dropout } = self.clone();
        Mlp { hidden, activation, dropout }.build(graph, features, outputs)
    }
}
