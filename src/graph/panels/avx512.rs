//! Products of panels by registers of 512 bits.

use std::arch::asm;
use std::arch::x86_64::{
    _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, _mm512_add_ps, _mm512_fmadd_ps, _mm512_load_ps, _mm512_loadu_ps,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::{LANES, Start, Target, VECTORS, WIDTH};
use crate::graph::gemm::RUN;

/// Rows of the left factor whose sums stay in registers.
const ROWS: usize = 12;

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
    let mut groups: [*const f32; ROWS / GROUP] = std::array::from_fn(|i| kept(a.wrapping_add(i * GROUP * a_stride)));
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
