//! Functions of each element.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, Tensor, arity};
use crate::base::Result;
use crate::graph::parallel::{CHUNK, chunks};

/// A function of each element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `1 / (1 + exp(−x))`. ONNX `Sigmoid`.
    Sigmoid,
    /// `x · sigmoid(x)`, also called swish (Elfwing et al., 2017). ONNX `Sigmoid` and `Mul`.
    Silu,
    /// `max(0, min(1, alpha · x + beta))`. ONNX `HardSigmoid`.
    HardSigmoid {
        /// The slope.
        alpha: f32,
        /// The value at 0.
        beta: f32,
    },
    /// `x · max(0, min(1, x / 6 + 1 / 2))` (Howard et al., 2019). ONNX `HardSwish`.
    HardSwish,
    /// The hyperbolic tangent. ONNX `Tanh`.
    Tanh,
    /// GELU by the hyperbolic tangent, as GPT-2 has it: `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))`.
    GeluTanh,
    /// `x · sigmoid(1.702 · x)`, as CLIP has it. ONNX `Mul`, `Sigmoid`, `Mul`.
    QuickGelu,
    /// The error function. ONNX `Erf`.
    Erf,
    /// Not less than `min`, not more than `max`; the gradient there is 0. ONNX `Clip`.
    Clip {
        /// The least.
        min: f32,
        /// The greatest.
        max: f32,
    },
    /// `x` where it is positive, else `alpha · x`. ONNX `LeakyRelu`.
    LeakyRelu {
        /// The slope where x is negative.
        alpha: f32,
    },
    /// The square root. ONNX `Sqrt`.
    Sqrt,
    /// e to this power. ONNX `Exp`.
    Exp,
    /// A constant power. ONNX `Pow`.
    Pow {
        /// The exponent.
        exponent: f32,
    },
}

/// √(2/π).
const ROOT_2_PI: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
const CUBE: f64 = 0.044_715;

fn sigmoid<F: Real>(x: F) -> F {
    F::ONE / (F::ONE + (-x).exp())
}

/// By the exponential of the magnitude, which cannot overflow.
fn tanh<F: Real>(x: F) -> F {
    let magnitude = if x < F::ZERO { -x } else { x };
    let e = (F::of(-2.0) * magnitude).exp();
    let y = (F::ONE - e) / (F::ONE + e);
    if x < F::ZERO { -y } else { y }
}

fn clamp<F: Real>(x: F, min: F, max: F) -> F {
    if x < min {
        min
    } else if x > max {
        max
    } else {
        x
    }
}

impl Activation {
    fn value<F: Real>(self, x: F) -> F {
        let number = |value: f32| F::of(f64::from(value));
        match self {
            Self::Sigmoid => sigmoid(x),
            Self::Silu => x * sigmoid(x),
            Self::HardSigmoid { alpha, beta } => clamp(number(alpha) * x + number(beta), F::ZERO, F::ONE),
            Self::HardSwish => x * clamp(x / F::of(6.0) + F::of(0.5), F::ZERO, F::ONE),
            Self::Tanh => tanh(x),
            Self::GeluTanh => F::of(0.5) * x * (F::ONE + tanh(F::of(ROOT_2_PI) * (x + F::of(CUBE) * x * x * x))),
            Self::QuickGelu => x * sigmoid(F::of(1.702) * x),
            Self::Erf => x.erf(),
            Self::Clip { min, max } => clamp(x, number(min), number(max)),
            Self::LeakyRelu { alpha } => {
                if x > F::ZERO {
                    x
                } else {
                    number(alpha) * x
                }
            }
            Self::Sqrt => x.sqrt(),
            Self::Exp => x.exp(),
            Self::Pow { exponent: 2.0 } => x * x,
            Self::Pow { exponent } => x.powf(number(exponent)),
        }
    }

    /// The derivative at `x`, where the function is `y`.
    fn slope<F: Real>(self, x: F, y: F) -> F {
        let number = |value: f32| F::of(f64::from(value));
        let inside = |inside: bool, slope: F| if inside { slope } else { F::ZERO };
        match self {
            Self::Sigmoid => y * (F::ONE - y),
            Self::Silu => {
                let s = sigmoid(x);
                s * (F::ONE + x * (F::ONE - s))
            }
            Self::HardSigmoid { alpha, .. } => inside(y > F::ZERO && y < F::ONE, number(alpha)),
            Self::HardSwish => {
                let three = F::of(3.0);
                if x >= three { F::ONE } else { inside(x > -three, x / three + F::of(0.5)) }
            }
            Self::Tanh => F::ONE - y * y,
            Self::GeluTanh => {
                let root = F::of(ROOT_2_PI);
                let t = tanh(root * (x + F::of(CUBE) * x * x * x));
                let inner = root * (F::ONE + F::of(3.0 * CUBE) * x * x);
                F::of(0.5) * (F::ONE + t + x * (F::ONE - t * t) * inner)
            }
            Self::QuickGelu => {
                let (c, s) = (F::of(1.702), sigmoid(F::of(1.702) * x));
                s * (F::ONE + c * x * (F::ONE - s))
            }
            Self::Erf => F::of(std::f64::consts::FRAC_2_SQRT_PI) * (-x * x).exp(),
            // PyTorch's gradient at the bounds themselves is 1.
            Self::Clip { min, max } => inside(x >= number(min) && x <= number(max), F::ONE),
            Self::LeakyRelu { alpha } => {
                if x > F::ZERO {
                    F::ONE
                } else {
                    number(alpha)
                }
            }
            Self::Sqrt => F::of(0.5) / y,
            Self::Exp => y,
            Self::Pow { exponent: 2.0 } => x + x,
            Self::Pow { exponent } => number(exponent) * x.powf(number(exponent) - F::ONE),
        }
    }
}

