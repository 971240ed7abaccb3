//! Standardisation fitted on the training rows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::graph::op::Normalize;
use crate::graph::{Fit, Graph, Init, ValueId};

/// Subtracts from each feature its mean over the training rows and divides by its standard deviation:
/// `(x − mean) / sqrt(variance + eps)`. Fitted in one streaming pass before the first epoch; constant
/// from then on, and part of the exported model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Standardize {
    /// Added to the variance, so that a feature that never varies becomes zero.
    #[schemars(range(min = 0.0))]
    pub eps: f64,
}

impl Default for Standardize {
    fn default() -> Self {
        Self { eps: 1e-6 }
    }
}

impl Standardize {
    /// Buffers `….mean` and `….inverse_deviation`, fitted before training.
    pub(super) fn build(&self, graph: &mut Graph, x: ValueId, name: &str) -> Result<ValueId> {
        let width = [graph.shape(x).last()];
        let mean = graph.buffer(&format!("{name}.mean"), &width, Init::Fill(0.0))?;
        let inverse_deviation = graph.buffer(&format!("{name}.inverse_deviation"), &width, Init::Fill(1.0))?;
        graph.fit(Fit { value: x, mean, inverse_deviation, eps: self.eps });
        graph.node(name, Normalize, &[x, mean, inverse_deviation])
    }
}
