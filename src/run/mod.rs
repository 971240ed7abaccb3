//! Rank 9: the interpreter: a plan becomes stages, and what is finished is skipped.
//!
//! resolve → engine → activations → train → evaluate → write. Each stage is one file here; [`run`] calls
//! them in order and keeps the run's record.

mod activations;
mod calibration;
mod confusion;
pub mod contents;
mod context;
pub mod cost;
pub mod diff;
pub mod directory;
pub mod embed;
mod engine;
mod eval;
pub mod export;
mod exported;
pub mod extraction;
mod fill;
mod forecast;
mod history;
pub mod inputs;
mod keeping;
mod live;
pub mod lock;
pub mod pack;
mod pixels;
mod predict;
mod predicted;
mod pump;
mod recheck;
pub mod recipes;
pub mod record;
pub mod report;
pub mod reproduce;
mod resolve;
mod rows;
pub mod search;
pub mod settings;
mod share;
pub mod skipped;
pub mod sweep;
mod tail;
mod targets;
mod tower;
mod training;
mod whole;

use std::collections::BTreeMap;

pub use context::Context;
pub use eval::{EvalRequest, Evaluated, evaluate};
pub use forecast::{Forecast, forecast};
pub use predict::{Predicted, Predictor};
pub use recheck::{Rechecked, recheck};
pub use resolve::{Resolved, resolve};
pub use rows::StoredRows;
pub use share::Shard;

use crate::base::memory::peak_bytes;
use crate::base::progress::Event;
use crate::base::{Digest, Error, Result, file};
use crate::plan::{PLAN, Plan};
use crate::recipe::Precision;
use contents::Contents;
use directory::RunDirectory;
use lock::Lock;
use record::{Activations, RunRecord, Status};
use training::Training;

/// A run that ended well.
#[derive(Debug)]
pub struct Finished {
    /// What is remembered of it.
    pub record: RunRecord,
    /// Whether it had been finished before, so that nothing was done.
    pub was_there: bool,
}

/// Runs a plan, or finds that it is finished. `recipe` is the merged recipe as YAML; it is kept beside the
/// results. With `fresh` a finished run is repeated in a folder of its own.
///
/// # Errors
/// Those of the stages. The run directory then says so, and the same call goes on from what is stored.
pub fn run(plan: &Plan, recipe: &str, context: &Context<'_>, fresh: bool) -> Result<Finished> {
    let (resolved, took) = context.stage("resolve", || {
        let resolved = resolve(plan, context)?;
        let summary = resolved.summary();
        Ok((resolved, summary))
    })?;
    if let Some(norms) = resolved.tail.as_ref().and_then(tail::norms) {
        context.progress.event(Event::Detail(norms));
    }
    if let Some(padding) = tail::padding(&resolved) {
        context.progress.event(Event::Warning(padding));
    }
    let id = resolved.plan.id();
    if let Some(record) = directory::finished(&context.runs, &plan.name, &id).filter(|_| !fresh) {
        return Ok(Finished { record, was_there: true });
    }
    let directory = RunDirectory::take(&context.runs, &plan.name, &id, fresh)?;
    let mut record = RunRecord::begin(&plan.name, id, directory.path());
    record.stages.insert("resolve".into(), took);
    record.write(directory.path())?;
    let outcome = stages(&resolved, recipe, context, &directory, &mut record);
    if let Err(error) = &outcome {
        record.status = if matches!(error, Error::Interrupted) { Status::Interrupted } else { Status::Failed };
        record.error = (record.status == Status::Failed).then(|| error.to_string());
        // The error at hand matters more than one about the record.
        let _ = record.write(directory.path());
    }
    outcome.map(|()| Finished { record, was_there: false })
}

