//! `confusion.json` of a run: which classes are taken for which.

use std::collections::BTreeMap;

use serde::Serialize;

use super::directory::RunDirectory;
use super::targets::Kept;
use super::training::Training;
use crate::base::{Error, Result, file};
use crate::graph::{Task, Weights};
use crate::metric::argmax;

/// The file's name in the run directory.
const CONFUSION: &str = "confusion.json";
/// With more classes than this no file is written: it would hold the square of them.
const MOST_CLASSES: usize = 2000;

#[derive(Serialize)]
struct Confusion<'a> {
    classes: &'a [String],
    /// By split `[true class][predicted class]`.
    splits: BTreeMap<&'static str, Vec<Vec<u64>>>,
}

/// Writes the file, of a classifier, for the splits that are not trained on.
///
/// # Errors
/// Those of the cache and of the file system.
pub fn write(training: &Training, weights: &Weights, classes: &[String], directory: &RunDirectory) -> Result<()> {
    let Kept::Classes(of_row) = &training.targets else { return Ok(()) };
    if training.task() != Task::Classes || classes.len() > MOST_CLASSES {
        return Ok(());
    }
    let mut splits = BTreeMap::new();
    for (name, rows) in training.splits() {
        if name == "train" || rows.is_empty() {
            continue;
        }
        let probabilities = training.predictions(weights, rows)?;
        let mut counts = vec![vec![0; classes.len()]; classes.len()];
        for (probabilities, row) in probabilities.chunks_exact(classes.len().max(1)).zip(rows) {
            counts[of_row[*row as usize] as usize][argmax(probabilities)] += 1;
        }
        splits.insert(name, counts);
    }
    let text = serde_json::to_vec(&Confusion { classes, splits })
        .map_err(|e| Error::failed("a confusion matrix does not serialise").because(e))?;
    file::write_bytes(&directory.file(CONFUSION), &text)
}
