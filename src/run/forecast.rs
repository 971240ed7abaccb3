//! What a run would cost, as far as it is known without the network and without doing anything.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::context::Context;
use super::history::History;
use super::resolve::{Resolved, resolve};
use super::tail;
use crate::base::progress::Silent;
use crate::base::{Digest, Error, Result};
use crate::cache::{ColumnInfo, Store};
use crate::graph::Graph;
use crate::plan::Plan;
use crate::sample::image::augment::view_digest;
use crate::train::exact::{MemoryNeed, memory_need};

/// What a run would cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Forecast {
    /// Why no more is known, such as a file that is not fetched yet.
    pub unknown: Option<String>,
    /// Rows of the data.
    pub rows: Option<u64>,
    /// Passes of the backbone: distinct samples that lack an activation.
    pub passes: Option<u64>,
    /// Distinct samples whose activations are all stored.
    pub reused: Option<u64>,
    /// Bytes that the cache will grow by, where the shapes of the outputs are known.
    pub cache_bytes: Option<u64>,
    /// Seconds that the passes will take at the rate last seen on this machine.
    pub secs: Option<f64>,
    /// The id the run will have.
    pub id: Option<Digest>,
    /// Memory for a head that is solved at once, where the shapes of the outputs are known.
    pub solving: Option<MemoryNeed>,
    /// What becomes of the norms where a part of the backbone is trained.
    pub norms: Option<String>,
    /// For each output of which nothing is stored, what differs from the nearest column that is.
    pub misses: Vec<String>,
}

/// Forecasts a plan, offline. `row_values` tells how many values one row of an output has, where the
/// catalogue knows.
///
/// # Errors
/// The cache cannot be read. What is not here yet is no error but [`Forecast::unknown`].
pub fn forecast(plan: &Plan, context: &Context<'_>, row_values: &dyn Fn(&str) -> Option<u64>) -> Result<Forecast> {
    let offline = Context {
        home: context.home,
        runs: context.runs.clone(),
        progress: &Silent,
        cancel: context.cancel,
        offline: true,
    };
    match resolve(plan, &offline) {
        Ok(resolved) => of_resolved(&resolved, &offline, row_values),
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(error) => Ok(Forecast { unknown: Some(error.to_string()), ..Forecast::default() }),
    }
}

fn of_resolved(
    resolved: &Resolved,
    context: &Context<'_>,
    row_values: &dyn Fn(&str) -> Option<u64>,
) -> Result<Forecast> {
    let mut all = of_one(resolved, context, row_values)?;
    for tower in &resolved.others {
        let Forecast { passes, reused, cache_bytes, secs, misses, .. } = of_one(tower, context, &|_| None)?;
        all.passes = all.passes.zip(passes).map(|(a, b)| a + b);
        all.reused = all.reused.zip(reused).map(|(a, b)| a + b);
        all.cache_bytes = all.cache_bytes.zip(cache_bytes).map(|(a, b)| a + b);
        all.secs = all.secs.zip(secs).map(|(a, b)| a + b);
        all.misses.extend(misses);
    }
    all.solving = solving(resolved, context, row_values)?;
    Ok(all)
}

/// Memory for solving the head on the training rows.
fn solving(
    resolved: &Resolved,
    context: &Context<'_>,
    row_values: &dyn Fn(&str) -> Option<u64>,
) -> Result<Option<MemoryNeed>> {
    let Some(head) = resolved.plan.plan.model.head.solved() else { return Ok(None) };
    let stored = Store::open(context.home)?.columns()?;
    let mut graph = Graph::new();
    let mut inputs = Vec::new();
    for (number, tower) in std::iter::once(resolved).chain(&resolved.others).enumerate() {
        for output in tower.plan.cut() {
            let key = tower.plan.ingredients(output).key();
            let shape = match stored.iter().find(|info| info.spec.key == key) {
                Some(info) if info.spec.ragged => return Ok(None),
                Some(info) => info.spec.row_shape.clone(),
                None => match row_values(&output.name) {
                    Some(values) => vec![values as usize],
                    None => return Ok(None),
                },
            };
            inputs.push(graph.input(&format!("{number}.{}", output.name), &shape)?);
        }
    }
    // A neck that does not take what little is known of the shapes will be heard of when it is built.
    let Ok(features) = resolved.plan.plan.model.neck.build(&mut graph, &inputs) else { return Ok(None) };
    let width = graph.shape(features).elements();
    let share = resolved.plan.plan.train.fraction.unwrap_or(1.0);
    let rows = (resolved.dataset.splits.train.len() as f64 * share).ceil() as usize;
    Ok(memory_need(head, rows, width))
}

