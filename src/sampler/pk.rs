//! So many rows of each of some classes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Pool, Round};
use crate::base::{Error, Result};

/// Batches of `rows_per_class` rows of each of `batch_size / rows_per_class` classes, so that every row has
/// others of its class beside it: what triplet and contrastive losses need. Rows of classes that have fewer
/// repeat; a class of one row, which would only be compared with itself, is left out, and a run says how many are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pk {
    /// Rows of each class in a batch; `train.batch_size` is a multiple of it.
    #[schemars(range(min = 1))]
    pub rows_per_class: u32,
}

impl Default for Pk {
    fn default() -> Self {
        Self { rows_per_class: 4 }
    }
}

impl Pk {
    /// Whether a class of so many training rows is never drawn.
    pub(super) fn leaves_out(&self, rows: usize) -> bool {
        rows == 1 && self.rows_per_class > 1
    }

    pub(super) fn order(&self, pool: &Pool<'_>) -> Result<Vec<u32>> {
        let (each, size) = (self.rows_per_class.max(1) as usize, pool.batch_size);
        let mut by_class = pool.by_class()?;
        let all = by_class.len();
        by_class.retain(|rows| !self.leaves_out(rows.len()));
        let at_once = size / each;
        if size % each != 0 {
            let error =
                format!("`train.batch_size` {size} is no multiple of the {each} of `train.sampler.rows_per_class`");
            return Err(Error::bad_input(error));
        }
        if at_once > by_class.len() {
            let error = format!("a batch of {size} with {each} rows per class needs {at_once} classes");
            let (found, single) = (by_class.len(), all - by_class.len());
            let out = if single > 0 { format!("; {single} of one row are left out") } else { String::new() };
            let hint = format!("{found} have training rows enough: lower `train.batch_size`{out}");
            return Err(Error::bad_input(error).hint(hint));
        }
        let classes: Vec<usize> = (0..by_class.len()).collect();
        let mut classes = Round::new(classes, pool.stream("classes"));
        let rows = by_class.into_iter().enumerate();
        let mut rows: Vec<Round<u32>> =
            rows.map(|(i, rows)| Round::new(rows, pool.stream(&format!("class {i}")))).collect();
        let mut order = Vec::with_capacity(pool.rows.len());
        for _ in 0..(pool.rows.len() / size).max(1) {
            let mut chosen = Vec::with_capacity(at_once);
            while chosen.len() < at_once {
                // A class may come round again within a batch; then the next one takes its place.
                let class = classes.draw();
                if !chosen.contains(&class) {
                    chosen.push(class);
                }
            }
            for class in chosen {
                order.extend((0..each).map(|_| rows[class].draw()));
            }
        }
        Ok(order)
    }
}
