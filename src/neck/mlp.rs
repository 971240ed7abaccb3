//! Fully connected layers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::graph::op::{Dropout, Gelu, Gemm};
use crate::graph::{Graph, Init, ValueId};

/// Fully connected layers along the last dimension, each followed by GELU: the same for every token of
/// `[tokens, dim]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mlp {
    /// The width of each layer.
    #[schemars(length(min = 1), inner(range(min = 1)))]
    pub widths: Vec<u32>,
    /// The share of activations that is dropped in training.
    #[schemars(range(min = 0.0, max = 0.99))]
    pub dropout: f32,
}

impl Default for Mlp {
    fn default() -> Self {
        Self { widths: vec![512], dropout: 0.0 }
    }
}

impl Mlp {
    /// `….0.weight`, `….0.bias`, `….1.weight`, …, drawn as PyTorch's `Linear` draws them.
    pub(super) fn build(&self, graph: &mut Graph, x: ValueId, name: &str) -> Result<ValueId> {
        let mut x = x;
        for (i, width) in self.widths.iter().enumerate() {
            let layer = format!("{name}.{i}");
            x = linear(graph, x, *width as usize, &layer)?;
            x = graph.node(&format!("{layer}.activation"), Gelu, &[x])?;
            if self.dropout > 0.0 {
                x = graph.node(&format!("{layer}.dropout"), Dropout { rate: self.dropout }, &[x])?;
            }
        }
        Ok(x)
    }
}

/// A fully connected layer with its parameters `….weight` and `….bias`.
pub(super) fn linear(graph: &mut Graph, x: ValueId, width: usize, name: &str) -> Result<ValueId> {
    let inner = graph.shape(x).last();
    let weight = graph.parameter(&format!("{name}.weight"), &[width, inner], Init::fan_in(inner), true)?;
    let bias = graph.parameter(&format!("{name}.bias"), &[width], Init::fan_in(inner), false)?;
    graph.node(name, Gemm, &[x, weight, bias])
}
