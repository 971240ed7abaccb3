//! A frame around a value.

use super::{Backward, Forward, Kernel, OnnxInput, OnnxNode, Operator, Real, Shape, Tensor, arity};
use crate::base::Result;
use crate::graph::parallel::row_chunks;

/// Adds places of one value before and after each dimension of a row. ONNX `Pad` in mode `constant`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pad {
    /// Places added before each dimension, not counting the batch.
    pub before: Vec<usize>,
    /// Places added after each dimension.
    pub after: Vec<usize>,
    /// What they hold.
    pub value: f32,
}

impl Pad {
    fn sizes(&self, x: &Shape) -> Option<Vec<usize>> {
        let frame = self.before.iter().zip(&self.after);
        x.dims.iter().zip(frame).map(|(d, (a, b))| d.checked_add(*a)?.checked_add(*b)).collect()
    }

    /// Calls `body(offset in a row of the output, offset in a row of the input, count)` for each run along the
    /// last dimension.
    fn each(&self, x: &Shape, out: &Shape, mut body: impl FnMut(usize, usize, usize)) {
        let count = x.last();
        let runs: usize = x.dims[..x.dims.len() - 1].iter().product();
        for run in 0..runs {
            let (mut rest, mut to, mut stride) = (run, self.before[x.dims.len() - 1], out.last());
            for axis in (0..x.dims.len() - 1).rev() {
                to += (rest % x.dims[axis] + self.before[axis]) * stride;
                rest /= x.dims[axis];
                stride *= out.dims[axis];
            }
            body(to, run * count, count);
        }
    }
}

impl Operator for Pad {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("Pad", inputs)?;
        let rank = x.dims.len();
        match self.sizes(x) {
            Some(dims) if x.batched && rank > 0 && self.before.len() == rank && self.after.len() == rank => {
                Ok(Shape::rows(dims))
            }
            _ => Err(Shape::refuse("Pad", "its frame has not the dimensions of a row", inputs)),
        }
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        let side = |pads: &[usize]| std::iter::once(0).chain(pads.iter().map(|p| *p as i64)).collect::<Vec<_>>();
        let pads = OnnxInput::Ints([side(&self.before), side(&self.after)].concat());
        let value = OnnxInput::Tensor(Tensor { shape: Vec::new(), values: vec![self.value] });
        vec![OnnxNode::new("Pad", [OnnxInput::Input(0), pads, value])]
    }
}

impl<F: Real> Kernel<F> for Pad {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let (x, shape, out_shape) = (run.input(0), run.input_shape(0), run.output_shape());
        let (from, row) = (shape.elements(), out_shape.elements().max(1));
        row_chunks(run.output, row, |first, out| {
            out.fill(F::of(f64::from(self.value)));
            for (y, x) in out.chunks_exact_mut(row).zip(x[first * from..].chunks_exact(from.max(1))) {
                self.each(shape, out_shape, |to, from, count| {
                    y[to..to + count].copy_from_slice(&x[from..from + count]);
                });
            }
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        run.grad(0, |dx, accumulate, run| {
            let (dy, shape, out_shape) = (run.output_grad(), run.input_shape(0), run.output_shape());
            let (to, row) = (shape.elements().max(1), out_shape.elements());
            row_chunks(dx, to, |first, dx| {
                for (dx, dy) in dx.chunks_exact_mut(to).zip(dy[first * row..].chunks_exact(row)) {
                    self.each(shape, out_shape, |from, to, count| {
                        let pairs = dx[to..to + count].iter_mut().zip(&dy[from..from + count]);
                        pairs.for_each(|(dx, dy)| *dx = if accumulate { *dx + *dy } else { *dy });
                    });
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
        Check::new(Pad { before: vec![1, 0], after: vec![0, 2], value: 0.5 }).rows(&[2, 3]).run();
        Check::new(Pad { before: vec![0, 1, 2], after: vec![1, 0, 1], value: 0.0 }).rows(&[2, 2, 3]).run();
        assert!(Pad { before: vec![1], after: vec![1], value: 0.0 }.infer(&[&Shape::rows([2, 2])]).is_err());
    }
}