fn of_one(resolved: &Resolved, context: &Context<'_>, row_values: &dyn Fn(&str) -> Option<u64>) -> Result<Forecast> {
    let store = Store::open(context.home)?;
    let plan = &resolved.plan;
    let stored = store.columns()?;
    let (mut misses, mut bytes, mut passes, mut samples) = (Vec::new(), Some(0), 0, 0);
    for number in 0..plan.plan.augment().map_or(1, |(_, views)| views) {
        let digests = view_digests(resolved, number);
        let mut lacking = vec![false; digests.len()];
        for output in plan.cut() {
            let ingredients = match plan.plan.augment().filter(|_| number > 0) {
                Some((augment, _)) => plan.view_ingredients(output, &augment),
                None => plan.ingredients(output),
            };
            let key = ingredients.key();
            let info = stored.iter().find(|info| info.spec.key == key);
            let missing = match info {
                Some(info) => store.column(&info.spec, context.progress)?.missing(&digests),
                None => {
                    if number < 2 {
                        let what = if number == 0 { output.name.clone() } else { format!("views of {}", output.name) };
                        misses.push(format!("{what}: {}", reason(&stored, &ingredients.to_map())));
                    }
                    first_rows(&digests)
                }
            };
            let per_row = match info {
                Some(info) => Some(info.spec.row_bytes() as u64),
                None => row_values(&output.name).map(|values| values * plan.plan.cache.dtype.size() as u64),
            };
            // Beside its values a row has a digest.
            bytes = bytes.and_then(|sum| Some(sum + missing.len() as u64 * (per_row? + 32)));
            missing.into_iter().for_each(|row| lacking[row] = true);
        }
        passes += lacking.iter().filter(|lacks| **lacks).count() as u64;
        samples += first_rows(&digests).len() as u64;
    }
    let rate = History::open(context.home)?.rate(plan);
    Ok(Forecast {
        unknown: None,
        rows: Some(resolved.dataset.rows.len() as u64),
        passes: Some(passes),
        reused: Some(samples - passes),
        cache_bytes: bytes,
        secs: if passes == 0 { Some(0.0) } else { rate.map(|rate| passes as f64 / rate) },
        id: Some(plan.id()),
        solving: None,
        norms: resolved.tail.as_ref().and_then(tail::norms),
        misses,
    })
}

/// The first row of every distinct sample.
fn first_rows(digests: &[Digest]) -> Vec<usize> {
    let mut seen = std::collections::HashSet::new();
    (0..digests.len()).filter(|&row| seen.insert(digests[row])).collect()
}

/// The digests of one pass: of all rows, or of a view of those for training.
fn view_digests(resolved: &Resolved, number: u32) -> Vec<Digest> {
    if number == 0 {
        return resolved.digests.clone();
    }
    let train = resolved.dataset.splits.train.iter();
    train.map(|row| view_digest(&resolved.digests[*row as usize], number)).collect()
}

/// Why nothing is stored: what differs from the column that differs least.
fn reason(stored: &[ColumnInfo], wanted: &Map<String, Value>) -> String {
    let changes = |info: &ColumnInfo| {
        let mut found = Vec::new();
        let (have, wanted) = (Value::Object(info.spec.ingredients.clone()), Value::Object(wanted.clone()));
        differences("", &have, &wanted, &mut found);
        found
    };
    match stored.iter().min_by_key(|info| (changes(info).len(), std::cmp::Reverse(info.last_use))) {
        None => "nothing is stored yet".into(),
        Some(info) => {
            let (changed, made_by) = (changes(info).join(", "), &info.spec.made_by);
            format!("the nearest stored column (made by `{made_by}`) differs in {changed}")
        }
    }
}

/// The innermost values that differ, as `transform.image.crop (224, here 192)`.
fn differences(path: &str, have: &Value, wanted: &Value, found: &mut Vec<String>) {
    if have == wanted {
        return;
    }
    if let (Value::Object(a), Value::Object(b)) = (have, wanted) {
        let keys = b.keys().chain(a.keys().filter(|key| !b.contains_key(*key)));
        for key in keys {
            let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
            differences(&at, &of(a), &of(b), found);
        }
        return;
    }
    let short = |value: &Value| match value {
        Value::Null => "none".into(),
        value => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
    };
    let (have, wanted) = (short(have), short(wanted));
    // Digests and long lists say nothing to people.
    found.push(if have.len().max(wanted.len()) > 40 { path.into() } else { format!("{path} ({have}, here {wanted})") });
}

impl Forecast {
    /// The forecast in a few lines.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(reason) = &self.unknown {
            lines.push(format!("cost: not known before everything is here: {reason}"));
        }
        if let (Some(rows), Some(passes), Some(reused)) = (self.rows, self.passes, self.reused) {
            lines.push(format!("samples: {rows} rows; backbone passes: {passes}; reused from the cache: {reused}"));
        }
        if let Some(bytes) = self.cache_bytes {
            lines.push(format!("cache: {:.1} MB more", bytes as f64 / 1e6));
        }
        match (self.secs, self.passes) {
            (Some(secs), _) => {
                lines.push(format!("time for the passes: {:.0} s", Duration::from_secs_f64(secs).as_secs_f64()))
            }
            (None, Some(_)) => lines.push("time for the passes: not known before this engine has run here once".into()),
            _ => {}
        }
        if let Some(MemoryNeed { bytes, most }) = self.solving {
            let refused = if bytes > most { ", so it will be refused" } else { "" };
            let (bytes, most) = (bytes / 1e9, most / 1e9);
            lines.push(format!(
                "memory for solving the head: {bytes:.2} GB; `model.head.max_memory_gb` is {most}{refused}"
            ));
        }
        lines.extend(self.norms.iter().map(|norms| format!("norms: {norms}")));
        lines.extend(self.misses.iter().map(|miss| format!("to compute {miss}")));
        lines
    }
}
