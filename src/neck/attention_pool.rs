//! Pooling by learned attention.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};
use crate::graph::op::{Binary, BinaryKind, Flatten, Gemm, MatMul, Softmax, Transpose};
use crate::graph::{Graph, Init, ValueId};

/// Pools tokens by learned attention (Ilse, Tomczak and Welling, 2018, with linear scores): `[tokens, dim]` →
/// `[heads · dim]`. Each head scores every token by an inner product with a trained vector, and gives the mean of
/// the tokens by the softmax of the scores. Before training all tokens weigh nearly the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AttentionPool {
    /// Means that are taken, each with a vector of its own.
    #[schemars(range(min = 1, max = 256))]
    pub heads: u32,
}

impl Default for AttentionPool {
    fn default() -> Self {
        Self { heads: 1 }
    }
}

impl AttentionPool {
    /// `….query` `[heads, dim]`. `mask` is `[tokens]`, 1 for a token and 0 for padding.
    pub(super) fn build(&self, graph: &mut Graph, x: ValueId, mask: Option<ValueId>, name: &str) -> Result<ValueId> {
        let [tokens, dim] = graph.shape(x).dims[..] else {
            let shape = graph.shape(x);
            return Err(Error::bad_input(format!("neck `attention_pool` cannot pool `{shape}`"))
                .hint("it takes `[batch, tokens, dim]`"));
        };
        let spread = 0.02 / (dim.max(1) as f32).sqrt();
        let query =
            graph.parameter(&format!("{name}.query"), &[self.heads as usize, dim], Init::Normal(spread), true)?;
        let scores = graph.node(&format!("{name}.scores"), Gemm, &[x, query])?;
        let mut by_head = graph.node(&format!("{name}.by_head"), Transpose { order: vec![1, 0] }, &[scores])?;
        if let Some(mask) = mask {
            let padding = super::penalty(graph, mask, vec![1, tokens], &format!("{name}.padding"))?;
            by_head = graph.node(&format!("{name}.masked"), Binary(BinaryKind::Add), &[by_head, padding])?;
        }
        let weights = graph.node(&format!("{name}.weights"), Softmax, &[by_head])?;
        let means = graph.node(&format!("{name}.means"), MatMul { transposed: false }, &[weights, x])?;
        graph.node(name, Flatten, &[means])
    }
}
