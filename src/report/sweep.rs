//! What a page shows of a sweep: its trials on parallel axes, what each parameter explains, the curves of all.

use serde::Serialize;
use serde_json::Value;

use crate::metric::regression::spearman;
use crate::sweep::Setting;

/// Trials that a page shows at most, the best ones.
const MOST_TRIALS: usize = 2000;
/// Points of a trial's curve at most.
const POINTS: usize = 100;
/// From this ratio of the largest to the smallest value on, an axis is logarithmic.
const LOGARITHMIC: f64 = 50.0;
/// Up to so many different values, each has a mark on its axis.
const MARKS: usize = 8;
/// Bins of numbers for the analysis of variance.
const BINS: usize = 8;
/// Fewer trials say nothing of parameters.
const LEAST: usize = 5;

/// A sweep.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sweep {
    /// The recipe's name.
    pub name: String,
    /// The end of its folder's name.
    pub id: String,
    /// The metric that trials are compared by.
    pub metric: String,
    /// Whether more of it is better.
    pub maximize: bool,
    /// What varies.
    pub axes: Vec<Axis>,
    /// The trials, the best first.
    pub trials: Vec<Trial>,
    /// Choices of values with their repetitions, the best first.
    pub choices: Vec<Choice>,
    /// What each parameter explains, the most first.
    pub importance: Vec<Importance>,
    /// What the reader should know of what is missing.
    pub notes: Vec<String>,
    /// The run directories of the best choices.
    pub runs: Vec<String>,
    /// Seconds of training in all.
    pub seconds: f64,
}

/// A parameter as an axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Axis {
    /// The key's path.
    pub path: String,
    /// Whether its values are numbers.
    pub numeric: bool,
    /// Whether distances are of logarithms.
    pub logarithmic: bool,
    /// Places from 0 to 1 with what stands there.
    pub marks: Vec<(f64, String)>,
    /// The least and the greatest number.
    #[serde(skip)]
    ends: (f64, f64),
}

/// One training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// Its place on every axis, from 0 to 1; none where it has no such value.
    pub places: Vec<Option<f64>>,
    /// Its values in words, by axis.
    pub shown: Vec<String>,
    /// Which repetition it is, in words.
    pub replica: String,
    /// The metric at its best epoch.
    pub value: Option<f64>,
    /// The metric after every epoch, or after evenly taken ones.
    pub curve: Vec<(u32, Option<f64>)>,
    /// Whether it was given up early.
    pub stopped: bool,
    /// The error that ended it.
    pub error: Option<String>,
}

/// A choice of values with what its repetitions gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// Its values in words, by axis.
    pub shown: Vec<String>,
    /// Its values as numbers, by axis, where they are numbers.
    pub numbers: Vec<Option<f64>>,
    /// The mean of the metric.
    pub mean: Option<f64>,
    /// Half of the mean's 95 % interval.
    pub interval: Option<f64>,
    /// The metric of each repetition.
    pub values: Vec<f64>,
    /// Whether it was given up early.
    pub stopped: bool,
    /// The first error of its repetitions.
    pub error: Option<String>,
}

/// What a parameter explains.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Importance {
    /// The key's path.
    pub path: String,
    /// The share of the metric's variance that lies between its values, ε² of an analysis of variance.
    pub share: f64,
    /// Spearman's rank correlation of value and metric; of numbers only.
    pub correlation: Option<f64>,
}

/// A trial as it is given.
#[derive(Debug, Clone)]
pub struct Given {
    /// Its values.
    pub settings: Vec<Setting>,
    /// Which repetition it is.
    pub replica: Vec<Setting>,
    /// The metric at its best epoch.
    pub value: Option<f64>,
    /// The metric after every epoch.
    pub curve: Vec<f64>,
    /// Whether it was given up early.
    pub stopped: bool,
    /// The error that ended it.
    pub error: Option<String>,
}

