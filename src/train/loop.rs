//! The training loop, whatever the trainer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::batch::Reader;
use super::checkpoint::{Checkpoints, State};
use super::evaluate::measure;
use super::order::epoch_order;
use super::{Data, EpochLog, Session, StepUpdate, TrainConfig, Trained, Trainer, fit};
use crate::base::{Cancel, Error, Result};
use crate::graph::Graph;
use crate::optim::Progress;

/// Epochs shorter than this do not each get a checkpoint.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

pub(super) fn run(
    trainer: &mut dyn Trainer,
    graph: &Graph,
    data: &Data<'_>,
    config: &TrainConfig,
    session: Session<'_>,
) -> Result<Trained> {
    let Session { cancel, checkpoint, on_epoch } = session;
    if config.recipe.early_stopping.is_some() && data.valid.is_empty() {
        let error = Error::bad_input("`train.early_stopping` needs validation rows, and there are none");
        return Err(error.hint("give `data.valid`, such as `{fraction: 0.1}`"));
    }
    let width = graph.outputs().first().map_or(0, |(_, id)| graph.shape(*id).last());
    let mut reader = Reader::new(graph, data.features, data.targets, config.batch_size())?;
    let checkpoints = checkpoint.map(|folder| Checkpoints::new(folder, graph, data, config));
    let resumed = checkpoints.as_ref().map(|c| c.load(trainer)).transpose()?.flatten();
    let (mut best, mut state) = match resumed {
        Some(resumed) => resumed,
        None => {
            fit::statistics(trainer, graph, data, &mut reader, cancel)?;
            (trainer.weights(), State::default())
        }
    };
    for log in &state.epochs {
        on_epoch(log)?;
    }
    let mut saved = Instant::now();
    while !is_finished(&state, config) {
        let began = Instant::now();
        let lr = match epoch(trainer, &mut reader, data, config, &mut state, cancel) {
            Err(Error::Interrupted) => {
                state.seconds += began.elapsed().as_secs_f64();
                if let Some(checkpoints) = &checkpoints {
                    checkpoints.save(trainer, &best, &state)?;
                }
                return Err(Error::Interrupted);
            }
            lr => lr?,
        };
        let mut metrics = BTreeMap::from([("train/loss".to_string(), state.loss().mean())]);
        if !data.valid.is_empty() {
            metrics.extend(measure(trainer, &mut reader, data.valid, width, &config.metrics, "valid")?);
        }
        state.epoch += 1;
        if is_best(&metrics, config, &mut state) {
            best = trainer.weights();
        }
        let seconds = state.seconds + began.elapsed().as_secs_f64();
        let log = EpochLog { epoch: state.epoch, step: state.step, lr, metrics, seconds };
        on_epoch(&log)?;
        state.epochs.push(log);
        (state.step_in_epoch, state.seconds) = (0, 0.0);
        state.set_loss(Default::default());
        if let Some(checkpoints) = &checkpoints
            && (is_finished(&state, config) || saved.elapsed() >= CHECKPOINT_EVERY)
        {
            checkpoints.save(trainer, &best, &state)?;
            saved = Instant::now();
        }
    }
    Ok(Trained { best, last: trainer.weights(), best_epoch: state.best_epoch, epochs: state.epochs })
}

/// Whether all epochs are done, or the best was too many epochs ago.
fn is_finished(state: &State, config: &TrainConfig) -> bool {
    let since_best = state.epoch - state.best_epoch.min(state.epoch);
    state.epoch >= config.recipe.epochs || config.recipe.early_stopping.is_some_and(|stop| since_best >= stop.patience)
}

/// The rest of an epoch; returns its last learning rate.
fn epoch(
    trainer: &mut dyn Trainer,
    reader: &mut Reader<'_>,
    data: &Data<'_>,
    config: &TrainConfig,
    state: &mut State,
    cancel: &Cancel,
) -> Result<f64> {
    let order = epoch_order(data.train, config.order_seed, state.epoch, data.features.block_rows());
    let steps_per_epoch = order.len().div_ceil(config.batch_size()) as u64;
    let mut lr = 0.0;
    let done = (state.step_in_epoch as usize * config.batch_size()).min(order.len());
    reader.each(&order[done..], |batch| {
        cancel.check()?;
        let at = Progress { step: state.step, steps_per_epoch, epochs: u64::from(config.recipe.epochs) };
        lr = config.recipe.scheduler.lr(config.recipe.optimizer.lr(), at);
        let loss = trainer.step(batch, StepUpdate { lr, step: state.step + 1 })?;
        if !loss.sum.is_finite() {
            let epoch = state.epoch + 1;
            let what = format!("the loss is not finite in step {} (epoch {epoch})", state.step + 1);
            return Err(Error::failed(what).hint("lower `train.optimizer.lr`, or standardize the features"));
        }
        let mut sum = state.loss();
        sum.add(loss);
        state.set_loss(sum);
        state.step += 1;
        state.step_in_epoch += 1;
        Ok(())
    })?;
    Ok(lr)
}

/// Whether the epoch that just ended is the best so far: by the first metric on the validation rows, or by
/// their loss where no metric is asked for; without validation rows the last is the best.
fn is_best(metrics: &BTreeMap<String, f64>, config: &TrainConfig, state: &mut State) -> bool {
    let (name, maximize) = config.metrics.first().map_or(("loss", false), |m| (m.name(), m.maximize()));
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
