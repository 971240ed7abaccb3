//! What two runs do not have in common: recipe, data, engine, versions, machine, and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::lock::{Difference, LOCK, Lock};
use super::record::RunRecord;
use super::report;
use crate::base::{Result, file};

/// What differs between two runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunDiff {
    /// Their folders.
    pub runs: [String; 2],
    /// Keys of the recipe with what each run says; the samples' places are among them.
    pub recipe: Vec<Changed<String>>,
    /// Digests, versions and machines that differ. Empty where a run has no lock, because it is not finished.
    pub made_of: Vec<Difference>,
    /// Metrics of either run, also those that are the same.
    pub metrics: Vec<Changed<f64>>,
}

/// A value of two runs; one of them may not have it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changed<T> {
    /// Its name.
    pub name: String,
    /// What each has.
    pub values: [Option<T>; 2],
}

/// Compares two runs by the files of their folders.
///
/// # Errors
/// A file is damaged.
pub fn diff(a: &RunRecord, b: &RunRecord) -> Result<RunDiff> {
    let settings = |record: &RunRecord| -> Result<BTreeMap<String, String>> {
        let path = Path::new(&record.path).join("recipe.yaml");
        Ok(report::settings(&file::read_text(&path, 64 << 20)?))
    };
    let recipe = pairs(&settings(a)?, &settings(b)?);
    let lock = |record: &RunRecord| {
        let path = Path::new(&record.path).join(LOCK);
        path.exists().then(|| Lock::read(&path)).transpose()
    };
    let made_of = lock(a)?.zip(lock(b)?).map(|(a, b)| a.differences(&b)).unwrap_or_default();
    Ok(RunDiff {
        runs: [a.path.clone(), b.path.clone()],
        recipe: recipe.into_iter().filter(|changed| changed.values[0] != changed.values[1]).collect(),
        made_of,
        metrics: pairs(&a.metrics, &b.metrics),
    })
}

fn pairs<T: Clone>(a: &BTreeMap<String, T>, b: &BTreeMap<String, T>) -> Vec<Changed<T>> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let pair = |name: &String| Changed { name: name.clone(), values: [a.get(name).cloned(), b.get(name).cloned()] };
    names.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_one_has_is_a_difference_too() {
        let (a, b) = (BTreeMap::from([("x".to_string(), 1), ("y".into(), 2)]), BTreeMap::from([("y".to_string(), 3)]));
        let found = pairs(&a, &b);
        assert_eq!(found[0], Changed { name: "x".into(), values: [Some(1), None] });
        assert_eq!(found[1], Changed { name: "y".into(), values: [Some(2), Some(3)] });
    }
}
