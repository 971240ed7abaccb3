//! The pass that fills the columns of a run: which samples go through the engine, tower by tower and view by view.

use std::borrow::Cow;
use std::collections::HashSet;
use std::thread::available_parallelism;

use super::activations::{Outcome, Task};
use super::context::Context;
use super::engine::Columns;
use super::history::History;
use super::record::Activations;
use super::resolve::Resolved;
use super::share::Shard;
use crate::base::progress::Event;
use crate::base::{Digest, Error, Result};
use crate::cache::{Column, Store};
use crate::engine::verify::{Scratch, may_batch};
use crate::engine::{Engine, Manifest, culprit};
use crate::sample::Ready;
use crate::sample::image::augment::view_digest;

/// Runs the engine of every tower over every sample whose activations are not stored yet, or over a shard of
/// them. All rows of a bad sample are skipped.
///
/// # Errors
/// Those of [`Task::fill`].
pub fn fill(
    resolved: &Resolved,
    columns: &Columns,
    shard: Option<Shard>,
    context: &Context<'_>,
) -> Result<(Outcome, String)> {
    let (mut outcome, summary) = fill_one(resolved, columns, shard.map_or(Part::All, Part::Shard), context)?;
    let mut summaries = vec![summary];
    // Rows with equal bytes share one activation, and so one verdict.
    let bad: std::collections::HashMap<Digest, String> =
        outcome.skipped.drain(..).map(|(row, reason)| (resolved.digests[row], reason)).collect();
    let verdicts = resolved.digests.iter().enumerate().filter(|_| !bad.is_empty());
    outcome.skipped = verdicts.filter_map(|(row, digest)| Some((row, bad.get(digest)?.clone()))).collect();
    for (tower, columns) in resolved.others.iter().zip(&columns.others) {
        let (other, summary) = fill(tower, columns, shard, context)?;
        outcome.activations.computed += other.activations.computed;
        outcome.activations.reused += other.activations.reused;
        outcome.skipped.extend(other.skipped);
        summaries.push(summary);
    }
    outcome.skipped.sort();
    Ok((outcome, summaries.join("; ")))
}

/// Runs the engine of every tower over the samples of some rows only.
///
/// # Errors
/// Those of [`Task::fill`].
pub fn fill_some(resolved: &Resolved, columns: &Columns, rows: &[usize], context: &Context<'_>) -> Result<()> {
    fill_one(resolved, columns, Part::Rows(rows), context)?;
    let mut others = resolved.others.iter().zip(&columns.others);
    others.try_for_each(|(tower, columns)| fill_some(tower, columns, rows, context))
}

/// Which of the samples.
#[derive(Clone, Copy)]
enum Part<'a> {
    All,
    Shard(Shard),
    /// Those of some rows.
    Rows(&'a [usize]),
}

fn fill_one(
    resolved: &Resolved,
    columns: &Columns,
    which: Part<'_>,
    context: &Context<'_>,
) -> Result<(Outcome, String)> {
    let plan = &resolved.plan.plan;
    let store = Store::open(context.home)?;
    let mut engine: Option<(Box<dyn Engine>, usize)> = None;
    let mut total = Outcome::default();
    let mut secs = 0.0;
    for number in 0..plan.augment().map_or(1, |(_, views)| views) {
        let view = View::of(resolved, columns, number)?;
        let mut task = Task {
            dataset: &resolved.dataset,
            digests: &view.digests,
            view: number,
            columns: view.columns,
            store: &store,
            ready: &view.ready,
            batch_size: plan.engine.batch_size,
            threads: available_parallelism().map_or(1, usize::from),
            on_error: plan.data.common.on_error,
            progress: context.progress,
            cancel: context.cancel,
        };
        let bad: HashSet<Digest> = total.skipped.iter().map(|(row, _)| resolved.digests[*row]).collect();
        let mut distinct = task.distinct(&view.rows);
        distinct.retain(|row| !bad.contains(&resolved.digests[*row]));
        match which {
            Part::All => {}
            Part::Shard(shard) => distinct = distinct[shard.range(distinct.len())].to_vec(),
            Part::Rows(rows) => {
                let wanted: HashSet<&Digest> = rows.iter().map(|&row| &resolved.digests[row]).collect();
                distinct.retain(|&row| wanted.contains(&resolved.digests[row]));
            }
        }
        let missing = task.missing(&distinct);
        if missing.is_empty() {
            total.activations.reused += distinct.len() as u64;
            continue;
        }
        let (engine, batch_size) = match &mut engine {
            Some(opened) => opened,
            none => none.insert(open_for(resolved, columns, context)?),
        };
        task.batch_size = *batch_size;
        let begin = std::time::Instant::now();
        let outcome = task.fill(&distinct, &missing, &mut **engine)?;
        secs += begin.elapsed().as_secs_f64();
        task.columns.iter().try_for_each(|column| column.refresh(context.progress))?;
        total.activations.computed += outcome.activations.computed;
        total.activations.reused += outcome.activations.reused;
        total.skipped.extend(outcome.skipped);
    }
    let Activations { computed, reused } = total.activations;
    if computed == 0 && total.skipped.is_empty() {
        return Ok((total, format!("0 computed, {reused} reused{}", lost(columns))));
    }
    let secs = secs.max(1e-9);
    History::open(context.home)?.add(&resolved.plan, computed, secs)?;
    let rate = computed as f64 / secs;
    let skipped = match total.skipped.len() {
        0 => String::new(),
        count => format!(", {count} skipped"),
    };
    let summary = format!("{computed} computed at {rate:.1} samples/s, {reused} reused{skipped}{}", lost(columns));
    Ok((total, summary))
}

