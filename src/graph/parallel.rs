//! Work in fixed chunks: where a chunk begins depends on sizes alone, and each chunk is computed by one
//! thread, so that results do not depend on the number of threads.

use rayon::prelude::*;

use crate::base::vectors;

/// Elements of one chunk of element-wise work.
pub const CHUNK: usize = 16 * 1024;

/// Calls `body(start, chunk)` for each chunk of `out`, in parallel where there are several, by way of [`vectors`].
pub fn chunks<F: Send>(out: &mut [F], chunk: usize, body: impl Fn(usize, &mut [F]) + Sync) {
    let each = |(i, part): (usize, &mut [F])| vectors!(body(i * chunk, part));
    if out.len() <= chunk {
        each((0, out));
    } else {
        out.par_chunks_mut(chunk).enumerate().for_each(each);
    }
}

/// Calls `body(first row, rows)` for chunks of whole rows of `row` elements.
pub fn row_chunks<F: Send>(out: &mut [F], row: usize, body: impl Fn(usize, &mut [F]) + Sync) {
    let row = row.max(1);
    let rows = (CHUNK / row).max(1);
    chunks(out, rows * row, |start, part| body(start / row, part));
}

/// A fixed-order sum of `rows` rows of `width` elements into `out`: chunks of columns are independent, rows
/// are added in order.
pub fn sum_rows<F: super::Real>(input: &[F], width: usize, out: &mut [F], accumulate: bool) {
    if !accumulate {
        out.fill(F::ZERO);
    }
    if width == 0 {
        return;
    }
    // Narrow enough to stay in cache, wide enough to be worth a thread.
    chunks(out, 1024, |start, part| {
        for row in input.chunks_exact(width) {
            let row = &row[start..start + part.len()];
            part.iter_mut().zip(row).for_each(|(sum, x)| *sum += *x);
        }
    });
}
