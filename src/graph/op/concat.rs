//! Joining values along their last dimension.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape};
use crate::base::Result;

/// Joins two or more values along their last dimension; the others agree. ONNX `Concat` with `axis = -1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Concat;

impl Operator for Concat {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let refuse = |why| Shape::refuse("Concat", why, inputs);
        let first = inputs.first().ok_or_else(|| refuse("there is nothing to join"))?;
        let (_, leading) = first.dims.split_last().ok_or_else(|| refuse("scalars cannot be joined"))?;
        let fits = |s: &&Shape| s.batched && s.dims.split_last().is_some_and(|(_, rest)| rest == leading);
        if !inputs.iter().all(fits) {
            return Err(refuse("all dimensions but the last must agree"));
        }
        let mut dims = leading.to_vec();
        dims.push(inputs.iter().map(|s| s.last()).sum());
        Ok(Shape::rows(dims))
    }

    fn onnx(&self, inputs: &[&Shape]) -> Vec<OnnxNode> {
        let all: Vec<_> = (0..inputs.len()).map(OnnxInput::Input).collect();
        vec![OnnxNode::new("Concat", all).with("axis", OnnxAttribute::Int(-1))]
    }
}

impl<F: Real> Kernel<F> for Concat {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let width = run.output_shape().last();
        let mut offset = 0;
        for i in 0..run.inputs() {
            let part = run.input_shape(i).last();
            let x = run.input(i);
            for (out, x) in run.output.chunks_exact_mut(width).zip(x.chunks_exact(part)) {
                out[offset..offset + part].copy_from_slice(x);
            }
            offset += part;
        }
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let width = run.output_shape().last();
        let mut offset = 0;
        for i in 0..run.inputs() {
            let part = run.input_shape(i).last();
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
        Check::new(Concat).rows(&[2, 3]).rows(&[2, 1]).rows(&[2, 4]).run();
        Check::new(Concat).rows(&[3]).same().run();
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let error = Concat.infer(&[&Shape::rows([2, 3]), &Shape::rows([3, 3])]).unwrap_err();
        assert!(error.to_string().starts_with("Concat cannot take `[batch, 2, 3]` and `[batch, 3, 3]`"), "{error}");
        assert!(Concat.infer(&[]).is_err());
    }
}
