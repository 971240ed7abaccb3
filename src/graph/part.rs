//! Building one of several parts of a kind, which may share their weights.

use super::{Graph, Origin, Shape, ValueId};
use crate::base::{Error, Result};

/// What names of a part have behind their first word.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Part {
    /// Of nodes and constants.
    nodes: String,
    /// Of parameters and buffers; nothing leaves them as they are.
    weights: String,
}

impl Graph {
    /// Builds a part. What `body` calls `head.1` is called `head.NODES.1` if it is a node, and `head.WEIGHTS.1` if it is a
    /// parameter or buffer. Parts of the same `weights` share these: a later part takes those of the first, and what
    /// is fitted is fitted to the first.
    ///
    /// # Errors
    /// Those of `body`; a shared weight would have another shape.
    pub fn part<T>(&mut self, nodes: &str, weights: &str, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let outer = self.part.replace(Part { nodes: nodes.into(), weights: weights.into() });
        let built = body(self);
        self.part = outer;
        built
    }

    /// The name of a node or constant of the present part.
    pub(super) fn name_of_node(&self, name: &str) -> String {
        self.part.as_ref().map_or_else(|| name.to_string(), |part| behind_first(name, &part.nodes))
    }

    /// The name of a weight of the present part, and the weight of that name that an earlier part has.
    pub(super) fn name_of_weight(&self, name: &str, dims: &[usize]) -> Result<(String, Option<ValueId>)> {
        let Some(part) = &self.part else { return Ok((name.to_string(), None)) };
        let name = behind_first(name, &part.weights);
        let is_weight = |origin: &Origin| matches!(origin, Origin::Parameter { .. } | Origin::Buffer { .. });
        let shared = self.ids().find(|(_, value)| value.name == name && is_weight(&value.origin));
        let Some((id, value)) = shared else { return Ok((name, None)) };
        if value.shape == Shape::fixed(dims) {
            return Ok((name, Some(id)));
        }
        let (found, wanted) = (&value.shape.dims, dims);
        let what = format!("`{name}` is shared, and would be {found:?} for one field and {wanted:?} for another");
        Err(Error::bad_input(what).hint("fields of different sizes have projections of their own"))
    }
}

fn behind_first(name: &str, part: &str) -> String {
    if part.is_empty() {
        return name.to_string();
    }
    match name.split_once('.') {
        Some((first, rest)) => format!("{first}.{part}.{rest}"),
        None => format!("{name}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::op::{Gemm, Normalize};
    use crate::graph::{Fit, Init};

    fn layer(graph: &mut Graph, x: ValueId) -> Result<ValueId> {
        let width = [graph.shape(x).last()];
        let mean = graph.buffer("neck.mean", &width, Init::Fill(0.0))?;
        let inverse_deviation = graph.buffer("neck.scale", &width, Init::Fill(1.0))?;
        graph.fit(Fit { value: x, mean, inverse_deviation, eps: 0.0 });
        let x = graph.node("neck", Normalize, &[x, mean, inverse_deviation])?;
        let weight = graph.parameter("head.weight", &[2, width[0]], Init::fan_in(width[0]), true)?;
        graph.node("head", Gemm, &[x, weight])
    }

    #[test]
    fn parts_of_one_name_share_their_weights() {
        let mut graph = Graph::new();
        let inputs: Vec<ValueId> = ["a", "b", "c"].map(|name| graph.input(name, &[3]).unwrap()).to_vec();
        for (input, (nodes, weights)) in inputs.iter().zip([("a", ""), ("b", ""), ("c", "c")]) {
            graph.part(nodes, weights, |graph| layer(graph, *input)).unwrap();
        }
        let names: Vec<&str> = graph.parameters().map(|id| graph.values()[id.index()].name.as_str()).collect();
        assert_eq!(names, ["head.weight", "head.c.weight"]);
        assert_eq!(graph.fits().iter().map(|fit| fit.value).collect::<Vec<_>>(), [inputs[0], inputs[2]]);
        assert_eq!(graph.nodes().len(), 6);
        let wide = graph.input("d", &[4]).unwrap();
        let error = graph.part("d", "", |graph| layer(graph, wide)).unwrap_err();
        assert!(error.to_string().contains("`neck.mean` is shared"), "{error}");
    }
}
