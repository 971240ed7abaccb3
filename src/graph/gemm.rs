//! Matrix products by the `gemm` crate, cut into chunks that depend on the shape alone.

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
const SMALL: usize = 1 << 20;

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
    let parts = if m * n * k < SMALL { 1 } else { (m.max(n) / 32).clamp(1, 4) };
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
        let keep = if self.accumulate { F::ONE } else { F::ZERO };
        let stride = |x: usize| x as isize;
        // SAFETY: the block is inside `out` by the caller's promise; `a` and `b` are whole matrices by
        // `Matrix::new` or columns of such, and their ranges are inside those of the output.
        unsafe {
            gemm::gemm(
                rows.len(),
                columns.len(),
                a.columns,
                self.data.add(rows.start * self.columns + columns.start),
                1,
                stride(self.columns),
                self.accumulate,
                a.data.as_ptr().add(rows.start * a.row_stride),
                stride(a.column_stride),
                stride(a.row_stride),
                b.data.as_ptr().add(columns.start * b.column_stride),
                stride(b.column_stride),
                stride(b.row_stride),
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
}
