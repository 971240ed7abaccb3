//! What is done as trials train and end: the table is kept, and those that are behind are given up.

use std::collections::BTreeMap;

use super::Sweep;
use super::judge::Judge;
use super::table::{Outcome, Table, Trial};
use crate::base::progress::Event;
use crate::base::{Error, Result};
use crate::train::{Ended, TrialLog, Watch};

/// Watches a group of trials: gives up what is behind, and keeps the table.
pub(super) struct Watcher<'a> {
    pub(super) sweep: &'a Sweep<'a>,
    pub(super) group: &'a [&'a Trial],
    pub(super) limits: Vec<u32>,
    pub(super) judge: Judge<'a>,
    pub(super) table: &'a mut Table,
    pub(super) alone: &'a mut BTreeMap<String, usize>,
    pub(super) ended: u64,
}

impl Watch for Watcher<'_> {
    fn epoch(&mut self, logs: &[TrialLog<'_>]) -> Result<Vec<usize>> {
        self.table.renew()?;
        let stopped = self.judge.epoch(logs, &self.limits);
        let epoch = logs.iter().map(|log| log.log.epoch).max().unwrap_or(0);
        let detail = format!("epoch {epoch}, {}", self.judge.detail());
        self.sweep.context.progress.event(Event::WorkAdvanced { done: self.ended, detail });
        Ok(stopped)
    }

    fn alone(&mut self, _: usize, why: &'static str) {
        *self.alone.entry(why.into()).or_default() += 1;
    }

    fn ended(&mut self, member: usize, result: Result<Ended>) -> Result<()> {
        self.ended += 1;
        let detail = self.judge.detail();
        self.sweep.context.progress.event(Event::WorkAdvanced { done: self.ended, detail });
        self.table.record(self.group[member], outcome(result, &self.sweep.metric))
    }
}

/// What of a trial goes into the table.
fn outcome(result: Result<Ended>, metric: &str) -> Outcome {
    match result {
        Err(error) => Outcome::Failed { error: one_line(&error) },
        Ok(Ended { trained, stopped, .. }) => {
            let best = trained.epochs.iter().find(|log| log.epoch == trained.best_epoch);
            let curve = trained.epochs.iter().map(|log| log.metrics.get(metric).copied().unwrap_or(f64::NAN)).collect();
            Outcome::Ended {
                metrics: best.map(|log| log.metrics.clone()).unwrap_or_default(),
                best_epoch: trained.best_epoch,
                curve,
                stopped,
                seconds: trained.epochs.iter().map(|log| log.seconds).sum(),
            }
        }
    }
}

/// An error with its cause in one line; of problems the first, and how many more there are.
pub(super) fn one_line(error: &Error) -> String {
    if let Error::Invalid(problems) = error
        && let Some(first) = problems.list.first()
    {
        let more = problems.list.len() - 1;
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        let path = if first.path.is_empty() { String::new() } else { format!("`{}`: ", first.path) };
        return format!("{path}{}{more}", first.message).split_whitespace().collect::<Vec<_>>().join(" ");
    }
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}").split_whitespace().collect::<Vec<_>>().join(" ")
}
