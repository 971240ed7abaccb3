//! The targets of the rows that are kept, as trainers take them.

use crate::data;
use crate::graph::Targets;

/// Targets by position of the kept rows.
pub enum Kept {
    /// The class of each row.
    Classes(Vec<u32>),
    /// How many labels there are, and for each row and label 1 or 0.
    MultiLabel(usize, Vec<f32>),
    /// How many values a row has, and the values.
    Values(usize, Vec<f32>),
    /// How many fields of a row belong together, and the number of each field's sample.
    Pairs(usize, Vec<u32>),
}

impl Kept {
    /// Those of some rows of a data set.
    pub fn of(targets: &data::Targets, rows: &[usize]) -> Self {
        let width = targets.names().len();
        match targets {
            data::Targets::Classes { of_row, .. } => Self::Classes(rows.iter().map(|&row| of_row[row]).collect()),
            data::Targets::MultiLabel { of_row, .. } => {
                let mut values = vec![0.0; rows.len() * width];
                for (values, &row) in values.chunks_exact_mut(width.max(1)).zip(rows) {
                    of_row[row].iter().for_each(|&label| values[label as usize] = 1.0);
                }
                Self::MultiLabel(width, values)
            }
            data::Targets::Values { of_row, .. } => {
                Self::Values(width, rows.iter().flat_map(|&row| &of_row[row * width..][..width]).copied().collect())
            }
            data::Targets::Pairs { of_row, .. } => {
                Self::Pairs(width, rows.iter().flat_map(|&row| &of_row[row * width..][..width]).copied().collect())
            }
            // Their rows are places, which only a network's tokens say.
            data::Targets::Masks { .. } => Self::Classes(Vec::new()),
        }
    }

    /// As trainers take them.
    pub fn targets(&self) -> Targets<'_> {
        match self {
            Self::Classes(classes) => Targets::Classes(classes),
            Self::MultiLabel(width, values) => Targets::MultiLabel { width: *width, values },
            Self::Values(width, values) => Targets::Values { width: *width, values },
            Self::Pairs(fields, samples) => Targets::Pairs { fields: *fields, samples },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_targets() {
        let names = vec!["a".to_string(), "b".into()];
        let labels = data::Targets::MultiLabel { names: names.clone(), of_row: vec![vec![1], vec![], vec![0, 1]] };
        let kept = Kept::of(&labels, &[2, 0]);
        assert_eq!(kept.targets(), Targets::MultiLabel { width: 2, values: &[1.0, 1.0, 0.0, 1.0] });
        let pairs = data::Targets::Pairs { names: names.clone(), of_row: vec![0, 1, 0, 2] };
        assert_eq!(Kept::of(&pairs, &[1]).targets(), Targets::Pairs { fields: 2, samples: &[0, 2] });
        let values = data::Targets::Values { names, of_row: vec![1.0, 2.0, 3.0, 4.0] };
        assert_eq!(Kept::of(&values, &[1]).targets(), Targets::Values { width: 2, values: &[3.0, 4.0] });
    }
}
