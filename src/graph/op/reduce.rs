//! The mean or the largest along dimensions.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;

/// The mean or the largest along neighbouring dimensions of a row, which disappear: tokens `[tokens, dim]`
/// become `[dim]`, a map `[channels, height, width]` becomes `[channels]`. ONNX `ReduceMean`, `ReduceMax`.
#[derive(Debug, Clone, PartialEq)]
pub struct Reduce {
    /// What is kept.
    pub kind: ReduceKind,
    /// The first dimension (not counting the batch).
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

/// What [`Reduce`] keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReduceKind {
    /// The mean.
    Mean,
    /// The largest; the gradient goes to the first of equals.
    Max,
}

impl Reduce {
    /// Elements before, in and after the dimensions.
    fn extents(&self, shape: &Shape) -> (usize, usize) {
        (shape.dims[self.start..self.end].iter().product(), shape.dims[self.end..].iter().product())
    }
}

impl Operator for Reduce {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("Reduce", inputs)?;
        let refuse = |why| Shape::refuse("Reduce", why, inputs);
        if !x.batched || self.start >= self.end || self.end > x.dims.len() {
            return Err(refuse("it has no such dimensions"));
        }
        if self.extents(x).0 == 0 {
            return Err(refuse("there is nothing along these dimensions"));
        }
        let mut dims = x.dims.clone();
        dims.drain(self.start..self.end);
        Ok(Shape::rows(dims))
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        let axes = (self.start..self.end).map(|axis| axis as i64 + 1).collect();
        let op_type = match self.kind {
            ReduceKind::Mean => "ReduceMean",
            ReduceKind::Max => "ReduceMax",
        };
        let node = OnnxNode::new(op_type, [OnnxInput::Input(0)]).with("axes", OnnxAttribute::Ints(axes));
        vec![node.with("keepdims", OnnxAttribute::Int(0))]
    }
}

impl<F: Real> Kernel<F> for Reduce {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let (along, inner) = self.extents(run.input_shape(0));
        let x = run.input(0);
        let scale = F::ONE / F::of(along as f64);
        for (out, x) in run.output.chunks_exact_mut(inner.max(1)).zip(x.chunks_exact((along * inner).max(1))) {
            let (first, rest) = x.split_at(inner);
            out.copy_from_slice(first);
            for part in rest.chunks_exact(inner) {
                let pairs = out.iter_mut().zip(part);
                match self.kind {
                    ReduceKind::Mean => pairs.for_each(|(y, x)| *y += *x),
                    ReduceKind::Max => pairs.for_each(|(y, x)| *y = y.max(*x)),
                }
            }
            if self.kind == ReduceKind::Mean {
                out.iter_mut().for_each(|y| *y *= scale);
            }
        }
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let (along, inner) = self.extents(run.input_shape(0));
        let scale = F::ONE / F::of(along as f64);
        run.grad(0, |dx, accumulate, run| {
            if !accumulate {
                dx.fill(F::ZERO);
            }
            let (x, y, dy) = (run.input(0), run.output(), run.output_grad());
            for (block, dx) in dx.chunks_exact_mut((along * inner).max(1)).enumerate() {
                let x = &x[block * along * inner..];
                for j in 0..inner {
                    let (y, dy) = (y[block * inner + j], dy[block * inner + j]);
                    let mut each = (0..along).map(|i| i * inner + j);
                    match self.kind {
                        ReduceKind::Mean => each.for_each(|at| dx[at] += dy * scale),
                        ReduceKind::Max => {
                            if let Some(at) = each.find(|at| x[*at] == y) {
                                dx[at] += dy;
                            }
                        }
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;
    use super::*;

    #[test]
    fn backward_agrees_with_finite_differences() {
        for kind in [ReduceKind::Mean, ReduceKind::Max] {
            Check::new(Reduce { kind, start: 0, end: 1 }).rows(&[4, 3]).run();
            Check::new(Reduce { kind, start: 1, end: 3 }).rows(&[3, 2, 2]).run();
        }
    }

    #[test]
    fn dimensions_that_do_not_exist_are_refused() {
        let reduce = Reduce { kind: ReduceKind::Mean, start: 0, end: 1 };
        assert!(reduce.infer(&[&Shape::rows([])]).is_err());
        assert!(reduce.infer(&[&Shape::rows([0, 4])]).is_err());
    }
}
