//! The digest of every sample, from the table of unchanged files where it can be.

use rayon::prelude::*;

use crate::base::{Cancel, Digest, Result};
use crate::data::{Dataset, Row};
use crate::resource::DigestTable;
use crate::sample::{Sample, Source};

/// The digests of one field's samples, by row.
///
/// # Errors
/// A sample cannot be read: the error names the row; [`crate::base::Error::Interrupted`].
pub fn of_rows(dataset: &Dataset, field: usize, table: &DigestTable, cancel: &Cancel) -> Result<Vec<Digest>> {
    dataset
        .rows
        .par_iter()
        .map_init(Vec::new, |buffer, row| {
            cancel.check()?;
            of_row(row, &row.samples[field], table, buffer)
        })
        .collect()
}

fn of_row(row: &Row, sample: &Sample, table: &DigestTable, buffer: &mut Vec<u8>) -> Result<Digest> {
    let digest = match &sample.source {
        Source::File(path) => table.digest(path).map(|content| sample.digest_of_content(content)),
        Source::Range { .. } => sample.read(buffer).map(|()| sample.digest(buffer)),
    };
    digest.map_err(|error| {
        crate::base::Error::bad_input(format!("cannot read the sample of `{}`", row.origin)).because(error)
    })
}
