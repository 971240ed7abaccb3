//! Numbers.

use super::{Kept, Kind};
use crate::base::Result;
use crate::data::Targets;

/// See the module.
pub struct Values;

impl Kind for Values {
    fn kept(&self, targets: &Targets, rows: &[usize]) -> Result<Kept> {
        let Targets::Values { names, of_row } = targets else { return Err(Kept::of_another_kind()) };
        let width = names.len();
        Ok(Kept::Values(width, rows.iter().flat_map(|&row| &of_row[row * width..][..width]).copied().collect()))
    }
}
