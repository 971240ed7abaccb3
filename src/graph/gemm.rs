//! Matrix products by the `gemm` crate, cut into chunks that depend on the shape alone.
//!
//! Each number of a product is added up in an order that depends on the length of its sum alone, not on how many rows
//! and columns there are: in runs of at most [`RUN`] terms, each begun at zero with one multiply-add after the other,
//! and run after run added to what was there. So a column has the same bits alone and among a thousand others.

use rayon::prelude::*;

use super::Real;

/// A matrix that is read: elements with a stride per row and per column.
#[derive(Clone, Copy)]
pub struct Matrix<'a, F> {
    data: &'a [F],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, F> Matrix<'a, F> {
    /// A row-major matrix `[rows, columns]`.
    ///
    /// # Panics
    /// `data` does not have `rows · columns` elements.
    pub fn new(data: &'a [F], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a matrix of {rows} rows and {columns} columns");
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Some of its columns, without moving anything.
    ///
    /// # Panics
    /// There are fewer columns.
    #[must_use]
    pub fn columns(self, range: std::ops::Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.columns, "columns {range:?} of {}", self.columns);
        let skipped = (range.start * self.column_stride).min(self.data.len());
        Self { data: &self.data[skipped..], columns: range.len(), ..self }
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns it has.
    pub fn column_count(&self) -> usize {
        self.columns
    }

    /// The numbers from a row on, with the strides from row to row and from column to column.
    pub(super) fn strided(self, row: usize) -> (&'a [F], usize, usize) {
        let (row_stride, column_stride) = (self.row_stride, self.column_stride);
        (self.from(row, 0).data, row_stride, column_stride)
    }

    /// What begins at a row and a column; the counts stay to be set.
    fn from(self, row: usize, column: usize) -> Self {
        let skipped = (row * self.row_stride + column * self.column_stride).min(self.data.len());
        Self { data: &self.data[skipped..], ..self }
    }

    /// A copy with at least so many rows and columns, zero where there were none.
    fn copied(self, rows: usize, columns: usize) -> (Vec<F>, usize, usize)
    where
        F: Real,
    {
        let (rows, columns) = (rows.max(self.rows), columns.max(self.columns));
        let mut copy = vec![F::ZERO; rows * columns];
        for (i, row) in copy.chunks_exact_mut(columns).take(self.rows).enumerate() {
            for (j, value) in row.iter_mut().take(self.columns).enumerate() {
                *value = self.data[i * self.row_stride + j * self.column_stride];
            }
        }
        (copy, rows, columns)
    }

    /// The transpose, without moving anything.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// Multiply-adds below which a product is not worth a second thread.
const SMALL: usize = 1 << 19;

/// The most terms that are added up at once; the crate's own blocks are never shorter.
pub(super) const RUN: usize = 512;

/// [`gemm()`] on the calling thread alone.
///
/// # Panics
/// The shapes do not fit.
pub fn gemm_alone<F: Real>(out: &mut [F], a: Matrix<'_, F>, b: Matrix<'_, F>, accumulate: bool) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!((k, out.len()), (b.rows, m * n), "product of [{m}, {k}] and [{}, {n}]", b.rows);
    if m == 0 || n == 0 || k == 0 {
        return gemm(out, a, b, accumulate);
    }
    let target = Target { data: out.as_mut_ptr(), columns: n, accumulate };
    // SAFETY: the whole of `out`, borrowed mutably above.
    unsafe { target.part(a, b, 0..m, 0..n) };
}

/// `out = a · b`, or `out += a · b`; `out` is row-major.
///
/// # Panics
/// The shapes do not fit.
pub fn gemm<F: Real>(out: &mut [F], a: Matrix<'_, F>, b: Matrix<'_, F>, accumulate: bool) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!((k, out.len()), (b.rows, m * n), "product of [{m}, {k}] and [{}, {n}]", b.rows);
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !accumulate {
            out.fill(F::ZERO);
        }
        return;
    }
    // Not more parts than are worth a thread each, and as many for each thread; how many there are changes no sum.
    let threads = rayon::current_num_threads();
    let parts = (m * n * k / SMALL).min(m.max(n) / 32).clamp(1, 2 * threads);
    let parts = if parts > threads { parts / threads * threads } else { parts };
    let target = Target { data: out.as_mut_ptr(), columns: n, accumulate };
    if parts == 1 {
        // SAFETY: the whole of `out`, borrowed mutably above.
        unsafe { target.part(a, b, 0..m, 0..n) };
        return;
    }
    let by_rows = m >= n;
    let side = if by_rows { m } else { n };
    let bound = |i: usize| i * side / parts;
    // A parallel iterator, not a scope: its jobs live on the stack, so that a step allocates nothing.
    (0..parts).into_par_iter().for_each(|i| {
        let range = bound(i)..bound(i + 1);
        let (rows, columns) = if by_rows { (range, 0..n) } else { (0..m, range) };
        // SAFETY: the parts are disjoint blocks of `out`, which outlives the loop.
        unsafe { target.part(a, b, rows, columns) };
    });
}

