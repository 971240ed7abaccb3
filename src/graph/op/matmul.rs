//! Products of matrices, one per sample or group.

use rayon::prelude::*;

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;
use crate::graph::Matrix;

/// `a · b` of matrices in the last two dimensions: a `[…, m, k]`, b `[…, k, n]`, or `[…, n, k]` if it is
/// transposed; the dimensions before agree, or b is shared by all samples. ONNX `MatMul`, after `Transpose`.
#[derive(Debug, Clone, PartialEq)]
pub struct MatMul {
    /// Whether b's last two dimensions are swapped.
    pub transposed: bool,
}

#[derive(Clone, Copy)]
struct Sizes {
    m: usize,
    k: usize,
    n: usize,
    /// Matrices in b; those of a follow each other through them again and again.
    of_b: usize,
}

impl MatMul {
    fn sizes(&self, inputs: &[&Shape]) -> Result<Sizes> {
        let [a, b] = arity("MatMul", inputs)?;
        let refuse = |why| Err(Shape::refuse("MatMul", why, inputs));
        let ([a_outer @ .., m, k], [b_outer @ .., rows, columns]) = (&a.dims[..], &b.dims[..]) else {
            return refuse("both must be matrices");
        };
        let (b_k, n) = if self.transposed { (columns, rows) } else { (rows, columns) };
        if !a.batched || k != b_k || a_outer != b_outer {
            return refuse("their dimensions do not agree");
        }
        Ok(Sizes { m: *m, k: *k, n: *n, of_b: b_outer.iter().product() })
    }
}

impl Sizes {
    fn a<'a, F: Real>(&self, data: &'a [F], i: usize) -> Matrix<'a, F> {
        Matrix::new(&data[i * self.m * self.k..][..self.m * self.k], self.m, self.k)
    }

    fn y<'a, F: Real>(&self, data: &'a [F], i: usize) -> Matrix<'a, F> {
        Matrix::new(&data[i * self.m * self.n..][..self.m * self.n], self.m, self.n)
    }

    /// Matrix `i` of b, as `[k, n]`.
    fn b<'a, F: Real>(&self, data: &'a [F], i: usize, transposed: bool) -> Matrix<'a, F> {
        let part = &data[i % (data.len() / (self.k * self.n)) * self.k * self.n..][..self.k * self.n];
        if transposed { Matrix::new(part, self.n, self.k).t() } else { Matrix::new(part, self.k, self.n) }
    }
}

impl Operator for MatMul {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let Sizes { n, .. } = self.sizes(inputs)?;
        let mut dims = inputs[0].dims.clone();
        dims.pop();
        dims.push(n);
        Ok(Shape::rows(dims))
    }

    fn onnx(&self, inputs: &[&Shape]) -> Vec<OnnxNode> {
        use OnnxInput::{Input, Node};
        if !self.transposed {
            return vec![OnnxNode::new("MatMul", [Input(0), Input(1)])];
        }
        let rank = (inputs[1].dims.len() + usize::from(inputs[1].batched)) as i64;
        let order = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
        vec![
            OnnxNode::new("Transpose", [Input(1)]).with("perm", OnnxAttribute::Ints(order)),
            OnnxNode::new("MatMul", [Input(0), Node(0)]),
        ]
    }
}

impl<F: Real> Kernel<F> for MatMul {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let arithmetic = run.pass.arithmetic;
        let Ok(sizes) = self.sizes(&[run.input_shape(0), run.input_shape(1)]) else { return };
        let (a, b) = (run.input(0), run.input(1));
        run.output.par_chunks_exact_mut((sizes.m * sizes.n).max(1)).enumerate().for_each(|(i, y)| {
            arithmetic.gemm(y, sizes.a(a, i), sizes.b(b, i, self.transposed), false);
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let arithmetic = run.pass.arithmetic;
        let Ok(sizes) = self.sizes(&[run.input_shape(0), run.input_shape(1)]) else { return };
        run.grad(0, |da, accumulate, run| {
            let (b, dy) = (run.input(1), run.output_grad());
            da.par_chunks_exact_mut((sizes.m * sizes.k).max(1)).enumerate().for_each(|(i, da)| {
                arithmetic.gemm(da, sizes.y(dy, i), sizes.b(b, i, self.transposed).t(), accumulate);
            });
        });
        let shared = !run.input_shape(1).batched;
        run.grad(1, |db, accumulate, run| {
            let (a, dy) = (run.input(0), run.output_grad());
            let rows = if shared { run.rows } else { 1 };
            db.par_chunks_exact_mut((sizes.k * sizes.n).max(1)).enumerate().for_each(|(i, db)| {
                // A shared matrix gathers over the samples, in order.
                for row in 0..rows {
                    let i = row * sizes.of_b + i;
                    let (a, dy, accumulate) = (sizes.a(a, i), sizes.y(dy, i), accumulate || row > 0);
                    match self.transposed {
                        true => arithmetic.gemm(db, dy.t(), a, accumulate),
                        false => arithmetic.gemm(db, a.t(), dy, accumulate),
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
        for (transposed, b) in [(false, [2, 4]), (true, [4, 2])] {
            let [rows, columns] = b;
            Check::new(MatMul { transposed }).rows(&[3, 2]).rows(&b).run();
            Check::new(MatMul { transposed }).rows(&[2, 3, 2]).rows(&[2, rows, columns]).run();
            Check::new(MatMul { transposed }).rows(&[2, 3, 2]).fixed(&[2, rows, columns]).run();
        }
        assert!(MatMul { transposed: true }.infer(&[&Shape::rows([3, 2]), &Shape::rows([2, 4])]).is_err());
        assert!(MatMul { transposed: false }.infer(&[&Shape::rows([2]), &Shape::rows([2, 4])]).is_err());
    }
}
