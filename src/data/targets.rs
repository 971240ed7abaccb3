//! What rows are labelled with.

use std::collections::HashMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Field, Row};
use crate::base::Digest;
use crate::graph::Task;
use crate::sample::Sample;
use crate::sample::image::mask::Meaning;

/// What kind of thing a label is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// One class per row.
    #[default]
    Classes,
    /// Any number of labels per row.
    MultiLabel,
    /// One or several numbers per row.
    Values,
    /// Nothing: the fields of a row belong together.
    Pairs,
    /// A class for each pixel; of `kind: segmentation`.
    #[schemars(skip)]
    Masks,
}

impl TargetKind {
    /// The name, as in a recipe.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classes => "classes",
            Self::MultiLabel => "multi_label",
            Self::Values => "values",
            Self::Pairs => "pairs",
            Self::Masks => "masks",
        }
    }

    /// What such targets are to a head.
    pub fn task(self) -> Task {
        match self {
            // Each place of a picture is a row.
            Self::Classes | Self::Masks => Task::Classes,
            Self::MultiLabel => Task::MultiLabel,
            Self::Values => Task::Values,
            Self::Pairs => Task::Embedding,
        }
    }
}

/// What the rows are labelled with.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// One class per row.
    Classes {
        /// The names of the classes, in the order of their numbers.
        names: Vec<String>,
        /// The class of every row, a number below `names.len()`.
        of_row: Vec<u32>,
    },
    /// Any number of labels per row.
    MultiLabel {
        /// The names of the labels, in the order of their numbers.
        names: Vec<String>,
        /// The labels of every row, each a number below `names.len()`, ascending, none twice.
        of_row: Vec<Vec<u32>>,
    },
    /// Numbers.
    Values {
        /// The name of each number of a row.
        names: Vec<String>,
        /// `[rows, names.len()]`, all finite.
        of_row: Vec<f32>,
    },
    /// The fields of each row belong together.
    Pairs {
        /// The fields in the order of their parts: the first looks for the second, the others are hard negatives.
        names: Vec<String>,
        /// `[rows, fields]`: equal numbers are of equal samples, of whatever field.
        of_row: Vec<u32>,
    },
    /// A class for each pixel.
    Masks {
        /// The names of the classes, in the order of their numbers.
        names: Vec<String>,
        /// What their pixels mean.
        meaning: Meaning,
        /// The mask of every row.
        of_row: Vec<Mask>,
    },
}

/// A picture of class numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Its file.
    pub path: PathBuf,
    /// The digest of the file.
    pub digest: Digest,
}

impl Targets {
    /// The kind.
    pub fn kind(&self) -> TargetKind {
        match self {
            Self::Classes { .. } => TargetKind::Classes,
            Self::MultiLabel { .. } => TargetKind::MultiLabel,
            Self::Values { .. } => TargetKind::Values,
            Self::Pairs { .. } => TargetKind::Pairs,
            Self::Masks { .. } => TargetKind::Masks,
        }
    }

