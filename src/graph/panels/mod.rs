//! Matrix products with a right factor that stays: it is laid out once, in panels of columns, and multiplied with many
//! left factors, which are read as they are.
//!
//! Numbers of a product are added up in the same order as by [`gemm`](super::gemm()), so they have the same bits. With
//! AVX-512 the kernel is ours: laying out a factor anew for every product, as a general one must, costs a third of the
//! time at the sizes of heads. Elsewhere the panels go to the general one.

#[cfg(target_arch = "x86_64")]
mod avx512;

use std::ops::Range;

use rayon::prelude::*;

use super::Matrix;
use super::gemm::block;

/// Columns of a panel.
const WIDTH: usize = 32;

/// Numbers of a register.
const LANES: usize = 16;

/// Registers of a panel's width.
const VECTORS: usize = WIDTH / LANES;

/// Multiply-adds below which a product is not worth a second thread.
const SMALL: usize = 1 << 19;

/// A register's numbers, where a line of the cache begins.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// What a product is added to.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// Nothing.
    Zero,
    /// What is there.
    There,
    /// A number for each row.
    Rows(&'a [f32]),
}

/// The right factor: per panel of 32 columns, its terms one after the other; what fills up the last panel is zero.
#[derive(Debug, Default)]
pub struct Panels {
    lines: Vec<Line>,
    columns: usize,
    depth: usize,
}

impl Panels {
    /// Columns of the matrix.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Rows of the matrix: the terms of each sum.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.lines[..])
    }

    /// Takes a matrix; the room of the one before is used again.
    pub fn pack(&mut self, matrix: Matrix<'_, f32>) {
        (self.columns, self.depth) = (matrix.column_count(), matrix.rows());
        let of_panel = VECTORS * self.depth;
        self.lines.clear();
        self.lines.resize(self.columns.div_ceil(WIDTH) * of_panel, Line::default());
        let columns = self.columns;
        self.lines.par_chunks_exact_mut(of_panel.max(1)).enumerate().for_each(|(number, panel)| {
            let first = number * WIDTH;
            let (data, across, along) = matrix.t().strided(first);
            let width = WIDTH.min(columns - first);
            if across == 1 {
                for (term, lines) in panel.chunks_exact_mut(VECTORS).enumerate() {
                    let source = data[term * along..][..width].chunks(LANES);
                    lines.iter_mut().zip(source).for_each(|(line, from)| line.0[..from.len()].copy_from_slice(from));
                }
                return;
            }
            // Some terms of each column at a time, so that the lines which are written stay near.
            for (block, lines) in panel.chunks_mut(VECTORS * LANES).enumerate() {
                for column in 0..width {
                    let source = &data[column * across + block * LANES * along..];
                    for (term, lines) in lines.chunks_exact_mut(VECTORS).enumerate() {
                        lines[column / LANES].0[column % LANES] = source[term * along];
                    }
                }
            }
        });
    }

    /// A panel, `[depth, 32]`.
    fn panel(&self, number: usize) -> &[f32] {
        let of_panel = VECTORS * self.depth;
        let lines = &self.lines[number * of_panel..][..of_panel];
        // SAFETY: a line is 16 numbers and nothing else.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LANES) }
    }
}

/// `out = start + a · b`, for row-major `a` and `out`, on as many threads as it is worth.
///
/// # Panics
/// The shapes do not fit.
pub fn product(out: &mut [f32], a: &[f32], b: &Panels, start: Start<'_>) {
    let target = Target::new(out, a, b, start);
    let panels = b.columns.div_ceil(WIDTH);
    let parts = if a.len() * b.columns < SMALL { 1 } else { rayon::current_num_threads().clamp(1, panels.max(1)) };
    (0..parts).into_par_iter().for_each(|i| {
        // SAFETY: the parts are disjoint columns of `out`, which outlives the loop.
        unsafe { target.panels(i * panels / parts..(i + 1) * panels / parts) };
    });
}

/// [`product()`] on the calling thread alone.
///
/// # Panics
/// The shapes do not fit.
pub fn product_alone(out: &mut [f32], a: &[f32], b: &Panels, start: Start<'_>) {
    let target = Target::new(out, a, b, start);
    // SAFETY: the whole of `out`, borrowed mutably.
    unsafe { target.panels(0..b.columns.div_ceil(WIDTH)) };
}

/// What is computed, and where to.
struct Target<'a> {
    out: *mut f32,
    a: &'a [f32],
    rows: usize,
    b: &'a Panels,
    start: Start<'a>,
}

