//! Rows that were left out because their sample is bad: recorded, counted, never silent.

use serde_json::json;

use super::directory::RunDirectory;
use super::resolve::Resolved;
use crate::base::{Error, Result, file};

/// The list's file name in a run directory.
pub const SKIPPED: &str = "skipped.jsonl";

/// Writes the rows that were skipped into the run directory, one JSON object a line, and gives the numbers
/// of all rows whose sample is bad.
///
/// # Errors
/// More than `data.max_skipped` of the rows are bad; those of the file system.
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
/// More than `data.max_skipped` of the rows are.
pub fn rows(skipped: &[(usize, String)], resolved: &Resolved) -> Result<Vec<usize>> {
    let mut rows: Vec<usize> = skipped.iter().map(|(row, _)| *row).collect();
    rows.dedup();
    let total = resolved.digests.len();
    let most = resolved.plan.plan.data.common.max_skipped;
    if rows.len() as f64 > most * total as f64 {
        let count = rows.len();
        let what = format!("{count} of {total} rows are bad, more than the share of {most} of `data.max_skipped`");
        return Err(Error::bad_input(what));
    }
    Ok(rows)
}