    /// The names of the classes, labels or values, or the fields of pairs.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Classes { names, .. }
            | Self::MultiLabel { names, .. }
            | Self::Values { names, .. }
            | Self::Pairs { names, .. }
            | Self::Masks { names, .. } => names,
        }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes { of_row, .. } => of_row.len(),
            Self::MultiLabel { of_row, .. } => of_row.len(),
            Self::Values { names, of_row } => of_row.len() / names.len().max(1),
            Self::Pairs { names, of_row } => of_row.len() / names.len().max(1),
            Self::Masks { of_row, .. } => of_row.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `2 classes`, `1 label`, `3 values`.
    pub fn summary(&self) -> String {
        let count = self.names().len();
        let (one, many) = match self {
            Self::Classes { .. } | Self::Masks { .. } => ("class", "classes"),
            Self::MultiLabel { .. } => ("label", "labels"),
            Self::Values { .. } => ("value", "values"),
            Self::Pairs { names, .. } => return format!("pairs of {}", names.join(" and ")),
        };
        format!("{count} {}", if count == 1 { one } else { many })
    }

    /// A row's target in bytes that no other target has, for digests.
    pub fn write_row(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Classes { of_row, .. } => out.extend_from_slice(&of_row[row].to_le_bytes()),
            Self::MultiLabel { of_row, .. } => {
                out.extend_from_slice(&(of_row[row].len() as u32).to_le_bytes());
                of_row[row].iter().for_each(|label| out.extend_from_slice(&label.to_le_bytes()));
            }
            Self::Values { names, of_row } => {
                let width = names.len();
                of_row[row * width..(row + 1) * width].iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
            }
            // The samples themselves are in a digest already.
            Self::Pairs { .. } => {}
            Self::Masks { meaning, of_row, .. } => {
                out.extend_from_slice(&meaning.void.unwrap_or(u16::MAX).to_le_bytes());
                meaning.colors.iter().chain(&meaning.void_color).for_each(|color| out.extend_from_slice(color));
                out.extend_from_slice(&of_row[row].digest.0);
            }
        }
    }

    /// What a row is stratified by: its class. Rows with other targets are all of one stratum.
    pub(super) fn stratum(&self, row: u32) -> u32 {
        if let Self::Classes { of_row, .. } = self { of_row[row as usize] } else { 0 }
    }

    /// Numbers the samples of pairs by what they are, and names the parts as the fields, if nothing names them.
    pub(super) fn number_samples(&mut self, fields: &[Field], rows: &[Row]) {
        let Self::Pairs { names, of_row } = self else { return };
        if names.is_empty() {
            *names = fields.iter().map(|field| field.name.clone()).collect();
        }
        let places: Vec<usize> =
            names.iter().filter_map(|name| fields.iter().position(|field| field.name == *name)).collect();
        let mut numbers: HashMap<&Sample, u32> = HashMap::new();
        for row in rows {
            for place in &places {
                let next = numbers.len() as u32;
                of_row.push(*numbers.entry(&row.samples[*place]).or_insert(next));
            }
        }
    }

    /// The same names without rows.
    pub(super) fn without_rows(&self) -> Self {
        let names = self.names().to_vec();
        match self {
            Self::Classes { .. } => Self::Classes { names, of_row: Vec::new() },
            Self::MultiLabel { .. } => Self::MultiLabel { names, of_row: Vec::new() },
            Self::Values { .. } => Self::Values { names, of_row: Vec::new() },
            Self::Pairs { .. } => Self::Pairs { names, of_row: Vec::new() },
            Self::Masks { meaning, .. } => Self::Masks { names, meaning: meaning.clone(), of_row: Vec::new() },
        }
    }

    /// Takes over a row of other targets of the same kind, whose names have these `numbers` here.
    ///
    /// # Errors
    /// A label that has no number here, by its number there.
    pub(super) fn adopt(&mut self, other: &Self, row: usize, numbers: &[Option<u32>]) -> Result<(), u32> {
        let number = |there: &u32| numbers[*there as usize].ok_or(*there);
        match (self, other) {
            (Self::Classes { of_row, .. }, Self::Classes { of_row: theirs, .. }) => of_row.push(number(&theirs[row])?),
            (Self::MultiLabel { of_row, .. }, Self::MultiLabel { of_row: theirs, .. }) => {
                let mut labels = theirs[row].iter().map(number).collect::<Result<Vec<u32>, u32>>()?;
                labels.sort_unstable();
                of_row.push(labels);
            }
            (Self::Values { of_row, names }, Self::Values { of_row: theirs, .. }) => {
                of_row.extend_from_slice(&theirs[row * names.len()..(row + 1) * names.len()]);
            }
            // Samples are numbered when all rows are there.
            (Self::Pairs { .. }, Self::Pairs { .. }) => {}
            (Self::Masks { of_row, .. }, Self::Masks { of_row: theirs, .. }) => of_row.push(theirs[row].clone()),
            _ => unreachable!("one config gives targets of one kind"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rows_are_taken_over_by_name() {
        let theirs = Targets::MultiLabel { names: named(&["b", "c", "a"]), of_row: vec![vec![0, 2], vec![1], vec![]] };
        let mut ours = Targets::MultiLabel { names: named(&["a", "b"]), of_row: vec![] };
        let numbers = [Some(1), None, Some(0)];
        assert_eq!(ours.adopt(&theirs, 0, &numbers), Ok(()));
        assert_eq!(ours.adopt(&theirs, 1, &numbers), Err(1));
        assert_eq!(ours.adopt(&theirs, 2, &numbers), Ok(()));
        assert_eq!(ours, Targets::MultiLabel { names: named(&["a", "b"]), of_row: vec![vec![0, 1], vec![]] });
        assert_eq!((ours.len(), ours.summary().as_str()), (2, "2 labels"));
    }

    #[test]
    fn different_targets_have_different_bytes() {
        let bytes = |targets: &Targets| {
            let mut out = Vec::new();
            (0..targets.len()).for_each(|row| targets.write_row(row, &mut out));
            out
        };
        let labels = |of_row| bytes(&Targets::MultiLabel { names: named(&["a", "b"]), of_row });
        assert_ne!(labels(vec![vec![0], vec![1]]), labels(vec![vec![0, 1], vec![]]));
        let values = |of_row| bytes(&Targets::Values { names: named(&["x", "y"]), of_row });
        assert_ne!(values(vec![1.0, 2.0]), values(vec![2.0, 1.0]));
        assert_eq!(bytes(&Targets::Classes { names: named(&["a"]), of_row: vec![7] }), 7_u32.to_le_bytes());
    }
}
