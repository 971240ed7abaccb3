//! Vectors of length one.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, Tensor, arity};
use crate::base::Result;
use crate::graph::parallel::row_chunks;

/// `x / max(‖x‖, 1e-12)` along the last dimension, as PyTorch's `normalize`. ONNX `ReduceL2`, `Max`, `Div`.
#[derive(Debug, Clone, PartialEq)]
pub struct L2Norm;

const SMALLEST: f64 = 1e-12;

/// The divisor of a row.
fn length<F: Real>(x: &[F]) -> F {
    x.iter().fold(F::ZERO, |sum, x| sum + *x * *x).sqrt().max(F::of(SMALLEST))
}

impl L2Norm {
    /// One row in place.
    pub fn row<F: Real>(row: &mut [F]) {
        let scale = F::ONE / length(row);
        row.iter_mut().for_each(|x| *x *= scale);
    }
}

impl Operator for L2Norm {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("L2Norm", inputs)?;
        if x.dims.is_empty() {
            return Err(Shape::refuse("L2Norm", "there is no dimension to normalise", inputs));
        }
        Ok(x.clone())
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        let smallest = OnnxInput::Tensor(Tensor { shape: Vec::new(), values: vec![SMALLEST as f32] });
        let norm = OnnxNode::new("ReduceL2", [OnnxInput::Input(0)]).with("axes", OnnxAttribute::Ints(vec![-1]));
        vec![
            norm.with("keepdims", OnnxAttribute::Int(1)),
            OnnxNode::new("Max", [OnnxInput::Node(0), smallest]),
            OnnxNode::new("Div", [OnnxInput::Input(0), OnnxInput::Node(1)]),
        ]
    }
}

impl<F: Real> Kernel<F> for L2Norm {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let width = run.output_shape().last().max(1);
        let x = run.input(0);
        row_chunks(run.output, width, |row, out| {
            for (y, x) in out.chunks_exact_mut(width).zip(x[row * width..].chunks_exact(width)) {
                let scale = F::ONE / length(x);
                y.iter_mut().zip(x).for_each(|(y, x)| *y = *x * scale);
            }
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let width = run.output_shape().last().max(1);
        run.grad(0, |dx, accumulate, run| {
            let (x, y, dy) = (run.input(0), run.output(), run.output_grad());
            row_chunks(dx, width, |row, dx| {
                let at = row * width;
                let rows = x[at..].chunks_exact(width).zip(y[at..].chunks_exact(width));
                for ((dx, (x, y)), dy) in dx.chunks_exact_mut(width).zip(rows).zip(dy[at..].chunks_exact(width)) {
                    let scale = F::ONE / length(x);
                    let dot = y.iter().zip(dy).fold(F::ZERO, |sum, (y, dy)| sum + *y * *dy);
                    for ((dx, y), dy) in dx.iter_mut().zip(y).zip(dy) {
                        let step = (*dy - *y * dot) * scale;
                        *dx = if accumulate { *dx + step } else { step };
                    }
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
        Check::new(L2Norm).rows(&[2, 4]).run();
        Check::new(L2Norm).fixed(&[3, 4]).run();
    }
}
