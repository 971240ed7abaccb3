//! Chosen places of a value.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;
use crate::graph::parallel::row_chunks;

/// The places of a constant index along one dimension, in its order, perhaps several times. ONNX `Gather`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gather {
    /// The dimension, not counting the batch.
    pub axis: usize,
    /// The places.
    pub index: Vec<usize>,
}

impl Gather {
    /// Calls `body(offset in a row of the output, offset in a row of the input, count)`.
    fn each(&self, x: &Shape, mut body: impl FnMut(usize, usize, usize)) {
        let inner: usize = x.dims[self.axis + 1..].iter().product();
        let outer: usize = x.dims[..self.axis].iter().product();
        for block in 0..outer {
            for (i, place) in self.index.iter().enumerate() {
                body((block * self.index.len() + i) * inner, (block * x.dims[self.axis] + place) * inner, inner);
            }
        }
    }
}

impl Operator for Gather {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("Gather", inputs)?;
        let size = x.dims.get(self.axis).copied().unwrap_or(0);
        if !x.batched || self.index.is_empty() || self.index.iter().any(|place| *place >= size) {
            return Err(Shape::refuse("Gather", &format!("it has not the places of dimension {}", self.axis), inputs));
        }
        let mut dims = x.dims.clone();
        dims[self.axis] = self.index.len();
        Ok(Shape::rows(dims))
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        let index = OnnxInput::Ints(self.index.iter().map(|place| *place as i64).collect());
        let node = OnnxNode::new("Gather", [OnnxInput::Input(0), index]);
        vec![node.with("axis", OnnxAttribute::Int(self.axis as i64 + 1))]
    }
}

impl<F: Real> Kernel<F> for Gather {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let (x, shape) = (run.input(0), run.input_shape(0));
        let (from, row) = (shape.elements(), run.output_shape().elements().max(1));
        row_chunks(run.output, row, |first, out| {
            for (y, x) in out.chunks_exact_mut(row).zip(x[first * from..].chunks_exact(from)) {
                self.each(shape, |to, from, count| y[to..to + count].copy_from_slice(&x[from..from + count]));
            }
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        run.grad(0, |dx, accumulate, run| {
            let (dy, shape) = (run.output_grad(), run.input_shape(0));
            let (to, row) = (shape.elements(), run.output_shape().elements().max(1));
            row_chunks(dx, to, |first, dx| {
                if !accumulate {
                    dx.fill(F::ZERO);
                }
                for (dx, dy) in dx.chunks_exact_mut(to).zip(dy[first * row..].chunks_exact(row)) {
                    self.each(shape, |from, to, count| {
                        let pairs = dx[to..to + count].iter_mut().zip(&dy[from..from + count]);
                        pairs.for_each(|(dx, dy)| *dx += *dy);
                    });
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;
    use super::*;

    #[test]
    fn backward_agrees_with_finite_differences() {
        Check::new(Gather { axis: 0, index: vec![2, 0, 2] }).rows(&[3, 2]).run();
        Check::new(Gather { axis: 1, index: vec![1] }).rows(&[2, 3]).run();
        assert!(Gather { axis: 0, index: vec![3] }.infer(&[&Shape::rows([3])]).is_err());
    }
}
