//! Batch normalisation without a trained scale.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::graph::op::{BatchNorm as BatchNormOp, Transpose};
use crate::graph::{Graph, Init, ValueId};

/// Batch normalisation without a trained scale and bias, as in MAE's linear probe (He and others, 2022): in training
/// each feature is standardised over the batch, afterwards by the running mean and variance. The features are the
/// last dimension, or the channels of maps. Where they are stored `standardize` does the same from exact
/// statistics; behind a trained part there are none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchNorm {
    /// Added to the variance.
    #[schemars(range(min = 0.0))]
    pub eps: f32,
    /// The share of the newest batch in the running statistics.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f32,
}

impl Default for BatchNorm {
    fn default() -> Self {
        Self { eps: 1e-6, momentum: 0.1 }
    }
}

impl BatchNorm {
    /// Buffers `….running_mean` and `….running_variance`.
    pub(super) fn build(&self, graph: &mut Graph, x: ValueId, name: &str) -> Result<ValueId> {
        let tokens = graph.shape(x).dims.len() == 2;
        // The operator's channels come first.
        let swap = || Transpose { order: vec![1, 0] };
        let input = if tokens { graph.node(&format!("{name}.channels"), swap(), &[x])? } else { x };
        let width = graph.shape(input).dims.first().copied().unwrap_or(1);
        let scale = graph.constant(&format!("{name}.scale"), &[width], vec![1.0; width])?;
        let bias = graph.constant(&format!("{name}.bias"), &[width], vec![0.0; width])?;
        let mean = graph.buffer(&format!("{name}.running_mean"), &[width], Init::Fill(0.0))?;
        let variance = graph.buffer(&format!("{name}.running_variance"), &[width], Init::Fill(1.0))?;
        let op = BatchNormOp { eps: self.eps, momentum: self.momentum };
        let inputs = [input, scale, bias, mean, variance];
        if !tokens {
            return graph.node(name, op, &inputs);
        }
        let normal = graph.node(&format!("{name}.normal"), op, &inputs)?;
        graph.node(name, swap(), &[normal])
    }
}