impl Operator for Activation {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("Activation", inputs)?;
        Ok(x.clone())
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        use OnnxInput::{Input, Node};
        let scalar = |value: f32| OnnxInput::Tensor(Tensor { shape: Vec::new(), values: vec![value] });
        let one = |op_type| OnnxNode::new(op_type, [Input(0)]);
        match *self {
            Self::Sigmoid => vec![one("Sigmoid")],
            Self::Silu => vec![one("Sigmoid"), OnnxNode::new("Mul", [Input(0), Node(0)])],
            Self::HardSigmoid { alpha, beta } => {
                let node = one("HardSigmoid").with("alpha", OnnxAttribute::Float(alpha));
                vec![node.with("beta", OnnxAttribute::Float(beta))]
            }
            Self::HardSwish => vec![one("HardSwish")],
            Self::Tanh => vec![one("Tanh")],
            Self::GeluTanh => vec![
                OnnxNode::new("Mul", [Input(0), Input(0)]),
                OnnxNode::new("Mul", [Node(0), scalar(CUBE as f32)]),
                OnnxNode::new("Add", [Node(1), scalar(1.0)]),
                OnnxNode::new("Mul", [Node(2), Input(0)]),
                OnnxNode::new("Mul", [Node(3), scalar(ROOT_2_PI as f32)]),
                OnnxNode::new("Tanh", [Node(4)]),
                OnnxNode::new("Add", [Node(5), scalar(1.0)]),
                OnnxNode::new("Mul", [Node(6), Input(0)]),
                OnnxNode::new("Mul", [Node(7), scalar(0.5)]),
            ],
            Self::QuickGelu => vec![
                OnnxNode::new("Mul", [Input(0), scalar(1.702)]),
                OnnxNode::new("Sigmoid", [Node(0)]),
                OnnxNode::new("Mul", [Input(0), Node(1)]),
            ],
            Self::Erf => vec![one("Erf")],
            Self::Clip { min, max } => vec![OnnxNode::new("Clip", [Input(0), scalar(min), scalar(max)])],
            Self::LeakyRelu { alpha } => vec![one("LeakyRelu").with("alpha", OnnxAttribute::Float(alpha))],
            Self::Sqrt => vec![one("Sqrt")],
            Self::Exp => vec![one("Exp")],
            Self::Pow { exponent } => vec![OnnxNode::new("Pow", [Input(0), scalar(exponent)])],
        }
    }
}

impl<F: Real> Kernel<F> for Activation {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let x = run.input(0);
        chunks(run.output, CHUNK, |start, out| {
            out.iter_mut().zip(&x[start..]).for_each(|(y, x)| *y = self.value(*x));
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        run.grad(0, |dx, accumulate, run| {
            let (x, y, dy) = (run.input(0), run.output(), run.output_grad());
            chunks(dx, CHUNK, |start, dx| {
                for (i, dx) in dx.iter_mut().enumerate() {
                    let step = dy[start + i] * self.slope(x[start + i], y[start + i]);
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
        let all = [
            Activation::Sigmoid,
            Activation::Silu,
            Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
            Activation::HardSwish,
            Activation::Tanh,
            Activation::GeluTanh,
            Activation::QuickGelu,
            Activation::Erf,
            Activation::Clip { min: -0.5, max: 0.7 },
            Activation::LeakyRelu { alpha: 0.1 },
            Activation::Exp,
            Activation::Pow { exponent: 2.0 },
        ];
        all.into_iter().for_each(|activation| Check::new(activation).rows(&[7]).run());
        for activation in [Activation::Sqrt, Activation::Pow { exponent: -0.5 }] {
            Check::new(activation).positive().rows(&[4]).run();
        }
    }

    #[test]
    fn the_hyperbolic_tangent_does_not_overflow() {
        for x in [-1e4f64, -0.3, 0.0, 0.7, 1e4] {
            assert!((tanh(x) - x.tanh()).abs() < 1e-15);
        }
    }
}
