//! One parameter of a sweep, as it is written.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::domain::{Distribution, Domain, Shape};
use super::expression;

/// The values that one key takes in a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SweepParameter {
    /// In one line: `5,10,20`, `log_uniform(1e-5,1e-1)` (of values, not exponents), `choice(a,b)`,
    /// `range(1,10)`, `interval(0,1)` or any distribution by its name.
    Line(String),
    /// By its keys.
    Spec(Box<ParameterSpec>),
}

/// One `value`, some `values`, a `distribution`, or `parameters` below this key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ParameterSpec {
    /// One value for all trials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// The values to choose from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub values: Option<Vec<Value>>,
    /// How likely each of `values` is; as many numbers, of any sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<Vec<f64>>,
    /// How values are drawn; by default evenly, and in whole numbers where `min` and `max` are whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
    /// The least value, or exponent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Value>,
    /// The greatest value, or exponent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Value>,
    /// The mean of a normal distribution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mu: Option<f64>,
    /// The standard deviation of a normal distribution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// The first shape of a beta distribution.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub a: Option<f64>,
    /// The second shape of a beta distribution.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub b: Option<f64>,
    /// The step to round to, for the distributions that begin with `q_`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<f64>,
    /// Parameters of the keys below this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<IndexMap<String, SweepParameter>>,
    /// Ludwig's name of a distribution, with `lower` and `upper`, `mean` and `sd`, `categories` or `values`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub space: Option<LudwigSpace>,
    /// Ludwig's `min`; for its logarithmic spaces a value, not an exponent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lower: Option<f64>,
    /// Ludwig's `max`; for its logarithmic spaces a value, not an exponent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper: Option<f64>,
    /// Ludwig's `mu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// Ludwig's `sigma`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sd: Option<f64>,
    /// Ludwig's `values`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub categories: Option<Vec<Value>>,
}

/// A distribution by Ludwig's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LudwigSpace {
    /// One of `categories`.
    Choice,
    /// One of `values`.
    #[serde(rename = "grid_search")]
    GridSearch,
    /// `uniform`.
    Uniform,
    /// `q_uniform`.
    QUniform,
    /// `log_uniform_values`.
    LogUniform,
    /// `q_log_uniform_values`.
    QLogUniform,
    /// `normal`.
    Randn,
    /// `q_normal`.
    QRandn,
    /// Whole numbers from `lower` to below `upper`.
    RandInt,
    /// `q_uniform`.
    QRandInt,
    /// Whole numbers from `lower` to below `upper`, with an even logarithm.
    LogRandInt,
    /// `q_log_uniform_values`.
    QLogRandInt,
}

/// What is wrong, and at which key of the parameter (empty for the parameter itself).
pub(super) type Wrong = (String, String);

impl SweepParameter {
    /// Adds the domains of this parameter, and of those below it, each with its path.
    pub(super) fn domains(&self, path: &str, found: &mut Vec<(String, Domain)>, wrong: &mut Vec<(String, Wrong)>) {
        let result = match self {
            Self::Line(text) => expression::domain(text).map_err(|message| (String::new(), message)),
            Self::Spec(spec) => {
                if let Some(below) = &spec.parameters {
                    let others = ParameterSpec { parameters: None, ..(**spec).clone() };
                    if others != ParameterSpec::default() {
                        let message = "stands beside keys of a distribution; it takes neither with the other".into();
                        wrong.push((path.into(), ("parameters".into(), message)));
                    }
                    for (key, parameter) in below {
                        parameter.domains(&format!("{path}.{key}"), found, wrong);
                    }
                    return;
                }
                spec.domain()
            }
        };
        match result {
            Ok(domain) => found.push((path.into(), domain)),
            Err(why) => wrong.push((path.into(), why)),
        }
    }
}

