//! Dimensions in another order.

use super::strided::{RANK, Strided};
use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;
use crate::graph::parallel::row_chunks;

/// Dimension `i` of the output's rows is dimension `order[i]` of the input's; the batch stays first. ONNX
/// `Transpose`.
#[derive(Debug, Clone, PartialEq)]
pub struct Transpose {
    /// The input's dimensions, not counting the batch, in the output's order.
    pub order: Vec<usize>,
}

impl Operator for Transpose {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("Transpose", inputs)?;
        let mut seen = self.order.clone();
        seen.sort_unstable();
        if !x.batched || x.dims.len() > RANK || seen.into_iter().ne(0..x.dims.len()) {
            return Err(Shape::refuse("Transpose", &format!("its order {:?} is another's", self.order), inputs));
        }
        Ok(Shape::rows(self.order.iter().map(|axis| x.dims[*axis]).collect::<Vec<_>>()))
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        let order = std::iter::once(0).chain(self.order.iter().map(|axis| *axis as i64 + 1)).collect();
        vec![OnnxNode::new("Transpose", [OnnxInput::Input(0)]).with("perm", OnnxAttribute::Ints(order))]
    }
}

impl<F: Real> Kernel<F> for Transpose {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let (x, dims) = (run.input(0), &run.input_shape(0).dims);
        let mut walk = Strided::<1>::new();
        for axis in &self.order {
            walk.push(dims[*axis], [dims[axis + 1..].iter().product()]);
        }
        let row = run.output_shape().elements().max(1);
        row_chunks(run.output, row, |first, out| {
            for (y, x) in out.chunks_exact_mut(row).zip(x[first * row..].chunks_exact(row)) {
                walk.each(|to, count, from, step| {
                    let y = &mut y[to..to + count];
                    if step == 1 {
                        y.copy_from_slice(&x[from..from + count]);
                    } else {
                        y.iter_mut().zip(x[from..].iter().step_by(step)).for_each(|(y, x)| *y = *x);
                    }
                });
            }
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        run.grad(0, |dx, accumulate, run| {
            let (dy, dims) = (run.output_grad(), &run.output_shape().dims);
            let mut walk = Strided::<1>::new();
            for axis in 0..dims.len() {
                let at = self.order.iter().position(|from| *from == axis).unwrap_or(axis);
                walk.push(dims[at], [dims[at + 1..].iter().product()]);
            }
            let row = run.output_shape().elements().max(1);
            row_chunks(dx, row, |first, dx| {
                for (dx, dy) in dx.chunks_exact_mut(row).zip(dy[first * row..].chunks_exact(row)) {
                    walk.each(|to, count, from, step| {
                        let pairs = dx[to..to + count].iter_mut().zip(dy[from..].iter().step_by(step));
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
        Check::new(Transpose { order: vec![2, 0, 1] }).rows(&[2, 3, 4]).run();
        Check::new(Transpose { order: vec![1, 0] }).rows(&[3, 2]).run();
        Check::new(Transpose { order: vec![0, 2, 1, 3] }).rows(&[2, 3, 2, 2]).run();
        assert!(Transpose { order: vec![0, 0] }.infer(&[&Shape::rows([2, 3])]).is_err());
    }
}