/// Computes and stores the activations of a plan, or those of a shard of its samples, and trains nothing. Gives
/// how many were computed and reused.
///
/// # Errors
/// Those of the stages. What was computed is stored.
pub fn fill(plan: &Plan, shard: Option<Shard>, context: &Context<'_>) -> Result<Activations> {
    let (resolved, _) = context.stage("resolve", || {
        let resolved = resolve(plan, context)?;
        let summary = resolved.summary();
        Ok((resolved, summary))
    })?;
    let (columns, _) = context.stage("engine", || engine::columns(&resolved, context))?;
    let (outcome, _) = context.stage("activations", || fill::fill(&resolved, &columns, shard, context))?;
    let of_tables = resolved.dataset.left_out.iter().map(|row| (row.origin.clone(), &row.reason));
    let of_samples =
        outcome.skipped.iter().map(|(row, reason)| (resolved.dataset.rows[*row].origin.to_string(), reason));
    for (origin, reason) in of_tables.chain(of_samples) {
        context.progress.event(Event::Warning(format!("`{origin}` was skipped: {reason}")));
    }
    Ok(outcome.activations)
}

fn stages(
    resolved: &Resolved,
    recipe: &str,
    context: &Context<'_>,
    directory: &RunDirectory,
    record: &mut RunRecord,
) -> Result<()> {
    let json = serde_json::to_string_pretty(&resolved.plan)
        .map_err(|e| Error::failed("a plan does not serialise").because(e))?;
    file::write_bytes(&directory.file("recipe.yaml"), recipe.as_bytes())?;
    file::write_bytes(&directory.file(PLAN), json.as_bytes())?;

    let (columns, took) = context.stage("engine", || engine::columns(resolved, context))?;
    record.stages.insert("engine".into(), took);

    let live = keeping::is_live(resolved, &columns, context)?.then_some(context);
    let (outcome, took) = context.stage("activations", || match live {
        Some(context) => keeping::look(resolved, context),
        None => fill::fill(resolved, &columns, None, context),
    })?;
    record.activations = outcome.activations;
    record.stored = if live.is_some() { BTreeMap::new() } else { columns.stored() };
    record.stages.insert("activations".into(), took);
    let skipped = skipped::keep(&outcome.skipped, resolved, directory)?;
    record.skipped = (skipped.len() + resolved.dataset.left_out.len()) as u64;

    let training = Training::new(resolved, &columns, &skipped, live)?;
    let (weights, took) = context.stage("train", || training.train(context, directory))?;
    record.stages.insert("train".into(), took);
    record.peak_bytes = peak_bytes();

    let (metrics, took) = context.stage("evaluate", || training.evaluate(&weights))?;
    record.metrics = metrics;
    record.main_metric = main_metric(&resolved.plan.plan, &record.metrics);
    record.stages.insert("evaluate".into(), took);
    if resolved.plan.plan.engine.precision != Precision::Fp32 {
        let ((), took) = context.stage("compare", || {
            record.precision_cost = cost::measure(resolved, &training, &weights, context)?;
            Ok(((), record.precision_cost_in_words().unwrap_or_default()))
        })?;
        record.stages.insert("compare".into(), took);
    }

    let (_, took) = context.stage("write", || {
        lock(resolved, record, &columns, (recipe, directory))?.write(directory.path())?;
        confusion::write(&training, &weights, &resolved.plan.classes, directory)?;
        let report = report::write(record, (resolved, &columns), (&training, &weights))?;
        let shown = report.display().to_string();
        Ok((report, shown))
    })?;
    record.stages.insert("write".into(), took);
    record.status = Status::Finished;
    record.write(directory.path())
}

/// The first metric of the recipe on the test rows, or on the validation or training rows where there are
/// no test rows.
fn main_metric(plan: &Plan, metrics: &BTreeMap<String, f64>) -> Option<String> {
    let metric = plan.metrics.first()?;
    ["test", "valid", "train"]
        .iter()
        .map(|split| format!("{split}/{}", metric.name()))
        .find(|name| metrics.contains_key(name))
}

fn lock(
    resolved: &Resolved,
    record: &RunRecord,
    columns: &engine::Columns,
    (recipe, directory): (&str, &RunDirectory),
) -> Result<Lock> {
    // A recipe that was read before is YAML.
    let recipe = serde_yaml::from_str(recipe).unwrap_or_default();
    let checkpoint = Digest::of_file(&directory.file(training::CHECKPOINT).join(training::BEST))?;
    Ok(Lock {
        columns: columns.keys().collect(),
        metrics: record.metrics.clone(),
        checkpoint: Some(checkpoint),
        ..Lock::of(&resolved.plan, (Some(Contents::of(resolved)), resolved.rows_of_splits()), recipe)
    })
}
