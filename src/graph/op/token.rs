//! One token of many.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;

/// The token of an index: `[tokens, dim]` → `[dim]`. ONNX `Gather` with `axis = 1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Which, from 0.
    pub index: usize,
}

impl Operator for Token {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("Token", inputs)?;
        match x.dims[..] {
            [tokens, dim] if x.batched && self.index < tokens => Ok(Shape::rows([dim])),
            _ => Err(Shape::refuse("Token", &format!("it has no token {}", self.index), inputs)),
        }
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        let index = OnnxInput::Ints(vec![self.index as i64]);
        let gather = OnnxNode::new("Gather", [OnnxInput::Input(0), index]).with("axis", OnnxAttribute::Int(1));
        vec![gather, OnnxNode::new("Squeeze", [OnnxInput::Node(0), OnnxInput::Ints(vec![1])])]
    }
}

impl<F: Real> Kernel<F> for Token {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let dim = run.output_shape().last().max(1);
        let row = run.input_shape(0).elements().max(1);
        let x = run.input(0);
        for (out, x) in run.output.chunks_exact_mut(dim).zip(x.chunks_exact(row)) {
            out.copy_from_slice(&x[self.index * dim..][..dim]);
        }
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let dim = run.output_shape().last().max(1);
        let row = run.input_shape(0).elements().max(1);
        run.grad(0, |dx, accumulate, run| {
            if !accumulate {
                dx.fill(F::ZERO);
            }
            for (dx, dy) in dx.chunks_exact_mut(row).zip(run.output_grad().chunks_exact(dim)) {
                dx[self.index * dim..][..dim].iter_mut().zip(dy).for_each(|(dx, dy)| *dx += *dy);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;
    use super::*;

    #[test]
    fn backward_agrees_with_finite_differences() {
        Check::new(Token { index: 1 }).rows(&[3, 2]).run();
        assert!(Token { index: 3 }.infer(&[&Shape::rows([3, 2])]).is_err());
    }
}
