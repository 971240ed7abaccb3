//! The mean over real tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};
use crate::graph::op::{MaskedMean as MaskedMeanOp, Reduce, ReduceKind};
use crate::graph::{Graph, ValueId};

/// The mean over the tokens of each sample, without the padding of shorter ones: `[tokens, dim]` → `[dim]`, as
/// sentence encoders are used. Where all samples have as many tokens it is `gap`, and vectors stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MaskedMean {}

impl MaskedMean {
    /// `mask` is `[tokens]`, 1 for a token and 0 for padding.
    pub(super) fn build(&self, graph: &mut Graph, x: ValueId, mask: Option<ValueId>, name: &str) -> Result<ValueId> {
        if graph.shape(x).dims.len() == 1 {
            return Ok(x);
        }
        if graph.shape(x).dims.len() != 2 {
            let (input, shape) = (&graph.values()[x.index()].name, graph.shape(x));
            let what = format!("neck `masked_mean` cannot pool `{input}` of shape `{shape}`");
            return Err(Error::bad_input(what).hint("it takes `[batch, tokens, dim]`"));
        }
        match mask {
            Some(mask) => graph.node(name, MaskedMeanOp, &[x, mask]),
            None => graph.node(name, Reduce { kind: ReduceKind::Mean, start: 0, end: 1 }, &[x]),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::Graph;
    use crate::neck::{NeckChain, NeckConfig};

    #[test]
    fn a_mask_beside_the_tokens_is_used_and_not_joined() {
        let chain = NeckChain(vec![NeckConfig::MaskedMean(super::MaskedMean {})]);
        let mut graph = Graph::new();
        let tokens = graph.input("tokens", &[5, 4]).unwrap();
        let mask = graph.input("tokens.mask", &[5]).unwrap();
        let (all, cls) = (graph.input("all", &[4, 3]).unwrap(), graph.input("cls", &[6]).unwrap());
        let end = chain.build(&mut graph, &[tokens, mask, all, cls]).unwrap();
        assert_eq!(graph.shape(end).dims, [4 + 3 + 6]);
        let mut graph = Graph::new();
        let map = graph.input("map", &[4, 2, 2]).unwrap();
        assert!(chain.build(&mut graph, &[map]).unwrap_err().to_string().contains("cannot pool `map`"));
    }
}
