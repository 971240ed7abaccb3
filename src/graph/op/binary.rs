//! Element-wise arithmetic of two values.

use super::{Backward, Forward, Kernel, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;
use crate::graph::parallel::{CHUNK, chunks};

/// `a ∘ b` element by element. The shapes agree, or `b` is fixed and its dimensions are the last ones of
/// `a` (a scalar has none): then it is repeated. ONNX `Add`, `Sub`, `Mul` and `Div`.
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
}

impl Operator for Binary {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [a, b] = arity(self.0.op_type(), inputs)?;
        if a != b && (b.batched || !a.dims.ends_with(&b.dims)) {
            return Err(Shape::refuse(self.0.op_type(), "the second does not repeat along the first", inputs));
        }
        Ok(a.clone())
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        vec![OnnxNode::new(self.0.op_type(), [OnnxInput::Input(0), OnnxInput::Input(1)])]
    }
}

impl<F: Real> Kernel<F> for Binary {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let (a, b) = (run.input(0), run.input(1));
        let kind = self.0;
        let period = b.len().max(1);
        // Chunks are whole repetitions of `b`.
        let chunk = (CHUNK / period).max(1) * period;
        chunks(run.output, chunk, |start, out| {
            for (out, a) in out.chunks_mut(period).zip(a[start..].chunks(period)) {
                let b = if b.len() == a.len() { b } else { &b[..a.len()] };
                let all = out.iter_mut().zip(a).zip(b);
                match kind {
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
    fn only_the_second_is_repeated() {
        assert!(Binary(BinaryKind::Add).infer(&[&Shape::fixed([3]), &Shape::rows([3])]).is_err());
        assert!(Binary(BinaryKind::Add).infer(&[&Shape::rows([3]), &Shape::fixed([2])]).is_err());
    }
}
