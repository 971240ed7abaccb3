//! `sweep:` of a recipe.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::alias::resolve_key;
use super::hyperband::EarlyTerminate;
use super::parameter::SweepParameter;
use super::space::{Dimension, Space};
use crate::base::Problems;
use crate::base::suggest::{did_you_mean, one_of};

/// A search over values of the recipe; `caft sweep` runs it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SweepConfig {
    /// How values are chosen; by default `grid` if there are finitely many, else `random`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<SweepMethod>,
    /// What the best trial is best at; by default the recipe's first metric on the validation rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<SweepMetric>,
    /// The keys that vary, by their paths (such as `train.optimizer.lr`) or short names (such as `lr`).
    pub parameters: IndexMap<String, SweepParameter>,
    /// The most choices of values to try; for `random` and `bayes` 30 if it is not given, for `grid` all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub run_cap: Option<u32>,
    /// Gives up trials that are behind others of their age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_terminate: Option<EarlyTerminate>,
    /// The seed of what is drawn.
    pub seed: u64,
    /// Trains every choice of values several times; the table shows mean and interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Repeat>,
    /// Trains every choice once per fold: the training rows are cut into so many equal parts, and each part is the
    /// validation rows once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 100))]
    pub kfold: Option<u32>,
    /// A learning curve: shares of the training rows to train on, as one more parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub fractions: Option<Vec<f64>>,
    /// How many of the best trials get a run directory of their own.
    #[schemars(range(max = 1000))]
    pub keep: Option<u32>,
}

/// How often each choice of values is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// So many different seeds of weights and dropout, counted from the recipe's own.
    #[schemars(range(min = 1, max = 1000))]
    pub seeds: u32,
}

/// How a sweep chooses values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SweepMethod {
    /// Every combination.
    Grid,
    /// At random.
    Random,
    /// Guided by the trials before (a tree of Parzen estimators).
    Bayes,
}

/// What the best trial of a sweep is best at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepMetric {
    /// The metric on the validation rows, as `valid/metric` (such as `valid/accuracy` or `valid/loss`).
    pub name: String,
    /// Whether more or less is better; by default what is better for this metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
    /// As soon as a trial is as good as this, no further values are tried; trials under way end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<f64>,
}

/// Whether more or less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// More is better.
    Maximize,
    /// Less is better.
    Minimize,
}

impl Goal {
    /// The value as a score of which more is better.
    pub fn score(self, value: f64) -> f64 {
        match self {
            Self::Maximize => value,
            Self::Minimize => -value,
        }
    }
}

/// Choices that `random` and `bayes` try if nothing says how many.
const DEFAULT_CAP: u32 = 30;

impl SweepConfig {
    /// The metric's full name, and whether more of it is better. `metrics` are the names of the recipe's metrics,
    /// each with whether more of it is better.
    ///
    /// # Errors
    /// The metric is not one of the validation rows, or is not measured; in words.
    pub fn objective(&self, metrics: &[(&str, bool)]) -> Result<(String, Goal), String> {
        let goal_of = |name: &str| match metrics.iter().find(|metric| metric.0 == name) {
            Some((_, true)) => Goal::Maximize,
            _ => Goal::Minimize,
        };
        let Some(SweepMetric { name, goal, .. }) = &self.metric else {
            let name = metrics.first().map_or("loss", |metric| metric.0);
            return Ok((format!("valid/{name}"), goal_of(name)));
        };
        let (split, metric) = name.split_once(['/', '.']).unwrap_or(("valid", name));
        let metric = match (split, metric) {
            ("valid" | "val" | "validation", metric) => metric.strip_prefix("val_").unwrap_or(metric),
            ("test" | "train", _) => {
                return Err(format!("`{name}` would choose by {split} rows; a sweep chooses by `valid/…`"));
            }
            _ => return Err(format!("`{name}` is not a metric of the validation rows, such as `valid/accuracy`")),
        };
        let metric = if metric == "acc" { "accuracy" } else { metric };
        if metric != "loss" && metrics.iter().all(|known| known.0 != metric) {
            let known = || metrics.iter().map(|metric| metric.0).chain(["loss"]);
            let near = did_you_mean(metric, known());
            return Err(format!("`{metric}` is not measured; `metrics` and the loss give {}{near}", one_of(known())));
        }
        Ok((format!("valid/{metric}"), goal.unwrap_or_else(|| goal_of(metric))))
    }

    /// The method, which `space` decides if nothing is said.
    pub fn method(&self, space: &Space) -> SweepMethod {
        self.method.unwrap_or(if space.size().is_some() { SweepMethod::Grid } else { SweepMethod::Random })
    }

    /// The most choices of values.
    pub fn cap(&self, space: &Space) -> u64 {
        let cap = self.run_cap.map(u64::from);
        match (self.method(space), space.size()) {
            (SweepMethod::Grid, Some(size)) => cap.unwrap_or(size).min(size),
            _ => cap.unwrap_or(DEFAULT_CAP.into()),
        }
    }

