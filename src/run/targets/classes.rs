//! One class per row.

use super::{Kept, Kind};
use crate::base::Result;
use crate::data::Targets;

/// See the module.
pub struct Classes;

impl Kind for Classes {
    fn kept(&self, targets: &Targets, rows: &[usize]) -> Result<Kept> {
        let Targets::Classes { of_row, .. } = targets else { return Err(Kept::of_another_kind()) };
        Ok(Kept::Classes(rows.iter().map(|&row| of_row[row]).collect()))
    }
}
