//! The stages above the cut: training on the stored rows, and the final measurements.

mod assemble;
mod graph;
mod rows;

use std::collections::BTreeMap;

use super::context::Context;
use super::directory::RunDirectory;
use super::rows::{Rows, StoredRows};
use super::targets::{Kept, Measured, Parts, Whole};
use crate::base::memory::peak_bytes;
use crate::base::progress::{Event, Unit, work};
use crate::base::{Cancel, Error, Result};
use crate::graph::import::Tail;
use crate::graph::{Graph, Task, Weights};
use crate::head::Solved;
use crate::plan::{ModelPlan, ResolvedPlan};
use crate::track::Tracker;
use crate::train::{self, Data, Ended, EpochLog, Member, Prediction, Session, TrainConfig, Trained, Watch, exact};

use assemble::no_part;
pub use graph::{config, graph, graph_in_use, graph_of_field};
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
