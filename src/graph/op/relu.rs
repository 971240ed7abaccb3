//! The positive part.

use super::{Backward, Forward, Kernel, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;
use crate::graph::parallel::{CHUNK, chunks};

/// `max(x, 0)`, element by element; the gradient at 0 is 0. ONNX `Relu`.
#[derive(Debug, Clone, PartialEq)]
pub struct Relu;

impl Operator for Relu {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("Relu", inputs)?;
        Ok(x.clone())
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        vec![OnnxNode::new("Relu", [OnnxInput::Input(0)])]
    }
}

impl<F: Real> Kernel<F> for Relu {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let x = run.input(0);
        chunks(run.output, CHUNK, |start, out| {
            out.iter_mut().zip(&x[start..]).for_each(|(y, x)| *y = x.max(F::ZERO));
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        run.grad(0, |dx, accumulate, run| {
            let (y, dy) = (run.output(), run.output_grad());
            // Two loops without a branch inside: these become vector instructions.
            let pass = |y: F, dy: F| if y > F::ZERO { dy } else { F::ZERO };
            chunks(dx, CHUNK, |start, dx| {
                let all = dx.iter_mut().zip(&y[start..]).zip(&dy[start..]);
                if accumulate {
                    all.for_each(|((dx, y), dy)| *dx += pass(*y, *dy));
                } else {
                    all.for_each(|((dx, y), dy)| *dx = pass(*y, *dy));
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
        Check::new(Relu).rows(&[5]).run();
    }
}
