//! Factors of a product, rounded to bf16 and laid out as the kernels read them.

use crate::base::vectors;

use super::{BLOCK, STEP};
use crate::graph::Matrix;

/// Rows or columns of a tile: two make a block.
const TILE: usize = 16;

/// The left factor: per block of rows, per step of the depth, two tiles of 16 rows with 32 terms each.
#[derive(Debug, Default)]
pub struct Left {
    data: Vec<u16>,
    rows: usize,
    depth: usize,
}

/// The right factor: per block of columns, per step of the depth, two tiles of 16 pairs of terms with 16 columns each,
/// where the two terms of a pair stand together.
#[derive(Debug, Default)]
pub struct Right {
    data: Vec<u16>,
    columns: usize,
    depth: usize,
}

/// Rounds to the nearest bf16, ties to even; what is not a number stays so.
fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    if x.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded }
}

/// How many numbers a block has, at this depth.
fn block_len(depth: usize) -> usize {
    BLOCK * depth.next_multiple_of(STEP)
}

fn resize(data: &mut Vec<u16>, side: usize, depth: usize) {
    let len = side.div_ceil(BLOCK) * block_len(depth);
    // What fills up a block must be zero, wherever the last matrix had something.
    data.clear();
    data.resize(len, 0);
}

impl Left {
    /// Rows of the matrix.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix: the terms of each sum.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// A block of rows.
    pub fn block(&self, i: usize) -> &[u16] {
        &self.data[i * block_len(self.depth)..][..block_len(self.depth)]
    }

    /// Takes a matrix; the room of the one before is used again.
    pub fn pack(&mut self, matrix: Matrix<'_, f32>) {
        (self.rows, self.depth) = (matrix.rows(), matrix.column_count());
        resize(&mut self.data, self.rows, self.depth);
        let len = block_len(self.depth);
        vectors!({
            for (b, block) in self.data.chunks_exact_mut(len.max(1)).enumerate() {
                let rows = BLOCK.min(self.rows - b * BLOCK);
                pack_left(matrix.lines_from(b * BLOCK), rows, self.depth, block);
            }
        });
    }
}

impl Right {
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
        size_of_val(&self.data[..])
    }

    /// A block of columns.
    pub fn block(&self, j: usize) -> &[u16] {
        &self.data[j * block_len(self.depth)..][..block_len(self.depth)]
    }

    /// Takes a matrix; the room of the one before is used again.
    pub fn pack(&mut self, matrix: Matrix<'_, f32>) {
        (self.columns, self.depth) = (matrix.column_count(), matrix.rows());
        resize(&mut self.data, self.columns, self.depth);
        let len = block_len(self.depth);
        let by_columns = matrix.t();
        vectors!({
            for (b, block) in self.data.chunks_exact_mut(len.max(1)).enumerate() {
                let columns = BLOCK.min(self.columns - b * BLOCK);
                pack_right(by_columns.lines_from(b * BLOCK), columns, self.depth, block);
            }
        });
    }
}

/// `lines` of a matrix of which a line is a row, each `depth` long.
#[inline(always)]
fn pack_left(matrix: Lines<'_>, lines: usize, depth: usize, block: &mut [u16]) {
    if matrix.along == 1 {
        for line in 0..lines {
            let source = &matrix.data[line * matrix.across..][..depth];
            let place = line / TILE * TILE * STEP + line % TILE * STEP;
            for (step, terms) in source.chunks(STEP).enumerate() {
                let out = &mut block[step * BLOCK * STEP + place..][..terms.len()];
                out.iter_mut().zip(terms).for_each(|(out, x)| *out = round(*x));
            }
        }
        return;
    }
    for term in 0..depth {
        let step = term / STEP * BLOCK * STEP + term % STEP;
        for line in 0..lines {
            let place = line / TILE * TILE * STEP + line % TILE * STEP;
            block[step + place] = round(matrix.data[term * matrix.along + line * matrix.across]);
        }
    }
}

/// `lines` of a matrix of which a line is a column, each `depth` long.
#[inline(always)]
fn pack_right(matrix: Lines<'_>, lines: usize, depth: usize, block: &mut [u16]) {
    let place = |term: usize, line: usize| {
        let pair = term % STEP / 2;
        term / STEP * BLOCK * STEP + line / TILE * TILE * STEP + pair * 2 * TILE + line % TILE * 2 + term % 2
    };
    if matrix.along == 1 {
        for line in 0..lines {
            let source = &matrix.data[line * matrix.across..][..depth];
            for (step, terms) in source.chunks(STEP).enumerate() {
                let out = &mut block[place(step * STEP, line)..];
                for (pair, terms) in terms.chunks(2).enumerate() {
                    terms.iter().zip(&mut out[pair * 2 * TILE..]).for_each(|(x, out)| *out = round(*x));
                }
            }
        }
        return;
    }
    if matrix.across == 1 {
        for tile in (0..lines).step_by(TILE) {
            let width = TILE.min(lines - tile);
            for term in (0..depth).step_by(2) {
                let row = |term: usize| &matrix.data[term * matrix.along + tile..][..width];
                let out = &mut block[place(term, tile)..][..2 * TILE];
                if width == TILE && term + 1 < depth {
                    let pairs = row(term).iter().zip(row(term + 1));
                    for (out, (x, y)) in out.chunks_exact_mut(2).zip(pairs) {
                        (out[0], out[1]) = (round(*x), round(*y));
                    }
                    continue;
                }
                for second in 0..2.min(depth - term) {
                    row(term + second).iter().enumerate().for_each(|(i, x)| out[2 * i + second] = round(*x));
                }
            }
        }
        return;
    }
    for line in 0..lines {
        for term in 0..depth {
            block[place(term, line)] = round(matrix.data[term * matrix.along + line * matrix.across]);
        }
    }
}

/// Lines of numbers, with the stride along a line and from line to line.
#[derive(Clone, Copy)]
struct Lines<'a> {
    data: &'a [f32],
    along: usize,
    across: usize,
}

impl<'a> Matrix<'a, f32> {
    fn lines_from(self, row: usize) -> Lines<'a> {
        let (data, across, along) = self.strided(row);
        Lines { data, along, across }
    }
}
