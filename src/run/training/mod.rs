//! The stages above the cut: training on the stored rows, and the final measurements.

mod graph;
mod rows;

use std::collections::BTreeMap;

use super::context::Context;
use super::directory::RunDirectory;
use super::engine::Columns;
use super::live::LiveRows;
use super::resolve::Resolved;
use super::rows::{Rows, StoredRows};
use super::targets::{self, Kept, Measured, Parts, Samples, View, Whole};
use crate::base::memory::peak_bytes;
use crate::base::progress::{Event, Unit, work};
use crate::base::{Cancel, Error, Result};
use crate::data::{self, Splits};
use crate::graph::import::Tail;
use crate::graph::{Graph, Task, Weights};
use crate::head::Solved;
use crate::plan::{ModelPlan, ResolvedPlan};
use crate::track::Tracker;
use crate::train::{self, Data, Ended, EpochLog, Member, Prediction, Session, TrainConfig, Trained, Watch, exact};

pub use graph::{config, graph, graph_in_use, graph_of_field};
use rows::Sets;
pub use rows::TrialRows;

/// The folder of checkpoints in a run directory.
pub const CHECKPOINT: &str = "checkpoint";
/// The weights that a run is judged and used by, in the folder of checkpoints.
pub const BEST: &str = "best.safetensors";

/// What is trained and what it is trained on.
pub struct Training {
    model: ModelPlan,
    graph: Graph,
    tail: Option<Tail>,
    /// The activations of the rows that are kept.
    pub(super) rows: Rows,
    /// The row of the data set that each of them is.
    pub(super) kept: Vec<usize>,
    pub(super) targets: Kept,
    /// How likely each of them is to be drawn, where the data say so.
    weights: Option<Vec<f32>>,
    /// Where a row is a part of a sample.
    whole: Option<OfWhole>,
    task: Task,
    train: Vec<u32>,
    valid: Vec<u32>,
    test: Vec<u32>,
    /// See [`Data::pool`].
    pool: Vec<u32>,
    config: TrainConfig,
}

/// Rows that are parts of samples.
struct OfWhole {
    targets: Box<dyn Whole>,
    parts: Parts,
    /// From a whole sample to what the run is used for.
    graph: Graph,
    /// The activations of whole samples.
    samples: StoredRows,
}

impl Training {
    /// Joins the rows with their targets and builds the graph above the cut. Rows that were skipped are in no
    /// split. With `live` nothing is stored and rows are computed whenever they are read.
    ///
    /// # Errors
    /// A neck or head that does not fit the outputs of the cut; no training rows are left.
    pub fn new(resolved: &Resolved, columns: &Columns, skipped: &[usize], live: Option<&Context<'_>>) -> Result<Self> {
        Self::storing(resolved, columns, (skipped, live), None)
    }

    /// Like [`Self::new`], for weights that keep so many rows already.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn storing(
        resolved: &Resolved,
        columns: &Columns,
        (skipped, live): (&[usize], Option<&Context<'_>>),
        stored_rows: Option<usize>,
    ) -> Result<Self> {
        Self::viewing(resolved, columns, (skipped, live), (stored_rows, None))
    }

