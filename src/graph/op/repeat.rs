//! The same for every sample.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;
use crate::graph::parallel::sum_rows;

/// A value that all samples share as a row of each, such as the class token that a vision transformer puts before the
/// others: any value with a row per sample, whose numbers are not read, and the value give rows of `dims`. ONNX `Shape`,
/// `Slice`, `Concat`, `Expand`.
#[derive(Debug, Clone, PartialEq)]
pub struct Repeat {
    /// The dimensions of a row, without the batch.
    pub dims: Vec<usize>,
}

impl Operator for Repeat {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [like, value] = arity("Repeat", inputs)?;
        if !like.batched || value.batched || Shape::checked_elements(&self.dims)? != value.elements() {
            return Err(Shape::refuse("Repeat", "it needs rows, and a value that all samples share", inputs));
        }
        Ok(Shape::rows(self.dims.clone()))
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        use OnnxInput::{Input, Ints, Node};
        let dims: Vec<i64> = self.dims.iter().map(|d| *d as i64).collect();
        vec![
            OnnxNode::new("Shape", [Input(0)]),
            OnnxNode::new("Slice", [Node(0), Ints(vec![0]), Ints(vec![1]), Ints(vec![0])]),
            OnnxNode::new("Concat", [Node(1), Ints(dims.clone())]).with("axis", OnnxAttribute::Int(0)),
            OnnxNode::new("Reshape", [Input(1), Ints(dims)]),
            OnnxNode::new("Expand", [Node(3), Node(2)]),
        ]
    }
}

impl<F: Real> Kernel<F> for Repeat {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let value = run.input(1);
        run.output.chunks_exact_mut(value.len().max(1)).for_each(|row| row.copy_from_slice(value));
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        run.grad(1, |dv, accumulate, run| sum_rows(run.output_grad(), dv.len(), dv, accumulate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::op::check::Check;

    #[test]
    fn gradients_are_right() {
        Check::new(Repeat { dims: vec![1, 4] }).rows(&[3]).fixed(&[1, 1, 4]).run();
    }
}