impl ParameterSpec {
    /// The domain that the keys describe.
    fn domain(&self) -> Result<Domain, Wrong> {
        let spec = self.without_ludwig()?;
        let number = |name: &str, value: &Option<Value>| match value {
            None => Ok(None),
            Some(value) => match value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()) {
                Some(number) if number.is_finite() => Ok(Some(number)),
                _ => Err((name.to_string(), format!("{value} is not a number"))),
            },
        };
        let (min, max) = (number("min", &spec.min)?, number("max", &spec.max)?);
        let whole = |value: &Option<Value>| value.as_ref().is_some_and(Value::is_i64);
        let distribution = match spec.distribution {
            Some(distribution) => distribution,
            None if spec.value.is_some() => Distribution::Constant,
            None if spec.values.is_some() => Distribution::Categorical,
            None if whole(&spec.min) && whole(&spec.max) && spec.q.is_none() => Distribution::IntUniform,
            None if min.is_some() || max.is_some() => match spec.q {
                Some(_) => Distribution::QUniform,
                None => Distribution::Uniform,
            },
            None if spec.mu.is_some() || spec.sigma.is_some() => match spec.q {
                Some(_) => Distribution::QNormal,
                None => Distribution::Normal,
            },
            None => {
                let message = "says no values; give `value`, `values`, or `min` and `max`";
                return Err((String::new(), message.into()));
            }
        };
        spec.check_fields(distribution)?;
        match distribution {
            Distribution::Constant => Ok(Domain::constant(spec.value.unwrap_or_default())),
            Distribution::Categorical | Distribution::CategoricalWProbabilities => spec.choice(),
            _ => {
                let ParameterSpec { mu, sigma, a, b, q, .. } = spec;
                let shape = Shape { min, max, mu, sigma, a, b, q };
                distribution.domain(shape).map(Domain::Numbers).map_err(|(key, message)| (key.into(), message))
            }
        }
    }

    /// Every key that is given must be the distribution's, and its values must be there.
    fn check_fields(&self, distribution: Distribution) -> Result<(), Wrong> {
        let takes = distribution.fields();
        let given = [
            ("value", self.value.is_some()),
            ("values", self.values.is_some()),
            ("probabilities", self.probabilities.is_some()),
            ("min", self.min.is_some()),
            ("max", self.max.is_some()),
            ("mu", self.mu.is_some()),
            ("sigma", self.sigma.is_some()),
            ("a", self.a.is_some()),
            ("b", self.b.is_some()),
            ("q", self.q.is_some()),
        ];
        for (key, is_given) in given {
            let allowed = takes.contains(&key) || (key == "probabilities" && takes.contains(&"values"));
            if is_given && !allowed {
                let takes = crate::base::suggest::one_of(takes.iter().copied()).replace(" or ", " and ");
                return Err((key.into(), format!("`{}` takes {takes}", distribution.name())));
            }
            if !is_given && takes.contains(&key) && !["q", "mu", "sigma", "a", "b"].contains(&key) {
                return Err((String::new(), format!("`{}` needs `{key}`", distribution.name())));
            }
        }
        Ok(())
    }

    fn choice(self) -> Result<Domain, Wrong> {
        let values = self.values.unwrap_or_default();
        if values.is_empty() {
            return Err(("values".into(), "it is empty".into()));
        }
        let Some(weights) = self.probabilities else { return Ok(Domain::choice(values)) };
        let sum: f64 = weights.iter().sum();
        if weights.len() != values.len() {
            let (given, needed) = (weights.len(), values.len());
            return Err(("probabilities".into(), format!("there are {given} for {needed} `values`")));
        }
        if weights.iter().any(|w| w.is_nan() || *w < 0.0) || !(sum > 0.0 && sum.is_finite()) {
            return Err(("probabilities".into(), "they must be at least 0 and not all 0".into()));
        }
        let probabilities = weights.iter().map(|w| w / sum).collect();
        Ok(Domain::Choice { values, probabilities })
    }

    /// Ludwig's keys in the words of the others.
    fn without_ludwig(&self) -> Result<Self, Wrong> {
        let Self { space, lower, upper, mean, sd, categories, .. } = self;
        let Some(space) = *space else {
            let stray = [
                ("lower", lower.is_some()),
                ("upper", upper.is_some()),
                ("mean", mean.is_some()),
                ("sd", sd.is_some()),
                ("categories", categories.is_some()),
            ];
            return match stray.iter().find(|(_, given)| *given) {
                Some((key, _)) => Err(((*key).into(), "goes with Ludwig's `space`".into())),
                None => Ok(self.clone()),
            };
        };
        if self.distribution.is_some() {
            return Err(("distribution".into(), "stands beside Ludwig's `space`; one of them is enough".into()));
        }
        let mut spec = Self { q: self.q, values: self.values.clone(), ..Self::default() };
        spec.distribution = Some(match space {
            LudwigSpace::Choice | LudwigSpace::GridSearch => Distribution::Categorical,
            LudwigSpace::Uniform => Distribution::Uniform,
            LudwigSpace::QUniform | LudwigSpace::QRandInt => Distribution::QUniform,
            LudwigSpace::LogUniform => Distribution::LogUniformValues,
            LudwigSpace::QLogUniform | LudwigSpace::QLogRandInt | LudwigSpace::LogRandInt => {
                Distribution::QLogUniformValues
            }
            LudwigSpace::Randn => Distribution::Normal,
            LudwigSpace::QRandn => Distribution::QNormal,
            LudwigSpace::RandInt => Distribution::IntUniform,
        });
        let json = |value: Option<f64>| value.map(Value::from);
        spec.values = spec.values.or_else(|| categories.clone());
        (spec.min, spec.max) = (json(*lower), json(*upper));
        if matches!(space, LudwigSpace::RandInt | LudwigSpace::LogRandInt) {
            spec.max = json(upper.map(|upper| upper - 1.0));
        }
        (spec.mu, spec.sigma) = (*mean, *sd);
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Domain, Wrong> {
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        let parameter: SweepParameter = serde_json::from_value(value).unwrap();
        parameter.domains("a", &mut found, &mut wrong);
        match wrong.pop() {
            Some((_, why)) => Err(why),
            None => Ok(found.remove(0).1),
        }
    }

    fn same(one: Value, other: Value) {
        assert_eq!(read(one).unwrap(), read(other).unwrap());
    }

    #[test]
    fn what_is_not_said_is_as_in_weights_and_biases() {
        same(json!({"value": 3}), json!({"distribution": "constant", "value": 3}));
        same(json!({"values": [1, 2]}), json!({"distribution": "categorical", "values": [1, 2]}));
        same(json!({"min": 1, "max": 4}), json!({"distribution": "int_uniform", "min": 1, "max": 4}));
        same(json!({"min": 1.0, "max": 4}), json!({"distribution": "uniform", "min": 1, "max": 4}));
        same(json!({"mu": 1.0}), json!({"distribution": "normal", "mu": 1, "sigma": 1}));
        same(json!({"distribution": "beta", "a": 1}), json!({"distribution": "beta", "a": 1, "b": 1}));
        let weighted =
            json!({"distribution": "categorical_w_probabilities", "values": [1, 2], "probabilities": [1, 3]});
        same(weighted, json!({"values": [1, 2], "probabilities": [0.25, 0.75]}));
        let choice = read(json!({"values": ["a", "b"], "probabilities": [1, 3]})).unwrap();
        assert_eq!(choice, Domain::Choice { values: vec!["a".into(), "b".into()], probabilities: vec![0.25, 0.75] });
    }

    #[test]
    fn other_tools_spellings_say_the_same() {
        let rate = json!({"distribution": "log_uniform_values", "min": 1e-5, "max": 0.1});
        same(json!({"space": "loguniform", "lower": 1e-5, "upper": 0.1}), rate.clone());
        same(json!("log_uniform(1e-5,1e-1)"), rate.clone());
        same(json!("tag(log, interval(1e-5, 0.1))"), rate);
        same(json!({"space": "randint", "lower": 1, "upper": 5}), json!({"min": 1, "max": 4}));
        same(json!({"space": "qrandint", "lower": 2, "upper": 8, "q": 2}), json!("q_uniform(2,8,2)"));
        same(json!({"space": "lograndint", "lower": 1, "upper": 65}), json!("q_log_uniform(1,64,1)"));
        same(json!({"space": "choice", "categories": [1, 2]}), json!("choice(1,2)"));
        same(json!({"space": "grid_search", "values": [5, 10]}), json!("5,10"));
    }

    #[test]
    fn wrong_keys_are_named() {
        let key = |value| read(value).unwrap_err().0;
        assert_eq!(key(json!({"values": [1], "min": 1})), "min");
        assert_eq!(key(json!({"distribution": "normal", "min": 1})), "min");
        assert_eq!(key(json!({"values": [1, 2], "probabilities": [1]})), "probabilities");
        assert_eq!(key(json!({"min": "a", "max": 2})), "min");
        assert_eq!(key(json!({"lower": 1})), "lower");
        assert_eq!(read(json!({"distribution": "uniform", "min": 1})).unwrap_err().1, "`uniform` needs `max`");
        assert!(read(json!({})).unwrap_err().1.contains("says no values"));
    }

    #[test]
    fn parameters_nest() {
        let nested =
            json!({"parameters": {"optimizer": {"parameters": {"lr": {"value": 1}, "kind": {"value": "sgd"}}}}});
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        serde_json::from_value::<SweepParameter>(nested).unwrap().domains("train", &mut found, &mut wrong);
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["train.optimizer.lr", "train.optimizer.kind"]);
        assert!(wrong.is_empty());
    }
}
