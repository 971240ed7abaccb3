//! Gathers what a report shows of a run: its files, and predictions made anew from the stored activations.

mod extent;
mod features;
mod pictures;
mod rows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::context::Context;
use super::engine::{self, Columns};
use super::lock::LOCK;
use super::record::{RECORD, RunRecord};
use super::resolve::{Resolved, resolve};
use super::settings;
use super::training::{BEST, CHECKPOINT, Training};
use crate::base::{Result, file};
use crate::graph::Weights;
use crate::plan::{PLAN, ResolvedPlan};
use crate::recipe::StoreMode;
use crate::report::evaluation::Evaluation;
use crate::report::{Cost, Curve, Engine, Parity, Report, Run};
use crate::track;
use crate::track::mlflow::{self, MlflowRun, Sent};
pub use extent::Extent;
use rows::Rows;

/// The page's file name in a run directory.
pub const REPORT: &str = "report.html";
/// Digits of an id on the page.
const ID_DIGITS: usize = 16;

/// What a report shows of a run. What cannot be had any more (moved data, a deleted cache) is left out with a note.
///
/// # Errors
/// The files of the run directory are damaged; an interruption.
pub fn gather(record: &RunRecord, extent: &Extent, context: &Context<'_>) -> Result<Run> {
    let mut run = from_files(record)?;
    match from_rows(record, &mut run, extent, context) {
        Err(error) if context.cancel.check().is_ok() => {
            run.notes.push(format!("Predictions and features could not be looked at again: {error}."));
        }
        other => other?,
    }
    Ok(run)
}

/// Writes the page of a run that has just been evaluated into its directory.
///
/// # Errors
/// Those of the cache and of the file system.
pub(super) fn write(
    record: &RunRecord,
    (resolved, columns): (&Resolved, &Columns),
    (training, weights): (&Training, &Weights),
) -> Result<PathBuf> {
    let mut run = from_files(record)?;
    run.engine = engine_facts(record, resolved, columns);
    let rows = Rows::new(resolved, training, weights)?;
    rows.show(&mut run, &Extent::default())?;
    rows.track(&run, Path::new(&record.path), weights)?;
    let path = Path::new(&record.path).join(REPORT);
    file::write_bytes(&path, page(vec![run])?.as_bytes())?;
    Ok(path)
}

/// Writes the page of a run that was trained on the activations of a pack, whose samples are not there.
///
/// # Errors
/// Those of the cache and of the file system.
pub(super) fn write_of_pack(
    record: &RunRecord,
    plan: &ResolvedPlan,
    (training, weights): (&Training, &Weights),
) -> Result<PathBuf> {
    let mut run = from_files(record)?;
    run.notes.push("Of a pack: its rows are known by number, and there are no samples to show.".into());
    run.engine = Engine { facts: facts(record, plan, None), parity: Vec::new() };
    let rows = Rows::of_pack(&plan.classes, training, weights)?;
    rows.show(&mut run, &Extent::default())?;
    rows.track(&run, Path::new(&record.path), weights)?;
    let path = Path::new(&record.path).join(REPORT);
    file::write_bytes(&path, page(vec![run])?.as_bytes())?;
    Ok(path)
}

/// Writes the page of a run of which nothing but its own files is here.
///
/// # Errors
/// Those of the file system.
pub(super) fn write_from_files(record: &RunRecord) -> Result<PathBuf> {
    let mut run = from_files(record)?;
    run.notes.push("Of a pack without activations: there are no rows to show.".into());
    let path = Path::new(&record.path).join(REPORT);
    file::write_bytes(&path, page(vec![run])?.as_bytes())?;
    Ok(path)
}

/// The page of some runs.
///
/// # Errors
/// The data do not serialise.
pub fn page(runs: Vec<Run>) -> Result<String> {
    let title = match &runs[..] {
        [run] => run.name.clone(),
        runs => format!("{} runs", runs.len()),
    };
    let made_secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    Report { title, made_secs, caft: env!("CARGO_PKG_VERSION").into(), sweeps: Vec::new(), runs }.to_html()
}

/// What the files of the run directory say.
fn from_files(record: &RunRecord) -> Result<Run> {
    let directory = Path::new(&record.path);
    let recipe = file::read_text(&directory.join("recipe.yaml"), 64 << 20).unwrap_or_default();
    let settings =
        settings::of_recipe(&recipe).iter().map(|(key, value)| (key.clone(), settings::plain(value))).collect();
    let mut curves: BTreeMap<String, Vec<(u64, Option<f64>)>> = BTreeMap::new();
    for line in track::read(directory)? {
        for (name, value) in line.values {
            curves.entry(name).or_default().push((line.step, value.as_f64()));
        }
    }
    let stages = record.stages.clone();
    Ok(Run {
        name: record.name.clone(),
        id: record.id.short(ID_DIGITS),
        error: record.error.clone(),
        main_metric: record.main_metric.clone(),
        metrics: record.metrics.clone(),
        curves: curves.into_iter().map(|(name, points)| Curve { name, points }).collect(),
        cost: Cost { computed: record.activations.computed, reused: record.activations.reused, stages, bytes: None },
        recipe,
        settings,
        ..Run::default()
    })
}

