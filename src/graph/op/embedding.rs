//! Rows of a table by number.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;
use crate::graph::onnx::proto::DataType;
use crate::graph::parallel::row_chunks;

/// The rows of a table `[entries, dim]` that some numbers `[tokens]` name, such as token ids: `[tokens, dim]`. The numbers
/// get no gradient; one outside the table names the entry nearest to it. ONNX `Cast`, `Gather`.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding;

/// The entry that a number names.
fn entry<F: Real>(number: F, entries: usize) -> usize {
    // What is negative or no number becomes 0.
    (number.wide() as usize).min(entries.saturating_sub(1))
}

impl Operator for Embedding {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [table, numbers] = arity("Embedding", inputs)?;
        match table.dims[..] {
            [entries, dim] if !table.batched && numbers.batched && entries > 0 => {
                let mut dims = numbers.dims.clone();
                dims.push(dim);
                Ok(Shape::rows(dims))
            }
            _ => {
                Err(Shape::refuse("Embedding", "it takes a table that all samples share, and numbers of each", inputs))
            }
        }
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        let to = OnnxAttribute::Int(i64::from(DataType::Int64 as i32));
        vec![
            OnnxNode::new("Cast", [OnnxInput::Input(1)]).with("to", to),
            OnnxNode::new("Gather", [OnnxInput::Input(0), OnnxInput::Node(0)]),
        ]
    }
}

impl<F: Real> Kernel<F> for Embedding {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let (table, numbers) = (run.input(0), run.input(1));
        let (entries, dim) = (run.input_shape(0).dims[0], run.output_shape().last());
        let row = run.output_shape().elements().max(1);
        row_chunks(run.output, row, |first, out| {
            let numbers = &numbers[first * row / dim.max(1)..];
            for (out, number) in out.chunks_exact_mut(dim.max(1)).zip(numbers) {
                out.copy_from_slice(&table[entry(*number, entries) * dim..][..dim]);
            }
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let (entries, dim) = (run.input_shape(0).dims[0], run.output_shape().last());
        run.grad(0, |d, accumulate, run| {
            if !accumulate {
                d.fill(F::ZERO);
            }
            // In the order of the batch, so that sums do not depend on threads.
            for (dy, number) in run.output_grad().chunks_exact(dim.max(1)).zip(run.input(1)) {
                let of_entry = &mut d[entry(*number, entries) * dim..][..dim];
                of_entry.iter_mut().zip(dy).for_each(|(d, dy)| *d += *dy);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::compare;
    use super::*;
    use crate::graph::execution::Pass;
    use crate::graph::{Graph, Init};

    #[test]
    fn backward_agrees_with_finite_differences() {
        let mut graph = Graph::new();
        let table = graph.parameter("table", &[4, 3], Init::Normal(1.0), true).unwrap();
        let ids = graph.input("ids", &[5]).unwrap();
        let out = graph.node("out", Embedding, &[table, ids]).unwrap();
        let weights = graph.initial_weights(11);
        // Of every entry some, and some outside.
        let pass = Pass { training: true, seed: 0, step: 1, ..Pass::EVALUATION };
        compare(&graph, out, &weights, pass, |x| (x * 3.0).round());
        assert!(Embedding.infer(&[&Shape::rows([4, 3]), &Shape::rows([5])]).is_err());
        assert!(Embedding.infer(&[&Shape::fixed([4]), &Shape::rows([5])]).is_err());
    }
}
