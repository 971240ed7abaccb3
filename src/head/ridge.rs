//! Ridge regression, solved at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OneOrPath, weight_and_bias};
use crate::base::Result;
use crate::graph::{Graph, ValueId};

/// Linear least squares with an L2 penalty, solved at once instead of trained by steps: minimises
/// `‖y − x·wᵀ − b‖² + alpha·‖w‖²` over the training rows. Classes become targets of +1 and −1, one output per
/// class; the outputs are scores, so that probabilities made of them are not calibrated. Of several `alpha`, the
/// one with the best first metric on the validation rows is taken, or, where there are none, the one with the
/// least error of generalised cross-validation (Golub, Heath and Wahba, 1979).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ridge {
    /// The strength of the penalty, or a list to choose from.
    pub alpha: OneOrPath,
    /// The most memory that solving may take, in GB. Of `n` rows with `d` features it needs some
    /// `4·min(n, d)²` bytes, twice that for a list of `alpha`, and twice again in f64, which is used where it fits.
    #[schemars(range(min = 0.001))]
    pub max_memory_gb: f64,
}

impl Default for Ridge {
    fn default() -> Self {
        let alpha = OneOrPath(vec![0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5]);
        Self { alpha, max_memory_gb: super::MAX_MEMORY_GB }
    }
}

impl Ridge {
    /// `head.weight` `[outputs, features]` and `head.bias` `[outputs]`.
    pub(super) fn build(&self, graph: &mut Graph, features: ValueId, outputs: usize) -> Result<ValueId> {
        weight_and_bias(graph, features, outputs)
    }
}
