//! Element-wise arithmetic of two values.

use super::strided::{RANK, Strided};
use super::{Backward, Forward, Kernel, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;
use crate::graph::parallel::{CHUNK, chunks, row_chunks};

/// `a ∘ b` element by element. Dimensions of 1 are repeated; so are values that all samples share, and the
/// leading dimensions that these lack. ONNX `Add`, `Sub`, `Mul` and `Div`.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary(pub BinaryKind);

/// Which arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryKind {
    /// `a + b`.
    Add,
    /// `a − b`.
    Sub,
    /// `a · b`.
    Mul,
    /// `a / b`.
    Div,
}

impl BinaryKind {
    fn op_type(self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
        }
    }

    fn value<F: Real>(self, a: F, b: F) -> F {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
        }
    }

    fn grads<F: Real>(self, a: F, b: F, dy: F) -> [F; 2] {
        match self {
            Self::Add => [dy, dy],
            Self::Sub => [dy, -dy],
            Self::Mul => [dy * b, dy * a],
            Self::Div => [dy / b, -dy * a / (b * b)],
        }
    }
}

impl Binary {
    /// Whether `b` is as `a`, or the last dimensions of it: then it is read from end to end, again and again.
    fn repeats(a: &Shape, b: &Shape) -> bool {
        a == b || (!b.batched && a.dims.ends_with(&b.dims))
    }

    /// The walk over a row of the output that reads both, and how far their rows are apart.
    fn walk(inputs: [&Shape; 2], output: &Shape) -> (Strided<2>, [usize; 2]) {
        let mut walk = Strided::new();
        let rank = output.dims.len();
        for (axis, size) in output.dims.iter().enumerate() {
            let stride = |x: &Shape| match (axis + x.dims.len()).checked_sub(rank) {
                Some(axis) if x.dims[axis] > 1 => x.dims[axis + 1..].iter().product(),
                _ => 0,
            };
            walk.push(*size, inputs.map(stride));
        }
        (walk, inputs.map(|x| if x.batched { x.elements() } else { 0 }))
    }

    /// Adds to `d`, of one input, what the rows from `first` on make of it.
    fn add_grads<F: Real>(&self, which: usize, first: usize, d: &mut [F], run: &Backward<'_, F>) {
        let shapes = [run.input_shape(0), run.input_shape(1)];
        let (walk, apart) = Self::walk(shapes, run.output_shape());
        let (a, b, dy) = (run.input(0), run.input(1), run.output_grad());
        let row = run.output_shape().elements();
        let (count, steps) = walk.run();
        let rows = d.len().checked_div(apart[which]).unwrap_or(run.rows);
        for i in 0..rows {
            let starts = [0, 1].map(|n| (first + i) * apart[n]);
            for at in 0..walk.runs() {
                let offsets = walk.offsets(at);
                let dy = &dy[(first + i) * row + at * count..][..count];
                let to = i * apart[which] + offsets[which];
                for (j, dy) in dy.iter().enumerate() {
                    let x = a[starts[0] + offsets[0] + j * steps[0]];
                    let y = b[starts[1] + offsets[1] + j * steps[1]];
                    d[to + j * steps[which]] += self.0.grads(x, y, *dy)[which];
                }
            }
        }
    }
}

impl Operator for Binary {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [a, b] = arity(self.0.op_type(), inputs)?;
        let refuse = |why| Err(Shape::refuse(self.0.op_type(), why, inputs));
        let rank = a.dims.len().max(b.dims.len());
        let short = |x: &Shape| x.batched && x.dims.len() < rank;
        if short(a) || short(b) || rank > RANK {
            return refuse("one has more dimensions than a row of the other");
        }
        let size = |x: &Shape, axis: usize| (axis + x.dims.len()).checked_sub(rank).map_or(1, |axis| x.dims[axis]);
        let mut dims = Vec::with_capacity(rank);
        for axis in 0..rank {
            let (a, b) = (size(a, axis), size(b, axis));
            if a != b && a != 1 && b != 1 {
                return refuse("their dimensions neither agree nor repeat");
            }
            dims.push(if a == 1 { b } else { a });
        }
        Ok(Shape { batched: a.batched || b.batched, dims })
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        vec![OnnxNode::new(self.0.op_type(), [OnnxInput::Input(0), OnnxInput::Input(1)])]
    }
}

