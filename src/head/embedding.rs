//! A projection for retrieval.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Activation, Mlp};
use crate::base::Result;
use crate::graph::op::L2Norm;
use crate::graph::{Graph, ValueId};

/// A projection of the features to an embedding, for retrieval: rows of a class, or the fields of a row, come to lie near
/// each other. It is trained by losses that compare rows or fields (`supervised_contrastive`, `triplet`,
/// `multiple_negatives_ranking`) and measured by how well each row finds those of its class, or the first field of a
/// row the second. Features of more than one dimension are flattened first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Embedding {
    /// Numbers of an embedding.
    #[schemars(range(min = 1))]
    pub dim: u32,
    /// The widths of layers before the last; none makes the projection linear.
    #[schemars(inner(range(min = 1)))]
    pub hidden: Vec<u32>,
    /// What follows each layer but the last.
    pub activation: Activation,
    /// The share of hidden activations that is dropped in training.
    #[schemars(range(min = 0.0, max = 0.99))]
    pub dropout: f32,
    /// Whether embeddings are divided by their length, so that inner products are cosines.
    pub normalize: bool,
    /// For rows that are pairs: whether their fields go through one neck and projection, or each through its own.
    #[serde(skip_serializing_if = "Projections::is_auto")]
    pub projections: Projections,
}

/// Whether the fields of a row share neck and projection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Projections {
    /// Shared where all fields have the same backbone, else own.
    #[default]
    Auto,
    /// All fields go through the same weights.
    Shared,
    /// The first field has weights of its own, and the others, of which the second is looked for among all, have theirs.
    Own,
}

impl Projections {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl Default for Embedding {
    fn default() -> Self {
        let (hidden, activation, projections) = (Vec::new(), Activation::default(), Projections::default());
        Self { dim: 128, hidden, activation, dropout: 0.0, normalize: true, projections }
    }
}

impl Embedding {
    /// The parameters of an [`Mlp`].
    pub(super) fn build(&self, graph: &mut Graph, features: ValueId) -> Result<ValueId> {
        let Self { dim, hidden, activation, dropout, normalize, .. } = self.clone();
        let layers = Mlp { hidden, activation, dropout };
        if !normalize {
            return layers.build(graph, features, dim as usize);
        }
        let projected = layers.build(graph, features, dim as usize)?;
        graph.node("head", L2Norm, &[projected])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::execution::{Execution, Pass};

    #[test]
    fn embeddings_have_length_one() {
        let mut graph = Graph::new();
        let x = graph.input("cls", &[3]).unwrap();
        let y = Embedding { dim: 4, ..Embedding::default() }.build(&mut graph, x).unwrap();
        let mut run: Execution<f32> = Execution::new(&graph, &graph.initial_weights(0), 1, false).unwrap();
        run.value_mut(x).copy_from_slice(&[5.0, -1.0, 2.0]);
        run.forward(1, Pass::EVALUATION);
        assert!((run.value(y).iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}
