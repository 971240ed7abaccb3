//! A finished run, or an exported file, measured on labelled data.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::context::Context;
use super::predict::{Predictor, is_exported};
use super::resolve::{Resolved, resolve};
use super::targets::{self, Samples, View};
use super::training::{self, BEST, CHECKPOINT, Training};
use super::{directory, engine, fill, keeping};
use crate::base::progress::{Unit, work};
use crate::base::suggest::one_of;
use crate::base::{Digest, Error, Result};
use crate::data::{DataConfig, Dataset, Splits};
use crate::graph::{Task, Weights};
use crate::head::HeadConfig;
use crate::metric::MetricName;
use crate::plan::ResolvedPlan;
use crate::sample::pipeline::Item;
use crate::train::{self, Data};

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluated {
    /// The run's folder, or the exported file.
    pub model: String,
    /// Rows that were measured.
    pub rows: usize,
    /// Rows left out because they cannot be read, where the data say so.
    pub skipped: usize,
    /// The run's metrics.
    pub metrics: BTreeMap<String, f64>,
}

/// What to measure on, and what.
#[derive(Debug, Clone, Default)]
pub struct EvalRequest {
    /// The data; the run's own unless given.
    pub data: Option<DataConfig>,
    /// The metrics; the run's own where there is none.
    pub metrics: Vec<MetricName>,
}

/// Measures a run (or an exported file) that a word names on the test rows of some data, or on all rows where no test
/// rows are set apart. Activations are taken from the store and kept there; those of an exported file are not.
///
/// # Errors
/// The data have a class that the run does not know (of embeddings any class will do), or are labelled in another way;
/// a metric is of something else than the run's outputs; those of the run's stages.
pub fn evaluate(word: &str, request: EvalRequest, context: &Context<'_>) -> Result<Evaluated> {
    if is_exported(word) {
        return of_file(word, request, context);
    }
    let record = directory::find_finished(&context.runs, word)?;
    let run = Path::new(&record.path);
    let plan = ResolvedPlan::read(run)?;
    let mut asked = plan.plan.clone();
    asked.data = request.data.unwrap_or(asked.data);
    asked.train.fraction = None;
    asked.metrics = metrics(&plan, request.metrics)?;
    let mut resolved = resolve(&asked, context)?;
    if resolved.plan.weights != plan.weights {
        let backbone = &plan.plan.model.backbone.source;
        return Err(Error::bad_input(format!("`{backbone}` is not the file that this run was trained with"))
            .hint("its contents changed; run the recipe again"));
    }
    choose(&mut resolved.dataset, &plan)?;
    resolved.plan.classes = resolved.dataset.targets.names().to_vec();
    keep_measured(&mut resolved);
    let (columns, _) = context.stage("engine", || engine::columns(&resolved, context))?;
    let live = keeping::is_live(&resolved, &columns, context)?.then_some(context);
    let (outcome, _) = context.stage("activations", || match live {
        Some(context) => keeping::look(&resolved, context),
        None => fill::fill(&resolved, &columns, None, context),
    })?;
    let skipped: Vec<usize> = outcome.skipped.iter().map(|(row, _)| *row).collect();
    let (weights, _) = Weights::load(&run.join(CHECKPOINT).join(BEST))?;
    let training = Training::storing(&resolved, &columns, (&skipped, live), Some(HeadConfig::stored_rows(&weights)))?;
    let (metrics, _) = training.evaluate(&weights)?;
    let rows = resolved.digests.len() - skipped.len();
    let named = |(name, value): (String, f64)| Some((name.strip_prefix("train/")?.to_string(), value));
    let metrics = metrics.into_iter().filter_map(named).collect();
    let skipped = skipped.len() + resolved.dataset.left_out.len();
    Ok(Evaluated { model: record.path, rows, skipped, metrics })
}

/// The metrics asked for, or the run's own.
///
/// # Errors
/// One is of something else than the run's outputs.
pub(super) fn metrics(plan: &ResolvedPlan, asked: Vec<MetricName>) -> Result<Vec<MetricName>> {
    let task = plan.plan.train.loss().task();
    match asked.iter().find(|metric| !metric.fits(task)) {
        Some(metric) => {
            let known = MetricName::ALL.iter().filter(|metric| metric.fits(task)).map(|metric| metric.name());
            let what = format!("`{}` does not measure {}; there is {}", metric.name(), task.name(), one_of(known));
            Err(Error::bad_input(what))
        }
        None if asked.is_empty() => Ok(plan.plan.metrics.clone()),
        None => Ok(asked),
    }
}

