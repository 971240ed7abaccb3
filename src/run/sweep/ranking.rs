//! The table of choices, the best first.

use serde::Serialize;

use super::table::{Outcome, Trial};
use crate::sweep::{Goal, Setting, student_t};

/// One choice of values with what its trials gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranked {
    /// The values.
    pub settings: Vec<Setting>,
    /// What it has of keys that only other choices vary.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Setting>,
    /// The mean of the sweep's metric over its repetitions; `None` if none ended well.
    pub mean: Option<f64>,
    /// Half of the mean's 95 % interval, where there are repetitions.
    pub interval: Option<f64>,
    /// The mean loss on the validation rows, by which choices of one mean are told apart.
    pub loss: Option<f64>,
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

/// The loss on the validation rows, which every trial measures.
const LOSS: &str = "valid/loss";

/// All choices, the best first: whole ones before those given up, and failed ones last. Of equals the one with the
/// smaller loss on the validation rows comes first, then the one that was begun first.
pub fn rank(trials: &[(Trial, Option<Outcome>)], metric: &str, goal: Goal) -> Vec<Ranked> {
    let mut all: Vec<Ranked> = Vec::new();
    let mut losses: Vec<Vec<f64>> = Vec::new();
    for (trial, outcome) in trials {
        let Some(outcome) = outcome else { continue };
        let at = all.iter().position(|ranked| ranked.settings == trial.settings).unwrap_or_else(|| {
            all.push(Ranked {
                settings: trial.settings.clone(),
                others: Vec::new(),
                mean: None,
                interval: None,
                loss: None,
                values: Vec::new(),
                best_epochs: Vec::new(),
                stopped: false,
                seconds: 0.0,
                errors: Vec::new(),
            });
            losses.push(Vec::new());
            all.len() - 1
        });
        let ranked = &mut all[at];
        match outcome {
            Outcome::Failed { error } => ranked.errors.push(error.clone()),
            Outcome::Ended { metrics, best_epoch, stopped, seconds, .. } => {
                ranked.values.extend(metrics.get(metric));
                losses[at].extend(metrics.get(LOSS));
                ranked.best_epochs.push(*best_epoch);
                ranked.stopped |= stopped;
                ranked.seconds += seconds;
            }
        }
    }
    for (ranked, losses) in all.iter_mut().zip(&losses) {
        (ranked.mean, ranked.interval) = t_interval(&ranked.values);
        if ranked.mean.is_some_and(|mean| !mean.is_finite()) {
            (ranked.mean, ranked.interval) = (None, None);
            ranked.errors.push(format!("`{metric}` is not finite"));
        }
        ranked.loss = t_interval(losses).0.filter(|loss| loss.is_finite());
    }
    let key = |ranked: &Ranked| {
        let loss = ranked.loss.unwrap_or(f64::INFINITY);
        match ranked.mean {
            Some(mean) => (u8::from(ranked.stopped), -goal.score(mean), loss),
            None => (2, 0.0, loss),
        }
    };
    all.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2))
    });
    all
}

/// The mean of some numbers, and half of its 95 % interval: by Student's t with n − 1 degrees of freedom, t · s / √n
/// with the standard deviation s of the sample. No interval for fewer than two.
pub fn t_interval(values: &[f64]) -> (Option<f64>, Option<f64>) {
    if values.is_empty() {
        return (None, None);
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (Some(mean), None);
    }
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (Some(mean), Some(student_t(n - 1.0, 0.05) * (variance / n).sqrt()))
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
        assert!((ranked[0].interval.unwrap() - 12.706_204_736 * 0.5).abs() < 1e-9);
        assert_eq!((ranked[1].interval, ranked[3].mean), (None, None));
        assert_eq!(ranked[3].errors, ["it failed"]);
    }

    #[test]
    fn of_equals_the_smaller_loss_comes_first_and_then_the_earlier() {
        let mut lines: Vec<_> = [0.1, 0.2, 0.3, 0.4].map(|lr| line(lr, 0, Some(1.0), false)).into();
        for ((_, outcome), loss) in lines.iter_mut().zip([0.7, 0.5, 0.5, f64::NAN]) {
            let Some(Outcome::Ended { metrics, .. }) = outcome else { unreachable!() };
            *metrics = BTreeMap::from([("valid/accuracy".into(), 0.9), ("valid/loss".into(), loss)]);
        }
        let ranked = rank(&lines, "valid/accuracy", Goal::Maximize);
        let rates: Vec<f64> = ranked.iter().map(|r| r.settings[0].value.as_f64().unwrap()).collect();
        assert_eq!(rates, [0.2, 0.3, 0.1, 0.4]);
    }

    #[test]
    fn intervals_are_those_of_scipy() {
        // scipy.stats.t.interval(0.95, 4, loc=mean, scale=std(ddof=1) / sqrt(5))
        let (mean, interval) = t_interval(&[0.91, 0.93, 0.9, 0.95, 0.92]);
        assert!((mean.unwrap() - 0.922).abs() < 1e-12);
        assert!((interval.unwrap() - 0.023_883_883_881).abs() < 1e-12);
        let (mean, none) = t_interval(&[0.5]);
        assert_eq!((mean, none), (Some(0.5), None));
    }
}
