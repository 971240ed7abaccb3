//! Scaled dot-product attention.

use rayon::prelude::*;

use super::softmax::Softmax;
use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, Tensor};
use crate::base::Result;
use crate::base::vectors;
use crate::graph::Matrix;

/// `softmax(scale · q · kᵀ + mask) · v` (Vaswani et al., 2017): q `[heads, queries, dim]`, k
/// `[heads, keys, dim]`, v `[heads, keys, width]` → `[heads, queries, width]`. The mask is added to the scores
/// and gets no gradient; its dimensions `[heads, queries, keys]` may be 1, and it may be shared by all
/// samples. ONNX `Transpose`, `MatMul`, `Mul`, `Add`, `Softmax`, `MatMul`.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// What scores are multiplied with, usually `1 / √dim`.
    pub scale: f32,
}

#[derive(Clone, Copy)]
struct Sizes {
    heads: usize,
    queries: usize,
    keys: usize,
    dim: usize,
    width: usize,
}

impl Sizes {
    fn of(inputs: &[&Shape]) -> Result<Self> {
        let refuse = |why| Err(Shape::refuse("Attention", why, inputs));
        let ([q, k, v] | [q, k, v, _]) = inputs else { return refuse("it takes q, k, v and perhaps a mask") };
        let (&[heads, queries, dim], &[k_heads, keys, k_dim], &[v_heads, v_keys, width]) =
            (&q.dims[..], &k.dims[..], &v.dims[..])
        else {
            return refuse("q, k and v must be `[heads, tokens, dim]`");
        };
        let batched = q.batched && k.batched && v.batched;
        if !batched || [k_heads, v_heads] != [heads; 2] || k_dim != dim || v_keys != keys || keys == 0 {
            return refuse("q, k and v do not agree");
        }
        if let Some(mask) = inputs.get(3) {
            let sizes = [heads, queries, keys];
            let fits = mask.dims.len() == 3 && mask.dims.iter().zip(sizes).all(|(d, size)| *d == 1 || *d == size);
            if !fits {
                return refuse("the mask must be `[heads, queries, keys]`, where each may be 1");
            }
        }
        Ok(Self { heads, queries, keys, dim, width })
    }

    fn q<'a, F: Real>(&self, data: &'a [F], i: usize) -> Matrix<'a, F> {
        matrix(data, i, self.queries, self.dim)
    }

    fn k<'a, F: Real>(&self, data: &'a [F], i: usize) -> Matrix<'a, F> {
        matrix(data, i, self.keys, self.dim)
    }

    fn v<'a, F: Real>(&self, data: &'a [F], i: usize) -> Matrix<'a, F> {
        matrix(data, i, self.keys, self.width)
    }

    fn y<'a, F: Real>(&self, data: &'a [F], i: usize) -> Matrix<'a, F> {
        matrix(data, i, self.queries, self.width)
    }

    fn scores<'a, F: Real>(&self, data: &'a [F], i: usize) -> Matrix<'a, F> {
        matrix(data, i, self.queries, self.keys)
    }
}

/// Matrix `i` of those that follow each other.
fn matrix<F: Real>(data: &[F], i: usize, rows: usize, columns: usize) -> Matrix<'_, F> {
    Matrix::new(&data[i * rows * columns..][..rows * columns], rows, columns)
}

/// How many scores a batch has.
fn scores(inputs: &[&Shape], rows: usize) -> usize {
    Sizes::of(inputs).map_or(0, |s| rows * s.heads * s.queries * s.keys)
}

/// Adds the mask to the scores of sample and head `i`.
fn add_mask<F: Real>(scores: &mut [F], mask: &[F], shape: &Shape, sizes: &Sizes, i: usize) {
    let &[heads, queries, keys] = &shape.dims[..] else { return };
    let sample = if shape.batched { i / sizes.heads * shape.elements() } else { 0 };
    let head = if heads == 1 { 0 } else { i % sizes.heads * queries * keys };
    for (query, scores) in scores.chunks_exact_mut(sizes.keys).enumerate() {
        let mask = &mask[sample + head + if queries == 1 { 0 } else { query * keys }..][..keys];
        match keys {
            1 => scores.iter_mut().for_each(|score| *score += mask[0]),
            _ => scores.iter_mut().zip(mask).for_each(|(score, mask)| *score += *mask),
        }
    }
}

impl Operator for Attention {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let Sizes { heads, queries, width, .. } = Sizes::of(inputs)?;
        Ok(Shape::rows([heads, queries, width]))
    }

    fn onnx(&self, inputs: &[&Shape]) -> Vec<OnnxNode> {
        use OnnxInput::{Input, Node};
        let scale = OnnxInput::Tensor(Tensor { shape: Vec::new(), values: vec![self.scale] });
        let mut nodes = vec![
            OnnxNode::new("Transpose", [Input(1)]).with("perm", OnnxAttribute::Ints(vec![0, 1, 3, 2])),
            OnnxNode::new("MatMul", [Input(0), Node(0)]),
            OnnxNode::new("Mul", [Node(1), scale]),
        ];
        if inputs.len() == 4 {
            nodes.push(OnnxNode::new("Add", [Node(2), Input(3)]));
        }
        let last = nodes.len();
        nodes.push(OnnxNode::new("Softmax", [Node(last - 1)]).with("axis", OnnxAttribute::Int(-1)));
        nodes.push(OnnxNode::new("MatMul", [Node(last), Input(2)]));
        nodes
    }
}

