//! Standardisation by given statistics.

use super::{Backward, Forward, Kernel, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;
use crate::graph::parallel::row_chunks;

/// `(x − mean) · inverse_deviation` along the last dimension; the statistics are buffers and get no
/// gradient. ONNX `Sub` and `Mul`.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalize;

impl Operator for Normalize {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x, mean, inverse] = arity("Normalize", inputs)?;
        if mean != inverse || mean.batched || mean.dims != [x.last()] {
            return Err(Shape::refuse("Normalize", "it needs one mean and deviation per feature", inputs));
        }
        Ok(x.clone())
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        vec![
            OnnxNode::new("Sub", [OnnxInput::Input(0), OnnxInput::Input(1)]),
            OnnxNode::new("Mul", [OnnxInput::Node(0), OnnxInput::Input(2)]),
        ]
    }
}

impl<F: Real> Kernel<F> for Normalize {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let (x, mean, inverse) = (run.input(0), run.input(1), run.input(2));
        let width = mean.len();
        row_chunks(run.output, width, |row, out| {
            let x = &x[row * width..];
            for (y, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                for (((y, x), mean), inverse) in y.iter_mut().zip(x).zip(mean).zip(inverse) {
                    *y = (*x - *mean) * *inverse;
                }
            }
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        run.grad(0, |dx, accumulate, run| {
            let (dy, inverse) = (run.output_grad(), run.input(2));
            let width = inverse.len();
            row_chunks(dx, width, |row, dx| {
                let dy = &dy[row * width..];
                for (dx, dy) in dx.chunks_exact_mut(width).zip(dy.chunks_exact(width)) {
                    for ((dx, dy), inverse) in dx.iter_mut().zip(dy).zip(inverse) {
                        let step = *dy * *inverse;
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
        Check::new(Normalize).rows(&[2, 4]).constant(&[4]).constant(&[4]).run();
    }
}
