//! Which trials are given up before their end.

use super::table::{Outcome, Trial};
use crate::sweep::{EarlyTerminate, Goal};
use crate::train::TrialLog;

/// Watches trials that train together, beside those that ended before.
pub struct Judge<'a> {
    rule: Option<&'a EarlyTerminate>,
    metric: &'a str,
    goal: Goal,
    /// Scores by epoch of trials that ended before.
    before: Vec<Vec<f64>>,
    /// Scores by epoch of the trials at hand, by member.
    now: Vec<Vec<f64>>,
    stopped: usize,
}

impl<'a> Judge<'a> {
    /// A judge by a rule, or by none.
    pub fn new(
        rule: Option<&'a EarlyTerminate>,
        metric: &'a str,
        goal: Goal,
        table: &[(Trial, Option<Outcome>)],
    ) -> Self {
        let scores = |outcome: &Option<Outcome>| match outcome {
            Some(Outcome::Ended { curve, .. }) => Some(curve.iter().map(|value| goal.score(*value)).collect()),
            _ => None,
        };
        let before = table.iter().filter_map(|(_, outcome)| scores(outcome)).collect();
        Self { rule, metric, goal, before, now: Vec::new(), stopped: 0 }
    }

    /// Takes the logs of one epoch; gives the members to give up. `limits` are the epochs of each member.
    pub fn epoch(&mut self, logs: &[TrialLog<'_>], limits: &[u32]) -> Vec<usize> {
        for TrialLog { member, log } in logs {
            if self.now.len() <= *member {
                self.now.resize(*member + 1, Vec::new());
            }
            let value = log.metrics.get(self.metric).copied().unwrap_or(f64::NAN);
            self.now[*member].push(self.goal.score(value));
        }
        let Some(EarlyTerminate::Hyperband(hyperband)) = self.rule else { return Vec::new() };
        let mut stopped = Vec::new();
        for TrialLog { member, log } in logs {
            let rung = log.epoch as usize;
            if !hyperband.rungs(limits[*member]).contains(&log.epoch) {
                continue;
            }
            let all = self.before.iter().chain(&self.now).filter(|scores| scores.len() >= rung);
            let all: Vec<f64> = all.map(|scores| hyperband.judged(&scores[..rung])).collect();
            if !hyperband.goes_on(hyperband.judged(&self.now[*member]), &all) {
                stopped.push(*member);
            }
        }
        self.stopped += stopped.len();
        stopped
    }

    /// A few words on how it goes.
    pub fn detail(&self) -> String {
        let best = self.now.iter().flatten().copied().fold(f64::NAN, f64::max);
        let stopped = if self.stopped > 0 { format!(", {} given up", self.stopped) } else { String::new() };
        // The score of what shall be small is its negative, and the goal's score is its own inverse.
        format!("best {} {:.4}{stopped}", self.metric, self.goal.score(best))
    }
}
