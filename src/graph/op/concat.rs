//! Joining values along a dimension.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape};
use crate::base::Result;

/// Joins one or more values along a dimension; the others agree. ONNX `Concat`.
#[derive(Debug, Clone, PartialEq)]
pub struct Concat {
    /// The dimension, not counting the batch.
    pub axis: usize,
}

impl Concat {
    /// Neighbouring elements of a row that one value gives: its part of the dimension and all behind.
    fn run(&self, shape: &Shape) -> usize {
        shape.dims[self.axis..].iter().product()
    }
}

impl Operator for Concat {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let refuse = |why| Shape::refuse("Concat", why, inputs);
        let first = inputs.first().ok_or_else(|| refuse("there is nothing to join"))?;
        if self.axis >= first.dims.len() {
            return Err(refuse("they have no such dimension"));
        }
        let (before, behind) = (&first.dims[..self.axis], &first.dims[self.axis + 1..]);
        let fits = |s: &&Shape| {
            s.batched && s.dims.len() == first.dims.len() && s.dims.starts_with(before) && s.dims.ends_with(behind)
        };
        if !inputs.iter().all(fits) {
            return Err(refuse("all other dimensions must agree"));
        }
        let mut dims = first.dims.clone();
        dims[self.axis] = inputs.iter().map(|s| s.dims[self.axis]).sum();
        Ok(Shape::rows(dims))
    }

    fn onnx(&self, inputs: &[&Shape]) -> Vec<OnnxNode> {
        let all: Vec<_> = (0..inputs.len()).map(OnnxInput::Input).collect();
        vec![OnnxNode::new("Concat", all).with("axis", OnnxAttribute::Int(self.axis as i64 + 1))]
    }
}

impl<F: Real> Kernel<F> for Concat {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let width = self.run(run.output_shape()).max(1);
        let mut offset = 0;
        for i in 0..run.inputs() {
            let part = self.run(run.input_shape(i)).max(1);
            let x = run.input(i);
            for (out, x) in run.output.chunks_exact_mut(width).zip(x.chunks_exact(part)) {
                out[offset..offset + part].copy_from_slice(x);
            }
            offset += part;
        }
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let width = self.run(run.output_shape()).max(1);
        let mut offset = 0;
        for i in 0..run.inputs() {
            let part = self.run(run.input_shape(i)).max(1);
            run.grad(i, |dx, accumulate, run| {
                for (dx, dy) in dx.chunks_exact_mut(part).zip(run.output_grad().chunks_exact(width)) {
                    let dy = &dy[offset..offset + part];
                    if accumulate {
                        dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += *dy);
                    } else {
                        dx.copy_from_slice(dy);
                    }
                }
            });
            offset += part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;
    use super::*;

    #[test]
    fn backward_agrees_with_finite_differences() {
        Check::new(Concat { axis: 1 }).rows(&[2, 3]).rows(&[2, 1]).rows(&[2, 4]).run();
        Check::new(Concat { axis: 0 }).rows(&[3]).same().run();
        Check::new(Concat { axis: 0 }).rows(&[1, 2, 2]).rows(&[3, 2, 2]).run();
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let error = Concat { axis: 1 }.infer(&[&Shape::rows([2, 3]), &Shape::rows([3, 3])]).unwrap_err();
        assert!(error.to_string().starts_with("Concat cannot take `[batch, 2, 3]` and `[batch, 3, 3]`"), "{error}");
        assert!(Concat { axis: 1 }.infer(&[]).is_err());
    }
}
