//! Fully connected layers with activations between them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::graph::op::{Dropout, Gelu, Gemm, Relu};
use crate::graph::{Graph, Init, ValueId};

/// Fully connected layers with activations between them, and dropout before each layer but the first.
/// Features of more than one dimension are flattened first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mlp {
    /// The widths of the layers before the last.
    #[schemars(inner(range(min = 1)))]
    pub hidden: Vec<u32>,
    /// What follows each layer but the last.
    pub activation: Activation,
    /// The share of hidden activations that is dropped in training.
    #[schemars(range(min = 0.0, max = 0.99))]
    pub dropout: f32,
}

/// An activation function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x · Φ(x)`, by the error function.
    #[default]
    Gelu,
    /// `max(x, 0)`.
    Relu,
}

impl Default for Mlp {
    fn default() -> Self {
        Self { hidden: vec![512], activation: Activation::default(), dropout: 0.0 }
    }
}

impl Mlp {
    /// `head.0.weight`, `head.0.bias`, `head.1.weight`, …, drawn as PyTorch's `Linear` draws them.
    pub(super) fn build(&self, graph: &mut Graph, features: ValueId, outputs: usize) -> Result<ValueId> {
        let mut x = super::flat(graph, features)?;
        let widths = self.hidden.iter().map(|width| *width as usize).chain([outputs]);
        for (i, width) in widths.enumerate() {
            if i > 0 {
                let name = format!("head.{i}.activation");
                x = match self.activation {
                    Activation::Gelu => graph.node(&name, Gelu, &[x])?,
                    Activation::Relu => graph.node(&name, Relu, &[x])?,
                };
                if self.dropout > 0.0 {
                    x = graph.node(&format!("head.{i}.dropout"), Dropout { rate: self.dropout }, &[x])?;
                }
            }
            let inner = graph.shape(x).last();
            let weight = graph.parameter(&format!("head.{i}.weight"), &[width, inner], Init::fan_in(inner), true)?;
            let bias = graph.parameter(&format!("head.{i}.bias"), &[width], Init::fan_in(inner), false)?;
            x = graph.node(&format!("head.{i}"), Gemm, &[x, weight, bias])?;
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_follow_the_widths() {
        let mut graph = Graph::new();
        let x = graph.input("cls", &[8]).unwrap();
        let mlp = Mlp { hidden: vec![6, 4], dropout: 0.1, ..Mlp::default() };
        let logits = mlp.build(&mut graph, x, 3).unwrap();
        assert_eq!(graph.shape(logits).to_string(), "[batch, 3]");
        assert_eq!(graph.parameter_count(), 8 * 6 + 6 + 6 * 4 + 4 + 4 * 3 + 3);
        assert_eq!(graph.nodes().len(), 3 + 2 * 2);
    }
}
