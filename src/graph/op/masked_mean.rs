//! The mean over the tokens of a mask.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, Tensor, arity};
use crate::base::Result;

/// The mean of the tokens that a mask keeps: `[tokens, dim]` and `[tokens]` of 0 and 1 become `[dim]`; nought where
/// no token is kept. ONNX `Unsqueeze`, `Mul`, `ReduceSum`, `Max`, `Div`.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskedMean;

/// In place of a count of 0.
const LEAST: f32 = 1e-9;

impl Operator for MaskedMean {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x, mask] = arity("MaskedMean", inputs)?;
        match (&x.dims[..], &mask.dims[..]) {
            (&[tokens, dim], &[masked]) if x.batched && mask.batched && tokens == masked => Ok(Shape::rows([dim])),
            _ => Err(Shape::refuse("MaskedMean", "it takes `[batch, tokens, dim]` and `[batch, tokens]`", inputs)),
        }
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        let sum = |from: OnnxInput, keep: i64| {
            OnnxNode::new("ReduceSum", [from, OnnxInput::Ints(vec![1])]).with("keepdims", OnnxAttribute::Int(keep))
        };
        let least = OnnxInput::Tensor(Tensor { shape: Vec::new(), values: vec![LEAST] });
        vec![
            OnnxNode::new("Unsqueeze", [OnnxInput::Input(1), OnnxInput::Ints(vec![2])]),
            OnnxNode::new("Mul", [OnnxInput::Input(0), OnnxInput::Node(0)]),
            sum(OnnxInput::Node(1), 0),
            sum(OnnxInput::Input(1), 1),
            OnnxNode::new("Max", [OnnxInput::Node(3), least]),
            OnnxNode::new("Div", [OnnxInput::Node(2), OnnxInput::Node(4)]),
        ]
    }
}

fn count<F: Real>(mask: &[F]) -> F {
    mask.iter().fold(F::ZERO, |sum, kept| sum + *kept).max(F::of(f64::from(LEAST)))
}

impl<F: Real> Kernel<F> for MaskedMean {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let dim = run.output_shape().last().max(1);
        let tokens = run.input_shape(1).elements().max(1);
        let (x, mask) = (run.input(0), run.input(1));
        let rows = x.chunks_exact(tokens * dim).zip(mask.chunks_exact(tokens));
        for (out, (x, mask)) in run.output.chunks_exact_mut(dim).zip(rows) {
            out.fill(F::ZERO);
            for (x, kept) in x.chunks_exact(dim).zip(mask).filter(|(_, kept)| **kept != F::ZERO) {
                out.iter_mut().zip(x).for_each(|(out, x)| *out += *x * *kept);
            }
            let count = count(mask);
            out.iter_mut().for_each(|out| *out = *out / count);
        }
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let dim = run.output_shape().last().max(1);
        let tokens = run.input_shape(1).elements().max(1);
        run.grad(0, |dx, accumulate, run| {
            if !accumulate {
                dx.fill(F::ZERO);
            }
            let rows = run.output_grad().chunks_exact(dim).zip(run.input(1).chunks_exact(tokens));
            for (dx, (dy, mask)) in dx.chunks_exact_mut(tokens * dim).zip(rows) {
                let count = count(mask);
                for (dx, kept) in dx.chunks_exact_mut(dim).zip(mask) {
                    dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += *dy * *kept / count);
                }
            }
        });
        run.grad(1, |dmask, accumulate, run| {
            if !accumulate {
                dmask.fill(F::ZERO);
            }
            let masks = dmask.chunks_exact_mut(tokens).zip(run.input(1).chunks_exact(tokens));
            let outputs = run.output().chunks_exact(dim).zip(run.output_grad().chunks_exact(dim));
            for (((dmask, mask), x), (y, dy)) in masks.zip(run.input(0).chunks_exact(tokens * dim)).zip(outputs) {
                let count = count(mask);
                for (dmask, x) in dmask.iter_mut().zip(x.chunks_exact(dim)) {
                    // d(Σ m x / Σ m)/dm = (x − y) / Σ m.
                    let moved = x.iter().zip(y).zip(dy).fold(F::ZERO, |sum, ((x, y), dy)| sum + *dy * (*x - *y));
                    *dmask += moved / count;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;
    use super::*;
    use crate::graph::Graph;
    use crate::graph::execution::{Execution, Pass};

    #[test]
    fn backward_agrees_with_finite_differences() {
        Check::new(MaskedMean).positive().rows(&[3, 2]).rows(&[3]).run();
        assert!(MaskedMean.infer(&[&Shape::rows([3, 2]), &Shape::rows([2])]).is_err());
    }

    #[test]
    fn padding_does_not_count() {
        let mut graph = Graph::new();
        let (x, mask) = (graph.input("x", &[3, 2]).unwrap(), graph.input("mask", &[3]).unwrap());
        let y = graph.node("y", MaskedMean, &[x, mask]).unwrap();
        graph.output("y", y);
        let mut run: Execution<f64> = Execution::new(&graph, &graph.initial_weights(0), 2, false).unwrap();
        run.value_mut(x).copy_from_slice(&[1.0, 2.0, 3.0, 6.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        run.value_mut(mask).copy_from_slice(&[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        run.forward(2, Pass { training: false, seed: 0, step: 0, ..Pass::EVALUATION });
        assert_eq!(run.value(y), [2.0, 4.0, 0.0, 0.0]);
    }
}
