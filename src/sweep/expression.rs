//! Domains in one line: Hydra's spellings (`5,10,20`, `choice(…)`, `range(…)`, `interval(…)`, `tag(log, …)`,
//! `int(…)`) and any distribution by its name (`log_uniform(1e-5,1e-1)`). Bounds here are values, never exponents.

use serde_json::Value;

use super::domain::{Distribution, Domain, Shape};
use crate::base::suggest::did_you_mean;

const FUNCTIONS: &[&str] = &["choice", "range", "interval", "tag", "int"];
const DISTRIBUTIONS: &[(&str, Distribution)] = &[
    ("uniform", Distribution::Uniform),
    ("int_uniform", Distribution::IntUniform),
    ("q_uniform", Distribution::QUniform),
    ("log_uniform", Distribution::LogUniformValues),
    ("loguniform", Distribution::LogUniformValues),
    ("log_uniform_values", Distribution::LogUniformValues),
    ("q_log_uniform", Distribution::QLogUniformValues),
    ("q_log_uniform_values", Distribution::QLogUniformValues),
    ("inv_log_uniform", Distribution::InvLogUniformValues),
    ("inv_log_uniform_values", Distribution::InvLogUniformValues),
    ("normal", Distribution::Normal),
    ("q_normal", Distribution::QNormal),
    ("log_normal", Distribution::LogNormal),
    ("q_log_normal", Distribution::QLogNormal),
    ("beta", Distribution::Beta),
    ("q_beta", Distribution::QBeta),
];

/// Whether the value of a word such as `train.epochs=5,10,20` is to vary: it has a comma outside of brackets, or
/// calls a function.
pub fn is_expression(text: &str) -> bool {
    let called = text.split_once('(').is_some_and(|(name, rest)| {
        rest.trim_end().ends_with(')')
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    });
    called || split(text).is_some_and(|parts| parts.len() > 1)
}

/// The domain that a line says.
pub(super) fn domain(text: &str) -> Result<Domain, String> {
    let text = text.trim();
    let Some((name, inside)) = call(text) else {
        let parts = split(text).ok_or_else(|| format!("`{text}` has a bracket or quote without its other half"))?;
        return Ok(Domain::choice(parts.into_iter().map(scalar).collect()));
    };
    let arguments = split(inside).ok_or_else(|| format!("`{text}` has a bracket or quote without its other half"))?;
    let numbers = || -> Result<Vec<f64>, String> {
        let number = |part: &&str| part.parse::<f64>().ok().filter(|x| x.is_finite());
        arguments
            .iter()
            .map(|part| number(part).ok_or_else(|| format!("`{part}` in `{text}` is not a number")))
            .collect()
    };
    match name {
        "choice" => Ok(Domain::choice(arguments.into_iter().map(scalar).collect())),
        "range" => range(&numbers()?, text),
        "interval" => drawn(Distribution::Uniform, &numbers()?, text),
        "int" | "tag" => wrapped(name, &arguments, text),
        _ => match DISTRIBUTIONS.iter().find(|(known, _)| *known == name) {
            Some((_, distribution)) => drawn(*distribution, &numbers()?, text),
            None => {
                let known = DISTRIBUTIONS.iter().map(|(name, _)| *name).chain(FUNCTIONS.iter().copied());
                Err(format!("`{name}` is not a distribution{}", did_you_mean(name, known)))
            }
        },
    }
}

/// `int(interval(1, 8))`, `tag(log, interval(1e-5, 1e-1))`, and one in the other.
fn wrapped(name: &str, arguments: &[&str], text: &str) -> Result<Domain, String> {
    let bounds = |inner: &str| match call(inner) {
        Some(("interval", inside)) => split(inside)
            .unwrap_or_default()
            .iter()
            .map(|part| part.parse::<f64>().map_err(|_| format!("`{part}` in `{text}` is not a number")))
            .collect::<Result<Vec<f64>, String>>(),
        _ => Err(format!("`{text}` is not understood; `{name}` goes around `interval(…)`")),
    };
    match (name, arguments) {
        ("int", [inner]) => match call(inner) {
            Some(("tag", inside)) => match split(inside).unwrap_or_default()[..] {
                ["log", inner] => {
                    let mut bounds = bounds(inner)?;
                    bounds.push(1.0);
                    drawn(Distribution::QLogUniformValues, &bounds, text)
                }
                _ => Err(format!("`{text}` is not understood; the tag that is known is `log`")),
            },
            _ => drawn(Distribution::IntUniform, &bounds(inner)?, text),
        },
        ("tag", ["log", inner]) => match call(inner) {
            Some(("int", inside)) => {
                let mut bounds = bounds(inside)?;
                bounds.push(1.0);
                drawn(Distribution::QLogUniformValues, &bounds, text)
            }
            _ => drawn(Distribution::LogUniformValues, &bounds(inner)?, text),
        },
        _ => Err(format!("`{text}` is not understood; write `tag(log, interval(…))` or `int(interval(…))`")),
    }
}

