//! The fully connected layer.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape};
use crate::base::Result;
use crate::graph::Matrix;
use crate::graph::parallel::{row_chunks, sum_rows};

/// `x · weightᵀ (+ bias)`: x `[batch, …, in]`, weight `[out, in]`, bias `[out]` → `[batch, …, out]`. ONNX
/// `Gemm` with `transB = 1` for rows of one dimension, else `MatMul` and `Add`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gemm;

impl Operator for Gemm {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let refuse = |why| Shape::refuse("Gemm", why, inputs);
        let (x, weight, bias) = match inputs {
            [x, weight] => (x, weight, None),
            [x, weight, bias] => (x, weight, Some(bias)),
            _ => return Err(refuse("it takes x, a weight and perhaps a bias")),
        };
        let ([.., inner], [out, columns]) = (x.dims.as_slice(), weight.dims.as_slice()) else {
            return Err(refuse("the weight must be a matrix"));
        };
        if !x.batched || weight.batched || inner != columns {
            return Err(refuse("the last dimensions of x and the weight must agree"));
        }
        if bias.is_some_and(|b| b.batched || b.dims != [*out]) {
            return Err(refuse("the bias needs one number per output"));
        }
        let mut dims = x.dims.clone();
        dims.pop();
        dims.push(*out);
        Ok(Shape::rows(dims))
    }

    fn onnx(&self, inputs: &[&Shape]) -> Vec<OnnxNode> {
        let all: Vec<_> = (0..inputs.len()).map(OnnxInput::Input).collect();
        if inputs[0].dims.len() == 1 {
            return vec![OnnxNode::new("Gemm", all).with("transB", OnnxAttribute::Int(1))];
        }
        let mut nodes = vec![
            OnnxNode::new("Transpose", [OnnxInput::Input(1)]).with("perm", OnnxAttribute::Ints(vec![1, 0])),
            OnnxNode::new("MatMul", [OnnxInput::Input(0), OnnxInput::Node(0)]),
        ];
        if inputs.len() == 3 {
            nodes.push(OnnxNode::new("Add", [OnnxInput::Node(1), OnnxInput::Input(2)]));
        }
        nodes
    }
}

impl<F: Real> Kernel<F> for Gemm {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let arithmetic = run.pass.arithmetic;
        let (inner, out) = (run.input_shape(0).last(), run.output_shape().last());
        let rows = run.output.len() / out.max(1);
        let (x, weight) = (run.input(0), run.input(1));
        let biased = run.inputs() == 3;
        if biased {
            let bias = run.input(2);
            row_chunks(run.output, out, |_, y| y.chunks_exact_mut(out).for_each(|y| y.copy_from_slice(bias)));
        }
        arithmetic.gemm(run.output, Matrix::new(x, rows, inner), Matrix::new(weight, out, inner).t(), biased);
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let arithmetic = run.pass.arithmetic;
        let (inner, out) = (run.input_shape(0).last(), run.output_shape().last());
        let rows = run.output_grad().len() / out.max(1);
        run.grad(1, |dw, accumulate, run| {
            let (dy, x) = (Matrix::new(run.output_grad(), rows, out), Matrix::new(run.input(0), rows, inner));
            arithmetic.gemm(dw, dy.t(), x, accumulate);
        });
        run.grad(0, |dx, accumulate, run| {
            let (dy, w) = (Matrix::new(run.output_grad(), rows, out), Matrix::new(run.input(1), out, inner));
            arithmetic.gemm(dx, dy, w, accumulate);
        });
        if run.inputs() == 3 {
            run.grad(2, |db, accumulate, run| sum_rows(run.output_grad(), out, db, accumulate));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;
    use super::*;

    #[test]
    fn backward_agrees_with_finite_differences() {
        Check::new(Gemm).rows(&[5]).fixed(&[3, 5]).fixed(&[3]).run();
        Check::new(Gemm).rows(&[2, 5]).fixed(&[3, 5]).run();
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        assert!(Gemm.infer(&[&Shape::rows([4]), &Shape::fixed([3, 5])]).is_err());
        assert!(Gemm.infer(&[&Shape::rows([5]), &Shape::fixed([3, 5]), &Shape::fixed([2])]).is_err());
        assert!(Gemm.infer(&[&Shape::rows([]), &Shape::fixed([3, 5])]).is_err());
    }
}
