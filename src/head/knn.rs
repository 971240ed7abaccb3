//! The nearest training rows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Distance;
use crate::base::Result;
use crate::graph::op::{L2Norm, NeighbourWeights, Neighbours};
use crate::graph::{Graph, Init, ValueId};

/// A vote of the nearest training rows, which the model keeps. Outputs are the logarithms of the shares of the
/// votes, so that probabilities are the shares; of values they are the mean of those of the nearest rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Knn {
    /// How many training rows count.
    #[schemars(range(min = 1, max = 10_000))]
    pub k: u32,
    /// What near means.
    pub metric: Distance,
    /// How much each of them counts.
    pub weights: VoteWeights,
    /// What they have: a class, or values. A recipe need not say it.
    #[serde(skip_serializing_if = "Kept::is_auto")]
    pub keeps: Kept,
    /// The most memory that the kept rows may take, in GB.
    #[schemars(range(min = 0.001))]
    pub max_memory_gb: f64,
}

/// What training rows have that are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "KeptTargets")]
pub enum Kept {
    /// What the data's targets are.
    #[default]
    Auto,
    /// A class each.
    Classes,
    /// Values each.
    Values,
}

impl Kept {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// How much a training row counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VoteWeights {
    /// All the same.
    #[default]
    Uniform,
    /// Inversely to its distance.
    Distance,
}

impl Default for Knn {
    fn default() -> Self {
        let (metric, weights) = (Distance::default(), VoteWeights::default());
        Self { k: 10, metric, weights, keeps: Kept::default(), max_memory_gb: super::MAX_MEMORY_GB }
    }
}

impl Knn {
    /// `head.rows` `[rows, features]`, with `cosine` of length one, and `head.classes` `[rows]`, class numbers, or
    /// `head.values` `[rows, outputs]`.
    pub(super) fn build(&self, graph: &mut Graph, features: ValueId, outputs: usize, rows: usize) -> Result<ValueId> {
        let mut features = super::flat(graph, features)?;
        let width = graph.shape(features).last();
        if self.metric == Distance::Cosine {
            features = graph.node("head.unit_features", L2Norm, &[features])?;
        }
        let stored = graph.buffer("head.rows", &[rows, width], Init::Fill(0.0))?;
        let values = self.keeps == Kept::Values;
        let kept = match values {
            true => graph.buffer("head.values", &[rows, outputs], Init::Fill(0.0))?,
            false => graph.buffer("head.classes", &[rows], Init::Fill(0.0))?,
        };
        let weights = match (self.weights, self.metric) {
            (VoteWeights::Uniform, _) => NeighbourWeights::Uniform,
            (VoteWeights::Distance, Distance::L2) => NeighbourWeights::Distance,
            (VoteWeights::Distance, Distance::Cosine) => NeighbourWeights::HalfSquare,
        };
        let vote = Neighbours { k: self.k as usize, outputs, values, weights };
        graph.node("head", vote, &[features, stored, kept])
    }
}
