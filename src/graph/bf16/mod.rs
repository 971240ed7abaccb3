//! Matrix products in bf16: both factors are rounded to 8 bits of mantissa, products are added up in f32.
//!
//! Factors are packed into blocks of 32 rows or columns, whose depth is in steps of 32 terms, filled up
//! with zeros. A block of the product is then computed by what the processor has: the tiles of AMX, the dot products
//! of AVX-512 BF16, or plain arithmetic, which gives nearly the same numbers, slowly. A number of the product is added
//! up along its depth alone, so that it has the same bits alone and among others, on any number of threads.

mod kernel;
mod pack;

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::Matrix;
pub use kernel::Units;
pub use pack::{Left, Right};

/// Rows and columns of a block of the product.
const BLOCK: usize = 32;

/// Terms of a step along the depth.
const STEP: usize = 32;

/// Multiply-adds below which a product is not worth a second thread.
const SMALL: usize = 1 << 21;

thread_local! {
    /// Room for packed factors. It is taken and put back, for a waiting thread may begin another product.
    static ROOM: Cell<(Left, Right)> = Cell::default();
}

/// `out = a · b`, or `out += a · b`, in bf16; `out` is row-major.
///
/// # Panics
/// The shapes do not fit.
pub fn gemm(out: &mut [f32], a: Matrix<'_, f32>, b: Matrix<'_, f32>, accumulate: bool) {
    let (mut left, mut right) = ROOM.take();
    left.pack(a);
    right.pack(b);
    product(out, &left, &right, accumulate);
    ROOM.set((left, right));
}

/// The product of packed factors, on as many threads as it is worth.
///
/// # Panics
/// The shapes do not fit.
pub fn product(out: &mut [f32], a: &Left, b: &Right, accumulate: bool) {
    let (m, n, k) = (a.rows(), b.columns(), a.depth());
    let parts = if m * n * k < SMALL { 1 } else { rayon::current_num_threads() };
    let target = Target::new(out, a, b, accumulate);
    let (rows, columns) = (m.div_ceil(BLOCK), n.div_ceil(BLOCK));
    let by_rows = rows >= columns;
    let side = if by_rows { rows } else { columns };
    let parts = parts.clamp(1, side.max(1));
    if parts == 1 {
        // SAFETY: the whole of `out`, borrowed mutably above.
        unsafe { target.blocks(0..rows, 0..columns) };
        return;
    }
    (0..parts).into_par_iter().for_each(|i| {
        let range = i * side / parts..(i + 1) * side / parts;
        let (rows, columns) = if by_rows { (range, 0..columns) } else { (0..rows, range) };
        // SAFETY: the parts are disjoint blocks of `out`, which outlives the loop.
        unsafe { target.blocks(rows, columns) };
    });
}

/// [`product()`] on the calling thread alone.
///
/// # Panics
/// The shapes do not fit.
pub fn product_alone(out: &mut [f32], a: &Left, b: &Right, accumulate: bool) {
    let target = Target::new(out, a, b, accumulate);
    // SAFETY: the whole of `out`, borrowed mutably.
    unsafe { target.blocks(0..a.rows().div_ceil(BLOCK), 0..b.columns().div_ceil(BLOCK)) };
}

/// What is computed, and where to.
struct Target<'a> {
    out: *mut f32,
    a: &'a Left,
    b: &'a Right,
    accumulate: bool,
    units: Units,
}

