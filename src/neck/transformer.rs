//! Transformer layers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mlp::linear;
use super::norm::LayerNorm;
use crate::base::{Error, Result};
use crate::graph::op::{Attention, Binary, BinaryKind, Dropout, Gelu, Reshape, Transpose};
use crate::graph::{Graph, ValueId};

/// Transformer layers on tokens, `[tokens, dim]` → `[tokens, dim]`: `x + attention(norm(x))`, then
/// `x + mlp(norm(x))`, and a normalisation at the end (PyTorch's `TransformerEncoder` with `norm_first`).
/// Tokens keep the positions that the backbone gave them. Follow it with a pooling neck.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Transformer {
    /// Layers.
    #[schemars(range(min = 1, max = 64))]
    pub layers: u32,
    /// Heads of the attention; they divide the width of the tokens.
    #[schemars(range(min = 1, max = 256))]
    pub heads: u32,
    /// The width of the hidden layer of each layer's mlp, as a multiple of the tokens' width.
    #[schemars(range(min = 0.1))]
    pub mlp_ratio: f32,
    /// The share of what each layer adds that is dropped in training.
    #[schemars(range(min = 0.0, max = 0.99))]
    pub dropout: f32,
}

impl Default for Transformer {
    fn default() -> Self {
        Self { layers: 1, heads: 8, mlp_ratio: 4.0, dropout: 0.0 }
    }
}

impl Transformer {
    /// `mask` is `[tokens]`, 1 for a token and 0 for padding, which none attends to. Per layer `….attention_norm`, `….q`, `….k`, `….v`, `….projection`, `….mlp_norm`, `….up` and `….down`.
    pub(super) fn build(&self, graph: &mut Graph, x: ValueId, mask: Option<ValueId>, name: &str) -> Result<ValueId> {
        let shape = graph.shape(x).clone();
        let heads = self.heads as usize;
        let (tokens, dim) = match shape.dims[..] {
            [tokens, dim] if dim > 0 && dim % heads == 0 => (tokens, dim),
            [_, dim] => {
                let error = format!("neck `transformer` cannot give {heads} heads equal parts of {dim} features");
                return Err(Error::bad_input(error).hint("choose `heads` that divide the width of the tokens"));
            }
            _ => {
                return Err(Error::bad_input(format!("neck `transformer` cannot take `{shape}`"))
                    .hint("it takes `[batch, tokens, dim]`"));
            }
        };
        let padding = format!("{name}.padding");
        let padding = mask.map(|mask| super::penalty(graph, mask, vec![1, 1, tokens], &padding)).transpose()?;
        let mut x = x;
        for layer in 0..self.layers {
            let at = |part: &str| format!("{name}.layers.{layer}.{part}");
            let normal = LayerNorm::default().build(graph, x, &at("attention_norm"))?;
            let mut parts = Vec::with_capacity(4);
            for part in ["q", "k", "v"] {
                let all = linear(graph, normal, dim, &at(part))?;
                let split = Reshape { dims: vec![tokens, heads, dim / heads] };
                let split = graph.node(&at(&format!("{part}.split")), split, &[all])?;
                let order = Transpose { order: vec![1, 0, 2] };
                parts.push(graph.node(&at(&format!("{part}.heads")), order, &[split])?);
            }
            parts.extend(padding);
            let scale = 1.0 / ((dim / heads) as f32).sqrt();
            let seen = graph.node(&at("attention"), Attention { scale }, &parts)?;
            let seen = graph.node(&at("attention.tokens"), Transpose { order: vec![1, 0, 2] }, &[seen])?;
            let seen = graph.node(&at("attention.joined"), Reshape { dims: vec![tokens, dim] }, &[seen])?;
            let seen = linear(graph, seen, dim, &at("projection"))?;
            x = self.add(graph, x, seen, &at("attended"))?;
            let normal = LayerNorm::default().build(graph, x, &at("mlp_norm"))?;
            let hidden = ((dim as f32 * self.mlp_ratio) as usize).max(1);
            let up = linear(graph, normal, hidden, &at("up"))?;
            let up = graph.node(&at("activation"), Gelu, &[up])?;
            let down = linear(graph, up, dim, &at("down"))?;
            x = self.add(graph, x, down, &at("sum"))?;
        }
        LayerNorm::default().build(graph, x, &format!("{name}.norm"))
    }

    fn add(&self, graph: &mut Graph, x: ValueId, step: ValueId, name: &str) -> Result<ValueId> {
        let step = if self.dropout > 0.0 {
            graph.node(&format!("{name}.dropout"), Dropout { rate: self.dropout }, &[step])?
        } else {
            step
        };
        graph.node(name, Binary(BinaryKind::Add), &[x, step])
    }
}
