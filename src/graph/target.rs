//! What outputs are held against.

/// The targets of some rows. Borrowed, so that a batch's targets are a slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Targets<'a> {
    /// One class number per row, each below the number of classes.
    Classes(&'a [u32]),
    /// `width` numbers per row.
    Values {
        /// Numbers per row.
        width: usize,
        /// `[rows, width]`.
        values: &'a [f32],
    },
}

impl Targets<'_> {
    /// Rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Values { width, values } => values.len() / (*width).max(1),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
