//! Probabilities from logits.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;
use crate::base::vectors;
use crate::graph::parallel::row_chunks;

/// `exp(x) / Σ exp(x)` along the last dimension. ONNX `Softmax` with `axis = -1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Softmax;

impl Softmax {
    /// One row in place; returns the logarithm of the sum of exponentials.
    pub fn row<F: Real>(row: &mut [F]) -> F {
        let mut log_sum = [0.0];
        vectors!(Self::rows(row, row.len(), &mut log_sum));
        F::of(log_sum[0])
    }

    /// Rows of `width` numbers in place, with the logarithm of each row's sum of exponentials.
    #[inline(always)]
    pub fn rows<F: Real>(rows: &mut [F], width: usize, log_sums: &mut [f64]) {
        for (row, largest) in rows.chunks_exact_mut(width.max(1)).zip(log_sums.iter_mut()) {
            let most = fold(row, F::of(f64::NEG_INFINITY), |a, b| a.max(b));
            row.iter_mut().for_each(|x| *x -= most);
            *largest = most.wide();
        }
        // All rows at once, because one may be too short for a vector.
        rows.iter_mut().for_each(|x| *x = x.exp());
        for (row, log_sum) in rows.chunks_exact_mut(width.max(1)).zip(log_sums) {
            let sum = fold(row, F::ZERO, |a, b| a + b);
            let scale = F::ONE / sum;
            row.iter_mut().for_each(|x| *x *= scale);
            *log_sum += sum.ln().wide();
        }
    }
}

/// Rows that [`Softmax::columns`] takes at a time.
pub const LANES: usize = 16;

/// One number of each of some rows.
pub type Lanes<F> = [F; LANES];

impl Softmax {
    /// Like [`Softmax::rows`], with the same bits, for 16 rows whose numbers stand by column.
    #[inline(always)]
    pub fn columns<F: Real>(columns: &mut [Lanes<F>], log_sums: &mut [f64; LANES]) {
        let most = fold_columns(columns, F::of(f64::NEG_INFINITY), |a, b| a.max(b));
        for column in columns.iter_mut() {
            column.iter_mut().zip(&most).for_each(|(x, most)| *x = (*x - *most).exp());
        }
        let sum = fold_columns(columns, F::ZERO, |a, b| a + b);
        let scale = sum.map(|sum| F::ONE / sum);
        for column in columns.iter_mut() {
            column.iter_mut().zip(&scale).for_each(|(x, scale)| *x *= *scale);
        }
        for ((log_sum, most), sum) in log_sums.iter_mut().zip(most).zip(sum) {
            *log_sum = most.wide() + sum.ln().wide();
        }
    }
}

/// [`fold`] of each of some rows.
#[inline(always)]
fn fold_columns<F: Real>(columns: &[Lanes<F>], start: F, join: impl Fn(F, F) -> F) -> Lanes<F> {
    let joined = |a: Lanes<F>, b: &Lanes<F>| -> Lanes<F> { std::array::from_fn(|i| join(a[i], b[i])) };
    let (parts, rest) = columns.as_chunks::<16>();
    let mut whole = [start; LANES];
    if !parts.is_empty() {
        for place in 0..16 {
            let own = parts.iter().fold([start; LANES], |own, part| joined(own, &part[place]));
            whole = joined(whole, &own);
        }
    }
    rest.iter().fold(whole, joined)
}

/// All numbers of a row as one: of long rows every 16th with each other first.
#[inline(always)]
fn fold<F: Real>(row: &[F], start: F, join: impl Fn(F, F) -> F) -> F {
    let (parts, rest) = row.as_chunks::<16>();
    let whole = match parts {
        [] => start,
        parts => {
            let lanes = parts.iter().fold([start; 16], |lanes, part| std::array::from_fn(|i| join(lanes[i], part[i])));
            lanes.into_iter().fold(start, &join)
        }
    };
    rest.iter().fold(whole, |all, x| join(all, *x))
}

impl Operator for Softmax {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("Softmax", inputs)?;
        if x.dims.is_empty() {
            return Err(Shape::refuse("Softmax", "there is no dimension to normalise", inputs));
        }
        Ok(x.clone())
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        vec![OnnxNode::new("Softmax", [OnnxInput::Input(0)]).with("axis", OnnxAttribute::Int(-1))]
    }
}

impl<F: Real> Kernel<F> for Softmax {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let width = run.output_shape().last();
        let x = run.input(0);
        row_chunks(run.output, width, |row, out| {
            out.copy_from_slice(&x[row * width..][..out.len()]);
            out.chunks_exact_mut(width).for_each(|row| Self::rows(row, width, &mut [0.0]));
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let width = run.output_shape().last();
        run.grad(0, |dx, accumulate, run| {
            let (y, dy) = (run.output(), run.output_grad());
            row_chunks(dx, width, |row, dx| {
                let (y, dy) = (&y[row * width..], &dy[row * width..]);
                let rows = y.chunks_exact(width).zip(dy.chunks_exact(width));
                for (dx, (y, dy)) in dx.chunks_exact_mut(width).zip(rows) {
                    let dot = y.iter().zip(dy).fold(F::ZERO, |sum, (y, dy)| sum + *y * *dy);
                    for ((dx, y), dy) in dx.iter_mut().zip(y).zip(dy) {
                        let step = *y * (*dy - dot);
                        *dx = if accumulate { *dx + step } else { step };
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
        Check::new(Softmax).rows(&[4]).run();
    }

    #[test]
    fn columns_have_the_bits_of_rows() {
        for width in [1, 2, 10, 16, 17, 100] {
            let mut rows: Vec<f32> = (0..LANES * width).map(|i| (i * 7919 % 1000) as f32 / 50.0 - 10.0).collect();
            let mut columns: Vec<Lanes<f32>> =
                (0..width).map(|c| std::array::from_fn(|row| rows[row * width + c])).collect();
            let (mut sums, mut same) = ([0.0; LANES], [0.0; LANES]);
            Softmax::rows(&mut rows, width, &mut sums);
            Softmax::columns(&mut columns, &mut same);
            assert_eq!(sums, same);
            assert!((0..LANES * width).all(|i| rows[i] == columns[i % width][i / width]), "{width}");
        }
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let mut row = [1000.0f32, 0.0];
        assert_eq!(Softmax::row(&mut row), 1000.0);
        assert_eq!(row, [1.0, 0.0]);
    }
}
