//! The table of choices, the best first.

use serde::Serialize;

use super::table::{Outcome, Trial};
use crate::sweep::{Goal, Setting};

/// One choice of values with what its trials gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranked {
    /// The values.
    pub settings: Vec<Setting>,
    /// The mean of the sweep's metric over its repetitions; `None` if none ended well.
    pub mean: Option<f64>,
    /// Half of the mean's 95 % interval, where there are repetitions.
    pub interval: Option<f64>,
    /// The metric of each repetition.
    pub values: Vec<f64>,
    /// The best epoch of each repetition.
    pub best_epochs: Vec<u32>,
    /// Whether it was given up early.
    pub stopped: bool,
    /// Seconds of training.
    pub seconds: f64,
    /// The errors of repetitions that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// All choices, the best first: whole ones before those given up, and failed ones last.
pub fn rank(trials: &[(Trial, Option<Outcome>)], metric: &str, goal: Goal) -> Vec<Ranked> {
    let mut all: Vec<Ranked> = Vec::new();
    for (trial, outcome) in trials {
        let Some(outcome) = outcome else { continue };
        let at = all.iter().position(|ranked| ranked.settings == trial.settings).unwrap_or_else(|| {
            all.push(Ranked {
                settings: trial.settings.clone(),
                mean: None,
                interval: None,
                values: Vec::new(),
                best_epochs: Vec::new(),
                stopped: false,
                seconds: 0.0,
                errors: Vec::new(),
            });
            all.len() - 1
        });
        let ranked = &mut all[at];
        match outcome {
            Outcome::Failed { error } => ranked.errors.push(error.clone()),
            Outcome::Ended { metrics, best_epoch, stopped, seconds, .. } => {
                ranked.values.extend(metrics.get(metric));
                ranked.best_epochs.push(*best_epoch);
                ranked.stopped |= stopped;
                ranked.seconds += seconds;
            }
        }
    }
    for ranked in &mut all {
        let (mean, interval) = t_interval(&ranked.values);
        (ranked.mean, ranked.interval) = (mean, interval);
    }
    let key = |ranked: &Ranked| match ranked.mean {
        Some(mean) if mean.is_finite() => (u8::from(ranked.stopped), -goal.score(mean)),
        _ => (2, 0.0),
    };
    all.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    all
}

/// The mean of some numbers, and half of its 95 % interval by Student's t; no interval for fewer than two.
pub fn t_interval(values: &[f64]) -> (Option<f64>, Option<f64>) {
    // The 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom.
    const T: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    if values.is_empty() {
        return (None, None);
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (Some(mean), None);
    }
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let t = T.get(values.len() - 2).copied().unwrap_or(1.96);
    (Some(mean), Some(t * (variance / n).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Digest;
    use std::collections::BTreeMap;

    fn line(lr: f64, seed: u64, value: Option<f64>, stopped: bool) -> (Trial, Option<Outcome>) {
        let set = |path: &str, value: serde_json::Value| Setting { path: path.into(), value };
        let trial = Trial {
            id: Digest::of(format!("{lr} {seed}").as_bytes()),
            space: Digest::of(b"space"),
            settings: vec![set("train.optimizer.lr", lr.into())],
            replica: vec![set("train.seed", seed.into())],
        };
        let outcome = match value {
            None => Outcome::Failed { error: "it failed".into() },
            Some(value) => {
                let metrics = BTreeMap::from([("valid/loss".to_string(), value)]);
                Outcome::Ended { metrics, best_epoch: 1, curve: vec![value], stopped, seconds: 1.0 }
            }
        };
        (trial, Some(outcome))
    }

    #[test]
    fn repetitions_are_averaged_and_the_best_comes_first() {
        let lines = [
            line(0.1, 0, Some(3.0), false),
            line(0.2, 0, Some(1.0), false),
            line(0.2, 1, Some(2.0), false),
            line(0.3, 0, Some(0.5), true),
            line(0.4, 0, None, false),
        ];
        let ranked = rank(&lines, "valid/loss", Goal::Minimize);
        let rates: Vec<f64> = ranked.iter().map(|r| r.settings[0].value.as_f64().unwrap()).collect();
        assert_eq!(rates, [0.2, 0.1, 0.3, 0.4]);
        assert_eq!(ranked[0].mean, Some(1.5));
        assert!((ranked[0].interval.unwrap() - 12.706 * 0.5).abs() < 1e-9);
        assert_eq!((ranked[1].interval, ranked[3].mean), (None, None));
        assert_eq!(ranked[3].errors, ["it failed"]);
    }
}