    /// Like [`Self::new`], for trials that share it: each of the rows `seen`, by position among those that are kept, has
    /// views if any have.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn of_trials(resolved: &Resolved, columns: &Columns, skipped: &[usize], seen: &[u32]) -> Result<Self> {
        Self::viewing(resolved, columns, (skipped, None), (None, Some(seen)))
    }

    fn viewing(
        resolved: &Resolved,
        columns: &Columns,
        (skipped, live): (&[usize], Option<&Context<'_>>),
        (stored_rows, seen): (Option<usize>, Option<&[u32]>),
    ) -> Result<Self> {
        let plan = &resolved.plan;
        let Sets { mut kept, mut train, mut valid, mut test, mut pool } = Sets::of(resolved, skipped)?;
        let views = plan.plan.augment().map(|(augment, views)| (views, augment.seed));
        let seen: Vec<u32> = seen.map_or_else(|| train.clone(), <[u32]>::to_vec);
        let mut rows = match live {
            Some(context) => {
                let rows = LiveRows::new(resolved, columns, &kept, context)?;
                Rows::Live(views.iter().fold(rows, |rows, (views, seed)| rows.with_views((&seen, *views, *seed))))
            }
            None => {
                let mut rows = StoredRows::new(resolved, columns, &kept)?;
                if let Some((views, seed)) = views {
                    let digest_of = |row: usize| resolved.digests[kept[row]];
                    rows = rows.with_views(columns.views(), (&seen, views, seed), &digest_of)?;
                }
                Rows::Stored(rows)
            }
        };
        // A view has the target of its sample.
        let plain = kept.len();
        for _ in 1..views.map_or(1, |(views, _)| views) {
            kept.extend(seen.iter().map(|row| kept[*row as usize]).collect::<Vec<_>>());
        }
        let view = |(at, row): (usize, &usize)| View {
            row: *row,
            digest: resolved.digests[*row],
            number: at.checked_sub(plain).map_or(0, |behind| (behind / seen.len()) as u32 + 1),
        };
        let of_samples: Vec<View> = kept.iter().enumerate().map(view).collect();
        let kind = targets::of(plan.target);
        let (data, targets) = (&resolved.dataset.rows[..], &resolved.dataset.targets);
        let samples = Samples { plan, data, targets, views: &of_samples };
        let mut whole = None;
        let targets = match kind.whole(&samples)? {
            None => kind.kept(&resolved.dataset.targets, &kept)?,
            Some(of_whole) => {
                let Rows::Stored(stored) = rows else {
                    return Err(Error::bad_input("parts of samples are trained from what is stored")
                        .hint("store it with `cache.store: activations`"));
                };
                let parts = of_whole.parts(stored.specs())?;
                for rows in [&mut train, &mut valid, &mut test, &mut pool] {
                    *rows = parts.rows(rows);
                }
                if train.is_empty() {
                    return Err(no_part());
                }
                let stored_rows = stored_rows.unwrap_or(train.len());
                let graph = graph_in_use(plan, resolved.tail.as_ref(), stored.specs(), stored_rows)?;
                let samples = StoredRows::new(resolved, columns, &kept[..plain])?;
                rows = Rows::Stored(stored.by_parts(&parts));
                kept = kept.iter().flat_map(|row| std::iter::repeat_n(*row, parts.grid.places())).collect();
                let targets = Kept::Classes(parts.targets.clone());
                whole = Some(OfWhole { targets: of_whole, parts, graph, samples });
                targets
            }
        };
        Ok(Self {
            graph: graph(plan, resolved.tail.as_ref(), rows.specs(), stored_rows.unwrap_or(train.len()))?,
            tail: resolved.tail.clone(),
            model: plan.plan.model.clone(),
            targets,
            weights: resolved.dataset.weights.as_ref().map(|all| kept.iter().map(|&row| all[row]).collect()),
            whole,
            task: plan.plan.train.loss().task(),
            rows,
            kept,
            train,
            valid,
            test,
            pool,
            config: config(&plan.plan),
        })
    }

    /// Of rows that stand for themselves, with what of the backbone is trained: row i has target i, and the splits name
    /// them.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn alone(
        plan: &ResolvedPlan,
        (rows, tail): (StoredRows, Option<Tail>),
        (targets, weights): (&data::Targets, Option<Vec<f32>>),
        splits: Splits,
    ) -> Result<Self> {
        let TrialRows { train, valid, pool } = TrialRows::among(&plan.plan, &splits)?;
        let test = splits.test;
        let kept: Vec<usize> = (0..targets.len()).collect();
        Ok(Self {
            graph: graph(plan, tail.as_ref(), rows.specs(), train.len())?,
            tail,
            model: plan.plan.model.clone(),
            targets: targets::of(plan.target).kept(targets, &kept)?,
            weights,
            whole: None,
            task: plan.plan.train.loss().task(),
            rows: Rows::Stored(rows),
            kept,
            train,
            valid,
            test,
            pool,
            config: config(&plan.plan),
        })
    }

    fn data(&self) -> Data<'_> {
        self.data_of(&self.train, &self.valid, &self.pool)
    }

    fn data_of<'a>(&'a self, train: &'a [u32], valid: &'a [u32], pool: &'a [u32]) -> Data<'a> {
        let weights = self.weights.as_deref();
        Data { features: &self.rows, targets: self.targets.targets(), train, valid, pool, weights }
    }

    /// What of the rows of this data some samples are: themselves, or the parts of them that have a target.
    ///
    /// # Errors
    /// No training rows are left.
    pub fn parts_of(&self, samples: TrialRows) -> Result<TrialRows> {
        let Some(OfWhole { parts, .. }) = &self.whole else { return Ok(samples) };
        let TrialRows { train, valid, pool } = samples;
        let rows = TrialRows { train: parts.rows(&train), valid: parts.rows(&valid), pool: parts.rows(&pool) };
        if rows.train.is_empty() { Err(no_part()) } else { Ok(rows) }
    }

    /// Trains several plans that differ above the cut or in their rows alone. One that fails is told to `watch`.
    ///
    /// # Errors
    /// Those of `watch`; an interruption.
    pub fn trials(&self, plans: &[(&ResolvedPlan, &TrialRows)], cancel: &Cancel, watch: &mut dyn Watch) -> Result<()> {
        let mut members = Vec::new();
        for (number, (plan, rows)) in plans.iter().enumerate() {
            cancel.check()?;
            let data = self.data_of(&rows.train, &rows.valid, &rows.pool);
            let graph = match graph(plan, self.tail.as_ref(), self.rows.specs(), rows.train.len()) {
                Ok(graph) => graph,
                Err(error) => {
                    watch.ended(number, Err(error))?;
                    continue;
                }
            };
            let config = config(&plan.plan);
            match plan.plan.model.head.solved() {
                None => members.push(Member { number, graph, config, data }),
                Some(head) => {
                    watch.alone(number, "a head that is solved at once");
                    match solved(&plan.plan.model, head, &graph, &data, &config, cancel) {
                        Err(Error::Interrupted) => return Err(Error::Interrupted),
                        solved => watch.ended(number, solved)?,
                    }
                }
            }
        }
        train::train_trials(&members, cancel, watch)
    }

    /// Trains, or goes on from the checkpoint in the run directory; keeps the best weights there.
    ///
    /// # Errors
    /// Those of the trainer, of the cache and of the files of the run directory.
    pub fn train(&self, context: &Context<'_>, directory: &RunDirectory) -> Result<(Weights, String)> {
        let checkpoint = directory.file(CHECKPOINT);
        if let Some(head) = self.model.head.solved() {
            let (weights, summary) = self.solve(head, context, directory)?;
            weights.save(&checkpoint.join(BEST), BTreeMap::new())?;
            return Ok((weights, summary));
        }
        if let Some(note) = self.never_drawn() {
            context.progress.event(Event::Warning(note));
        }
        let epochs = u64::from(self.config.recipe.epochs);
        let what = "training".to_string();
        context.progress.event(Event::WorkStarted { what, total: Some(epochs), unit: Unit::Epochs });
        let mut tracker = None;
        let mut on_epoch = |log: &EpochLog| -> Result<()> {
            let step = u64::from(log.epoch);
            let tracker = match &mut tracker {
                Some(tracker) => tracker,
                // The first epoch of this process tells where a resumed run goes on.
                empty => empty.insert(Tracker::open(directory.path(), step.checked_sub(1))?),
            };
            let mut values: Vec<(&str, f64)> =
                log.metrics.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            values.push(("train/lr", log.lr));
            tracker.log(step, &values)?;
            context.progress.event(Event::WorkAdvanced { done: step, detail: self.detail(log) });
            Ok(())
        };
        let session = Session { cancel: context.cancel, checkpoint: Some(&checkpoint), on_epoch: &mut on_epoch };
        let outcome = train::train(&self.graph, &self.data(), &self.config, session);
        context.progress.event(Event::WorkEnded);
        let trained = outcome?;
        tracker.map_or(Ok(()), Tracker::finish)?;
        trained.best.save(&checkpoint.join(BEST), BTreeMap::new())?;
        let summary = self.summary(&trained);
        Ok((trained.best, summary))
    }

    /// Solves a head that takes no steps; what was tried is logged as if each trial were an epoch.
    fn solve(&self, head: Solved<'_>, context: &Context<'_>, directory: &RunDirectory) -> Result<(Weights, String)> {
        let what = format!("solving {}", head.name());
        let solution = work(context.progress, &what, None, Unit::Samples, || {
            exact::solve(&self.model.neck, head, &self.graph, &self.data(), &self.config, context.cancel)
        })?;
        let mut tracker = Tracker::open(directory.path(), None)?;
        for (step, trial) in (1..).zip(&solution.trials) {
            if let Some((name, value)) = &trial.score {
                tracker.log(step, &[(name, *value)])?;
            }
        }
        tracker.finish()?;
        let summary = format!("{} solved: {}", head.name(), solution.summary());
        Ok((solution.weights, summary))
    }

    /// What the sampler leaves out.
    fn never_drawn(&self) -> Option<String> {
        let Kept::Classes(classes) = &self.targets else { return None };
        let sampler = &self.config.recipe.sampler;
        if !sampler.needs_classes() {
            return None;
        }
        // Places of a mask that have no class have a number of their own, which is no index.
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        self.train.iter().for_each(|row| *counts.entry(classes[*row as usize]).or_default() += 1);
        let counts: Vec<usize> = counts.into_values().collect();
        let (out, of) = (sampler.left_out(&counts), counts.len());
        (out > 0).then(|| format!("{out} of {of} classes have one training row and are left out by `train.sampler`"))
    }

    /// The loss, and the first metric where there are rows to validate on.
    fn detail(&self, log: &EpochLog) -> String {
        let wanted = ["train/loss".to_string(), self.main_valid()];
        let shown = wanted.iter().filter_map(|name| Some(format!("{name} {:.4}", log.metrics.get(name)?)));
        shown.collect::<Vec<_>>().join(", ")
    }

    fn main_valid(&self) -> String {
        self.config.metrics.first().map(|metric| format!("valid/{}", metric.name())).unwrap_or_default()
    }

    fn summary(&self, trained: &Trained) -> String {
        let last = trained.epochs.last().map(|log| self.detail(log)).unwrap_or_default();
        let best = trained.epochs.iter().find(|log| log.epoch == trained.best_epoch);
        let best = best.and_then(|log| Some((log.epoch, log.metrics.get(&self.main_valid())?)));
        let best = best.map(|(epoch, value)| format!("; best {} {value:.4} in epoch {epoch}", self.main_valid()));
        let count = self.graph.parameter_count();
        let memory = peak_bytes().map(|bytes| format!(", at most {:.0} MB of memory", bytes as f64 / 1e6));
        let (epochs, best) = (trained.epochs.len(), best.unwrap_or_default());
        format!("{epochs} epochs of {count} weights, {last}{best}{}", memory.unwrap_or_default())
    }

    /// The splits with their rows, by position in [`Self::rows`].
    pub fn splits(&self) -> [(&'static str, &[u32]); 3] {
        [("train", &self.train), ("valid", &self.valid), ("test", &self.test)]
    }

    /// Numbers that the graph gives for a row.
    pub fn width(&self) -> usize {
        self.graph.outputs().first().map_or(0, |(_, id)| self.graph.shape(*id).last())
    }

    /// Whether a row is a part of a sample, and not a sample.
    pub fn is_of_parts(&self) -> bool {
        self.whole.is_some()
    }

    /// What the run gives for whole samples of a split, and the row of the data that each sample is; `None` where a row is
    /// a sample.
    ///
    /// # Errors
    /// Those of the trainer and of the cache.
    pub fn of_samples(&self, weights: &Weights, split: &str) -> Result<Option<(Measured, Vec<usize>)>> {
        let Some(OfWhole { targets, parts, graph, samples }) = &self.whole else { return Ok(None) };
        let rows = self.splits().into_iter().find(|(name, _)| *name == split).map_or(&[][..], |(_, rows)| rows);
        let measured = targets.measure(graph, weights, samples, &parts.samples(rows))?;
        let places = parts.grid.places();
        let of_data = measured.worst.iter().map(|seen| self.kept[seen.sample as usize * places]).collect();
        Ok(Some((measured, of_data)))
    }

    /// What the outputs are.
    pub fn task(&self) -> Task {
        self.task
    }

    /// What is predicted for some rows, by position, `[rows, outputs]`: probabilities of classes or labels, values, or
    /// embeddings.
    ///
    /// # Errors
    /// Those of the cache; weights that do not fit the graph.
    pub fn predictions(&self, weights: &Weights, rows: &[u32]) -> Result<Vec<f32>> {
        train::predict(&self.graph, weights, &self.rows, rows, Prediction::of(self.task))
    }

    /// The metrics of some rows, by position, named after their split; `instead` holds other activations of just these
    /// rows with their targets, in their order.
    ///
    /// # Errors
    /// Those of the trainer and of the cache.
    pub fn judge(
        &self,
        weights: &Weights,
        instead: Option<(&StoredRows, &Kept)>,
        rows: &[u32],
        split: &str,
    ) -> Result<BTreeMap<String, f64>> {
        let Some((features, targets)) = instead else {
            return train::evaluate(&self.graph, weights, &self.data(), rows, &self.config, split);
        };
        let data = Data::new(features, targets.targets(), &[], &[]);
        let rows: Vec<u32> = (0..rows.len() as u32).collect();
        train::evaluate(&self.graph, weights, &data, &rows, &self.config, split)
    }

    /// Every metric on every split that has rows, as `split/metric`.
    ///
    /// # Errors
    /// Those of the trainer and of the cache.
    pub fn evaluate(&self, weights: &Weights) -> Result<(BTreeMap<String, f64>, String)> {
        let mut all = BTreeMap::new();
        for (name, rows) in self.splits() {
            if !rows.is_empty() {
                all.extend(train::evaluate(&self.graph, weights, &self.data(), rows, &self.config, name)?);
            }
        }
        if let Some(OfWhole { targets, parts, graph, samples }) = &self.whole {
            for (name, rows) in self.splits().into_iter().filter(|(_, rows)| !rows.is_empty()) {
                let measured = targets.measure(graph, weights, samples, &parts.samples(rows))?;
                all.extend(measured.metrics.into_iter().map(|(metric, value)| (format!("{name}/{metric}"), value)));
            }
        }
        let main = self.config.metrics.first().map(|metric| metric.name()).unwrap_or_default();
        let shown = ["test", "valid", "train"].iter().filter_map(|split| {
            let name = format!("{split}/{main}");
            Some(format!("{name} {:.4}", all.get(&name)?))
        });
        let summary = shown.collect::<Vec<_>>().join(", ");
        Ok((all, summary))
    }
}

/// There is nothing to train on.
fn no_part() -> Error {
    Error::bad_input("no place of the training masks has a class")
}

/// A head that is solved, as a trial of one epoch.
fn solved(
    model: &ModelPlan,
    head: Solved<'_>,
    graph: &Graph,
    data: &Data<'_>,
    config: &TrainConfig,
    cancel: &Cancel,
) -> Result<Ended> {
    let began = std::time::Instant::now();
    let weights = exact::solve(&model.neck, head, graph, data, config, cancel)?.weights;
    let metrics = train::evaluate(graph, &weights, data, data.valid, config, "valid")?;
    let log = EpochLog { epoch: 1, step: 1, lr: 0.0, metrics, seconds: began.elapsed().as_secs_f64() };
    let trained = Trained { best: weights.clone(), last: weights, best_epoch: 1, epochs: vec![log] };
    Ok(Ended { trained, stopped: false })
}
