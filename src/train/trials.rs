//! Many trials on the same rows: those whose graphs have one shape train together, the others one after the other.

use super::{Data, EpochLog, Session, TrainConfig, Trained, train};
use crate::base::{Cancel, Error, Result};
use crate::graph::{Graph, Weights};

/// One trial.
#[derive(Debug, Clone)]
pub struct Member {
    /// What [`Watch`] knows it by.
    pub number: usize,
    /// What is trained.
    pub graph: Graph,
    /// How it is trained.
    pub config: TrainConfig,
}

/// What came out of one epoch of one trial.
#[derive(Debug, Clone, Copy)]
pub struct TrialLog<'a> {
    /// The trial's number.
    pub member: usize,
    /// The log of its epoch.
    pub log: &'a EpochLog,
}

/// A trial that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// What it gave. If it was given up, `last` are the weights of its best epoch too.
    pub trained: Trained,
    /// Whether it was given up before its last epoch.
    pub stopped: bool,
}

/// Watches trials.
pub trait Watch: Send {
    /// Some trials, all of one age, ended an epoch; gives the numbers of those to give up.
    ///
    /// # Errors
    /// Whatever shall end all of them.
    fn epoch(&mut self, logs: &[TrialLog<'_>]) -> Result<Vec<usize>>;

    /// A trial ended, well or not.
    ///
    /// # Errors
    /// Whatever shall end all of them.
    fn ended(&mut self, member: usize, result: Result<Ended>) -> Result<()>;
}

/// Trains all members on the same data. A member that fails is told to `watch`, and the others go on.
///
/// # Errors
/// Those of `watch`; [`Error::Interrupted`].
pub fn train_trials(members: &[Member], data: &Data<'_>, cancel: &Cancel, watch: &mut dyn Watch) -> Result<()> {
    for member in members {
        alone(member, data, cancel, watch)?;
    }
    Ok(())
}

/// One trial by itself.
fn alone(member: &Member, data: &Data<'_>, cancel: &Cancel, watch: &mut dyn Watch) -> Result<()> {
    let mut logs: Vec<EpochLog> = Vec::new();
    let (mut stopped, mut failed) = (false, None);
    let mut on_epoch = |log: &EpochLog| {
        logs.push(log.clone());
        match watch.epoch(&[TrialLog { member: member.number, log }]) {
            Ok(given_up) if given_up.contains(&member.number) => stopped = true,
            Ok(_) => return Ok(()),
            Err(error) => failed = Some(error),
        }
        // The only way out of the loop is an error; who raised it is known here.
        Err(Error::Interrupted)
    };
    let session = Session { cancel, checkpoint: None, on_epoch: &mut on_epoch };
    let result = train(&member.graph, data, &member.config, session);
    if let Some(error) = failed {
        return Err(error);
    }
    let result = match result {
        Err(Error::Interrupted) if stopped => {
            Ok(Ended { trained: given_up(logs, &member.config, Weights::default()), stopped })
        }
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        other => other.map(|trained| Ended { trained, stopped: false }),
    };
    watch.ended(member.number, result)
}

/// What a trial that was given up gave.
pub(super) fn given_up(epochs: Vec<EpochLog>, config: &TrainConfig, best: Weights) -> Trained {
    let (name, maximize) = config.metrics.first().map_or(("loss", false), |m| (m.name(), m.maximize()));
    let score = |log: &EpochLog| log.metrics.get(&format!("valid/{name}")).map(|v| if maximize { *v } else { -*v });
    // The first of equals, as the loop has it.
    let best_epoch = epochs.iter().fold((0, f64::NEG_INFINITY), |best, log| match score(log) {
        Some(score) if score > best.1 => (log.epoch, score),
        None => (log.epoch, f64::NEG_INFINITY),
        _ => best,
    });
    Trained { last: best.clone(), best, best_epoch: best_epoch.0, epochs }
}