impl<F: Real> Kernel<F> for Attention {
    fn saved_len(&self, inputs: &[&Shape], rows: usize) -> usize {
        scores(inputs, rows)
    }

    fn scratch_len(&self, inputs: &[&Shape], rows: usize) -> usize {
        scores(inputs, rows)
    }

    fn forward(&self, run: &mut Forward<'_, F>) {
        let arithmetic = run.pass.arithmetic;
        let Ok(sizes) = Sizes::of(&[run.input_shape(0), run.input_shape(1), run.input_shape(2)]) else { return };
        let (q, k, v) = (run.input(0), run.input(1), run.input(2));
        let mask = (run.inputs() == 4).then(|| (run.input(3), run.input_shape(3)));
        let scale = F::of(f64::from(self.scale));
        let (scores, outputs) = (sizes.queries * sizes.keys, sizes.queries * sizes.width);
        let parts = run.saved.par_chunks_exact_mut(scores).zip(run.output.par_chunks_exact_mut(outputs));
        parts.enumerate().for_each(|(i, (scores, y))| {
            arithmetic.gemm(scores, sizes.q(q, i), sizes.k(k, i).t(), false);
            vectors!(scores.iter_mut().for_each(|score| *score *= scale));
            if let Some((mask, shape)) = mask {
                add_mask(scores, mask, shape, &sizes, i);
            }
            vectors!({
                scores.chunks_exact_mut(sizes.keys).for_each(|row| Softmax::rows(row, sizes.keys, &mut [0.0]));
            });
            arithmetic.gemm(y, Matrix::new(scores, sizes.queries, sizes.keys), sizes.v(v, i), false);
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let arithmetic = run.pass.arithmetic;
        let Ok(sizes) = Sizes::of(&[run.input_shape(0), run.input_shape(1), run.input_shape(2)]) else { return };
        let scale = F::of(f64::from(self.scale));
        let saved = run.saved;
        let scratch = std::mem::take(&mut run.scratch);
        run.grad(2, |dv, accumulate, run| {
            let dy = run.output_grad();
            dv.par_chunks_exact_mut(sizes.keys * sizes.width).enumerate().for_each(|(i, dv)| {
                arithmetic.gemm(dv, sizes.scores(saved, i).t(), sizes.y(dy, i), accumulate);
            });
        });
        // The gradient of the scores, times the scale.
        let scores = &mut scratch[..run.rows * sizes.heads * sizes.queries * sizes.keys];
        let (v, dy) = (run.input(2), run.output_grad());
        scores.par_chunks_exact_mut(sizes.queries * sizes.keys).enumerate().for_each(|(i, ds)| {
            arithmetic.gemm(ds, sizes.y(dy, i), sizes.v(v, i).t(), false);
            let probabilities = &saved[i * sizes.queries * sizes.keys..];
            vectors!({
                for (ds, p) in ds.chunks_exact_mut(sizes.keys).zip(probabilities.chunks_exact(sizes.keys)) {
                    let dot = ds.iter().zip(p).fold(F::ZERO, |sum, (ds, p)| sum + *ds * *p);
                    ds.iter_mut().zip(p).for_each(|(ds, p)| *ds = *p * (*ds - dot) * scale);
                }
            });
        });
        let scores = &*scores;
        run.grad(0, |dq, accumulate, run| {
            let k = run.input(1);
            dq.par_chunks_exact_mut(sizes.queries * sizes.dim).enumerate().for_each(|(i, dq)| {
                arithmetic.gemm(dq, sizes.scores(scores, i), sizes.k(k, i), accumulate);
            });
        });
        run.grad(1, |dk, accumulate, run| {
            let q = run.input(0);
            dk.par_chunks_exact_mut(sizes.keys * sizes.dim).enumerate().for_each(|(i, dk)| {
                arithmetic.gemm(dk, sizes.scores(scores, i).t(), sizes.q(q, i), accumulate);
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
        let heads = || Check::new(Attention { scale: 0.7 }).rows(&[2, 3, 2]).rows(&[2, 4, 2]).rows(&[2, 4, 3]);
        heads().run();
        heads().constant(&[1, 1, 4]).run();
        heads().constant(&[2, 3, 4]).run();
        Check::new(Attention { scale: 0.7 }).rows(&[1, 3, 2]).same().same().run();
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let [q, k] = [Shape::rows([2, 3, 2]), Shape::rows([2, 4, 3])];
        assert!(Attention { scale: 1.0 }.infer(&[&q, &k, &k]).is_err());
        assert!(Attention { scale: 1.0 }.infer(&[&q, &q, &q, &Shape::fixed([2, 2, 3])]).is_err());
        assert!(Attention { scale: 1.0 }.infer(&[&q, &q]).is_err());
    }
}
