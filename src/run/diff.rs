//! What two runs do not have in common: recipe, data, engine, versions, machine, and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::lock::{Difference, LOCK, Lock};
use super::record::RunRecord;
use super::settings;
use crate::base::Result;

/// What differs between two runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunDiff {
    /// Their folders.
    pub runs: [String; 2],
    /// Keys of either recipe with the values of both runs, defaults too; the samples' places are among them.
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
    let [from_a, from_b] = [a, b].map(|record| settings::said(Path::new(&record.path)));
    let [plan_a, plan_b] = [a, b].map(|record| settings::filled_in(Path::new(&record.path)));
    // Where a recipe says nothing, what the plan filled in.
    let value = |said: &BTreeMap<String, Value>, filled: &BTreeMap<String, Value>, name: &String| {
        said.get(name).or_else(|| filled.get(name)).filter(|value| !value.is_null()).map(settings::plain)
    };
    let names: BTreeSet<&String> = from_a.keys().chain(from_b.keys()).collect();
    let recipe = names.into_iter().map(|name| Changed {
        name: name.clone(),
        values: [value(&from_a, &plan_a, name), value(&from_b, &plan_b, name)],
    });
    let lock = |record: &RunRecord| {
        let path = Path::new(&record.path).join(LOCK);
        path.exists().then(|| Lock::read(&path)).transpose()
    };
    let made_of = lock(a)?.zip(lock(b)?).map(|(a, b)| a.differences(&b)).unwrap_or_default();
    Ok(RunDiff {
        runs: [a.path.clone(), b.path.clone()],
        recipe: recipe.filter(|changed| changed.values[0] != changed.values[1]).collect(),
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
