//! Generalised-mean pooling.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, Tensor, arity};
use crate::base::Result;

/// `mean(max(x, eps)^p)^(1/p)` along neighbouring dimensions of a row, with a power p `[]` that may be a
/// parameter (Radenović, Tolias and Chum, 2018). ONNX `Max`, `Pow`, `ReduceMean`, `Div`, `Pow`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gem {
    /// What smaller elements become.
    pub eps: f32,
    /// The first dimension (not counting the batch).
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

impl Gem {
    fn extents(&self, shape: &Shape) -> (usize, usize) {
        (shape.dims[self.start..self.end].iter().product(), shape.dims[self.end..].iter().product())
    }

    /// Calls `body(output index, input indices)` for each output.
    fn each(&self, shape: &Shape, outputs: usize, mut body: impl FnMut(usize, &mut dyn Iterator<Item = usize>)) {
        let (along, inner) = self.extents(shape);
        for i in 0..outputs {
            let (block, j) = (i / inner, i % inner);
            body(i, &mut (0..along).map(|k| (block * along + k) * inner + j));
        }
    }
}

impl Operator for Gem {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x, p] = arity("GeM", inputs)?;
        let refuse = |why| Shape::refuse("GeM", why, inputs);
        if !x.batched || self.start >= self.end || self.end > x.dims.len() || self.extents(x).0 == 0 {
            return Err(refuse("it has no such dimensions"));
        }
        if p.batched || !p.dims.is_empty() {
            return Err(refuse("the power must be one number"));
        }
        let mut dims = x.dims.clone();
        dims.drain(self.start..self.end);
        Ok(Shape::rows(dims))
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        let scalar = |value: f32| OnnxInput::Tensor(Tensor { shape: Vec::new(), values: vec![value] });
        let axes = (self.start..self.end).map(|axis| axis as i64 + 1).collect();
        let mean = OnnxNode::new("ReduceMean", [OnnxInput::Node(1)]).with("axes", OnnxAttribute::Ints(axes));
        vec![
            OnnxNode::new("Max", [OnnxInput::Input(0), scalar(self.eps)]),
            OnnxNode::new("Pow", [OnnxInput::Node(0), OnnxInput::Input(1)]),
            mean.with("keepdims", OnnxAttribute::Int(0)),
            OnnxNode::new("Div", [scalar(1.0), OnnxInput::Input(1)]),
            OnnxNode::new("Pow", [OnnxInput::Node(2), OnnxInput::Node(3)]),
        ]
    }
}

impl<F: Real> Kernel<F> for Gem {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let (x, p, eps) = (run.input(0), run.input(1)[0], F::of(f64::from(self.eps)));
        let shape = run.input_shape(0);
        let n = F::of(self.extents(shape).0 as f64);
        let out = &mut *run.output;
        self.each(shape, out.len(), |i, elements| {
            out[i] = (elements.fold(F::ZERO, |sum, at| sum + x[at].max(eps).powf(p)) / n).powf(F::ONE / p);
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let eps = F::of(f64::from(self.eps));
        let n = F::of(self.extents(run.input_shape(0)).0 as f64);
        run.grad(0, |dx, accumulate, run| {
            if !accumulate {
                dx.fill(F::ZERO);
            }
            let (x, p, y, dy) = (run.input(0), run.input(1)[0], run.output(), run.output_grad());
            self.each(run.input_shape(0), y.len(), |i, elements| {
                // dy/dx = (x / y)^(p − 1) / n where x is not clamped.
                for at in elements.filter(|at| x[*at] > eps) {
                    dx[at] += dy[i] * (x[at] / y[i]).powf(p - F::ONE) / n;
                }
            });
        });
        run.grad(1, |dp, accumulate, run| {
            let (x, p, y, dy) = (run.input(0), run.input(1)[0], run.output(), run.output_grad());
            let mut sum = if accumulate { dp[0] } else { F::ZERO };
            self.each(run.input_shape(0), y.len(), |i, elements| {
                // log y = log(M) / p with M = mean(x^p); d log y / dp = (Σ x^p log x / (n M) − log y) / p.
                let mean = y[i].powf(p);
                let logs = elements.fold(F::ZERO, |sum, at| {
                    let x = x[at].max(eps);
                    sum + x.powf(p) * x.ln()
                });
                sum += dy[i] * y[i] * (logs / (n * mean) - y[i].ln()) / p;
            });
            dp[0] = sum;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;
    use super::*;

    #[test]
    fn backward_agrees_with_finite_differences() {
        Check::new(Gem { eps: 1e-6, start: 0, end: 1 }).positive().rows(&[4, 2]).fixed(&[]).run();
        Check::new(Gem { eps: 1e-6, start: 1, end: 3 }).positive().rows(&[2, 2, 2]).fixed(&[]).run();
    }
}
