//! The rows of many samples, in little memory: samples are mostly asked for in the order in which they were stored.

/// Rows by the position of their sample.
pub(super) struct Rows {
    pieces: Vec<Piece>,
    len: usize,
}

/// The rows of [`PIECE`] samples, or of the last ones.
pub(super) enum Piece {
    /// This row and those behind it.
    Run(u32),
    List(Box<[u32]>),
}

/// Samples of a piece.
pub(super) const PIECE: usize = 4096;

impl Piece {
    /// The rows in a list, which is not empty; `none` stands for no row.
    pub fn of(rows: Vec<u32>, none: u32) -> Self {
        let first = rows.first().copied().unwrap_or(none);
        let run = first != none && rows.iter().zip(u64::from(first)..).all(|(row, next)| u64::from(*row) == next);
        if run { Self::Run(first) } else { Self::List(rows.into()) }
    }
}

impl Rows {
    /// Of this many samples, in pieces of [`PIECE`].
    pub fn new(pieces: Vec<Piece>, len: usize) -> Self {
        Self { pieces, len }
    }

    /// Samples.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The row of a sample.
    pub fn get(&self, sample: usize) -> Option<u32> {
        if sample >= self.len {
            return None;
        }
        match self.pieces.get(sample / PIECE)? {
            Piece::Run(first) => Some(first + (sample % PIECE) as u32),
            Piece::List(rows) => rows.get(sample % PIECE).copied(),
        }
    }

    /// The rows in the order of the samples.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.len).filter_map(|sample| self.get(sample))
    }
}

impl From<Vec<u32>> for Rows {
    fn from(rows: Vec<u32>) -> Self {
        let len = rows.len();
        Self { pieces: rows.chunks(PIECE).map(|rows| Piece::of(rows.to_vec(), u32::MAX)).collect(), len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_kept_as_their_first_row_and_everything_else_as_it_is() {
        let mut rows: Vec<u32> = (7..3 * PIECE as u32).collect();
        rows[PIECE + 5] = u32::MAX;
        let kept = Rows::from(rows.clone());
        let lists: Vec<bool> = kept.pieces.iter().map(|piece| matches!(piece, Piece::List(_))).collect();
        assert_eq!(lists, [false, true, false]);
        assert_eq!(kept.iter().collect::<Vec<_>>(), rows);
        assert_eq!((kept.len(), kept.get(rows.len())), (rows.len(), None));
        assert!(matches!(Piece::of(vec![u32::MAX], u32::MAX), Piece::List(_)));
        assert_eq!(Rows::from(Vec::new()).iter().count(), 0);
    }
}
