//! A finished run, or an exported file, measured on labelled data.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::context::Context;
use super::predict::{Predictor, is_exported};
use super::resolve::{Resolved, resolve};
use super::training::{self, BEST, CHECKPOINT, Training};
use super::{directory, engine, fill};
use crate::base::progress::{Unit, work};
use crate::base::suggest::one_of;
use crate::base::{Error, Result};
use crate::data::{self, DataConfig, Dataset, LoadContext, Splits, Targets};
use crate::graph::{self, Weights};
use crate::head::HeadConfig;
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

/// Measures a run (or an exported file) that a word names on the test rows of some data, or on all rows where no test
/// rows are set apart. `data` is the run's own unless given. Activations are taken from the store and kept there;
/// those of an exported file are not.
///
/// # Errors
/// The data have a class that the run does not know; those of the run's stages.
pub fn evaluate(word: &str, data: Option<DataConfig>, context: &Context<'_>) -> Result<Evaluated> {
    if is_exported(word) {
        return of_file(word, data, context);
    }
    let record = directory::find_finished(&context.runs, word)?;
    let run = Path::new(&record.path);
    let plan = ResolvedPlan::read(run)?;
    let mut asked = plan.plan.clone();
    asked.data = data.unwrap_or(asked.data);
    asked.train.fraction = None;
    let mut resolved = resolve(&asked, context)?;
    if resolved.plan.weights != plan.weights {
        let backbone = &plan.plan.model.backbone.source;
        return Err(Error::bad_input(format!("`{backbone}` is not the file that this run was trained with"))
            .hint("its contents changed; run the recipe again"));
    }
    choose(&mut resolved.dataset, &plan.classes)?;
    resolved.plan.classes.clone_from(&plan.classes);
    keep_measured(&mut resolved);
    let (columns, _) = context.stage("engine", || engine::columns(&resolved, context))?;
    let (outcome, _) = context.stage("activations", || fill::fill(&resolved, &columns, None, context))?;
    let skipped: Vec<usize> = outcome.skipped.iter().map(|(row, _)| *row).collect();
    let (weights, _) = Weights::load(&run.join(CHECKPOINT).join(BEST))?;
    let training = Training::storing(&resolved, &columns, &skipped, Some(HeadConfig::stored_rows(&weights)))?;
    let (metrics, _) = training.evaluate(&weights)?;
    let rows = resolved.digests.len() - skipped.len();
    let named = |(name, value): (String, f64)| Some((name.strip_prefix("train/")?.to_string(), value));
    let metrics = metrics.into_iter().filter_map(named).collect();
    let skipped = skipped.len() + resolved.dataset.left_out.len();
    Ok(Evaluated { model: record.path, rows, skipped, metrics })
}

/// Numbers the classes as the model does, and takes the test rows, or all, for the only split.
fn choose(dataset: &mut Dataset, classes: &[String]) -> Result<()> {
    let Targets::Classes { names, of_row } = &mut dataset.targets else {
        return Err(Error::bad_input("only classes are measured by this command"));
    };
    let number = |name: &String| {
        let found = classes.iter().position(|class| class == name).and_then(|at| u32::try_from(at).ok());
        found.ok_or_else(|| {
            let known = one_of(classes.iter().map(String::as_str));
            Error::bad_input(format!("the data have the class `{name}`; the run knows {known}"))
        })
    };
    let numbers = names.iter().map(number).collect::<Result<Vec<u32>>>()?;
    of_row.iter_mut().for_each(|class| *class = numbers[*class as usize]);
    *names = classes.to_vec();
    let all = || (0..dataset.rows.len() as u32).collect();
    let rows = if dataset.splits.test.is_empty() { all() } else { std::mem::take(&mut dataset.splits.test) };
    dataset.splits = Splits { train: rows, valid: Vec::new(), test: Vec::new() };
    Ok(())
}

/// Leaves only the rows that are measured, so that no others go through the engine.
fn keep_measured(resolved: &mut Resolved) {
    let wanted = std::mem::take(&mut resolved.dataset.splits.train);
    let digests = wanted.iter().map(|&row| resolved.digests[row as usize]).collect();
    resolved.dataset.rows = wanted.iter().map(|&row| resolved.dataset.rows[row as usize].clone()).collect();
    if let Targets::Classes { of_row, .. } = &mut resolved.dataset.targets {
        *of_row = wanted.iter().map(|&row| of_row[row as usize]).collect();
    }
    resolved.dataset.splits.train = (0..wanted.len() as u32).collect();
    resolved.digests = digests;
}

fn of_file(word: &str, data: Option<DataConfig>, context: &Context<'_>) -> Result<Evaluated> {
    let mut predictor = Predictor::of(word, context)?;
    let plan = predictor.plan().clone();
    let data = data.ok_or_else(|| {
        Error::bad_input("an exported file does not say where labelled data are").hint("name a folder of classes")
    })?;
    let fetcher = context.fetcher();
    let load = LoadContext { fetcher: &fetcher, home: context.home, seed: plan.plan.seeds.data };
    let mut dataset = data::load(&data, &load)?;
    choose(&mut dataset, &plan.classes)?;
    let rows = dataset.splits.train.clone();
    let items: Vec<Item<'_>> = rows
        .iter()
        .enumerate()
        .map(|(index, &row)| {
            let row = &dataset.rows[row as usize];
            Item { index, samples: &row.samples, origin: &row.origin }
        })
        .collect();
    let total = Some(items.len() as u64);
    let features =
        work(context.progress, "predicting", total, Unit::Samples, || predictor.logits_in_memory(&items, context))?;
    let Targets::Classes { of_row, .. } = &dataset.targets else { unreachable!("`choose` refuses others") };
    let classes: Vec<u32> = rows.iter().map(|&row| of_row[row as usize]).collect();
    let all: Vec<u32> = (0..rows.len() as u32).collect();
    let targets = graph::Targets::Classes(&classes);
    let data = Data { features: &features, targets, train: &all, valid: &[] };
    let (graph, weights) = predictor.above()?;
    let metrics = train::evaluate(graph, weights, &data, &all, &training::config(&plan.plan), "eval")?;
    let named = |(name, value): (String, f64)| Some((name.strip_prefix("eval/")?.to_string(), value));
    let metrics = metrics.into_iter().filter_map(named).collect();
    Ok(Evaluated { model: word.into(), rows: rows.len(), skipped: dataset.left_out.len(), metrics })
}