/// Hydra's `range(start, stop, step)`, without its end.
fn range(numbers: &[f64], text: &str) -> Result<Domain, String> {
    let (start, stop, step) = match *numbers {
        [stop] => (0.0, stop, 1.0),
        [start, stop] => (start, stop, 1.0),
        [start, stop, step] => (start, stop, step),
        _ => return Err(format!("`{text}` takes `start`, `stop` and perhaps `step`")),
    };
    let count = ((stop - start) / step).ceil();
    if !(1.0..=10_000.0).contains(&count) {
        return Err(format!("`{text}` has no values, or more than 10000"));
    }
    let whole = numbers.iter().all(|x| x.fract() == 0.0);
    let value = |i: usize| {
        let x = start + i as f64 * step;
        if whole { Value::from(x as i64) } else { Value::from((x * 1e12).round() / 1e12) }
    };
    Ok(Domain::choice((0..count as usize).map(value).collect()))
}

fn drawn(distribution: Distribution, numbers: &[f64], text: &str) -> Result<Domain, String> {
    let fields = distribution.fields();
    if numbers.len() != fields.len() {
        return Err(format!("`{text}` takes {} numbers: {}", fields.len(), fields.join(", ")));
    }
    let of = |name: &str| fields.iter().position(|field| *field == name).map(|i| numbers[i]);
    let (a, b) = (of("a"), of("b"));
    let shape = Shape { min: of("min"), max: of("max"), mu: of("mu"), sigma: of("sigma"), a, b, q: of("q") };
    distribution.domain(shape).map(Domain::Numbers).map_err(|(key, message)| format!("`{key}` of `{text}`: {message}"))
}

/// `name(inside)`.
fn call(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.trim().split_once('(')?;
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    plain.then_some((name, rest.strip_suffix(')')?))
}

/// The parts between commas that are in no brackets or quotes; `None` if those do not match.
fn split(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut open, mut quote) = (Vec::new(), 0, Vec::new(), None);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => open.push(c),
            (None, ')' | ']' | '}') => {
                let pair = matches!((open.pop(), c), (Some('('), ')') | (Some('['), ']') | (Some('{'), '}'));
                if !pair {
                    return None;
                }
            }
            (None, ',') if open.is_empty() => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    (open.is_empty() && quote.is_none()).then_some(parts)
}

/// A value as YAML has it.
fn scalar(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|_| Value::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_and_ranges_are_choices() {
        let all = |text| domain(text).unwrap().all().unwrap();
        assert_eq!(all("5,10,20"), [json!(5), json!(10), json!(20)]);
        assert_eq!(all("sgd, adamw"), [json!("sgd"), json!("adamw")]);
        assert_eq!(all("choice([cls],[cls, patch_mean])"), [json!(["cls"]), json!(["cls", "patch_mean"])]);
        assert_eq!(all("range(1,8,3)"), [json!(1), json!(4), json!(7)]);
        assert_eq!(all("{kind: linear},{kind: mlp, hidden: [8]}")[1], json!({"kind": "mlp", "hidden": [8]}));
    }

    #[test]
    fn what_varies_is_known_from_what_does_not() {
        for text in ["5,10", "log_uniform(1,2)", "[a],[b]"] {
            assert!(is_expression(text), "{text}");
        }
        for text in ["5", "[a, b]", "{kind: mlp, hidden: [8]}", "\"a,b\"", "(a", "name (old)"] {
            assert!(!is_expression(text), "{text}");
        }
    }

    #[test]
    fn slips_are_told() {
        let why = |text| domain(text).unwrap_err();
        assert!(why("loguniforn(1,2)").ends_with("did you mean `loguniform`?"));
        assert!(why("uniform(1)").contains("takes 2 numbers: min, max"));
        assert!(why("log_uniform(-5,-1)").contains("greater than 0"));
        assert!(why("choice(1,2").contains("other half"));
    }
}
