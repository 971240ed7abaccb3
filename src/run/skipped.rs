//! Rows that were left out because their sample is bad: recorded, counted, never silent.

use serde_json::json;

use super::directory::RunDirectory;
use super::resolve::Resolved;
use crate::base::{Error, Result, file};

/// The list's file name in a run directory.
pub const SKIPPED: &str = "skipped.jsonl";
/// The greatest share of rows that may be bad; more than that is another mistake than a few bad files.
const MOST: f64 = 0.1;

/// Writes the rows that were skipped into the run directory, one JSON object a line, and gives the numbers
/// of all rows whose sample is bad.
///
/// # Errors
/// More than a tenth of the rows are bad; those of the file system.
pub fn keep(skipped: &[(usize, String)], resolved: &Resolved, directory: &RunDirectory) -> Result<Vec<usize>> {
    let path = directory.file(SKIPPED);
    if skipped.is_empty() {
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
            _ => Ok(Vec::new()),
        };
    }
    let lines: Vec<String> = skipped
        .iter()
        .map(|(row, reason)| json!({"row": resolved.dataset.rows[*row].origin, "reason": reason}).to_string() + "\n")
        .collect();
    file::write_bytes(&path, lines.concat().as_bytes())?;
    rows(skipped, resolved).map_err(|error| error.hint(format!("`{}` lists them with what is wrong", path.display())))
}

/// The numbers of the rows that were skipped, which are in their order.
///
/// # Errors
/// More than a tenth of the rows are.
pub fn rows(skipped: &[(usize, String)], resolved: &Resolved) -> Result<Vec<usize>> {
    let mut rows: Vec<usize> = skipped.iter().map(|(row, _)| *row).collect();
    rows.dedup();
    let total = resolved.digests.len();
    if rows.len() as f64 > MOST * total as f64 {
        return Err(Error::bad_input(format!("{} of {total} rows are bad, more than one in ten", rows.len())));
    }
    Ok(rows)
}
