//! No head: the network's own outputs are the logits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};
use crate::graph::op::Reshape;
use crate::graph::{Graph, ValueId};

/// Nothing: what reaches the head is taken as its outputs, one for each class, label or value of the data in their
/// order. It is the head of a whole model (`model.full`), which ends with its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {}

impl Identity {
    /// `[batch, …]` of as many values as outputs → `[batch, outputs]`, without a parameter.
    pub(super) fn build(&self, graph: &mut Graph, features: ValueId, outputs: usize) -> Result<ValueId> {
        let width = graph.shape(features).elements();
        if width != outputs {
            return Err(Error::bad_input(format!(
                "the network gives {width} values, and the data have {outputs} classes, labels or values"
            ))
            .hint("a head of the data's size needs a cut below the network's own: name the tensor that enters its last layer as `model.backbone.outputs`"));
        }
        // A node of its own, for the outputs of the network may be printed under their own name.
        graph.node("head", Reshape { dims: vec![outputs] }, &[features])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_enters_is_what_leaves_and_must_fit_the_data() {
        let mut graph = Graph::new();
        let x = graph.input("logits", &[3, 1, 1]).unwrap();
        let logits = Identity {}.build(&mut graph, x, 3).unwrap();
        assert_eq!((graph.shape(logits).to_string().as_str(), graph.parameter_count()), ("[batch, 3]", 0));
        let error = Identity {}.build(&mut graph, x, 4).unwrap_err();
        assert!(error.to_string().starts_with("the network gives 3 values, and the data have 4"), "{error}");
    }
}
