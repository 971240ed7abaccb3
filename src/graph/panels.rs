//! Matrix products with a right factor that stays: it is laid out once, in panels of columns, and multiplied with many
//! left factors, which are read as they are.
//!
//! Numbers of a product are added up in the same order as by [`gemm`](super::gemm()), so they have the same bits. With
//! AVX-512 the kernel is ours: laying out a factor anew for every product, as a general one must, costs a third of the
//! time at the sizes of heads. Elsewhere the panels go to the general one.

use std::ops::Range;

use rayon::prelude::*;

use super::Matrix;
use super::gemm::{RUN, block};

/// Columns of a panel.
const WIDTH: usize = 32;

/// Numbers of a register.
const LANES: usize = 16;

/// Registers of a panel's width.
const VECTORS: usize = WIDTH / LANES;

/// Rows of the left factor whose sums stay in registers.
const ROWS: usize = 12;

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

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::asm;
    use std::arch::x86_64::{
        _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, _mm512_add_ps, _mm512_fmadd_ps, _mm512_load_ps, _mm512_loadu_ps,
        _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::{LANES, ROWS, RUN, Start, Target, VECTORS, WIDTH};

    /// Terms of a turn of the loop.
    const TURN: usize = 4;

    /// Rows that are reached from one pointer.
    const GROUP: usize = 3;

    /// Terms that a panel is fetched ahead into the nearest cache.
    const AHEAD: usize = 16;

    /// A part of a product: the rows of `a` from `stride` to `stride`, and a panel's terms.
    #[derive(Clone, Copy)]
    struct Part {
        out: *mut f32,
        out_stride: usize,
        a: *const f32,
        a_stride: usize,
        panel: *const f32,
        terms: usize,
        accumulate: bool,
        /// Numbers that rows start from, if they do.
        begin: Option<*const f32>,
        /// What is read next, to be fetched into the cache behind.
        next: *const f32,
    }

    /// Computes the columns of a panel, run after run.
    ///
    /// # Safety
    /// As [`Target::panels`]; the processor has AVX-512.
    pub unsafe fn panel(target: &Target<'_>, number: usize) {
        let Target { out, a, rows, b, start } = target;
        let (n, k, first) = (b.columns, b.depth, number * WIDTH);
        let width = WIDTH.min(n - first);
        let panel = b.panel(number).as_ptr();
        let runs = k.div_ceil(RUN);
        for run in 0..runs {
            let (from, end) = (run * k / runs, (run + 1) * k / runs);
            let accumulate = matches!(start, Start::There) || run > 0;
            let begin = panel.wrapping_add(from * WIDTH);
            // Every block of rows fetches its share of what comes after this run.
            let (mut next, share) = (begin.wrapping_add((end - from) * WIDTH), (end - from) / TURN * LANES);
            for row in (0..*rows).step_by(ROWS) {
                let height = ROWS.min(rows - row);
                let part = Part {
                    // SAFETY: the panel's columns of these rows begin inside `out`.
                    out: unsafe { out.add(row * n + first) },
                    out_stride: n,
                    a: a[row * k + from..].as_ptr(),
                    a_stride: k,
                    panel: begin,
                    terms: end - from,
                    accumulate,
                    begin: match start {
                        Start::Rows(values) if run == 0 => Some(values[row..].as_ptr()),
                        _ => None,
                    },
                    next,
                };
                next = next.wrapping_add(share);
                if width == WIDTH {
                    // SAFETY: `height` rows of `out` and of `a` are there, and the panel's terms.
                    unsafe { rows_of(height, part) };
                    continue;
                }
                let mut edge = [0.0f32; ROWS * WIDTH];
                for (i, edge) in edge.chunks_exact_mut(WIDTH).take(if accumulate { height } else { 0 }).enumerate() {
                    // SAFETY: `width` numbers of a row of `out`.
                    edge[..width].copy_from_slice(unsafe { std::slice::from_raw_parts(part.out.add(i * n), width) });
                }
                // SAFETY: `edge` has room for whole rows.
                unsafe { rows_of(height, Part { out: edge.as_mut_ptr(), out_stride: WIDTH, ..part }) };
                for (i, edge) in edge.chunks_exact(WIDTH).take(height).enumerate() {
                    // SAFETY: as above, and nobody else's.
                    unsafe { part.out.add(i * n).copy_from_nonoverlapping(edge.as_ptr(), width) };
                }
            }
        }
    }

    /// # Safety
    /// As [`kernel`]; `rows` is at most [`ROWS`].
    unsafe fn rows_of(rows: usize, part: Part) {
        // SAFETY: by the caller's promise.
        unsafe {
            match rows {
                1 => kernel::<1>(part),
                2 => kernel::<2>(part),
                3 => kernel::<3>(part),
                4 => kernel::<4>(part),
                5 => kernel::<5>(part),
                6 => kernel::<6>(part),
                7 => kernel::<7>(part),
                8 => kernel::<8>(part),
                9 => kernel::<9>(part),
                10 => kernel::<10>(part),
                11 => kernel::<11>(part),
                _ => kernel::<ROWS>(part),
            }
        }
    }

    /// Keeps the compiler from computing a pointer anew in every turn, in the ports that multiply.
    #[inline(always)]
    #[expect(clippy::pointers_in_nomem_asm_block, reason = "nothing is read through it")]
    fn kept(pointer: *const f32) -> *const f32 {
        let mut kept = pointer;
        // SAFETY: nothing is done.
        unsafe { asm!("/* {0} */", inout(reg) kept, options(pure, nomem, nostack, preserves_flags)) };
        kept
    }

    /// Multiplies rows with a panel.
    ///
    /// # Safety
    /// The rows of `a` have `terms` numbers, the panel so many terms, `out` room for rows of [`WIDTH`] numbers that
    /// are nobody else's, and the processor has AVX-512.
    #[target_feature(enable = "avx512f")]
    unsafe fn kernel<const R: usize>(part: Part) {
        let Part { out, out_stride, a, a_stride, mut panel, terms, accumulate, begin, mut next } = part;
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; R];
        let mut groups: [*const f32; ROWS / GROUP] =
            std::array::from_fn(|i| kept(a.wrapping_add(i * GROUP * a_stride)));
        macro_rules! term {
            ($i:expr) => {
                let columns: [_; VECTORS] = std::array::from_fn(|v| {
                    let line = panel.wrapping_add(($i * VECTORS + v) * LANES);
                    // What lies ahead may be nothing: fetching is no reading.
                    //
                    // SAFETY: a line of the panel.
                    unsafe {
                        _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD * WIDTH).cast());
                        _mm512_load_ps(line)
                    }
                });
                for (r, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: a number of a row of `a`.
                    let factor = unsafe { _mm512_set1_ps(*groups[r / GROUP].add(r % GROUP * a_stride + $i)) };
                    for (sum, columns) in sums.iter_mut().zip(columns) {
                        *sum = _mm512_fmadd_ps(factor, columns, *sum);
                    }
                }
            };
        }
        for _ in 0..terms / TURN {
            term!(0);
            term!(1);
            term!(2);
            term!(3);
            _mm_prefetch::<_MM_HINT_T1>(next.cast());
            next = next.wrapping_add(LANES);
            panel = panel.wrapping_add(TURN * WIDTH);
            groups = groups.map(|group| kept(group.wrapping_add(TURN)));
        }
        for _ in 0..terms % TURN {
            term!(0);
            panel = panel.wrapping_add(WIDTH);
            groups = groups.map(|group| group.wrapping_add(1));
        }
        for (r, sums) in sums.iter().enumerate() {
            // SAFETY: rows have a number each to start from.
            let begin = begin.map(|begin| unsafe { _mm512_set1_ps(*begin.add(r)) });
            for (v, sum) in sums.iter().enumerate() {
                // SAFETY: 16 numbers of a row of `out`.
                unsafe {
                    let at = out.add(r * out_stride + v * LANES);
                    let sum = match begin {
                        Some(begin) => _mm512_add_ps(begin, *sum),
                        None if accumulate => _mm512_add_ps(_mm512_loadu_ps(at), *sum),
                        None => *sum,
                    };
                    _mm512_storeu_ps(at, sum);
                }
            }
        }
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