struct Target<F> {
    data: *mut F,
    columns: usize,
    accumulate: bool,
}

// SAFETY: only `gemm` shares a target, and its threads write disjoint blocks.
unsafe impl<F: Send> Sync for Target<F> {}

impl<F: Real> Target<F> {
    /// Computes a block of the output.
    ///
    /// # Safety
    /// The block lies inside the output, and no other thread reads or writes it.
    unsafe fn part(
        &self,
        a: Matrix<'_, F>,
        b: Matrix<'_, F>,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
    ) {
        let a = Matrix { rows: rows.len(), ..a.from(rows.start, 0) };
        let b = Matrix { columns: columns.len(), ..b.from(0, columns.start) };
        // SAFETY: the block is inside `out` by the caller's promise.
        unsafe {
            block(self.data.add(rows.start * self.columns + columns.start), self.columns, a, b, self.accumulate);
        }
    }
}

/// Computes the product of two matrices that have numbers, on the calling thread.
///
/// # Safety
/// `out` has room for it, with `stride` from row to row, and no other thread reads or writes that.
pub(super) unsafe fn block<F: Real>(out: *mut F, stride: usize, a: Matrix<'_, F>, b: Matrix<'_, F>, accumulate: bool) {
    let (m, n) = (a.rows, b.columns);
    // The crate computes products of these shapes in other ways, whose sums have another order.
    let is_dot = m * n <= 256 && a.column_stride == 1 && b.row_stride == 1;
    if m > 1 && n > 1 && a.columns > 2 && !is_dot {
        // SAFETY: by the caller's promise.
        return unsafe { product(out, stride, a, b, accumulate) };
    }
    // They become parts of larger ones: rows and columns of zeros, and terms of zeros, change no other sum.
    let (left, rows, depth) = a.copied(2, 3);
    let (right, _, columns) = b.copied(depth, 2);
    let mut larger = vec![F::ZERO; rows * columns];
    // SAFETY: a number of the product.
    let at = |i: usize, j: usize| unsafe { out.add(i * stride + j) };
    if accumulate {
        for (i, row) in larger.chunks_exact_mut(columns).take(m).enumerate() {
            // SAFETY: inside `out` and nobody else's, by the caller's promise.
            row.iter_mut().take(n).enumerate().for_each(|(j, value)| *value = unsafe { *at(i, j) });
        }
    }
    let (a, b) = (Matrix::new(&left, rows, depth), Matrix::new(&right, depth, columns));
    // SAFETY: `larger` has room for the product.
    unsafe { product(larger.as_mut_ptr(), columns, a, b, accumulate) };
    for (i, row) in larger.chunks_exact(columns).take(m).enumerate() {
        // SAFETY: as above.
        row.iter().take(n).enumerate().for_each(|(j, value)| unsafe { *at(i, j) = *value });
    }
}

