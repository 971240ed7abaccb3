//! Numbers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Activation, Mlp};
use crate::base::Result;
use crate::graph::op::{Binary, BinaryKind};
use crate::graph::{Graph, Init, TargetFit, ValueId};

/// One number per value. With `standardize` the layers predict values of mean 0 and deviation 1, and what turns
/// them into the data's own units is part of the model. Features of more than one dimension are flattened first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Regression {
    /// Whether the layers predict standardised values: `(value − mean) / deviation` over the training rows.
    pub standardize: bool,
    /// The widths of layers before the last; none makes the head linear.
    #[schemars(inner(range(min = 1)))]
    pub hidden: Vec<u32>,
    /// What follows each layer but the last.
    pub activation: Activation,
    /// The share of hidden activations that is dropped in training.
    #[schemars(range(min = 0.0, max = 0.99))]
    pub dropout: f32,
}

impl Default for Regression {
    fn default() -> Self {
        Self { standardize: true, hidden: Vec::new(), activation: Activation::default(), dropout: 0.0 }
    }
}

impl Regression {
    /// The parameters of an [`Mlp`], and buffers `head.mean` and `head.deviation` that are fitted to the targets
    /// before training.
    pub(super) fn build(&self, graph: &mut Graph, features: ValueId, outputs: usize) -> Result<ValueId> {
        let Self { standardize, hidden, activation, dropout } = self.clone();
        let layers = Mlp { hidden, activation, dropout };
        if !standardize {
            return layers.build(graph, features, outputs);
        }
        let values = layers.build(graph, features, outputs)?;
        let mean = graph.buffer("head.mean", &[outputs], Init::Fill(0.0))?;
        let deviation = graph.buffer("head.deviation", &[outputs], Init::Fill(1.0))?;
        graph.fit_targets(TargetFit { mean, deviation });
        let scaled = graph.node("head.scaled", Binary(BinaryKind::Mul), &[values, deviation])?;
        graph.node("head", Binary(BinaryKind::Add), &[scaled, mean])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_in_the_units_of_the_data() {
        let mut graph = Graph::new();
        let x = graph.input("cls", &[8]).unwrap();
        let y = Regression { hidden: vec![5], ..Regression::default() }.build(&mut graph, x, 2).unwrap();
        assert_eq!(graph.shape(y).to_string(), "[batch, 2]");
        assert_eq!(graph.parameter_count(), 8 * 5 + 5 + 5 * 2 + 2);
        assert!(graph.target_fit().is_some());
        let mut plain = Graph::new();
        let x = plain.input("cls", &[8]).unwrap();
        Regression { standardize: false, ..Regression::default() }.build(&mut plain, x, 2).unwrap();
        assert!(plain.target_fit().is_none());
    }
}