/// What the stored dtype lost, of the output that lost most.
fn lost(columns: &Columns) -> String {
    let errors = columns.iter().filter_map(|(_, column)| Some((column.error()?, column.spec().dtype)));
    match errors.filter(|(error, _)| *error > 0.0).max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((error, dtype)) => format!(", stored as {} with a relative error of {error:.1e}", dtype.name()),
        None => String::new(),
    }
}

/// The engine of some columns, and how many samples it may take at once.
///
/// # Errors
/// Those of the engine.
pub fn open_for(resolved: &Resolved, columns: &Columns, context: &Context<'_>) -> Result<(Box<dyn Engine>, usize)> {
    let plan = &resolved.plan.plan;
    let mut engine = resolved.source.open(&columns.engine)?;
    let runtime = resolved.source.engine.describe();
    if may_batch(&columns.engine, &mut *engine, &|seed| resolved.source.ready.probe(seed, 0), &runtime)? {
        return Ok((engine, plan.engine.batch_size));
    }
    let name = &plan.model.backbone.name;
    let node = name_culprit(resolved, columns)?;
    let from = node.map(|node| format!(", from {node} on")).unwrap_or_default();
    let what = format!("what `{name}` gives for a sample depends on its batch{from}: each runs alone");
    context.progress.event(Event::Warning(what));
    Ok((engine, 1))
}

/// One pass: which rows in which form go into which columns.
pub struct View<'a> {
    /// In the order of the engine's outputs.
    pub columns: &'a [Column],
    /// How samples become the network's inputs.
    pub ready: Cow<'a, Ready>,
    /// Of every row of the data set.
    pub digests: Cow<'a, [Digest]>,
    /// Those that have this view.
    pub rows: Vec<usize>,
}

impl<'a> View<'a> {
    /// View 0 is of all rows, the others are of those for training.
    ///
    /// # Errors
    /// What is no picture has no views but the plain one.
    pub fn of(resolved: &'a Resolved, columns: &'a Columns, number: u32) -> Result<Self> {
        let (digests, ready) = (&resolved.digests, &resolved.source.ready);
        let Some((augment, _)) = resolved.plan.plan.augment().filter(|_| number > 0) else {
            let (digests, ready) = (Cow::Borrowed(digests.as_slice()), Cow::Borrowed(ready));
            return Ok(Self { columns: &columns.columns, ready, rows: (0..digests.len()).collect(), digests });
        };
        let ready = ready.view(&augment, number).ok_or_else(|| Error::bad_input("only pictures have views"))?;
        let digests: Vec<Digest> = digests.iter().map(|digest| view_digest(digest, number)).collect();
        let rows = resolved.dataset.splits.train.iter().map(|row| *row as usize).collect();
        Ok(Self { columns: &columns.views, ready: Cow::Owned(ready), digests: Cow::Owned(digests), rows })
    }
}

/// The node that makes a sample depend on its batch, found once and noted in the manifest.
fn name_culprit(resolved: &Resolved, columns: &Columns) -> Result<Option<String>> {
    let prepared = &resolved.source.engine;
    let mut manifest = Manifest::read(&columns.engine.folder)?;
    let Some(mut checks) = manifest.checked_by(&prepared.describe()).cloned() else { return Ok(None) };
    if checks.batch_culprit.is_none() {
        let scratch = Scratch::beside(&columns.engine.folder)?;
        let probe = |seed| resolved.source.ready.probe(seed, 0);
        let sample = probe(0);
        let row = sample.first().and_then(|tensor| tensor.shape.get(1..)).unwrap_or_default();
        checks.batch_culprit = culprit(&columns.engine.model(), prepared, (row, &probe), scratch.path())?;
        manifest.set_checks(checks.clone());
        manifest.write(&columns.engine.folder)?;
    }
    Ok(checks.batch_culprit)
}
