//! The targets of the rows that are kept, as trainers take them.

use crate::base::Error;
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
    /// What a kind of targets says of those of another one.
    pub fn of_another_kind() -> Error {
        Error::failed("the targets are of another kind than the plan's")
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
    use crate::data;
    use crate::run::targets::of;

    #[test]
    fn rows_keep_their_targets() {
        let names = vec!["a".to_string(), "b".into()];
        let labels = data::Targets::MultiLabel { names: names.clone(), of_row: vec![vec![1], vec![], vec![0, 1]] };
        let kept = of(labels.kind()).kept(&labels, &[2, 0]).unwrap();
        assert_eq!(kept.targets(), Targets::MultiLabel { width: 2, values: &[1.0, 1.0, 0.0, 1.0] });
        let pairs = data::Targets::Pairs { names: names.clone(), of_row: vec![0, 1, 0, 2] };
        assert_eq!(
            of(pairs.kind()).kept(&pairs, &[1]).unwrap().targets(),
            Targets::Pairs { fields: 2, samples: &[0, 2] }
        );
        let values = data::Targets::Values { names, of_row: vec![1.0, 2.0, 3.0, 4.0] };
        assert_eq!(
            of(values.kind()).kept(&values, &[1]).unwrap().targets(),
            Targets::Values { width: 2, values: &[3.0, 4.0] }
        );
    }
}