// SAFETY: only `product` shares a target, and its threads write disjoint columns.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    fn new(out: &mut [f32], a: &'a [f32], b: &'a Panels, start: Start<'a>) -> Self {
        let rows = out.len() / b.columns.max(1);
        assert!(
            a.len() == rows * b.depth && out.len() == rows * b.columns,
            "product of {} numbers and [{}, {}] to {}",
            a.len(),
            b.depth,
            b.columns,
            out.len()
        );
        match start {
            Start::Rows(values) => {
                assert_eq!(values.len(), rows, "numbers to start from");
                if b.depth == 0 {
                    out.chunks_exact_mut(b.columns.max(1)).zip(values).for_each(|(row, value)| row.fill(*value));
                }
            }
            Start::Zero if b.depth == 0 => out.fill(0.0),
            _ => {}
        }
        Self { out: out.as_mut_ptr(), a, rows, b, start }
    }

    /// Computes the columns of some panels.
    ///
    /// # Safety
    /// No other thread reads or writes them.
    unsafe fn panels(&self, panels: Range<usize>) {
        if self.rows == 0 || self.b.depth == 0 {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") {
            for number in panels {
                // SAFETY: by the caller's promise; the processor has AVX-512.
                unsafe { avx512::panel(self, number) };
            }
            return;
        }
        for number in panels {
            // SAFETY: by the caller's promise.
            unsafe { self.plain(number) };
        }
    }

    /// Computes the columns of a panel by the general product.
    ///
    /// # Safety
    /// As [`Target::panels`].
    unsafe fn plain(&self, number: usize) {
        let (n, first) = (self.b.columns, number * WIDTH);
        let columns = Matrix::new(self.b.panel(number), self.b.depth, WIDTH).columns(0..WIDTH.min(n - first));
        let a = Matrix::new(self.a, self.rows, self.b.depth);
        if let Start::Rows(values) = self.start {
            for (row, value) in values.iter().enumerate() {
                for column in first..first + columns.column_count() {
                    // SAFETY: as below.
                    unsafe { *self.out.add(row * n + column) = *value };
                }
            }
        }
        let accumulate = !matches!(self.start, Start::Zero);
        // SAFETY: the columns lie inside `out`, and are nobody else's by the caller's promise.
        unsafe { block(self.out.add(first), n, a, columns, accumulate) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Stream;
    use crate::graph::gemm_alone;

    fn numbers(n: usize, stream: u64) -> Vec<f32> {
        (0..n as u64).map(|i| Stream::new(4, stream).normal(i)).collect()
    }

    /// For the kernel that this processor has, and for the one that all have.
    #[test]
    fn products_have_the_bits_of_the_general_ones() {
        let shapes =
            [(1, 1, 1), (3, 5, 7), (12, 32, 4), (13, 33, 2), (120, 256, 1280), (120, 1280, 256), (10, 16, 513)];
        for (m, n, k) in shapes.into_iter().chain([(25, 70, 1024), (2, 100, 3), (7, 31, 40), (4, 4, 0)]) {
            let (a, b) = (numbers(m * k, 0), numbers(k * n, 1));
            let by_columns: Vec<f32> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
            let starts = numbers(m, 3);
            for start in [Start::Zero, Start::There, Start::Rows(&starts)] {
                let mut expected = match start {
                    Start::Rows(starts) => starts.iter().flat_map(|x| std::iter::repeat_n(*x, n)).collect(),
                    _ => numbers(m * n, 2),
                };
                let accumulate = !matches!(start, Start::Zero);
                gemm_alone(&mut expected, Matrix::new(&a, m, k), Matrix::new(&b, k, n), accumulate);
                for matrix in [Matrix::new(&b, k, n), Matrix::new(&by_columns, n, k).t()] {
                    let mut panels = Panels::default();
                    // The room of another.
                    panels.pack(Matrix::new(&[1.0; 4000], 40, 100));
                    panels.pack(matrix);
                    let mut found = numbers(m * n, 2);
                    product(&mut found, &a, &panels, start);
                    assert!(found == expected, "[{m}, {k}, {n}] {start:?}");
                    found = numbers(m * n, 2);
                    product_alone(&mut found, &a, &panels, start);
                    assert!(found == expected, "[{m}, {k}, {n}] {start:?}");
                    found = numbers(m * n, 2);
                    let target = Target::new(&mut found, &a, &panels, start);
                    // SAFETY: the whole of `found`.
                    (0..if k == 0 { 0 } else { n.div_ceil(WIDTH) }).for_each(|i| unsafe { target.plain(i) });
                    assert!(found == expected, "[{m}, {k}, {n}] {start:?}");
                }
            }
        }
    }
}
