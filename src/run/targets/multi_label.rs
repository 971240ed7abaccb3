//! Any number of labels per row.

use super::{Kept, Kind};
use crate::base::Result;
use crate::data::Targets;

/// See the module.
pub struct MultiLabel;

impl Kind for MultiLabel {
    fn kept(&self, targets: &Targets, rows: &[usize]) -> Result<Kept> {
        let Targets::MultiLabel { names, of_row } = targets else { return Err(Kept::of_another_kind()) };
        let width = names.len();
        let mut values = vec![0.0; rows.len() * width];
        for (values, &row) in values.chunks_exact_mut(width.max(1)).zip(rows) {
            of_row[row].iter().for_each(|&label| values[label as usize] = 1.0);
        }
        Ok(Kept::MultiLabel(width, values))
    }
}
