//! Giving trials up that are behind others of their age.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Gives up trials that are behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EarlyTerminate {
    /// At certain epochs only the best share of the trials goes on.
    Hyperband(Hyperband),
}

/// Hyperband's early stopping with the keys of Weights & Biases: at each of some epochs a trial goes on if it is
/// among the best `1 / eta` of all trials that came so far. Give `min_iter`, or `max_iter` with `s`. What counts as an
/// iteration is an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hyperband {
    /// The epoch of the first decision; the next ones are `eta` times later each.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub min_iter: Option<u32>,
    /// The epochs of a whole trial; decisions are `eta`, `eta²`, … `eta^s` times earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2))]
    pub max_iter: Option<u32>,
    /// Decisions before `max_iter`; beside `min_iter` the most decisions there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub s: Option<u32>,
    /// One of so many goes on.
    #[schemars(extend("exclusiveMinimum" = 1.0, "maximum" = 100.0))]
    pub eta: f64,
    /// Decides by the metric of the very epoch, not by the best so far.
    pub strict: bool,
}

/// Guards the growth of the rungs against an `eta` of hardly more than 1.
const LEAST_ETA: f64 = 1.01;

impl Default for Hyperband {
    fn default() -> Self {
        Self { min_iter: None, max_iter: None, s: None, eta: 3.0, strict: false }
    }
}

impl Hyperband {
    /// # Errors
    /// Keys that do not go together, in words.
    pub fn check(&self) -> Result<(), String> {
        match (self.min_iter, self.max_iter, self.s) {
            (Some(_), None, _) => Ok(()),
            (None, Some(_), Some(_)) => match self.rungs(u32::MAX).first() {
                Some(_) => Ok(()),
                None => Err("no decision is left at or after the first epoch; lower `s`".into()),
            },
            (None, Some(_), None) => Err("`max_iter` needs `s`, the number of decisions".into()),
            (Some(_), Some(_), _) => Err("`min_iter` does not go with `max_iter`; one of them says the rest".into()),
            (None, None, _) => Err("it needs `min_iter`, or `max_iter` with `s`".into()),
        }
    }

    /// The epochs of decision, below `epochs`, in order.
    pub fn rungs(&self, epochs: u32) -> Vec<u32> {
        let eta = self.eta.max(LEAST_ETA);
        let mut rungs: Vec<u32> = match (self.min_iter, self.max_iter, self.s) {
            (Some(first), _, s) => std::iter::successors(Some(f64::from(first.max(1))), |rung| Some(rung * eta))
                .take_while(|rung| *rung < f64::from(epochs))
                .take(s.map_or(usize::MAX, |s| s as usize))
                .map(|rung| rung as u32)
                .collect(),
            (None, Some(last), Some(s)) => {
                (1..=s).rev().map(|i| (f64::from(last) / eta.powi(i as i32)) as u32).filter(|rung| *rung >= 1).collect()
            }
            _ => Vec::new(),
        };
        rungs.retain(|rung| *rung < epochs);
        rungs.dedup();
        rungs
    }

    /// Whether a trial with this score (more is better) goes on, given the scores at the same epoch of all trials
    /// that came there, its own included.
    pub fn goes_on(&self, score: f64, all: &[f64]) -> bool {
        if score.is_nan() {
            return false;
        }
        let better = all.iter().filter(|other| **other > score).count();
        // At least one goes on.
        let places = (all.len() as f64 / self.eta.max(LEAST_ETA)).ceil().max(1.0);
        (better as f64) < places
    }

    /// What a trial is judged by at a rung: `scores` are those of its epochs until then.
    pub fn judged(&self, scores: &[f64]) -> f64 {
        match self.strict {
            true => scores.last().copied().unwrap_or(f64::NAN),
            false => scores.iter().copied().fold(f64::NAN, f64::max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hyperband(value: serde_json::Value) -> Hyperband {
        let EarlyTerminate::Hyperband(hyperband) = serde_json::from_value(value).unwrap();
        hyperband
    }

    #[test]
    fn rungs_are_those_of_weights_and_biases() {
        let first = hyperband(serde_json::json!({"type": "hyperband", "min_iter": 3}));
        assert_eq!(first.rungs(100), [3, 9, 27, 81]);
        assert_eq!(first.rungs(27), [3, 9]);
        let last = hyperband(serde_json::json!({"type": "hyperband", "max_iter": 27, "s": 2, "eta": 3}));
        assert_eq!(last.rungs(27), [3, 9]);
        let few = hyperband(serde_json::json!({"type": "hyperband", "min_iter": 4, "s": 2, "eta": 1.5}));
        assert_eq!((few.check(), few.rungs(100)), (Ok(()), vec![4, 6]));
        assert!(Hyperband { min_iter: Some(1), max_iter: Some(9), ..few }.check().is_err());
        assert!(Hyperband::default().check().is_err());
        assert!(Hyperband { max_iter: Some(9), ..Hyperband::default() }.check().unwrap_err().contains("needs `s`"));
    }

    #[test]
    fn the_best_share_goes_on() {
        let hyperband = Hyperband { min_iter: Some(1), ..Hyperband::default() };
        let all = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
        let on: Vec<bool> = all.iter().map(|score| hyperband.goes_on(*score, &all)).collect();
        assert_eq!(on, [false, false, false, false, true, true]);
        assert!(hyperband.goes_on(0.1, &[0.1]), "the first trial goes on");
        assert!(!hyperband.goes_on(f64::NAN, &[f64::NAN]));
        assert_eq!(hyperband.judged(&[0.2, 0.5, 0.3]), 0.5);
        assert_eq!(Hyperband { strict: true, ..hyperband }.judged(&[0.2, 0.5, 0.3]), 0.3);
    }
}
