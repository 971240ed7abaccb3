//! Layer normalisation.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape};
use crate::base::Result;
use crate::graph::parallel::row_chunks;

/// `(x − mean) / sqrt(variance + eps) · scale + bias` along the last dimension (Ba, Kiros and Hinton, 2016).
/// ONNX `LayerNormalization` with `axis = -1`.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    /// The mean and `1 / sqrt(variance + eps)` of a row.
    fn moments<F: Real>(&self, x: &[F]) -> (F, F) {
        let n = F::of(x.len() as f64);
        let mean = x.iter().fold(F::ZERO, |sum, x| sum + *x) / n;
        let squares = x.iter().fold(F::ZERO, |sum, x| sum + (*x - mean) * (*x - mean));
        (mean, F::ONE / (squares / n + F::of(f64::from(self.eps))).sqrt())
    }
}

impl Operator for LayerNorm {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x, scale, bias] = super::arity("LayerNorm", inputs)?;
        if x.dims.is_empty() || scale != bias || scale.batched || scale.dims != [x.last()] {
            return Err(Shape::refuse("LayerNorm", "it needs one scale and bias per feature", inputs));
        }
        Ok(x.clone())
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        let node = OnnxNode::new("LayerNormalization", [0, 1, 2].map(OnnxInput::Input));
        vec![node.with("axis", OnnxAttribute::Int(-1)).with("epsilon", OnnxAttribute::Float(self.eps))]
    }
}

impl<F: Real> Kernel<F> for LayerNorm {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let (x, scale, bias) = (run.input(0), run.input(1), run.input(2));
        let width = scale.len();
        row_chunks(run.output, width, |row, out| {
            for (y, x) in out.chunks_exact_mut(width).zip(x[row * width..].chunks_exact(width)) {
                let (mean, inverse) = self.moments(x);
                for (((y, x), scale), bias) in y.iter_mut().zip(x).zip(scale).zip(bias) {
                    *y = (*x - mean) * inverse * *scale + *bias;
                }
            }
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let width = run.input(1).len();
        let n = F::of(width as f64);
        run.grad(0, |dx, accumulate, run| {
            let (x, scale, dy) = (run.input(0), run.input(1), run.output_grad());
            row_chunks(dx, width, |row, dx| {
                let rows = x[row * width..].chunks_exact(width).zip(dy[row * width..].chunks_exact(width));
                for (dx, (x, dy)) in dx.chunks_exact_mut(width).zip(rows) {
                    let (mean, inverse) = self.moments(x);
                    let (mut sum, mut dot) = (F::ZERO, F::ZERO);
                    for ((x, dy), scale) in x.iter().zip(dy).zip(scale) {
                        sum += *dy * *scale;
                        dot += *dy * *scale * (*x - mean) * inverse;
                    }
                    for (((dx, x), dy), scale) in dx.iter_mut().zip(x).zip(dy).zip(scale) {
                        let step = (*dy * *scale - (sum + (*x - mean) * inverse * dot) / n) * inverse;
                        *dx = if accumulate { *dx + step } else { step };
                    }
                }
            });
        });
        // Rows are added in order, by one thread: these are small.
        run.grad(1, |ds, accumulate, run| {
            if !accumulate {
                ds.fill(F::ZERO);
            }
            for (x, dy) in run.input(0).chunks_exact(width).zip(run.output_grad().chunks_exact(width)) {
                let (mean, inverse) = self.moments(x);
                ds.iter_mut().zip(x).zip(dy).for_each(|((ds, x), dy)| *ds += *dy * (*x - mean) * inverse);
            }
        });
        run.grad(2, |db, accumulate, run| crate::graph::parallel::sum_rows(run.output_grad(), width, db, accumulate));
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;
    use super::*;

    #[test]
    fn backward_agrees_with_finite_differences() {
        Check::new(LayerNorm { eps: 1e-5 }).rows(&[2, 5]).fixed(&[5]).fixed(&[5]).run();
    }
}
