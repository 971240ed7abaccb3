//! Symmetric matrices in square tiles: only the lower half is kept, and every step is a product of tiles, so
//! that Cholesky's factorisation runs at the speed of matrix products.

use rayon::prelude::*;

use crate::base::{Cancel, Error, Result};
use crate::graph::{Matrix, Real, gemm};

/// Rows and columns of a tile.
const TILE: usize = 256;

/// The lower half of a symmetric (or lower triangular) matrix.
#[derive(Debug, Clone)]
pub(super) struct Tiles<F> {
    order: usize,
    /// Tile (i, j), j ≤ i, is number `i·(i+1)/2 + j`, row-major.
    tiles: Vec<Vec<F>>,
}

/// Rows and columns that the `i`th tile of a side covers.
fn span(order: usize, i: usize) -> std::ops::Range<usize> {
    i * TILE..((i + 1) * TILE).min(order)
}

fn number(i: usize, j: usize) -> usize {
    i * (i + 1) / 2 + j
}

/// The tile coordinates of all tiles, in their order.
fn places(side: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..side).flat_map(|i| (0..=i).map(move |j| (i, j)))
}

/// The bytes of the tiles of a matrix.
pub(super) fn bytes<F>(order: usize) -> f64 {
    let side = order.div_ceil(TILE);
    let elements: usize = places(side).map(|(i, j)| span(order, i).len() * span(order, j).len()).sum();
    elements as f64 * size_of::<F>() as f64
}

impl<F: Real> Tiles<F> {
    /// A matrix of zeros.
    pub fn zeros(order: usize) -> Self {
        let side = order.div_ceil(TILE);
        let tile = |(i, j)| vec![F::ZERO; span(order, i).len() * span(order, j).len()];
        Self { order, tiles: places(side).map(tile).collect() }
    }

    fn side(&self) -> usize {
        self.order.div_ceil(TILE)
    }

    /// Adds `xᵀ·x` for `x` `[rows, order]`.
    pub fn add_gram(&mut self, x: &[F]) {
        let (order, side) = (self.order, self.side());
        let x = Matrix::new(x, x.len() / order.max(1), order);
        let places: Vec<(usize, usize)> = places(side).collect();
        self.tiles.par_iter_mut().zip(&places).for_each(|(tile, (i, j))| {
            gemm(tile, x.columns(span(order, *i)).t(), x.columns(span(order, *j)), true);
        });
    }

    /// Adds `x·xᵀ` for `x` `[order, columns]`.
    pub fn add_outer(&mut self, x: &[F]) {
        let order = self.order;
        let columns = x.len() / order.max(1);
        let rows = |i| {
            let span = span(order, i);
            Matrix::new(&x[span.start * columns..span.end * columns], span.len(), columns)
        };
        let places: Vec<(usize, usize)> = places(self.side()).collect();
        self.tiles.par_iter_mut().zip(&places).for_each(|(tile, (i, j))| gemm(tile, rows(*i), rows(*j).t(), true));
    }

    /// The matrix with a number added along the diagonal.
    pub fn add_diagonal(&mut self, value: f64) {
        for i in 0..self.side() {
            let n = span(self.order, i).len();
            let tile = &mut self.tiles[number(i, i)];
            (0..n).for_each(|k| tile[k * n + k] += F::of(value));
        }
    }

