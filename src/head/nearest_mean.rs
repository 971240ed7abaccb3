//! The nearest class mean.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Distance;
use crate::base::Result;
use crate::graph::op::{Gemm, L2Norm};
use crate::graph::{Graph, Init, ValueId};

/// The class whose mean over the training rows is nearest. Nothing is tuned, and one picture per class is
/// enough. With `cosine` the means are those of features of length one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NearestMean {
    /// What near means.
    pub metric: Distance,
}

impl NearestMean {
    /// What cosines are multiplied by to become logits.
    pub const SCALE: f32 = 16.0;

    /// `head.weight` `[outputs, features]`: with `cosine` unit vectors times [`Self::SCALE`]; with `l2` twice the
    /// means, and `head.bias` their squared lengths times −1, so that logits are `‖x‖² − ‖x − mean‖²`.
    pub(super) fn build(&self, graph: &mut Graph, features: ValueId, outputs: usize) -> Result<ValueId> {
        match self.metric {
            Distance::L2 => super::weight_and_bias(graph, features, outputs),
            Distance::Cosine => {
                let features = super::flat(graph, features)?;
                let width = graph.shape(features).last();
                let weight = graph.parameter("head.weight", &[outputs, width], Init::Fill(0.0), false)?;
                let unit = graph.node("head.unit_features", L2Norm, &[features])?;
                graph.node("head", Gemm, &[unit, weight])
            }
        }
    }
}