/// Puts trials on axes, the best first, and sees what parameters explain.
pub fn trials(given: &[Given], maximize: bool, sweep: &mut Sweep) {
    let mut paths: Vec<&str> = Vec::new();
    for setting in given.iter().flat_map(|trial| &trial.settings) {
        if !paths.contains(&setting.path.as_str()) {
            paths.push(&setting.path);
        }
    }
    sweep.axes = paths.iter().map(|path| Axis::new(path, given)).collect();
    let better = |value: f64| if maximize { -value } else { value };
    let key = |trial: &Given| {
        (u8::from(trial.error.is_some()) * 2 + u8::from(trial.stopped), trial.value.map_or(f64::INFINITY, better))
    };
    let mut order: Vec<&Given> = given.iter().collect();
    order.sort_by(|a, b| key(a).0.cmp(&key(b).0).then(key(a).1.total_cmp(&key(b).1)));
    if order.len() > MOST_TRIALS {
        sweep.notes.push(format!("Of {} trials the best {MOST_TRIALS} are shown.", order.len()));
        order.truncate(MOST_TRIALS);
    }
    sweep.trials = order.iter().map(|trial| sweep.trial(trial)).collect();
    sweep.importance = importance(&sweep.axes, given);
}

impl Sweep {
    fn trial(&self, given: &Given) -> Trial {
        let value_of = |axis: &Axis| given.settings.iter().find(|setting| setting.path == axis.path);
        let step = given.curve.len().div_ceil(POINTS).max(1);
        let is_shown = |epoch: usize| epoch.is_multiple_of(step) || epoch + 1 == given.curve.len();
        let points = given.curve.iter().enumerate().filter(|(epoch, _)| is_shown(*epoch));
        let replica: Vec<String> = given.replica.iter().map(|s| format!("{} {}", last(&s.path), shown(s))).collect();
        Trial {
            places: self.axes.iter().map(|axis| value_of(axis).and_then(|setting| axis.place(setting))).collect(),
            shown: self.shown(&given.settings),
            replica: replica.join(", "),
            value: given.value.filter(|value| value.is_finite()),
            curve: points.map(|(epoch, value)| (epoch as u32 + 1, Some(*value).filter(|v| v.is_finite()))).collect(),
            stopped: given.stopped,
            error: given.error.clone(),
        }
    }

    /// Values in words, by axis.
    pub fn shown(&self, settings: &[Setting]) -> Vec<String> {
        let of_axis = |axis: &Axis| settings.iter().find(|setting| setting.path == axis.path);
        self.axes.iter().map(|axis| of_axis(axis).map(shown).unwrap_or_default()).collect()
    }

    /// Values as numbers, by axis.
    pub fn numbers(&self, settings: &[Setting]) -> Vec<Option<f64>> {
        let of_axis = |axis: &Axis| settings.iter().find(|setting| setting.path == axis.path);
        self.axes.iter().map(|axis| of_axis(axis)?.value.as_f64()).collect()
    }
}

/// A value in few words.
fn shown(setting: &Setting) -> String {
    match &setting.value {
        Value::Number(number) if number.is_f64() => short(number.as_f64().unwrap_or(0.0)),
        _ => setting.in_words(),
    }
}