    /// Cholesky's factor `L` of the matrix `L·Lᵀ`.
    ///
    /// # Errors
    /// The matrix is not positive definite; [`Error::Interrupted`].
    pub fn factor(mut self, cancel: &Cancel) -> Result<Factor<F>> {
        let (order, side) = (self.order, self.side());
        let mut inverses = Vec::with_capacity(side);
        for k in 0..side {
            cancel.check()?;
            let n = span(order, k).len();
            let tile = &mut self.tiles[number(k, k)];
            factor_tile(tile, n).ok_or_else(|| {
                Error::bad_input("the features are too dependent on each other for this `model.head.alpha`")
                    .hint("take a greater `alpha`")
            })?;
            let inverse = invert_tile(tile, n);
            // The column below: L(i, k) = A(i, k) · L(k, k)⁻ᵀ; and its negative for the update.
            let column: Vec<(Vec<F>, Vec<F>)> = (k + 1..side)
                .into_par_iter()
                .map(|i| {
                    let rows = span(order, i).len();
                    let mut below = vec![F::ZERO; rows * n];
                    let a = Matrix::new(&self.tiles[number(i, k)], rows, n);
                    gemm(&mut below, a, Matrix::new(&inverse, n, n).t(), false);
                    let negative = below.iter().map(|x| -*x).collect();
                    (below, negative)
                })
                .collect();
            let places: Vec<(usize, usize)> = places(side).collect();
            self.tiles.par_iter_mut().zip(&places).for_each(|(tile, (i, j))| {
                if *j > k {
                    let (below, negative) = (&column[i - k - 1].0, &column[j - k - 1].1);
                    let (rows, columns) = (span(order, *i).len(), span(order, *j).len());
                    gemm(tile, Matrix::new(below, rows, n), Matrix::new(negative, columns, n).t(), true);
                }
            });
            for (i, (below, _)) in column.into_iter().enumerate() {
                self.tiles[number(k + 1 + i, k)] = below;
            }
            inverses.push(inverse);
        }
        Ok(Factor { lower: self, inverses })
    }
}

/// A lower triangular factor `L`, with the inverses of its diagonal tiles.
pub(super) struct Factor<F> {
    lower: Tiles<F>,
    inverses: Vec<Vec<F>>,
}

impl<F: Real> Factor<F> {
    /// Solves `L·Lᵀ·x = b` in place, for `b` `[order, columns]`.
    pub fn solve(&self, b: &mut [F]) {
        let columns = b.len() / self.lower.order.max(1);
        self.forward(b, columns, 0);
        let (order, side) = (self.lower.order, self.lower.side());
        for k in (0..side).rev() {
            let mut sum = b[at(order, k, columns)].to_vec();
            for i in k + 1..side {
                let (rows, n) = (span(order, i).len(), span(order, k).len());
                let x: Vec<F> = b[at(order, i, columns)].iter().map(|x| -*x).collect();
                let tile = Matrix::new(&self.lower.tiles[number(i, k)], rows, n);
                gemm(&mut sum, tile.t(), Matrix::new(&x, rows, columns), true);
            }
            let n = span(order, k).len();
            let inverse = Matrix::new(&self.inverses[k], n, n);
            gemm(&mut b[at(order, k, columns)], inverse.t(), Matrix::new(&sum, n, columns), false);
        }
    }

    /// Solves `L·x = b` in place from the `first` tile on, above which `b` is zero.
    fn forward(&self, b: &mut [F], columns: usize, first: usize) {
        let (order, side) = (self.lower.order, self.lower.side());
        for k in first..side {
            let n = span(order, k).len();
            let mut sum = b[at(order, k, columns)].to_vec();
            for j in first..k {
                let inner = span(order, j).len();
                let x: Vec<F> = b[at(order, j, columns)].iter().map(|x| -*x).collect();
                let tile = Matrix::new(&self.lower.tiles[number(k, j)], n, inner);
                gemm(&mut sum, tile, Matrix::new(&x, inner, columns), true);
            }
            let inverse = Matrix::new(&self.inverses[k], n, n);
            gemm(&mut b[at(order, k, columns)], inverse, Matrix::new(&sum, n, columns), false);
        }
    }

    /// The trace of `(L·Lᵀ)⁻¹`, which is the sum of the squares of `L⁻¹`.
    pub fn trace_of_inverse(&self, cancel: &Cancel) -> Result<f64> {
        let order = self.lower.order;
        let mut sum = 0.0;
        for k in 0..self.lower.side() {
            cancel.check()?;
            let columns = span(order, k);
            let mut b = vec![F::ZERO; order * columns.len()];
            (0..columns.len()).for_each(|i| b[(columns.start + i) * columns.len() + i] = F::ONE);
            self.forward(&mut b, columns.len(), k);
            sum += b.iter().map(|x| x.wide() * x.wide()).sum::<f64>();
        }
        Ok(sum)
    }
}

/// The rows of a tile in a matrix of some columns.
fn at(order: usize, i: usize, columns: usize) -> std::ops::Range<usize> {
    let span = span(order, i);
    span.start * columns..span.end * columns
}

