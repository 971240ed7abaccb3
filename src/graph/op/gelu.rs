//! The Gaussian error linear unit.

use super::{Backward, Forward, Kernel, OnnxInput, OnnxNode, Operator, Real, Shape, Tensor, arity};
use crate::base::Result;
use crate::graph::parallel::{CHUNK, chunks};

/// `x · Φ(x)` with the normal distribution Φ, by the error function (Hendrycks and Gimpel, 2016; PyTorch's
/// default). ONNX `Div`, `Erf`, `Add`, `Mul`, `Mul`, for `Gelu` is younger than opset 17.
#[derive(Debug, Clone, PartialEq)]
pub struct Gelu;

/// Φ(x).
fn normal<F: Real>(x: F) -> F {
    F::of(0.5) * (F::ONE + (x * F::of(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

impl Operator for Gelu {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("Gelu", inputs)?;
        Ok(x.clone())
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        let scalar = |value: f32| OnnxInput::Tensor(Tensor { shape: Vec::new(), values: vec![value] });
        vec![
            OnnxNode::new("Div", [OnnxInput::Input(0), scalar(std::f32::consts::SQRT_2)]),
            OnnxNode::new("Erf", [OnnxInput::Node(0)]),
            OnnxNode::new("Add", [OnnxInput::Node(1), scalar(1.0)]),
            OnnxNode::new("Mul", [OnnxInput::Input(0), OnnxInput::Node(2)]),
            OnnxNode::new("Mul", [OnnxInput::Node(3), scalar(0.5)]),
        ]
    }
}

impl<F: Real> Kernel<F> for Gelu {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let x = run.input(0);
        chunks(run.output, CHUNK, |start, out| {
            out.iter_mut().zip(&x[start..]).for_each(|(y, x)| *y = *x * normal(*x));
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let density = F::of(1.0 / std::f64::consts::TAU.sqrt());
        run.grad(0, |dx, accumulate, run| {
            let (x, dy) = (run.input(0), run.output_grad());
            chunks(dx, CHUNK, |start, dx| {
                for ((dx, x), dy) in dx.iter_mut().zip(&x[start..]).zip(&dy[start..]) {
                    let step = *dy * (normal(*x) + *x * density * (-(*x * *x) * F::of(0.5)).exp());
                    *dx = if accumulate { *dx + step } else { step };
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
        Check::new(Gelu).rows(&[7]).run();
    }

    /// PyTorch's `gelu` of −3, −1, −0.1, 0, 0.5, 2.
    #[test]
    fn values_are_pytorchs() {
        let pairs = [
            (-3.0, -0.0040497),
            (-1.0, -0.1586553),
            (-0.1, -0.0460172),
            (0.0, 0.0),
            (0.5, 0.3457312),
            (2.0, 1.9544997),
        ];
        for (x, y) in pairs {
            let ours = x * normal::<f32>(x);
            assert!((ours - y).abs() < 1e-6, "{x}: {ours}, not {y}");
            assert!((f64::from(x) * normal(f64::from(x)) - f64::from(y)).abs() < 1e-6);
        }
    }
}
