//! Logistic regression, solved to its optimum.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OneOrPath, weight_and_bias};
use crate::base::Result;
use crate::graph::{Graph, ValueId};

/// Multinomial logistic regression with an L2 penalty, solved to its optimum with L-BFGS instead of trained by
/// steps: minimises `c·Σ log-loss + ‖w‖²/2` over the training rows, which is scikit-learn's objective (two
/// classes have one set of weights there, and so they do here). Several `c` are solved from the least to the
/// greatest, each from the one before, and the one with the best first metric on the validation rows is taken;
/// where there are none, a fifth of the training rows is held out to choose, and the choice is solved on all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logistic {
    /// The inverse strength of the penalty, or a list to choose from.
    pub c: OneOrPath,
    /// Solved once no component of the gradient of the mean loss is larger.
    #[schemars(range(min = 1.0e-12))]
    pub tolerance: f64,
    /// The most iterations for one `c`.
    #[schemars(range(min = 1))]
    pub max_iterations: u32,
    /// Features of up to this many GB are kept in memory; more are read anew in every iteration.
    #[schemars(range(min = 0.001))]
    pub max_memory_gb: f64,
}

impl Default for Logistic {
    fn default() -> Self {
        Self {
            c: OneOrPath(vec![1e-3, 1e-2, 0.1, 1.0, 10.0]),
            tolerance: 1e-4,
            max_iterations: 500,
            max_memory_gb: super::MAX_MEMORY_GB,
        }
    }
}

impl Logistic {
    /// `head.weight` `[outputs, features]` and `head.bias` `[outputs]`.
    pub(super) fn build(&self, graph: &mut Graph, features: ValueId, outputs: usize) -> Result<ValueId> {
        weight_and_bias(graph, features, outputs)
    }
}
