//! The training loop, whatever the trainer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::augment;
use super::awake::Awake;
use super::batch::Reader;
use super::checkpoint::{Checkpoints, State};
use super::evaluate::measure;
use super::order::epoch_order;
use super::{Data, EpochLog, Session, StepUpdate, TrainConfig, Trained, Trainer, fit, full_batch};
use crate::base::{Cancel, Error, Result};
use crate::graph::{Graph, Weights};
use crate::loss::{LossSum, TargetFacts};
use crate::optim::{Lbfgs, LbfgsState, OptimizerConfig, Progress, SchedulerConfig};

/// Epochs shorter than this do not each get a checkpoint.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

pub(super) fn run(
    trainer: &mut dyn Trainer,
    graph: &Graph,
    data: &Data<'_>,
    facts: &TargetFacts,
    config: &TrainConfig,
    session: Session<'_>,
) -> Result<Trained> {
    let Session { cancel, checkpoint, on_epoch } = session;
    let plateau = matches!(config.recipe.scheduler, SchedulerConfig::Plateau(_));
    let watching = [("train.early_stopping", config.recipe.early_stopping.is_some()), ("train.scheduler", plateau)];
    if let Some((key, _)) = watching.iter().find(|(_, used)| *used && data.valid.is_empty()) {
        let error = Error::bad_input(format!("`{key}` needs validation rows, and there are none"));
        return Err(error.hint("give `data.valid`, such as `{fraction: 0.1}`"));
    }
    let width = graph.outputs().first().map_or(0, |(_, id)| graph.shape(*id).last());
    let mut reader = Reader::new(graph, data.features, data.targets, config.batch_size())?;
    let mut method = Method::new(config);
    let checkpoints = checkpoint.map(|folder| Checkpoints::new(folder, graph, data, config));
    let resumed = checkpoints.as_ref().map(|c| c.load(trainer)).transpose()?.flatten();
    let (mut best, mut state) = match resumed {
        Some((tensors, best, state)) => {
            method.restore(&tensors, graph.parameter_count())?;
            (best, state)
        }
        None => {
            fit::statistics(trainer, graph, data, &mut reader, cancel)?;
            fit::targets(trainer, graph, facts)?;
            (trainer.weights()?, State::default())
        }
    };
    for log in &state.epochs {
        on_epoch(log)?;
    }
    let mut saved = Instant::now();
    while !is_finished(&state, config) {
        let began = Instant::now();
        let lr = match method.epoch(trainer, &mut reader, graph, data, config, &mut state, cancel) {
            Err(Error::Interrupted) => {
                state.seconds += began.elapsed().as_secs_f64();
                if let Some(checkpoints) = &checkpoints {
                    checkpoints.save(trainer, method.tensors(), &best, &state)?;
                }
                return Err(Error::Interrupted);
            }
            lr => lr?,
        };
        let mut metrics = BTreeMap::from([("train/loss".to_string(), state.loss().mean())]);
        trainer.swap_average()?;
        if !data.valid.is_empty() {
            metrics.extend(measure(trainer, &mut reader, data.valid, width, &config.metrics, "valid")?);
        }
        state.epoch += 1;
        if is_best(&metrics, config, &mut state) {
            best = trainer.weights()?;
        }
        trainer.swap_average()?;
        let seconds = state.seconds + began.elapsed().as_secs_f64();
        let log = EpochLog { epoch: state.epoch, step: state.step, lr, metrics, seconds };
        on_epoch(&log)?;
        state.epochs.push(log);
        (state.step_in_epoch, state.seconds) = (0, 0.0);
        state.set_loss(Default::default());
        if let Some(checkpoints) = &checkpoints
            && (is_finished(&state, config) || saved.elapsed() >= CHECKPOINT_EVERY)
        {
            checkpoints.save(trainer, method.tensors(), &best, &state)?;
            saved = Instant::now();
        }
    }
    trainer.swap_average()?;
    Ok(Trained { best, last: trainer.weights()?, best_epoch: state.best_epoch, epochs: state.epochs })
}

/// How steps are taken, with what is to be remembered between them.
enum Method {
    /// One after each batch, or after a few.
    Batches,
    /// One after all rows.
    FullBatch(Lbfgs, LbfgsState),
}

impl Method {
    fn new(config: &TrainConfig) -> Self {
        match &config.recipe.optimizer {
            OptimizerConfig::Lbfgs(lbfgs) => Self::FullBatch(lbfgs.clone(), lbfgs.start()),
            _ => Self::Batches,
        }
    }

    fn tensors(&self) -> Weights {
        match self {
            Self::Batches => Weights::default(),
            Self::FullBatch(_, state) => state.tensors(),
        }
    }

    fn restore(&mut self, tensors: &Weights, parameters: usize) -> Result<()> {
        match self {
            Self::Batches => Ok(()),
            Self::FullBatch(_, state) => state.restore(tensors, parameters),
        }
    }

