//! One fully connected layer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::graph::op::Gemm;
use crate::graph::{Graph, Init, ValueId};

/// One fully connected layer. Features of more than one dimension are flattened first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Linear {
    /// Whether each output has a bias.
    pub bias: bool,
}

impl Default for Linear {
    fn default() -> Self {
        Self { bias: true }
    }
}

impl Linear {
    /// `head.weight` `[outputs, features]` and `head.bias` `[outputs]`, both uniform within ±1/√features as
    /// PyTorch's `Linear` draws them.
    pub(super) fn build(&self, graph: &mut Graph, features: ValueId, outputs: usize) -> Result<ValueId> {
        let features = super::flat(graph, features)?;
        let width = graph.shape(features).last();
        let weight = graph.parameter("head.weight", &[outputs, width], Init::fan_in(width), true)?;
        let mut inputs = vec![features, weight];
        if self.bias {
            inputs.push(graph.parameter("head.bias", &[outputs], Init::fan_in(width), false)?);
        }
        graph.node("head", Gemm, &inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_of_any_shape_become_logits() {
        for (bias, parameters) in [(true, 63), (false, 60)] {
            let mut graph = Graph::new();
            let x = graph.input("tokens", &[4, 5]).unwrap();
            let logits = Linear { bias }.build(&mut graph, x, 3).unwrap();
            assert_eq!(graph.shape(logits).to_string(), "[batch, 3]");
            assert_eq!(graph.parameter_count(), parameters);
        }
    }
}