/// Numbers the classes, labels or values as the model does, and takes the test rows, or all, for the only split.
fn choose(dataset: &mut Dataset, plan: &ResolvedPlan) -> Result<()> {
    let (found, wanted) = (dataset.targets.kind(), plan.target);
    if found != wanted {
        let (found, wanted) = (found.name(), wanted.name());
        return Err(Error::bad_input(format!(
            "the data are labelled with `{found}`, and the run was trained on `{wanted}`"
        )));
    }
    // Embeddings find rows of classes that no training row had.
    if plan.plan.train.loss().task() != Task::Embedding {
        dataset.targets.renumber(&plan.classes)?;
    }
    let all = || (0..dataset.rows.len() as u32).collect();
    let rows = if dataset.splits.test.is_empty() { all() } else { std::mem::take(&mut dataset.splits.test) };
    dataset.splits = Splits { train: rows, valid: Vec::new(), test: Vec::new() };
    Ok(())
}

/// Leaves only the rows that are measured, so that no others go through the engine.
fn keep_measured(resolved: &mut Resolved) {
    let wanted: Vec<usize> =
        std::mem::take(&mut resolved.dataset.splits.train).into_iter().map(|row| row as usize).collect();
    for tower in &mut resolved.others {
        keep_rows(tower, &wanted);
    }
    keep_rows(resolved, &wanted);
}

fn keep_rows(resolved: &mut Resolved, wanted: &[usize]) {
    resolved.digests = wanted.iter().map(|&row| resolved.digests[row]).collect();
    resolved.dataset.rows = wanted.iter().map(|&row| resolved.dataset.rows[row].clone()).collect();
    resolved.dataset.targets.keep(wanted);
    let train = (0..wanted.len() as u32).collect();
    resolved.dataset.splits = Splits { train, valid: Vec::new(), test: Vec::new() };
}

fn of_file(word: &str, request: EvalRequest, context: &Context<'_>) -> Result<Evaluated> {
    let mut predictor = Predictor::of(word, context)?;
    let mut plan = predictor.plan().clone();
    plan.plan.metrics = metrics(&plan, request.metrics)?;
    let data = request.data.ok_or_else(|| {
        Error::bad_input("an exported file does not say where labelled data are")
            .hint("name a folder of classes, or a recipe for such data with `--data-of`")
    })?;
    let mut dataset = predictor.load_data(&data, context)?;
    choose(&mut dataset, &plan)?;
    let rows: Vec<usize> = dataset.splits.train.iter().map(|&row| row as usize).collect();
    let of_row = |(index, row): (usize, &usize)| {
        let row = &dataset.rows[*row];
        Item { index, samples: &row.samples, origin: (&row.origin).into() }
    };
    let items: Vec<Item<'_>> = rows.iter().enumerate().map(of_row).collect();
    let total = Some(items.len() as u64);
    let features =
        work(context.progress, "predicting", total, Unit::Samples, || predictor.logits_in_memory(&items, context))?;
    let all: Vec<u32> = (0..rows.len() as u32).collect();
    let (graph, weights) = predictor.above();
    let kind = targets::of(plan.target);
    let evaluated =
        |metrics| Evaluated { model: word.into(), rows: rows.len(), skipped: dataset.left_out.len(), metrics };
    // Only plain samples are measured, and digests are for their views.
    let views: Vec<View> = rows.iter().map(|&row| View { row, digest: Digest([0; 32]), number: 0 }).collect();
    let samples = Samples { plan: &plan, data: &dataset.rows, targets: &dataset.targets, views: &views };
    if let Some(whole) = kind.whole(&samples)? {
        let measured = whole.measure(graph, weights, &features, &all)?;
        return Ok(evaluated(measured.metrics.into_iter().map(|(name, value)| (name.to_string(), value)).collect()));
    }
    let targets = kind.kept(&dataset.targets, &rows)?;
    let data = Data::new(&features, targets.targets(), &all, &[]);
    let metrics = train::evaluate(graph, weights, &data, &all, &training::config(&plan.plan), "eval")?;
    let named = |(name, value): (String, f64)| Some((name.strip_prefix("eval/")?.to_string(), value));
    Ok(evaluated(metrics.into_iter().filter_map(named).collect()))
}