impl<F: Real> Kernel<F> for Binary {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let (a, b) = (run.input(0), run.input(1));
        let kind = self.0;
        let shapes = [run.input_shape(0), run.input_shape(1)];
        if !Self::repeats(shapes[0], shapes[1]) {
            let (walk, apart) = Self::walk(shapes, run.output_shape());
            let row = run.output_shape().elements().max(1);
            let (count, [a_step, b_step]) = walk.run();
            return row_chunks(run.output, row, |first, out| {
                for (i, out) in out.chunks_exact_mut(row).enumerate() {
                    let (a, b) = (&a[(first + i) * apart[0]..], &b[(first + i) * apart[1]..]);
                    for (at, out) in out.chunks_exact_mut(count).enumerate() {
                        let [a_begin, b_begin] = walk.offsets(at);
                        for (j, y) in out.iter_mut().enumerate() {
                            *y = kind.value(a[a_begin + j * a_step], b[b_begin + j * b_step]);
                        }
                    }
                }
            });
        }
        let period = b.len().max(1);
        // Chunks are whole repetitions of `b`.
        let chunk = (CHUNK / period).max(1) * period;
        chunks(run.output, chunk, |start, out| {
            for (out, a) in out.chunks_mut(period).zip(a[start..].chunks(period)) {
                let b = if b.len() == a.len() { b } else { &b[..a.len()] };
                let all = out.iter_mut().zip(a).zip(b);
                match kind {
                    // One loop each: these become vector instructions.
                    BinaryKind::Add => all.for_each(|((y, a), b)| *y = *a + *b),
                    BinaryKind::Sub => all.for_each(|((y, a), b)| *y = *a - *b),
                    BinaryKind::Mul => all.for_each(|((y, a), b)| *y = *a * *b),
                    BinaryKind::Div => all.for_each(|((y, a), b)| *y = *a / *b),
                }
            }
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let kind = self.0;
        if !Self::repeats(run.input_shape(0), run.input_shape(1)) {
            for which in [0, 1] {
                run.grad(which, |d, accumulate, run| {
                    if !accumulate {
                        d.fill(F::ZERO);
                    }
                    let shape = run.input_shape(which);
                    // Rows of a shared value are added in order, by one thread.
                    match shape.batched {
                        true => row_chunks(d, shape.elements(), |first, d| self.add_grads(which, first, d, run)),
                        false => self.add_grads(which, 0, d, run),
                    }
                });
            }
            return;
        }
        run.grad(0, |da, accumulate, run| {
            let (b, dy) = (run.input(1), run.output_grad());
            let period = b.len().max(1);
            let chunk = (CHUNK / period).max(1) * period;
            chunks(da, chunk, |start, da| {
                for (da, dy) in da.chunks_mut(period).zip(dy[start..].chunks(period)) {
                    for ((da, dy), b) in da.iter_mut().zip(dy).zip(b) {
                        let step = match kind {
                            BinaryKind::Add | BinaryKind::Sub => *dy,
                            BinaryKind::Mul => *dy * *b,
                            BinaryKind::Div => *dy / *b,
                        };
                        *da = if accumulate { *da + step } else { step };
                    }
                }
            });
        });
        run.grad(1, |db, accumulate, run| {
            let (a, b, dy) = (run.input(0), run.input(1), run.output_grad());
            let period = b.len().max(1);
            if !accumulate {
                db.fill(F::ZERO);
            }
            // A chunk of `b` gathers over all its repetitions, in order.
            chunks(db, 1024, |start, db| {
                let end = start + db.len();
                for (a, dy) in a.chunks(period).zip(dy.chunks(period)) {
                    let parts = a[start..end].iter().zip(&dy[start..end]).zip(&b[start..end]);
                    for (db, ((a, dy), b)) in db.iter_mut().zip(parts) {
                        *db += match kind {
                            BinaryKind::Add => *dy,
                            BinaryKind::Sub => -*dy,
                            BinaryKind::Mul => *dy * *a,
                            BinaryKind::Div => -*dy * *a / (*b * *b),
                        };
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
        for kind in [BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Div] {
            Check::new(Binary(kind)).rows(&[2, 3]).rows(&[2, 3]).run();
            Check::new(Binary(kind)).rows(&[2, 3]).fixed(&[3]).run();
            Check::new(Binary(kind)).rows(&[2, 3]).fixed(&[]).run();
            Check::new(Binary(kind)).rows(&[3]).same().run();
        }
    }

    #[test]
    fn either_is_repeated() {
        for kind in [BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Div] {
            let check = || match kind {
                BinaryKind::Div => Check::new(Binary(kind)).positive(),
                _ => Check::new(Binary(kind)),
            };
            check().rows(&[2, 3, 2]).rows(&[2, 1, 1]).run();
            check().rows(&[1, 3]).rows(&[2, 1]).run();
            check().rows(&[2, 3, 2]).fixed(&[3, 1]).run();
            check().fixed(&[2]).rows(&[3, 2]).run();
            check().fixed(&[4, 1, 2]).rows(&[1, 3, 1]).run();
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let add = Binary(BinaryKind::Add);
        assert!(add.infer(&[&Shape::rows([3]), &Shape::fixed([2])]).is_err());
        assert!(add.infer(&[&Shape::rows([3]), &Shape::rows([3, 3])]).is_err());
        assert!(add.infer(&[&Shape::rows([3]), &Shape::fixed([3, 3])]).is_err());
        assert_eq!(add.infer(&[&Shape::fixed([3]), &Shape::rows([1])]).unwrap(), Shape::rows([3]));
    }
}
