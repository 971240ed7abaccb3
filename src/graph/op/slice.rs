//! A part of a value.

use super::strided::{RANK, Strided};
use super::{Backward, Forward, Kernel, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;
use crate::graph::parallel::row_chunks;

/// Every `step`th place from `start` to before `end` along one dimension. ONNX `Slice`.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// The dimension, not counting the batch.
    pub axis: usize,
    /// The first place.
    pub start: usize,
    /// One past the last place.
    pub end: usize,
    /// The distance of the places.
    pub step: usize,
}

impl Slice {
    fn count(&self) -> usize {
        (self.end - self.start).div_ceil(self.step)
    }

    /// The walk over a row of the output that reads the input, and where it begins there.
    fn walk(&self, x: &Shape) -> (Strided<1>, usize) {
        let mut walk = Strided::<1>::new();
        let inner = |axis: usize| x.dims[axis + 1..].iter().product::<usize>();
        for (axis, size) in x.dims.iter().enumerate() {
            match axis == self.axis {
                true => walk.push(self.count(), [inner(axis) * self.step]),
                false => walk.push(*size, [inner(axis)]),
            }
        }
        (walk, self.start * inner(self.axis))
    }
}

impl Operator for Slice {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("Slice", inputs)?;
        let size = x.dims.get(self.axis).copied().unwrap_or(0);
        if !x.batched || x.dims.len() > RANK || self.step == 0 || self.start >= self.end || self.end > size {
            let what = format!("it has no places {}..{} in dimension {}", self.start, self.end, self.axis);
            return Err(Shape::refuse("Slice", &what, inputs));
        }
        let mut dims = x.dims.clone();
        dims[self.axis] = self.count();
        Ok(Shape::rows(dims))
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        let ints = |value: usize| OnnxInput::Ints(vec![value as i64]);
        let range = [ints(self.start), ints(self.end), ints(self.axis + 1), ints(self.step)];
        vec![OnnxNode::new("Slice", [OnnxInput::Input(0)].into_iter().chain(range).collect::<Vec<_>>())]
    }
}

impl<F: Real> Kernel<F> for Slice {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let (x, shape) = (run.input(0), run.input_shape(0));
        let (walk, begin) = self.walk(shape);
        let (from, row) = (shape.elements(), run.output_shape().elements().max(1));
        row_chunks(run.output, row, |first, out| {
            for (y, x) in out.chunks_exact_mut(row).zip(x[first * from..].chunks_exact(from)) {
                walk.each(|to, count, at, step| {
                    let pairs = y[to..to + count].iter_mut().zip(x[begin + at..].iter().step_by(step.max(1)));
                    pairs.for_each(|(y, x)| *y = *x);
                });
            }
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        run.grad(0, |dx, accumulate, run| {
            let (dy, shape) = (run.output_grad(), run.input_shape(0));
            let (walk, begin) = self.walk(shape);
            let (to, row) = (shape.elements(), run.output_shape().elements().max(1));
            row_chunks(dx, to, |first, dx| {
                if !accumulate {
                    dx.fill(F::ZERO);
                }
                for (dx, dy) in dx.chunks_exact_mut(to).zip(dy[first * row..].chunks_exact(row)) {
                    walk.each(|from, count, at, step| {
                        let pairs = dx[begin + at..].iter_mut().step_by(step.max(1)).zip(&dy[from..from + count]);
                        pairs.for_each(|(dx, dy)| *dx += *dy);
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
        Check::new(Slice { axis: 0, start: 1, end: 3, step: 1 }).rows(&[4, 2]).run();
        Check::new(Slice { axis: 1, start: 0, end: 4, step: 2 }).rows(&[2, 4, 3]).run();
        Check::new(Slice { axis: 0, start: 2, end: 3, step: 1 }).rows(&[3]).run();
        assert!(Slice { axis: 0, start: 1, end: 5, step: 1 }.infer(&[&Shape::rows([4])]).is_err());
    }
}