/// Computes a product in runs.
///
/// # Safety
/// `out` has room for it, with `stride` from row to row, and no other thread reads or writes that.
unsafe fn product<F: Real>(out: *mut F, stride: usize, a: Matrix<'_, F>, b: Matrix<'_, F>, accumulate: bool) {
    let k = a.columns;
    let runs = k.div_ceil(RUN);
    for run in 0..runs {
        // Even runs, so that none is short enough to be computed in another way.
        let (start, end) = (run * k / runs, (run + 1) * k / runs);
        let (a, b) = (a.from(0, start), b.from(start, 0));
        let accumulate = accumulate || run > 0;
        let keep = if accumulate { F::ONE } else { F::ZERO };
        let step = |x: usize| x as isize;
        // SAFETY: `out` by the caller's promise; `a` and `b` are parts of matrices that `Matrix::new` checked, and the
        // run is a part of their terms.
        unsafe {
            gemm::gemm(
                a.rows,
                b.columns,
                end - start,
                out,
                1,
                step(stride),
                accumulate,
                a.data.as_ptr(),
                step(a.column_stride),
                step(a.row_stride),
                b.data.as_ptr(),
                step(b.column_stride),
                step(b.row_stride),
                keep,
                F::ONE,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Stream;

    fn numbers(n: usize, stream: u64) -> Vec<f64> {
        (0..n as u64).map(|i| f64::from(Stream::new(1, stream).normal(i))).collect()
    }

    #[test]
    fn products_of_all_layouts_are_right_on_any_number_of_threads() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (130, 96, 100), (10, 700, 200), (4, 4, 0)] {
            let (a, b) = (numbers(m * k, 0), numbers(k * n, 1));
            let mut expected = vec![1.0; m * n];
            for i in 0..m {
                for j in 0..n {
                    expected[i * n + j] += (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum::<f64>();
                }
            }
            let transposed = |x: &[f64], rows: usize, columns: usize| -> Vec<f64> {
                (0..rows * columns).map(|i| x[i % rows * columns + i / rows]).collect()
            };
            let (at, bt) = (transposed(&a, m, k), transposed(&b, k, n));
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut out = vec![1.0; m * n];
                pool.install(|| gemm(&mut out, Matrix::new(&at, k, m).t(), Matrix::new(&bt, n, k).t(), true));
                out
            };
            let one = run(1);
            for (x, y) in one.iter().zip(&expected) {
                assert!((x - y).abs() < 1e-9, "{x} {y}");
            }
            assert_eq!(one, run(2));
            assert_eq!(one, run(4));
            if n > 4 {
                let mut some = vec![0.0; m * 3];
                gemm(&mut some, Matrix::new(&a, m, k), Matrix::new(&b, k, n).columns(1..4), false);
                for (i, x) in some.iter().enumerate() {
                    assert!((x + 1.0 - expected[i / 3 * n + 1 + i % 3]).abs() < 1e-9);
                }
            }
            let mut plain = vec![f64::NAN; m * n];
            gemm(&mut plain, Matrix::new(&a, m, k), Matrix::new(&b, k, n), false);
            for (x, y) in plain.iter().zip(&expected) {
                assert!((x + 1.0 - y).abs() < 1e-9, "{x} {y}");
            }
        }
    }
    /// For every shape that the crate treats in a way of its own, both as layers and as their gradients.
    #[test]
    fn a_columns_bits_do_not_depend_on_the_others() {
        let numbers = |n: usize, stream: u64| -> Vec<f32> { numbers(n, stream).iter().map(|x| *x as f32).collect() };
        for rows in [1, 2, 3, 16, 25, 64, 256] {
            for width in [1, 2, 3, 40, 513, 1280] {
                let (x, weights) = (numbers(rows * width, 1), numbers(70 * width, 2));
                let (start, slopes) = (numbers(rows * 70, 3), numbers(rows * 70, 4));
                let x = Matrix::new(&x, rows, width);
                let mut wide = start.clone();
                gemm_alone(&mut wide, x, Matrix::new(&weights, 70, width).t(), true);
                let mut gradient = vec![0.0; 70 * width];
                gemm_alone(&mut gradient, Matrix::new(&slopes, rows, 70).t(), x, false);
                for columns in [1, 2, 5, 10] {
                    let pick = |from: &[f32]| -> Vec<f32> {
                        from.chunks_exact(70).flat_map(|row| row[20..20 + columns].to_vec()).collect()
                    };
                    let range = 20 * width..(20 + columns) * width;
                    let mut narrow = pick(&start);
                    gemm(&mut narrow, x, Matrix::new(&weights[range.clone()], columns, width).t(), true);
                    assert!(narrow == pick(&wide), "layer [{rows}, {width}] to {columns}");
                    let mut part = vec![0.0; columns * width];
                    gemm(&mut part, Matrix::new(&pick(&slopes), rows, columns).t(), x, false);
                    assert!(part == gradient[range], "gradient [{rows}, {width}] to {columns}");
                }
            }
        }
    }
}
