//! What one key may become: a choice, or numbers of a distribution.
//!
//! Every distribution of numbers is uniform, normal or beta in some coordinate, then carried through a `Scale`, then
//! rounded. So a new one is a line in [`Distribution::domain`], and drawing, grids and TPE need not know of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::quantile::{beta_cdf, beta_quantile, normal_cdf, normal_quantile};

/// How a sweep draws a value. The names and meanings are those of Weights & Biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Always `value`.
    Constant,
    /// One of `values`, evenly or with `probabilities`.
    Categorical,
    /// One of `values`, with `probabilities`.
    CategoricalWProbabilities,
    /// Whole numbers evenly from `min` to `max`, both included.
    IntUniform,
    /// Evenly between `min` and `max`.
    Uniform,
    /// Evenly between `min` and `max`, rounded to multiples of `q`.
    QUniform,
    /// e to a power that is even between the exponents `min` and `max`.
    LogUniform,
    /// Between the values `min` and `max`, with an even logarithm.
    LogUniformValues,
    /// As `log_uniform`, rounded to multiples of `q`.
    QLogUniform,
    /// As `log_uniform_values`, rounded to multiples of `q`.
    QLogUniformValues,
    /// One over e to a power that is even between the exponents `min` and `max`.
    InvLogUniform,
    /// Between the values `min` and `max`, with an even logarithm of one over the value.
    InvLogUniformValues,
    /// Normal with mean `mu` and standard deviation `sigma`.
    Normal,
    /// As `normal`, rounded to multiples of `q`.
    QNormal,
    /// e to a power that is normal with mean `mu` and standard deviation `sigma`.
    LogNormal,
    /// As `log_normal`, rounded to multiples of `q`.
    QLogNormal,
    /// Between 0 and 1, by the beta distribution with the shapes `a` and `b`.
    Beta,
    /// As `beta`, rounded to multiples of `q`.
    QBeta,
}

/// The keys that a distribution is given by.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Shape {
    /// The least value or exponent.
    pub min: Option<f64>,
    /// The greatest value or exponent.
    pub max: Option<f64>,
    /// The mean.
    pub mu: Option<f64>,
    /// The standard deviation.
    pub sigma: Option<f64>,
    /// The first shape of a beta distribution.
    pub a: Option<f64>,
    /// The second shape of a beta distribution.
    pub b: Option<f64>,
    /// The step.
    pub q: Option<f64>,
}

/// What one key may become.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// One of some values, each with its probability.
    Choice {
        /// The values.
        values: Vec<Value>,
        /// As many probabilities, which sum to 1.
        probabilities: Vec<f64>,
    },
    /// A number.
    Numbers(Numbers),
}

/// Numbers: a coordinate that is uniform, normal or beta, a scale, and a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Numbers {
    base: Base,
    scale: Scale,
    step: Option<f64>,
    /// Values between these are drawn, after rounding too.
    within: Option<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
