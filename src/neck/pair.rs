//! Comparing the two sides of a pair.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};
use crate::graph::op::{Binary, BinaryKind, Concat, Relu};
use crate::graph::{Graph, ValueId};

/// Compares two vectors of one size, such as those of the two texts of a row with `model.towers`, by joining the parts
/// named: with `[first, second, difference]` as Sentence-BERT classifies pairs (Reimers and Gurevych, 2019), with
/// `[difference, product]` the same whichever text comes first. Necks before it work on each side, those after it on
/// what they were joined to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pair {
    /// What is joined, in this order.
    #[schemars(length(min = 1))]
    pub parts: Vec<Part>,
}

/// A part of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "PairPart")]
pub enum Part {
    /// The first vector as it is.
    First,
    /// The second vector as it is.
    Second,
    /// The absolute difference of each element.
    Difference,
    /// The product of each element.
    Product,
}

impl Default for Pair {
    fn default() -> Self {
        Self { parts: vec![Part::First, Part::Second, Part::Difference] }
    }
}

impl Pair {
    pub(super) fn build(&self, graph: &mut Graph, inputs: &[ValueId], name: &str) -> Result<ValueId> {
        let &[first, second] = inputs else {
            let count = inputs.len();
            let what = format!("neck `pair` compares two outputs, and the cut has {count}");
            return Err(Error::bad_input(what).hint("give each of two fields a tower with one output"));
        };
        let shapes = [first, second].map(|side| graph.shape(side).to_string());
        if shapes[0] != shapes[1] || graph.shape(first).dims.len() != 1 {
            let what = format!("neck `pair` compares two vectors of one size, not `{}` and `{}`", shapes[0], shapes[1]);
            return Err(Error::bad_input(what).hint("pool each side before it, as `masked_mean` and `gap` do"));
        }
        let parts = self.parts.iter().map(|part| part.build(graph, (first, second), name));
        let parts = parts.collect::<Result<Vec<ValueId>>>()?;
        match parts[..] {
            [] => Err(Error::bad_input("neck `pair` joins no parts").hint("its `parts` are `difference` and others")),
            [one] => Ok(one),
            _ => graph.node(name, Concat { axis: 0 }, &parts),
        }
    }
}

impl Part {
    fn build(self, graph: &mut Graph, (first, second): (ValueId, ValueId), name: &str) -> Result<ValueId> {
        match self {
            Self::First => Ok(first),
            Self::Second => Ok(second),
            Self::Product => graph.node(&format!("{name}.product"), Binary(BinaryKind::Mul), &[first, second]),
            Self::Difference => {
                // |a − b| is the sum of its positive part and that of b − a, of which one is nought.
                let mut positive = |side: &str, of: [ValueId; 2]| {
                    let difference = graph.node(&format!("{name}.{side}"), Binary(BinaryKind::Sub), &of)?;
                    graph.node(&format!("{name}.{side}.positive"), Relu, &[difference])
                };
                let (more, less) = (positive("more", [first, second])?, positive("less", [second, first])?);
                graph.node(&format!("{name}.difference"), Binary(BinaryKind::Add), &[more, less])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::execution::{Execution, Pass};
    use crate::neck::{MaskedMean, NeckChain, NeckConfig};

    fn build(parts: &[Part], dims: [&[usize]; 2]) -> Result<(Graph, [ValueId; 2], ValueId)> {
        let mut graph = Graph::new();
        let inputs = [graph.input("text.mean", dims[0]).unwrap(), graph.input("text_b.mean", dims[1]).unwrap()];
        let chain =
            NeckChain(vec![NeckConfig::MaskedMean(MaskedMean {}), NeckConfig::Pair(Pair { parts: parts.to_vec() })]);
        let end = chain.build(&mut graph, &inputs)?;
        Ok((graph, inputs, end))
    }

    #[test]
    fn parts_are_joined_in_their_order() {
        let parts = [Part::Difference, Part::First, Part::Product, Part::Second];
        let (graph, inputs, end) = build(&parts, [&[2], &[2]]).unwrap();
        let mut run: Execution<f32> = Execution::new(&graph, &graph.initial_weights(0), 2, false).unwrap();
        run.value_mut(inputs[0]).copy_from_slice(&[1.0, -2.0, 0.5, 3.0]);
        run.value_mut(inputs[1]).copy_from_slice(&[4.0, -3.0, 0.5, -1.0]);
        run.forward(2, Pass::EVALUATION);
        let first = [3.0, 1.0, 1.0, -2.0, 4.0, 6.0, 4.0, -3.0];
        let second = [0.0, 4.0, 0.5, 3.0, 0.25, -3.0, 0.5, -1.0];
        assert_eq!(run.value(end), [first, second].concat());
    }

    #[test]
    fn two_vectors_of_one_size_are_needed() {
        let default = Pair::default().parts;
        let (graph, _, end) = build(&default, [&[3, 4], &[4]]).unwrap();
        assert_eq!(graph.shape(end).dims, [12], "a side that is pooled before is a vector");
        let error = |dims| build(&default, dims).unwrap_err().to_string();
        assert!(error([&[4], &[5]]).contains("not `[batch, 4]` and `[batch, 5]`"), "{}", error([&[4], &[5]]));
        assert!(build(&[], [&[4], &[4]]).unwrap_err().to_string().contains("joins no parts"));
        let mut graph = Graph::new();
        let one = graph.input("cls", &[4]).unwrap();
        let chain = NeckChain(vec![NeckConfig::Pair(Pair::default())]);
        let error = chain.build(&mut graph, &[one]).unwrap_err().to_string();
        assert!(error.contains("compares two outputs, and the cut has 1"), "{error}");
    }
}