/// Cholesky's factor of one tile, in place; `None` if it has none. What is above the diagonal becomes zero.
fn factor_tile<F: Real>(a: &mut [F], n: usize) -> Option<()> {
    for j in 0..n {
        let (above, rest) = a.split_at_mut(j * n);
        let (row, below) = rest.split_at_mut(n);
        let square = row[..j].iter().fold(F::ZERO, |sum, x| sum + *x * *x);
        // A pivot lost to rounding is none.
        let (pivot, scale) = ((row[j] - square).wide(), row[j].wide().abs());
        let epsilon = if size_of::<F>() == 4 { f64::from(f32::EPSILON) } else { f64::EPSILON };
        if pivot.is_nan() || pivot <= epsilon * scale {
            return None;
        }
        row[j] = F::of(pivot.sqrt());
        row[j + 1..].fill(F::ZERO);
        let inverse = F::ONE / row[j];
        for other in below.chunks_exact_mut(n) {
            let dot = other[..j].iter().zip(&row[..j]).fold(F::ZERO, |sum, (x, y)| sum + *x * *y);
            other[j] = (other[j] - dot) * inverse;
        }
        let _ = above;
    }
    Some(())
}

/// The inverse of a lower triangular tile.
fn invert_tile<F: Real>(l: &[F], n: usize) -> Vec<F> {
    let mut inverse = vec![F::ZERO; n * n];
    for i in 0..n {
        let (done, row) = inverse.split_at_mut(i * n);
        let row = &mut row[..n];
        row[i] = F::ONE;
        for (k, factor) in l[i * n..i * n + i].iter().enumerate() {
            let earlier = &done[k * n..k * n + k + 1];
            row.iter_mut().zip(earlier).for_each(|(x, y)| *x -= *factor * *y);
        }
        let scale = F::ONE / l[i * n + i];
        row[..=i].iter_mut().for_each(|x| *x *= scale);
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Stream;

    #[test]
    fn systems_of_several_tiles_are_solved() {
        let cancel = Cancel::default();
        for order in [3, TILE, TILE + 7, 2 * TILE + 30] {
            let rows = order + 20;
            let x: Vec<f64> = (0..rows * order).map(|i| f64::from(Stream::new(1, 0).normal(i as u64))).collect();
            let mut gram: Tiles<f64> = Tiles::zeros(order);
            let half = rows / 2 * order;
            gram.add_gram(&x[..half]);
            gram.add_gram(&x[half..]);
            gram.add_diagonal(3.0);
            // x · (xᵀx + 3) v = b, with a v that is known.
            let v: Vec<f64> = (0..order * 2).map(|i| (i % 7) as f64 - 3.0).collect();
            let mut product = vec![0.0; rows * 2];
            gemm(&mut product, Matrix::new(&x, rows, order), Matrix::new(&v, order, 2), false);
            let mut b: Vec<f64> = v.iter().map(|v| 3.0 * v).collect();
            gemm(&mut b, Matrix::new(&x, rows, order).t(), Matrix::new(&product, rows, 2), true);
            let mut outer: Tiles<f64> = Tiles::zeros(order);
            let transposed: Vec<f64> = (0..rows * order).map(|i| x[i % rows * order + i / rows]).collect();
            outer.add_outer(&transposed);
            outer.add_diagonal(3.0);
            for (a, b) in gram.tiles.iter().flatten().zip(outer.tiles.iter().flatten()) {
                assert!((a - b).abs() < 1e-9);
            }
            let factor = gram.factor(&cancel).unwrap();
            factor.solve(&mut b);
            assert!(b.iter().zip(&v).all(|(a, b)| (a - b).abs() < 1e-8), "{order}");
            if order == 3 {
                let mut identity = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
                factor.solve(&mut identity);
                let trace = identity[0] + identity[4] + identity[8];
                assert!((factor.trace_of_inverse(&cancel).unwrap() - trace).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_matrix_that_has_no_factor_is_refused() {
        let mut gram: Tiles<f64> = Tiles::zeros(2);
        gram.add_gram(&[1.0, 2.0, 2.0, 4.0]);
        let error = gram.factor(&Cancel::default()).err().unwrap();
        assert!(error.hint_text().unwrap().contains("greater"));
    }
}
