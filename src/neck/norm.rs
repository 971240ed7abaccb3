//! Normalisation of each sample's features.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::graph::op::{L2Norm as L2NormOp, LayerNorm as LayerNormOp};
use crate::graph::{Graph, Init, ValueId};

/// Layer normalisation along the last dimension, with a trained scale and bias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LayerNorm {
    /// Added to the variance.
    #[schemars(range(min = 0.0))]
    pub eps: f32,
}

impl Default for LayerNorm {
    fn default() -> Self {
        Self { eps: 1e-5 }
    }
}

/// Divides by the Euclidean length along the last dimension.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct L2Norm {}

impl LayerNorm {
    pub(super) fn build(&self, graph: &mut Graph, x: ValueId, name: &str) -> Result<ValueId> {
        let width = [graph.shape(x).last()];
        let scale = graph.parameter(&format!("{name}.scale"), &width, Init::Fill(1.0), false)?;
        let bias = graph.parameter(&format!("{name}.bias"), &width, Init::Fill(0.0), false)?;
        graph.node(name, LayerNormOp { eps: self.eps }, &[x, scale, bias])
    }
}

impl L2Norm {
    pub(super) fn build(&self, graph: &mut Graph, x: ValueId, name: &str) -> Result<ValueId> {
        graph.node(name, L2NormOp, &[x])
    }
}