enum Base {
    Uniform { low: f64, high: f64 },
    Normal { mu: f64, sigma: f64 },
    Beta { a: f64, b: f64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
enum Scale {
    Linear,
    Log,
    InverseLog,
}

/// The most values of a grid along one key.
const MOST_STEPS: usize = 10_000;

impl Distribution {
    /// The name in files.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default()
    }

    /// The keys that it needs; it takes no others.
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Constant => &["value"],
            Self::Categorical => &["values"],
            Self::CategoricalWProbabilities => &["values", "probabilities"],
            Self::IntUniform | Self::Uniform | Self::LogUniform | Self::LogUniformValues => &["min", "max"],
            Self::InvLogUniform | Self::InvLogUniformValues => &["min", "max"],
            Self::QUniform | Self::QLogUniform | Self::QLogUniformValues => &["min", "max", "q"],
            Self::Normal | Self::LogNormal => &["mu", "sigma"],
            Self::QNormal | Self::QLogNormal => &["mu", "sigma", "q"],
            Self::Beta => &["a", "b"],
            Self::QBeta => &["a", "b", "q"],
        }
    }

    /// The domain of numbers with this shape; missing keys have the defaults of Weights & Biases (0 to 1, mean 0,
    /// deviation 1, shapes of 1, steps of 1).
    ///
    /// # Errors
    /// The key that is wrong, and what is wrong with it.
    pub fn domain(self, shape: Shape) -> Result<Numbers, (&'static str, String)> {
        let (min, max) = (shape.min.unwrap_or(0.0), shape.max.unwrap_or(1.0));
        let (mu, sigma) = (shape.mu.unwrap_or(0.0), shape.sigma.unwrap_or(1.0));
        if max < min {
            return Err(("max", format!("{max} is less than `min`, which is {min}")));
        }
        let uniform = Base::Uniform { low: min, high: max };
        if sigma.is_nan() || sigma <= 0.0 {
            return Err(("sigma", format!("{sigma} is not greater than 0")));
        }
        let normal = Base::Normal { mu, sigma };
        let (a, b) = (shape.a.unwrap_or(1.0), shape.b.unwrap_or(1.0));
        for (name, value) in [("a", a), ("b", b)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err((name, format!("{value} is not greater than 0")));
            }
        }
        let beta = Base::Beta { a, b };
        let logs = || match min > 0.0 {
            true => Ok(Base::Uniform { low: min.ln(), high: max.ln() }),
            false => Err(("min", format!("{min} has no logarithm; it must be greater than 0"))),
        };
        let step = match shape.q.unwrap_or(1.0) {
            q if q > 0.0 && q.is_finite() => q,
            q => return Err(("q", format!("{q} is not greater than 0"))),
        };
        let exponents = || match min > 0.0 && max <= 1.0 {
            // e^0.00001 … e^0.1 is hardly what anyone means.
            true => Err((
                "distribution",
                format!(
                    "`{}` takes exponents: this draws between {:.4} and {:.4}; did you mean `{}_values`?",
                    self.name(),
                    min.exp(),
                    max.exp(),
                    self.name()
                ),
            )),
            false => Ok(uniform),
        };
        let (base, scale, step) = match self {
            Self::Uniform => (uniform, Scale::Linear, None),
            Self::QUniform => (uniform, Scale::Linear, Some(step)),
            Self::IntUniform => {
                for (name, value) in [("min", min), ("max", max)] {
                    if value.fract() != 0.0 {
                        return Err((name, format!("{value} is not a whole number")));
                    }
                }
                (Base::Uniform { low: min - 0.5, high: max + 0.5 }, Scale::Linear, Some(1.0))
            }
            Self::LogUniform => (exponents()?, Scale::Log, None),
            Self::QLogUniform => (exponents()?, Scale::Log, Some(step)),
            Self::InvLogUniform => (uniform, Scale::InverseLog, None),
            Self::LogUniformValues => (logs()?, Scale::Log, None),
            Self::QLogUniformValues => (logs()?, Scale::Log, Some(step)),
            Self::InvLogUniformValues => {
                logs()?;
                (Base::Uniform { low: -max.ln(), high: -min.ln() }, Scale::InverseLog, None)
            }
            Self::Normal => (normal, Scale::Linear, None),
            Self::QNormal => (normal, Scale::Linear, Some(step)),
            Self::LogNormal => (normal, Scale::Log, None),
            Self::QLogNormal => (normal, Scale::Log, Some(step)),
            Self::Beta => (beta, Scale::Linear, None),
            Self::QBeta => (beta, Scale::Linear, Some(step)),
            Self::Constant | Self::Categorical | Self::CategoricalWProbabilities => {
                return Err(("distribution", "it draws no numbers".into()));
            }
        };
        let within = (self == Self::IntUniform).then_some((min, max));
        Ok(Numbers { base, scale, step, within })
    }
}

impl Numbers {
    /// The number at a share of the probability: `unit` in 0..1.
    pub fn at(&self, unit: f64) -> f64 {
        let z = match self.base {
            Base::Uniform { low, high } => low + unit * (high - low),
            Base::Normal { mu, sigma } => mu + sigma * normal_quantile(unit),
            Base::Beta { a, b } => beta_quantile(a, b, unit),
        };
        let x = match self.scale {
            Scale::Linear => z,
            Scale::Log => z.exp(),
            Scale::InverseLog => (-z).exp(),
        };
        let x = self.step.map_or(x, |q| (x / q).round() * q);
        self.within.map_or(x, |(low, high)| x.clamp(low, high))
    }