/// Sends a finished run to the experiment of its name on an MLflow server.
///
/// # Errors
/// Those of [`mlflow::send`]; damaged files of the run directory.
pub fn to_mlflow(record: &RunRecord, server: &str) -> Result<Sent> {
    let run = from_files(record)?;
    let last = run.curves.iter().flat_map(|curve| curve.points.last()).map(|(step, _)| *step).max().unwrap_or(0);
    let curves = run
        .curves
        .iter()
        .flat_map(|curve| curve.points.iter().filter_map(|(step, value)| Some((curve.name.clone(), *step, (*value)?))));
    let results = run.metrics.iter().map(|(name, value)| (format!("final/{name}"), last, *value));
    let metrics = curves.chain(results).filter(|(_, _, value)| value.is_finite()).collect();
    let checkpoint = format!("{CHECKPOINT}/{BEST}");
    let names = [REPORT, "recipe.yaml", PLAN, LOCK, RECORD, "metrics.jsonl", "confusion.json", &checkpoint];
    let folder = Path::new(&record.path);
    let files = names.into_iter().map(|name| (name.to_string(), folder.join(name))).filter(|(_, path)| path.is_file());
    let run = MlflowRun {
        name: format!("{} {}", run.name, record.id.short(8)),
        id: record.id.to_string(),
        started_secs: record.started_secs,
        seconds: record.stages.values().sum(),
        parameters: run.settings.into_iter().collect(),
        metrics,
        files: files.collect(),
    };
    mlflow::send(server, &record.name, &run)
}

/// What the stored rows say under the run's weights.
fn from_rows(record: &RunRecord, run: &mut Run, extent: &Extent, context: &Context<'_>) -> Result<()> {
    let directory = Path::new(&record.path);
    let plan = ResolvedPlan::read(directory)?;
    let resolved = resolve(&plan.plan, context)?;
    if resolved.plan.id() != plan.id() {
        run.notes
            .push("The data, the backbone or the runtime changed since the run; what follows is of today's.".into());
    }
    let (columns, _) = engine::columns(&resolved, context)?;
    run.engine = engine_facts(record, &resolved, &columns);
    let (training, weights) = stored(directory, &resolved, &columns, context)?;
    Rows::new(&resolved, &training, &weights)?.show(run, extent)
}

/// What a finished run predicted, split by split, from its stored rows.
///
/// # Errors
/// They cannot be had any more: moved data, a deleted cache.
pub fn evaluations(record: &RunRecord, context: &Context<'_>) -> Result<Vec<Evaluation>> {
    let directory = Path::new(&record.path);
    let resolved = resolve(&ResolvedPlan::read(directory)?.plan, context)?;
    let (columns, _) = engine::columns(&resolved, context)?;
    let (training, weights) = stored(directory, &resolved, &columns, context)?;
    Ok(Rows::new(&resolved, &training, &weights)?.evaluations())
}

/// The rows of a run that are stored, and its weights.
fn stored(
    directory: &Path,
    resolved: &Resolved,
    columns: &Columns,
    context: &Context<'_>,
) -> Result<(Training, Weights)> {
    let stored = |row: &usize| columns.iter().all(|(_, column)| column.contains(&resolved.digests[*row]));
    let absent: Vec<usize> = (0..resolved.digests.len()).filter(|row| !stored(row)).collect();
    let live = (resolved.plan.plan.cache.store == StoreMode::None).then_some(context);
    let absent = if live.is_some() { Vec::new() } else { absent };
    let training = Training::new(resolved, columns, &absent, live)?;
    let (weights, _) = Weights::load(&directory.join(CHECKPOINT).join(BEST))?;
    Ok((training, weights))
}

fn engine_facts(record: &RunRecord, resolved: &Resolved, columns: &Columns) -> Engine {
    let checks = columns.manifest().checks.iter();
    let parity = checks.flat_map(|checks| &checks.parity).map(|parity| Parity {
        output: parity.output.clone(),
        cosine: parity.cosine,
        max_difference: parity.max_difference,
    });
    let provider = resolved.source.engine.choice.info.name;
    Engine { facts: facts(record, &resolved.plan, Some(provider)), parity: parity.collect() }
}

/// What the activations were made by.
fn facts(record: &RunRecord, resolved: &ResolvedPlan, provider: Option<&str>) -> BTreeMap<String, String> {
    let plan = &resolved.plan;
    let outputs: Vec<&str> = resolved.cut().iter().map(|output| output.name.as_str()).collect();
    let facts = [
        ("backbone", plan.model.backbone.name.clone()),
        ("outputs", outputs.join(", ")),
        ("precision", plan.engine.precision.name().to_string()),
        ("provider", provider.map_or_else(|| resolved.numeric_class.clone(), str::to_string)),
        ("runtime", resolved.runtime.clone()),
        ("stored as", plan.cache.dtype.name().to_string()),
        ("weights", resolved.weights.to_string()),
    ];
    let mut facts: BTreeMap<String, String> = facts.map(|(name, value)| (name.to_string(), value)).into();
    facts.extend(record.precision_cost_in_words().map(|words| ("precision's cost".to_string(), words)));
    facts
}
