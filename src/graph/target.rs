//! What outputs are held against.

/// The targets of some rows. Borrowed, so that a batch's targets are a slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Targets<'a> {
    /// One class number per row, each below the number of classes.
    Classes(&'a [u32]),
    /// Any number of `width` labels per row.
    MultiLabel {
        /// Labels.
        width: usize,
        /// `[rows, width]`: 1 where the row has the label, else 0.
        values: &'a [f32],
    },
    /// `width` numbers per row.
    Values {
        /// Numbers per row.
        width: usize,
        /// `[rows, width]`.
        values: &'a [f32],
    },
    /// Rows whose fields belong together: the first of them looks for the second, and those behind it are not to be
    /// found. Outputs are the embeddings of the fields, one after the other.
    Pairs {
        /// Fields of a row, two or more.
        fields: usize,
        /// `[rows, fields]`: equal numbers are of equal samples.
        samples: &'a [u32],
    },
}

impl Targets<'_> {
    /// Rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::MultiLabel { width, values } | Self::Values { width, values } => values.len() / (*width).max(1),
            Self::Pairs { fields, samples } => samples.len() / (*fields).max(1),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What outputs are: it decides which losses and metrics there are for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A logit per class; a row is of one class.
    Classes,
    /// A logit per label; a row has any number of labels.
    MultiLabel,
    /// Numbers.
    Values,
    /// An embedding, or one for each field of a row; rows of a class, or fields of a row, lie near each other.
    Embedding,
}

impl Task {
    /// What it is, in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classes => "classes",
            Self::MultiLabel => "several labels per row",
            Self::Values => "numbers",
            Self::Embedding => "embeddings",
        }
    }
}