    /// What varies. Wrong parameters go to `problems`, by their path below `sweep`, and are left out. `names` are
    /// the user's own short names.
    pub fn space(&self, names: &[(String, String)], problems: &mut Problems) -> Space {
        let mut space = Space::default();
        for (key, parameter) in &self.parameters {
            let quoted = crate::base::suggest::key_segment(key);
            let at = format!("sweep.parameters.{quoted}");
            let (mut found, mut wrong) = (Vec::new(), Vec::new());
            parameter.domains(key, &mut found, &mut wrong);
            for (path, (field, message)) in wrong {
                let below: String = match path.strip_prefix(key.as_str()) {
                    Some(rest) => rest.split('.').skip(1).map(|part| format!(".parameters.{part}")).collect(),
                    None => String::new(),
                };
                let field = if field.is_empty() { field } else { format!(".{field}") };
                problems.push(None, format!("{at}{below}{field}"), message);
            }
            for (path, domain) in found {
                match resolve_key(&path, names) {
                    Ok(path) if space.dimensions.iter().any(|d| d.path == path) => {
                        problems.push(None, at.clone(), format!("`{path}` is varied twice"));
                    }
                    Ok(path) => space.dimensions.push(Dimension { path, domain, written: at.clone() }),
                    Err(message) => problems.push(None, at.clone(), message),
                }
            }
        }
        if let Some(fractions) = &self.fractions {
            if let Some(bad) = fractions.iter().find(|f| !(**f > 0.0 && **f <= 1.0)) {
                problems.push(None, "sweep.fractions", format!("{bad} is not above 0 and at most 1"));
            }
            let values = fractions.iter().map(|f| (*f).into()).collect();
            let (path, domain) = ("train.fraction".to_string(), super::Domain::choice(values));
            space.dimensions.push(Dimension { path, domain, written: "sweep.fractions".into() });
        }
        space
    }

    /// Everything that can be said of the section by itself. `metrics` are those of [`SweepConfig::objective`].
    pub fn check(&self, metrics: &[(&str, bool)], problems: &mut Problems) {
        if let Err(message) = self.objective(metrics) {
            problems.push(None, "sweep.metric.name", message);
        }
        let before = problems.list.len();
        let space = self.space(&[], problems);
        if problems.list.len() > before {
            return;
        }
        if space.dimensions.is_empty() && self.repeat.is_none() && self.kfold.is_none() {
            problems.push(None, "sweep.parameters", "nothing varies");
        }
        if self.method == Some(SweepMethod::Grid)
            && let Some(endless) = space.dimensions.iter().find(|d| d.domain.all().is_none())
        {
            let message = "a grid needs `values`, whole numbers, or steps of `q`; for other distributions take `random` or `bayes`";
            problems.push(None, endless.written.clone(), message);
        }
        if let Some(EarlyTerminate::Hyperband(hyperband)) = &self.early_terminate
            && let Err(message) = hyperband.check()
        {
            problems.push(None, "sweep.early_terminate", message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: serde_json::Value) -> SweepConfig {
        serde_json::from_value(value).unwrap()
    }

    fn wrong(value: serde_json::Value) -> Vec<String> {
        let mut problems = Problems::default();
        config(value).check(&[("accuracy", true), ("calibration_error", false)], &mut problems);
        problems.list.into_iter().map(|p| format!("{}: {}", p.path, p.message)).collect()
    }

    #[test]
    fn the_objective_is_of_validation_rows() {
        let of = |name: &str| config(json!({"metric": {"name": name}})).objective(&[("accuracy", true)]);
        assert_eq!(of("valid/accuracy").unwrap(), ("valid/accuracy".into(), Goal::Maximize));
        assert_eq!(of("val_loss").unwrap(), ("valid/loss".into(), Goal::Minimize));
        assert!(of("test/accuracy").unwrap_err().contains("a sweep chooses by"));
        assert!(of("valid/acuracy").unwrap_err().ends_with("did you mean `accuracy`?"));
        let default = SweepConfig::default().objective(&[("calibration_error", false)]).unwrap();
        assert_eq!(default, ("valid/calibration_error".into(), Goal::Minimize));
    }

    #[test]
    fn problems_have_the_path_of_what_is_wrong() {
        let found = wrong(json!({
            "method": "grid",
            "metric": {"name": "test/accuracy"},
            "parameters": {
                "train.optimizer.lr": {"min": 2, "max": 1},
                "model": {"parameters": {"head": {"parameters": {"dropout": {"values": []}}}}},
                "batchsize": {"value": 3},
            },
        }));
        let paths: Vec<&str> = found.iter().map(|line| line.split(": ").next().unwrap()).collect();
        assert_eq!(
            paths,
            [
                "sweep.metric.name",
                "sweep.parameters.\"train.optimizer.lr\".max",
                "sweep.parameters.model.parameters.head.parameters.dropout.values",
                "sweep.parameters.batchsize",
            ]
        );
        let endless = wrong(json!({"method": "grid", "parameters": {"lr": {"min": 0.1, "max": 1}}}));
        assert!(endless[0].starts_with("sweep.parameters.lr: a grid needs"), "{endless:?}");
        assert_eq!(wrong(json!({})), ["sweep.parameters: nothing varies"]);
        let twice = wrong(json!({"parameters": {"lr": {"value": 1}, "train.optimizer.lr": {"value": 2}}}));
        assert!(twice[0].ends_with("is varied twice"));
    }

    #[test]
    fn the_method_follows_the_space() {
        let mut none = Problems::default();
        let finite = config(json!({"parameters": {"epochs": "5,10", "lr": {"values": [0.1, 0.2, 0.3]}}}));
        let space = finite.space(&[], &mut none);
        assert_eq!((finite.method(&space), finite.cap(&space)), (SweepMethod::Grid, 6));
        let endless = config(json!({"parameters": {"lr": "log_uniform(1e-4,1e-1)"}}));
        let space = endless.space(&[], &mut none);
        assert_eq!((endless.method(&space), endless.cap(&space)), (SweepMethod::Random, 30));
        assert!(none.is_empty());
    }
}
