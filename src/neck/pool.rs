//! Pooling over tokens or places.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};
use crate::graph::op::{Gem as GemOp, Reduce, ReduceKind, Token};
use crate::graph::{Graph, Init, ValueId};

/// Global average pooling: the mean over tokens (`[tokens, dim]` → `[dim]`) or over the places of a map
/// (`[channels, height, width]` → `[channels]`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gap {}

/// Global max pooling: the largest over tokens or over the places of a map.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gmp {}

/// Generalised-mean pooling, `mean(max(x, eps)^p)^(1/p)` over tokens or over the places of a map (Radenović,
/// Tolias and Chum, 2018): between the mean (p = 1) and the largest (p → ∞). For features that are not negative.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gem {
    /// The power before training.
    #[schemars(range(min = 0.1))]
    pub p: f32,
    /// Whether the power is trained.
    pub learn_p: bool,
    /// What smaller features become.
    #[schemars(range(min = 1.0e-12))]
    pub eps: f32,
}

impl Default for Gem {
    fn default() -> Self {
        Self { p: 3.0, learn_p: true, eps: 1e-6 }
    }
}

/// Keeps the first token: `[tokens, dim]` → `[dim]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClsToken {}

/// The dimensions to pool over, not counting the batch.
fn places(graph: &Graph, x: ValueId, kind: &str) -> Result<(usize, usize)> {
    match graph.shape(x).dims.len() {
        2 => Ok((0, 1)),
        3 => Ok((1, 3)),
        _ => {
            let (name, shape) = (&graph.values()[x.index()].name, graph.shape(x));
            let what = format!("neck `{kind}` cannot pool `{name}` of shape `{shape}`");
            Err(Error::bad_input(what).hint("it takes `[batch, tokens, dim]` or `[batch, channels, height, width]`"))
        }
    }
}

impl Gap {
    pub(super) fn build(&self, graph: &mut Graph, x: ValueId, name: &str) -> Result<ValueId> {
        let (start, end) = places(graph, x, "gap")?;
        graph.node(name, Reduce { kind: ReduceKind::Mean, start, end }, &[x])
    }
}

impl Gmp {
    pub(super) fn build(&self, graph: &mut Graph, x: ValueId, name: &str) -> Result<ValueId> {
        let (start, end) = places(graph, x, "gmp")?;
        graph.node(name, Reduce { kind: ReduceKind::Max, start, end }, &[x])
    }
}

impl Gem {
    pub(super) fn build(&self, graph: &mut Graph, x: ValueId, name: &str) -> Result<ValueId> {
        let (start, end) = places(graph, x, "gem")?;
        let p = format!("{name}.p");
        let p = if self.learn_p {
            graph.parameter(&p, &[], Init::Fill(self.p), false)?
        } else {
            graph.constant(&p, &[], vec![self.p])?
        };
        graph.node(name, GemOp { eps: self.eps, start, end }, &[x, p])
    }
}

impl ClsToken {
    pub(super) fn build(&self, graph: &mut Graph, x: ValueId, name: &str) -> Result<ValueId> {
        graph.node(name, Token { index: 0 }, &[x])
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NeckChain, NeckConfig};
    use super::*;

    #[test]
    fn tokens_and_maps_are_pooled_and_vectors_refused() {
        let necks = [NeckConfig::Gap(Gap {}), NeckConfig::Gmp(Gmp {}), NeckConfig::Gem(Gem::default())];
        for neck in necks {
            let chain = NeckChain(vec![neck]);
            for (dims, pooled) in [(&[5, 8][..], "[batch, 8]"), (&[4, 3, 3], "[batch, 4]")] {
                let mut graph = Graph::new();
                let x = graph.input("x", dims).unwrap();
                let y = chain.build(&mut graph, &[x]).unwrap();
                assert_eq!(graph.shape(y).to_string(), pooled);
            }
            let mut graph = Graph::new();
            let x = graph.input("x", &[8]).unwrap();
            assert!(chain.build(&mut graph, &[x]).unwrap_err().to_string().contains("cannot pool `x`"));
        }
    }
}
