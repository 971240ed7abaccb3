//! The same graph at many places of a row.

use super::op::{Concat, Gather, Gem, Op, Reduce, Reshape, Slice, Transpose};
use super::{Graph, Origin, Shape, ValueId};
use crate::base::{Error, Result};

impl Graph {
    /// The graph that computes at each of `places` places of a row what this one computes of a row: inputs and outputs
    /// have a first dimension more. Of the inputs the first `skipped` places are left out. Weights keep their names and
    /// shapes.
    ///
    /// # Errors
    /// An operator that looks at other rows, or at dimensions that it does not name.
    pub fn lifted(&self, places: usize, skipped: usize) -> Result<Self> {
        let mut lifted = Self::new();
        // What each value is called there.
        let mut ids: Vec<ValueId> = Vec::with_capacity(self.values().len());
        for value in self.values() {
            let Shape { batched, dims } = &value.shape;
            let id = match &value.origin {
                Origin::Input => {
                    let input = lifted.input(&value.name, &[&[skipped + places], &dims[..]].concat())?;
                    let rest = Slice { axis: 0, start: skipped, end: skipped + places, step: 1 };
                    if skipped > 0 { lifted.node(&format!("{}.places", value.name), rest, &[input])? } else { input }
                }
                Origin::Parameter { init, decay } => lifted.parameter(&value.name, dims, init.clone(), *decay)?,
                Origin::Buffer { init } => lifted.buffer(&value.name, dims, init.clone())?,
                Origin::Constant(values) => lifted.constant(&value.name, dims, values.clone())?,
                Origin::Node(node) => {
                    let node = &self.nodes()[*node];
                    let batched = |id: &ValueId| self.shape(*id).batched;
                    let inputs: Vec<ValueId> = node.inputs.iter().map(|id| ids[id.index()]).collect();
                    if !node.inputs.first().is_some_and(batched) {
                        lifted.node(&value.name, node.op.clone(), &inputs)?
                    } else {
                        let op = with_places(&node.op, places, dims).ok_or_else(|| {
                            Error::bad_input(format!("`{}` does not work at each place of a row", value.name))
                        })?;
                        lifted.node(&value.name, op, &inputs)?
                    }
                }
            };
            let expected = if *batched { [&[places], &dims[..]].concat() } else { dims.clone() };
            if lifted.shape(id).dims != expected {
                return Err(Error::bad_input(format!("`{}` does not work at each place of a row", value.name)));
            }
            ids.push(id);
        }
        for (name, id) in self.outputs() {
            lifted.output(name, ids[id.index()]);
        }
        Ok(lifted)
    }
}

/// An operator for rows with a first dimension more, whose outputs have these dimensions behind it; `None` if it is
/// not known to do the same at each place.
fn with_places(op: &Op, places: usize, dims: &[usize]) -> Option<Op> {
    Some(match op {
        // Along the last dimension, or element by element.
        Op::Gemm(_)
        | Op::LayerNorm(_)
        | Op::L2Norm(_)
        | Op::Normalize(_)
        | Op::Softmax(_)
        | Op::Activation(_)
        | Op::Relu(_)
        | Op::Gelu(_)
        | Op::Dropout(_)
        | Op::Binary(_) => op.clone(),
        Op::Flatten(_) | Op::Reshape(_) => Reshape { dims: [&[places], dims].concat() }.into(),
        Op::Concat(Concat { axis }) => Concat { axis: axis + 1 }.into(),
        Op::Slice(slice) => Slice { axis: slice.axis + 1, ..slice.clone() }.into(),
        Op::Gather(gather) => Gather { axis: gather.axis + 1, ..gather.clone() }.into(),
        Op::Reduce(reduce) => Reduce { start: reduce.start + 1, end: reduce.end + 1, ..reduce.clone() }.into(),
        Op::Gem(gem) => Gem { start: gem.start + 1, end: gem.end + 1, ..gem.clone() }.into(),
        Op::Transpose(Transpose { order }) => {
            Transpose { order: std::iter::once(0).chain(order.iter().map(|axis| axis + 1)).collect() }.into()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::execution::Pass;
    use crate::graph::op::{BatchNorm, Flatten, Gemm, Relu};
    use crate::graph::{Execution, Init};

    #[test]
    fn places_are_computed_as_rows_are() {
        let mut graph = Graph::new();
        let x = graph.input("x", &[3]).unwrap();
        let weight = graph.parameter("w", &[2, 3], Init::Normal(1.0), true).unwrap();
        let flat = graph.node("flat", Flatten, &[x]).unwrap();
        let y = graph.node("y", Gemm, &[flat, weight]).unwrap();
        let z = graph.node("z", Relu, &[y]).unwrap();
        graph.output("z", z);
        let (weights, values) = (graph.initial_weights(1), [0.1, -0.2, 0.3, 0.4, 0.5, -0.6]);
        let run = |graph: &Graph, rows: usize| {
            let mut run: Execution<f32> = Execution::new(graph, &weights, rows, false).unwrap();
            run.value_mut(graph.inputs()[0]).copy_from_slice(&values);
            run.forward(rows, Pass::EVALUATION);
            run.value(graph.outputs()[0].1).to_vec()
        };
        let lifted = graph.lifted(2, 0).unwrap();
        assert_eq!(lifted.shape(lifted.outputs()[0].1).dims, [2, 2]);
        assert_eq!(run(&lifted, 1), run(&graph, 2));
        assert_eq!(run(&graph.lifted(1, 1).unwrap(), 1), run(&graph, 2)[2..]);
    }

    #[test]
    fn what_looks_at_other_rows_is_refused() {
        let mut graph = Graph::new();
        let x = graph.input("x", &[3]).unwrap();
        let four = [0, 1, 2, 3].map(|i| graph.buffer(&format!("b{i}"), &[3], Init::Fill(1.0)).unwrap());
        let norm = BatchNorm { eps: 1e-5, momentum: 0.1 };
        graph.node("y", norm, &[x, four[0], four[1], four[2], four[3]]).unwrap();
        assert!(graph.lifted(2, 0).unwrap_err().to_string().contains("`y` does not work at each place"));
    }
}