    /// Where a number stands, the inverse of [`Numbers::at`]; `None` if it cannot be drawn.
    pub fn unit(&self, x: f64) -> Option<f64> {
        let z = match self.scale {
            Scale::Linear => x,
            Scale::Log => x.ln(),
            Scale::InverseLog => -x.ln(),
        };
        let unit = match self.base {
            Base::Uniform { low, high } if high > low => (z - low) / (high - low),
            Base::Uniform { .. } => 0.5,
            Base::Normal { mu, sigma } => normal_cdf((z - mu) / sigma),
            Base::Beta { a, b } => beta_cdf(a, b, z),
        };
        // Rounding may lead out of the bounds by half a step.
        let slack = if self.step.is_some() { 0.5 } else { 1e-9 };
        (unit >= -slack && unit <= 1.0 + slack).then_some(unit.clamp(0.0, 1.0))
    }

    /// The value as a recipe has it: whole where every value is.
    pub fn value(&self, x: f64) -> Value {
        if self.step.is_some_and(|q| q.fract() == 0.0) && x.abs() < 9e15 {
            return Value::from(x as i64);
        }
        // Steps such as 0.1 leave 0.30000000000000004.
        let x = if self.step.is_some() { (x * 1e12).round() / 1e12 } else { x };
        Number::from_f64(x).map_or(Value::Null, Value::Number)
    }

    /// All values, if there are finitely many.
    fn all(&self) -> Option<Vec<Value>> {
        let (q, Base::Uniform { .. } | Base::Beta { .. }) = (self.step?, self.base) else { return None };
        let (first, last) = match self.scale {
            Scale::InverseLog => (self.at(1.0), self.at(0.0)),
            _ => (self.at(0.0), self.at(1.0)),
        };
        let count = ((last - first) / q).round() as usize + 1;
        (count <= MOST_STEPS).then(|| (0..count).map(|i| self.value(first + i as f64 * q)).collect())
    }
}

impl Domain {
    /// One value.
    pub fn constant(value: Value) -> Self {
        Self::choice(vec![value])
    }

    /// Some values, evenly.
    pub fn choice(values: Vec<Value>) -> Self {
        let probabilities = vec![1.0 / values.len().max(1) as f64; values.len()];
        Self::Choice { values, probabilities }
    }

    /// All values, if there are finitely many.
    pub fn all(&self) -> Option<Vec<Value>> {
        match self {
            Self::Choice { values, .. } => Some(values.clone()),
            Self::Numbers(numbers) => numbers.all(),
        }
    }

    /// The value at a share of the probability.
    pub fn at(&self, unit: f64) -> Value {
        match self {
            Self::Numbers(numbers) => numbers.value(numbers.at(unit)),
            Self::Choice { values, probabilities } => {
                let mut left = unit;
                let found = probabilities.iter().position(|p| {
                    left -= p;
                    left < 0.0
                });
                values[found.unwrap_or(values.len() - 1)].clone()
            }
        }
    }

