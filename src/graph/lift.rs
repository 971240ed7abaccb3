//! The same graph at many places of a row.

use super::op::{Concat, Gather, Gem, Op, Reduce, Reshape, Slice, Transpose};
use super::{Graph, Origin, Shape, ValueId};
use crate::base::{Error, Result};

/// Where the places of a row lie in an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One after the other behind so many others: `[before + places, …]`.
    Tokens {
        /// Tokens of no place: of the class, and registers.
        before: usize,
    },
    /// In a map of each channel: `[channels, height, width]`.
    Map {
        /// Places below each other.
        height: usize,
        /// Places beside each other.
        width: usize,
    },
}

impl Graph {
    /// The graph that computes at each of `places` places of a row what this one computes of a row: outputs have a first
    /// dimension more, and inputs are as their `layouts` say, one for each. Weights keep their names and shapes.
    ///
    /// # Errors
    /// An operator that looks at other rows, or at dimensions that it does not name.
    pub fn lifted(&self, places: usize, layouts: &[Layout]) -> Result<Self> {
        let mut lifted = Self::new();
        let mut layouts = layouts.iter();
        // What each value is called there.
        let mut ids: Vec<ValueId> = Vec::with_capacity(self.values().len());
        for value in self.values() {
            let Shape { batched, dims } = &value.shape;
            let id = match &value.origin {
                Origin::Input => {
                    let layout = layouts.next().copied().unwrap_or(Layout::Tokens { before: 0 });
                    lifted.input_of_places(&value.name, places, dims, layout)?
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

    /// An input of so many places, as `[places, …]`.
    fn input_of_places(&mut self, name: &str, places: usize, dims: &[usize], layout: Layout) -> Result<ValueId> {
        let node = |what: &str| format!("{name}.{what}");
        match layout {
            Layout::Tokens { before } => {
                let input = self.input(name, &[&[before + places], dims].concat())?;
                let rest = Slice { axis: 0, start: before, end: before + places, step: 1 };
                if before > 0 { self.node(&node("places"), rest, &[input]) } else { Ok(input) }
            }
            Layout::Map { height, width } => {
                let channels = dims.iter().product();
                let input = self.input(name, &[channels, height, width])?;
                let rows = self.node(&node("rows"), Reshape { dims: vec![channels, height * width] }, &[input])?;
                self.node(&node("places"), Transpose { order: vec![1, 0] }, &[rows])
            }
        }
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
        let lifted = graph.lifted(2, &[Layout::Tokens { before: 0 }]).unwrap();
        assert_eq!(lifted.shape(lifted.outputs()[0].1).dims, [2, 2]);
        assert_eq!(run(&lifted, 1), run(&graph, 2));
        let last = graph.lifted(1, &[Layout::Tokens { before: 1 }]).unwrap();
        assert_eq!(run(&last, 1), run(&graph, 2)[2..]);
        // The channels of two places side by side.
        let map = graph.lifted(2, &[Layout::Map { height: 1, width: 2 }]).unwrap();
        let mut of_map: Execution<f32> = Execution::new(&map, &weights, 1, false).unwrap();
        of_map.value_mut(map.inputs()[0]).copy_from_slice(&[0.1, 0.4, -0.2, 0.5, 0.3, -0.6]);
        of_map.forward(1, Pass::EVALUATION);
        assert_eq!(of_map.value(map.outputs()[0].1), run(&graph, 2));
    }

    #[test]
    fn what_looks_at_other_rows_is_refused() {
        let mut graph = Graph::new();
        let x = graph.input("x", &[3]).unwrap();
        let four = [0, 1, 2, 3].map(|i| graph.buffer(&format!("b{i}"), &[3], Init::Fill(1.0)).unwrap());
        let norm = BatchNorm { eps: 1e-5, momentum: 0.1 };
        graph.node("y", norm, &[x, four[0], four[1], four[2], four[3]]).unwrap();
        assert!(graph.lifted(2, &[]).unwrap_err().to_string().contains("`y` does not work at each place"));
    }
}
