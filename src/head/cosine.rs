//! The cosine between features and one vector per class.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::graph::op::{Binary, BinaryKind, Gemm, L2Norm};
use crate::graph::{Graph, Init, ValueId};

/// The cosine between features and one vector per class, times a scale. For few samples per class, and for
/// classes of very different sizes. Features of more than one dimension are flattened first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cosine {
    /// What the cosines are multiplied by to become logits.
    #[schemars(range(min = 0.0))]
    pub scale: f32,
    /// Whether the scale is trained.
    pub learn_scale: bool,
}

impl Default for Cosine {
    fn default() -> Self {
        Self { scale: 16.0, learn_scale: false }
    }
}

impl Cosine {
    /// `head.weight` `[outputs, features]`, and `head.scale` `[]`.
    pub(super) fn build(&self, graph: &mut Graph, features: ValueId, outputs: usize) -> Result<ValueId> {
        let features = super::flat(graph, features)?;
        let width = graph.shape(features).last();
        let weight = graph.parameter("head.weight", &[outputs, width], Init::fan_in(width), true)?;
        let features = graph.node("head.unit_features", L2Norm, &[features])?;
        let weight = graph.node("head.unit_weight", L2Norm, &[weight])?;
        let cosines = graph.node("head.cosines", Gemm, &[features, weight])?;
        let scale = if self.learn_scale {
            graph.parameter("head.scale", &[], Init::Fill(self.scale), false)?
        } else {
            graph.constant("head.scale", &[], vec![self.scale])?
        };
        graph.node("head", Binary(BinaryKind::Mul), &[cosines, scale])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::execution::{Execution, Pass};

    #[test]
    fn logits_are_scaled_cosines() {
        for learn_scale in [false, true] {
            let mut graph = Graph::new();
            let x = graph.input("cls", &[2]).unwrap();
            let logits = Cosine { scale: 10.0, learn_scale }.build(&mut graph, x, 2).unwrap();
            let mut weights = graph.initial_weights(0);
            weights.insert("head.weight", [2, 2], vec![5.0, 0.0, 1.0, 1.0]);
            let mut run: Execution<f32> = Execution::new(&graph, &weights, 1, true).unwrap();
            run.value_mut(x).copy_from_slice(&[0.0, 3.0]);
            run.forward(1, Pass::EVALUATION);
            let found = run.value(logits);
            assert!(found[0].abs() < 1e-5 && (found[1] - 10.0 * 0.5f32.sqrt()).abs() < 1e-5, "{found:?}");
            assert_eq!(run.parameters().len(), 1 + usize::from(learn_scale));
        }
    }
}