/// A number in four digits.
fn short(x: f64) -> String {
    match x != 0.0 && !(1e-3..1e5).contains(&x.abs()) {
        true => {
            let text = format!("{x:.3e}");
            let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
        false => {
            let digits = (3 - x.abs().max(1e-3).log10().floor() as i32).clamp(0, 6) as usize;
            let text = format!("{x:.digits$}");
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
        }
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

impl Axis {
    fn new(path: &str, given: &[Given]) -> Self {
        let of_path = |trial: &'_ Given| trial.settings.iter().find(|s| s.path == path).cloned();
        let values: Vec<Setting> = given.iter().filter_map(of_path).collect();
        let numbers: Option<Vec<f64>> = values.iter().map(|setting| setting.value.as_f64()).collect();
        let Some(mut numbers) = numbers.filter(|numbers| !numbers.is_empty()) else {
            let mut names: Vec<String> = values.iter().map(shown).collect();
            names.sort();
            names.dedup();
            let at = |i: usize| if names.len() > 1 { i as f64 / (names.len() - 1) as f64 } else { 0.5 };
            let marks = names.iter().enumerate().map(|(i, name)| (at(i), name.clone())).collect();
            return Self { path: path.into(), numeric: false, logarithmic: false, marks, ends: (0.0, 0.0) };
        };
        numbers.sort_by(f64::total_cmp);
        numbers.dedup();
        let (low, high) = (numbers[0], numbers[numbers.len() - 1]);
        let logarithmic = low > 0.0 && high / low >= LOGARITHMIC;
        let ends = (low, high);
        let wanted = if numbers.len() <= MARKS { numbers } else { even(low, high, logarithmic) };
        let marks = wanted.iter().map(|&x| (part(x, ends, logarithmic), short(x))).collect();
        Self { path: path.into(), numeric: true, logarithmic, marks, ends }
    }

    /// From 0 to 1.
    fn place(&self, setting: &Setting) -> Option<f64> {
        if !self.numeric {
            let name = shown(setting);
            return self.marks.iter().find(|(_, other)| *other == name).map(|(place, _)| *place);
        }
        Some(part(setting.value.as_f64()?, self.ends, self.logarithmic))
    }
}

/// Where a number lies between two others.
fn part(x: f64, (low, high): (f64, f64), logarithmic: bool) -> f64 {
    let at = |x: f64| if logarithmic { x.max(f64::MIN_POSITIVE).ln() } else { x };
    if high > low { (at(x) - at(low)) / (at(high) - at(low)) } else { 0.5 }
}

/// Five numbers from the lowest to the highest.
fn even(low: f64, high: f64, logarithmic: bool) -> Vec<f64> {
    let between = |t: f64| if logarithmic { (low.ln() + t * (high / low).ln()).exp() } else { low + t * (high - low) };
    (0..5).map(|i| between(f64::from(i) / 4.0)).collect()
}

/// What the value of each parameter explains by itself: `ε² = (SS_between − (k − 1) · MS_within) / SS_total` over k groups
/// of trials, one per value, numbers in up to 8 bins of as many trials (Kelley's correction of the correlation ratio).
/// Trials that failed or were given up are left out.
fn importance(axes: &[Axis], given: &[Given]) -> Vec<Importance> {
    let whole: Vec<(&Given, f64)> = given
        .iter()
        .filter(|trial| !trial.stopped && trial.error.is_none())
        .filter_map(|trial| Some((trial, trial.value.filter(|value| value.is_finite())?)))
        .collect();
    if whole.len() < LEAST {
        return Vec::new();
    }
    let of_axis = |axis: &Axis| -> Option<Importance> {
        let pairs: Vec<(&Setting, f64)> = whole
            .iter()
            .filter_map(|(trial, y)| Some((trial.settings.iter().find(|s| s.path == axis.path)?, *y)))
            .collect();
        let numbers: Option<Vec<f64>> = pairs.iter().map(|(setting, _)| setting.value.as_f64()).collect();
        let groups = match &numbers {
            Some(numbers) => bins(numbers),
            None => {
                let mut names: Vec<String> = pairs.iter().map(|(setting, _)| shown(setting)).collect();
                let all = names.clone();
                names.sort();
                names.dedup();
                all.iter().map(|name| names.iter().position(|other| other == name).unwrap_or(0)).collect()
            }
        };
        let y: Vec<f64> = pairs.iter().map(|(_, y)| *y).collect();
        let share = explained(&groups, &y)?;
        let correlation = numbers.map(|numbers| spearman(&numbers, &y));
        Some(Importance { path: axis.path.clone(), share, correlation })
    };
    let mut all: Vec<Importance> = axes.iter().filter_map(of_axis).collect();
    all.sort_by(|a, b| b.share.total_cmp(&a.share));
    all
}

/// The bin of each number: its own if there are few different ones, else bins of about as many numbers.
fn bins(numbers: &[f64]) -> Vec<usize> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut distinct = sorted.clone();
    distinct.dedup();
    let count = BINS.min((numbers.len() / 2).max(2));
    let ends: Vec<f64> = match distinct.len() <= count {
        true => distinct,
        false => (1..=count).map(|i| sorted[(i * sorted.len() / count).max(1) - 1]).collect(),
    };
    numbers.iter().map(|x| ends.iter().position(|end| x <= end).unwrap_or(ends.len())).collect()
}

/// ε², from 0 to 1; `None` where there is one group only, or a group for every number.
fn explained(groups: &[usize], y: &[f64]) -> Option<f64> {
    let n = y.len() as f64;
    let mean = y.iter().sum::<f64>() / n.max(1.0);
    let total: f64 = y.iter().map(|y| (y - mean).powi(2)).sum();
    let (mut between, mut k) = (0.0, 0.0);
    for group in 0..=groups.iter().copied().max()? {
        let of_group: Vec<f64> = groups.iter().zip(y).filter(|(g, _)| **g == group).map(|(_, y)| *y).collect();
        if !of_group.is_empty() {
            let size = of_group.len() as f64;
            between += size * (of_group.iter().sum::<f64>() / size - mean).powi(2);
            k += 1.0;
        }
    }
    if k < 2.0 || n <= k {
        return None;
    }
    if total <= 0.0 {
        return Some(0.0);
    }
    let within = (total - between) / (n - k);
    Some(((between - (k - 1.0) * within) / total).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(lr: f64, head: &str, value: Option<f64>) -> Given {
        let set = |path: &str, value: Value| Setting { path: path.into(), value };
        Given {
            settings: vec![set("train.optimizer.lr", lr.into()), set("model.head.kind", head.into())],
            replica: vec![set("train.seed", 1.into())],
            value,
            curve: (0..250).map(f64::from).collect(),
            stopped: false,
            error: value.is_none().then(|| "no".into()),
        }
    }

    #[test]
    fn trials_lie_on_axes_and_the_best_comes_first() {
        let mut sweep = Sweep::default();
        let all = [given(1e-4, "linear", Some(0.5)), given(1e-2, "mlp", None), given(1e-3, "mlp", Some(0.9))];
        trials(&all, true, &mut sweep);
        let lr = &sweep.axes[0];
        assert!(lr.numeric && lr.logarithmic && !sweep.axes[1].numeric);
        assert_eq!(lr.marks.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["1e-4", "0.001", "0.01"]);
        let best = &sweep.trials[0];
        assert_eq!((best.value, &best.shown[..]), (Some(0.9), &["0.001".to_string(), "mlp".into()][..]));
        assert!((best.places[0].unwrap() - 0.5).abs() < 1e-9 && best.places[1] == Some(1.0));
        assert_eq!((best.replica.as_str(), best.curve.len()), ("seed 1", 84));
        assert_eq!(best.curve.last().unwrap(), &(250, Some(249.0)));
        assert_eq!(sweep.trials[2].error.as_deref(), Some("no"));
        assert!(sweep.importance.is_empty(), "two trials say nothing");
    }

    #[test]
    fn the_parameter_that_decides_explains_most() {
        let all: Vec<Given> = (0..40)
            .map(|i| {
                let (lr, head) = (10f64.powf(-4.0 + f64::from(i % 10) * 0.3), ["linear", "mlp"][(i / 10 % 2) as usize]);
                let noise = f64::from(i * 7919 % 13) / 13.0;
                given(lr, head, Some(lr.log10() + 0.2 * noise))
            })
            .collect();
        let mut sweep = Sweep::default();
        trials(&all, true, &mut sweep);
        let [first, second] = &sweep.importance[..] else { panic!("{:?}", sweep.importance) };
        assert_eq!((first.path.as_str(), second.path.as_str()), ("train.optimizer.lr", "model.head.kind"));
        assert!(first.share > 0.9 && first.correlation.unwrap() > 0.95, "{first:?}");
        assert!(second.share < 0.1 && second.correlation.is_none(), "{second:?}");
    }

    #[test]
    fn variance_is_shared_out_as_by_hand() {
        // Groups 1, 2, 3 and 7, 8, 9: SS_between 54, SS_within 4, so ε² = (54 − 1) / 58.
        let share = explained(&[0, 0, 0, 1, 1, 1], &[1.0, 2.0, 3.0, 7.0, 8.0, 9.0]).unwrap();
        assert!((share - 53.0 / 58.0).abs() < 1e-12);
        assert_eq!(explained(&[0, 0, 0], &[1.0, 2.0, 3.0]), None);
        assert_eq!(explained(&[0, 0, 1, 1], &[1.0; 4]), Some(0.0));
    }
}
