//! Rows that were left out because a table's row or a sample is bad: recorded, counted, never silent.

use serde_json::json;

use super::directory::RunDirectory;
use super::resolve::Resolved;
use crate::base::{Error, Result, file};

/// The list's file name in a run directory.
pub const SKIPPED: &str = "skipped.jsonl";

/// Writes the rows that were left out into the run directory, one JSON object a line: those that tables list and
/// that cannot be used, and those whose sample is bad. Gives the numbers of the latter.
///
/// # Errors
/// More than `data.max_skipped` of the rows are bad; those of the file system.
pub fn keep(skipped: &[(usize, String)], resolved: &Resolved, directory: &RunDirectory) -> Result<Vec<usize>> {
    let path = directory.file(SKIPPED);
    let left_out = &resolved.dataset.left_out;
    if skipped.is_empty() && left_out.is_empty() {
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
            _ => Ok(Vec::new()),
        };
    }
    let of_tables = left_out.iter().map(|row| (row.origin.clone(), &row.reason));
    let of_samples = skipped.iter().map(|(row, reason)| (resolved.dataset.rows[*row].origin.to_string(), reason));
    let lines: Vec<String> = of_tables
        .chain(of_samples)
        .map(|(row, reason)| json!({"row": row, "reason": reason}).to_string() + "\n")
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
    // Those that the tables lost are of the same whole.
    let before = resolved.dataset.left_out.len();
    let (count, total) = (rows.len() + before, resolved.digests.len() + before);
    let most = resolved.plan.plan.data.common.max_skipped;
    if !rows.is_empty() && count as f64 > most * total as f64 {
        let what = format!("{count} of {total} rows are bad, more than the share of {most} of `data.max_skipped`");
        return Err(Error::bad_input(what));
    }
    Ok(rows)
}