    /// The rest of an epoch; returns its last learning rate.
    #[expect(clippy::too_many_arguments, reason = "they are the loop's variables")]
    fn epoch(
        &mut self,
        trainer: &mut dyn Trainer,
        reader: &mut Reader<'_>,
        graph: &Graph,
        data: &Data<'_>,
        config: &TrainConfig,
        state: &mut State,
        cancel: &Cancel,
    ) -> Result<f64> {
        match self {
            Self::Batches => batches(trainer, reader, data, config, state, cancel),
            Self::FullBatch(lbfgs, history) => {
                let (loss, ends) = full_batch::step(trainer, reader, graph, data, (lbfgs, history), cancel)?;
                state.set_loss(loss);
                state.step += 1;
                state.converged = ends;
                Ok(lbfgs.lr)
            }
        }
    }
}

/// Whether all epochs are done, or the best was too many epochs ago.
pub(super) fn is_finished(state: &State, config: &TrainConfig) -> bool {
    let since_best = state.epoch - state.best_epoch.min(state.epoch);
    state.converged
        || state.epoch >= config.recipe.epochs
        || config.recipe.early_stopping.is_some_and(|stop| since_best >= stop.patience)
}

/// The rest of an epoch of steps, each after `accumulate` batches; returns its last learning rate.
fn batches(
    trainer: &mut dyn Trainer,
    reader: &mut Reader<'_>,
    data: &Data<'_>,
    config: &TrainConfig,
    state: &mut State,
    cancel: &Cancel,
) -> Result<f64> {
    let mut order = epoch_order(data, config, state.epoch)?;
    order.iter_mut().for_each(|row| *row = data.features.view(*row, state.epoch));
    let together = config.recipe.accumulate.max(1) as usize;
    let rows_per_step = config.batch_size() * together;
    let steps_per_epoch = order.len().div_ceil(rows_per_step) as u64;
    let scheduler = &config.recipe.scheduler;
    let base = base_lr(state, config);
    let mut lr = 0.0;
    let done = (state.step_in_epoch as usize * rows_per_step).min(order.len());
    let left = (order.len() - done).div_ceil(config.batch_size());
    let (mut seen, mut sum) = (0, LossSum::default());
    // Threads that wait for a disk are better asleep.
    let _awake = reader.is_in_memory().then(Awake::new);
    reader.each(&order[done..], |batch| {
        // Between the batches of a step there is no point to go on from.
        if seen % together == 0 {
            cancel.check()?;
        }
        let at = Progress { step: state.step, steps_per_epoch, epochs: u64::from(config.recipe.epochs) };
        lr = scheduler.lr(base, at);
        let step = state.step + 1;
        let update = StepUpdate { lr, step };
        let number = state.step * together as u64 + (seen % together) as u64;
        augment::change(&config.recipe.augment, batch, data.features.inputs(), config.seed, number);
        seen += 1;
        let loss = if together == 1 { trainer.step(batch, update)? } else { trainer.accumulate(batch, Some(step))? };
        if !loss.sum.is_finite() {
            return Err(not_finite(state));
        }
        sum.add(loss);
        if seen % together != 0 && seen != left {
            return Ok(());
        }
        if together > 1 {
            trainer.update(update)?;
        }
        let mut total = state.loss();
        total.add(std::mem::take(&mut sum));
        state.set_loss(total);
        state.step += 1;
        state.step_in_epoch += 1;
        Ok(())
    })?;
    Ok(lr)
}

/// The rate that the present epoch starts from.
pub(super) fn base_lr(state: &State, config: &TrainConfig) -> f64 {
    let (name, maximize) = judged_by(config);
    let name = format!("valid/{name}");
    let history: Vec<f64> = state.epochs.iter().filter_map(|log| log.metrics.get(&name).copied()).collect();
    config.recipe.scheduler.base_lr(config.recipe.optimizer.lr(), &history, maximize)
}

/// What tells whether an epoch is better than another, and whether more of it is better.
fn judged_by(config: &TrainConfig) -> (&'static str, bool) {
    config.metrics.first().map_or(("loss", false), |m| (m.name(), m.maximize()))
}

/// A step's loss is not finite.
pub(super) fn not_finite(state: &State) -> Error {
    let what = format!("the loss is not finite in step {} (epoch {})", state.step + 1, state.epoch + 1);
    Error::failed(what).hint("lower `train.optimizer.lr`, or standardize the features")
}

/// Whether the epoch that just ended is the best so far: by the first metric on the validation rows, or by
/// their loss where no metric is asked for; without validation rows the last is the best.
pub(super) fn is_best(metrics: &BTreeMap<String, f64>, config: &TrainConfig, state: &mut State) -> bool {
    let (name, maximize) = judged_by(config);
    let value = metrics.get(&format!("valid/{name}")).copied();
    let better = match (value, state.best) {
        (Some(value), Some(best)) if maximize => value > best,
        (Some(value), Some(best)) => value < best,
        (Some(_), None) | (None, _) => true,
    };
    if better {
        state.best = value;
        state.best_epoch = state.epoch;
    }
    better
}