    /// A few values that together show whether a key takes them: all choices, or both ends.
    pub fn examples(&self) -> Vec<Value> {
        match self {
            Self::Choice { values, .. } => values.clone(),
            Self::Numbers(numbers) => [0.02, 0.98].iter().map(|unit| numbers.value(numbers.at(*unit))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(distribution: Distribution, min: f64, max: f64, q: Option<f64>) -> Numbers {
        distribution.domain(Shape { min: Some(min), max: Some(max), q, ..Shape::default() }).unwrap()
    }

    #[test]
    fn each_distribution_covers_what_it_says() {
        use Distribution as D;
        let ends = |n: Numbers| (n.at(0.0), n.at(1.0));
        let near =
            |(a, b): (f64, f64), (c, d): (f64, f64)| (a - c).abs() < 1e-9 * c.abs() + 1e-12 && (b - d).abs() < 1e-9 * d;
        assert_eq!(ends(numbers(D::Uniform, 2.0, 3.0, None)), (2.0, 3.0));
        assert_eq!(ends(numbers(D::IntUniform, 2.0, 5.0, None)), (2.0, 5.0));
        assert_eq!(ends(numbers(D::QUniform, 0.0, 1.0, Some(0.25))), (0.0, 1.0));
        assert!(near(ends(numbers(D::LogUniform, -2.0, 0.5, None)), ((-2f64).exp(), 0.5f64.exp())));
        assert!(near(ends(numbers(D::LogUniformValues, 1e-5, 0.1, None)), (1e-5, 0.1)));
        assert!(near(ends(numbers(D::InvLogUniform, 1.0, 2.0, None)), ((-1f64).exp(), (-2f64).exp())));
        assert!(near(ends(numbers(D::InvLogUniformValues, 0.01, 1.0, None)), (1.0, 0.01)));
        assert_eq!(ends(numbers(D::QLogUniformValues, 1.0, 100.0, Some(5.0))), (0.0, 100.0));
        let middle = numbers(D::LogUniformValues, 1e-4, 1e-2, None).at(0.5);
        assert!((middle - 1e-3).abs() < 1e-12);
        let ints: std::collections::BTreeSet<i64> =
            (0..100).map(|i| numbers(D::IntUniform, 2.0, 5.0, None).at(f64::from(i) / 100.0) as i64).collect();
        assert_eq!(ints.into_iter().collect::<Vec<_>>(), [2, 3, 4, 5]);
    }

    #[test]
    fn normals_have_their_quantiles_and_places() {
        let normal =
            Distribution::Normal.domain(Shape { mu: Some(1.0), sigma: Some(2.0), ..Shape::default() }).unwrap();
        assert!((normal.at(0.5) - 1.0).abs() < 1e-9);
        assert!((normal.at(0.975) - (1.0 + 2.0 * 1.959_963_984_540_054)).abs() < 1e-8);
        assert!((normal.at(0.001) - (1.0 - 2.0 * 3.090_232_306_167_813)).abs() < 1e-7);
        assert!((normal.unit(normal.at(0.3)).unwrap() - 0.3).abs() < 1e-9);
        let log = Distribution::QLogNormal.domain(Shape { q: Some(0.5), ..Shape::default() }).unwrap();
        assert_eq!(log.at(0.5), 1.0);
    }

    #[test]
    fn betas_lie_between_0_and_1() {
        let of = |d: Distribution, q| d.domain(Shape { a: Some(2.0), b: Some(5.0), q, ..Shape::default() }).unwrap();
        let beta = of(Distribution::Beta, None);
        assert!((beta.at(0.3) - 0.181_803_471_318_949_17).abs() < 1e-12);
        assert!((beta.unit(beta.at(0.7)).unwrap() - 0.7).abs() < 1e-9);
        let steps = of(Distribution::QBeta, Some(0.25));
        assert_eq!(steps.all().unwrap(), [0.0, 0.25, 0.5, 0.75, 1.0].map(Value::from));
        assert_eq!(steps.at(0.5), 0.25);
    }

    #[test]
    fn values_are_whole_where_all_are_and_grids_are_finite() {
        assert_eq!(numbers(Distribution::IntUniform, 1.0, 3.0, None).all().unwrap(), [1, 2, 3].map(Value::from));
        let steps = numbers(Distribution::QUniform, 0.0, 0.3, Some(0.1)).all().unwrap();
        assert_eq!(steps, [0.0, 0.1, 0.2, 0.3].map(Value::from));
        assert_eq!(numbers(Distribution::Uniform, 0.0, 1.0, None).all(), None);
        let choice = Domain::Choice { values: vec![1.into(), 2.into()], probabilities: vec![0.25, 0.75] };
        assert_eq!((choice.at(0.2), choice.at(0.3), choice.at(0.999)), (1.into(), 2.into(), 2.into()));
    }

    #[test]
    fn what_cannot_be_drawn_is_told() {
        let wrong = |d: Distribution, min: f64, max: f64, q: f64| {
            d.domain(Shape { min: Some(min), max: Some(max), q: Some(q), ..Shape::default() }).unwrap_err()
        };
        assert_eq!(wrong(Distribution::Uniform, 2.0, 1.0, 1.0).0, "max");
        assert_eq!(wrong(Distribution::LogUniformValues, 0.0, 1.0, 1.0).0, "min");
        assert_eq!(wrong(Distribution::QUniform, 0.0, 1.0, 0.0).0, "q");
        assert!(wrong(Distribution::LogUniform, 1e-5, 0.1, 1.0).1.contains("did you mean `log_uniform_values`"));
    }
}
