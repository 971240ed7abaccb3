//! Groups of parameters with rates of their own.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result, suggest};

/// What applies to the parameters whose names match a pattern. Factors of several groups that match multiply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    /// A pattern of names, such as `backbone.*`; `*` stands for any characters. Names are those of
    /// `checkpoint/best.safetensors`.
    #[serde(rename = "match")]
    #[schemars(length(min = 1))]
    pub pattern: String,
    /// What the learning rate is multiplied by; with 0 the parameters stay as they are.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub lr_factor: f64,
    /// What the weight decay is multiplied by.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub weight_decay_factor: f64,
}

fn one() -> f64 {
    1.0
}

/// What multiplies the optimiser's rate and weight decay for one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    /// Of the learning rate.
    pub lr: f64,
    /// Of the weight decay.
    pub decay: f64,
}

/// The factors of each of the parameters, named in the order of the graph, with whether they decay at all.
///
/// # Errors
/// A group that matches no parameter.
pub fn factors(groups: &[ParameterGroup], layer_decay: f64, parameters: &[(&str, bool)]) -> Result<Vec<Factors>> {
    for group in groups {
        if !parameters.iter().any(|(name, _)| matches(&group.pattern, name)) {
            let names = parameters.iter().map(|(name, _)| *name);
            let guess = suggest::did_you_mean(&group.pattern, names.clone());
            let some: Vec<&str> = names.take(8).collect();
            let error = format!("`train.parameter_groups`: no parameter matches `{}`{guess}", group.pattern);
            return Err(Error::bad_input(error).hint(format!("the parameters begin with `{}`", some.join("`, `"))));
        }
    }
    let mut layers = BTreeMap::new();
    for (name, _) in parameters {
        let next = layers.len();
        layers.entry(layer(name)).or_insert(next);
    }
    let of_parameter = |(name, decays): &(&str, bool)| {
        let depth = layers.len() - 1 - layers[layer(name)];
        let start = Factors {
            lr: layer_decay.powi(i32::try_from(depth).unwrap_or(i32::MAX)),
            decay: f64::from(u8::from(*decays)),
        };
        groups.iter().filter(|group| matches(&group.pattern, name)).fold(start, |factors, group| Factors {
            lr: factors.lr * group.lr_factor,
            decay: factors.decay * group.weight_decay_factor,
        })
    };
    Ok(parameters.iter().map(of_parameter).collect())
}

/// The layer of a parameter: its name up to its first number (`tail.blocks.11`), else up to its last dot.
fn layer(name: &str) -> &str {
    let mut end = 0;
    for part in name.split('.') {
        end += part.len();
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            return &name[..end];
        }
        end += 1;
    }
    name.rsplit_once('.').map_or(name, |(layer, _)| layer)
}

/// Whether a name matches a pattern in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("head.weight", "head.weight", true),
            ("head.*", "head.weight", true),
            ("head", "head.weight", false),
            ("*.bias", "tail.3.bias", true),
            ("tail.*.bias", "tail.bias", false),
            ("t*3*s", "tail.3.bias", true),
            ("*", "x", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn factors_multiply_and_layers_fall_from_the_last() {
        let parameters = [
            ("tail.blocks.0.fc.weight", true),
            ("tail.blocks.1.fc.weight", true),
            ("head.weight", true),
            ("head.bias", false),
        ];
        let group = |pattern: &str, lr_factor, weight_decay_factor| ParameterGroup {
            pattern: pattern.into(),
            lr_factor,
            weight_decay_factor,
        };
        let groups = [group("tail.*", 0.1, 1.0), group("*.1.*", 2.0, 0.5)];
        let found = factors(&groups, 0.5, &parameters).unwrap();
        let lrs: Vec<f64> = found.iter().map(|f| f.lr).collect();
        let decays: Vec<f64> = found.iter().map(|f| f.decay).collect();
        assert_eq!((lrs, decays), (vec![0.025, 0.1, 1.0, 1.0], vec![1.0, 0.5, 1.0, 0.0]));
        let error = factors(&[group("haed.*", 1.0, 1.0)], 1.0, &parameters).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("no parameter matches `haed.*`"), "{error}");
    }
}