// SAFETY: only `product` shares a target, and its threads write disjoint blocks.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    fn new(out: &mut [f32], a: &'a Left, b: &'a Right, accumulate: bool) -> Self {
        let (m, n, k) = (a.rows(), b.columns(), a.depth());
        assert_eq!((k, out.len()), (b.depth(), m * n), "product of [{m}, {k}] and [{}, {n}]", b.depth());
        Self { out: out.as_mut_ptr(), a, b, accumulate, units: Units::here() }
    }

    /// Computes some blocks.
    ///
    /// # Safety
    /// No other thread reads or writes them.
    unsafe fn blocks(&self, rows: Range<usize>, columns: Range<usize>) {
        let (m, n) = (self.a.rows(), self.b.columns());
        for j in columns {
            let right = self.b.block(j);
            for i in rows.clone() {
                let (row, column) = (i * BLOCK, j * BLOCK);
                let (height, width) = (BLOCK.min(m - row), BLOCK.min(n - column));
                // SAFETY: the block begins inside `out`.
                let out = unsafe { self.out.add(row * n + column) };
                if height == BLOCK && width == BLOCK {
                    // SAFETY: a whole block of `out`, nobody else's by the caller's promise.
                    unsafe { self.units.block(self.a.block(i), right, out, n, self.accumulate) };
                    continue;
                }
                let mut edge = [0.0f32; BLOCK * BLOCK];
                let lines = |edge: &mut [f32; BLOCK * BLOCK], copy: &dyn Fn(*mut f32, *mut f32)| {
                    for (line, edge) in edge.chunks_exact_mut(BLOCK).take(height).enumerate() {
                        // SAFETY: the block has `height` lines in `out`.
                        copy(unsafe { out.add(line * n) }, edge.as_mut_ptr());
                    }
                };
                if self.accumulate {
                    // SAFETY: `width` numbers of a line of the block, and of `edge`, which is longer.
                    lines(&mut edge, &|out, edge| unsafe { edge.copy_from_nonoverlapping(out, width) });
                }
                // SAFETY: `edge` has room for a whole block.
                unsafe { self.units.block(self.a.block(i), right, edge.as_mut_ptr(), BLOCK, self.accumulate) };
                // SAFETY: as above.
                lines(&mut edge, &|out, edge| unsafe { out.copy_from_nonoverlapping(edge, width) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::base::random::Stream;

    fn numbers(n: usize, stream: u64) -> Vec<f32> {
        (0..n as u64).map(|i| Stream::new(3, stream).normal(i)).collect()
    }

    fn rounded(x: f32) -> f64 {
        f64::from(bf16::from_f32(x).to_f32())
    }

    #[test]
    fn products_of_all_layouts_are_those_of_rounded_factors() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (32, 32, 32), (70, 33, 100), (10, 300, 65), (4, 4, 0), (200, 90, 513)] {
            let (a, b) = (numbers(m * k, 0), numbers(k * n, 1));
            let transposed = |x: &[f32], rows: usize, columns: usize| -> Vec<f32> {
                (0..rows * columns).map(|i| x[i % rows * columns + i / rows]).collect()
            };
            let (at, bt) = (transposed(&a, m, k), transposed(&b, k, n));
            let mut expected = vec![1.0; m * n];
            for i in 0..m {
                for j in 0..n {
                    expected[i * n + j] += (0..k).map(|l| rounded(a[i * k + l]) * rounded(b[l * n + j])).sum::<f64>();
                }
            }
            let lefts = [Matrix::new(&a, m, k), Matrix::new(&at, k, m).t()];
            let rights = [Matrix::new(&b, k, n), Matrix::new(&bt, n, k).t()];
            for units in Units::all() {
                for (a, b) in [(lefts[0], rights[0]), (lefts[1], rights[1])] {
                    let (mut left, mut right) = (Left::default(), Right::default());
                    left.pack(a);
                    right.pack(b);
                    let run = |accumulate| {
                        let mut out = vec![1.0; m * n];
                        let target = Target { units, ..Target::new(&mut out, &left, &right, accumulate) };
                        // SAFETY: the whole of `out`.
                        unsafe { target.blocks(0..m.div_ceil(BLOCK), 0..n.div_ceil(BLOCK)) };
                        out
                    };
                    for (x, y) in run(true).iter().zip(&expected) {
                        assert!((f64::from(*x) - y).abs() < 1e-4, "{units:?} [{m}, {k}, {n}]: {x} {y}");
                    }
                    for (x, y) in run(false).iter().zip(&expected) {
                        assert!((f64::from(*x) + 1.0 - y).abs() < 1e-4, "{units:?} [{m}, {k}, {n}]: {x} {y}");
                    }
                }
            }
            for threads in [1, 2, 5] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut out = vec![1.0; m * n];
                pool.install(|| gemm(&mut out, lefts[0], rights[1], true));
                let mut alone = vec![1.0; m * n];
                let (mut left, mut right) = (Left::default(), Right::default());
                left.pack(lefts[1]);
                right.pack(rights[0]);
                product_alone(&mut alone, &left, &right, true);
                assert_eq!(out, alone);
            }
        }
    }

    #[test]
    fn a_columns_bits_do_not_depend_on_the_others() {
        let (a, b) = (numbers(50 * 90, 5), numbers(90 * 70, 6));
        let all = |columns: Range<usize>| {
            let mut out = vec![0.0; 50 * columns.len()];
            gemm(&mut out, Matrix::new(&a, 50, 90), Matrix::new(&b, 90, 70).columns(columns), false);
            out
        };
        let (whole, part) = (all(0..70), all(31..42));
        for (whole, part) in whole.chunks_exact(70).zip(part.chunks_exact(11)) {
            assert_eq!(&whole[31..42], part);
        }
    }
}
