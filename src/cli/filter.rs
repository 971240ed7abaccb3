//! `caft runs --where 'valid/accuracy>0.9' --sort train.optimizer.lr`: conditions and orders of runs.

use std::path::Path;

use serde_json::Value;

use crate::base::{Error, Result, file};
use crate::recipe::KeyPath;
use crate::run::record::RunRecord;

/// A condition such as `valid/accuracy>0.9` or `status=finished`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    name: String,
    comparison: Comparison,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    Equal,
    NotEqual,
    AtLeast,
    Greater,
}

const SIGNS: [(&str, Comparison); 7] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("!=", Comparison::NotEqual),
    ("==", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
    ("=", Comparison::Equal),
];

impl std::str::FromStr for Condition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let first = SIGNS.iter().filter_map(|(sign, c)| Some((text.find(sign)?, *sign, *c)));
        // Of those that begin first the longest, which stand first in the list.
        let found = first.min_by_key(|(at, sign, _)| (*at, 2 - sign.len()));
        match found {
            Some((at, sign, comparison)) if at > 0 => {
                Ok(Self { name: text[..at].trim().into(), comparison, value: text[at + sign.len()..].trim().into() })
            }
            _ => Err(Error::bad_input(format!("`{text}` is not a condition"))
                .hint("such as `valid/accuracy>0.9`, `train.optimizer.lr<=1e-3` or `status=finished`")),
        }
    }
}

impl Condition {
    /// Whether it holds for a value; never for one that is missing.
    pub fn holds(&self, value: Option<&Value>) -> bool {
        let Some(value) = value.filter(|value| !value.is_null()) else { return false };
        let wanted = self.value.parse::<f64>().ok().zip(value.as_f64());
        let order = match wanted {
            Some((wanted, value)) => value.partial_cmp(&wanted),
            None => Some(plain(value).as_str().cmp(&self.value)),
        };
        order.is_some_and(|order| match self.comparison {
            Comparison::Less => order.is_lt(),
            Comparison::AtMost => order.is_le(),
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::AtLeast => order.is_ge(),
            Comparison::Greater => order.is_gt(),
        })
    }

    /// What it is about.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What a run says by a name: a metric (`valid/accuracy`), a field of its record (`status`), or a key of its recipe
/// (`train.optimizer.lr`).
pub(super) fn value_of(record: &RunRecord, name: &str) -> Option<Value> {
    if let Some(metric) = record.metrics.get(name) {
        return Some((*metric).into());
    }
    let fields = serde_json::to_value(record).ok()?;
    if let Some(value) = fields.get(name) {
        return Some(value.clone());
    }
    let text = file::read_text(&Path::new(&record.path).join("recipe.yaml"), 16 << 20).ok()?;
    let recipe: Value = serde_yaml::from_str(&text).ok()?;
    let keys = KeyPath::parse(name)?.keys()?;
    keys.iter().try_fold(&recipe, |value, key| value.get(key)).cloned()
}

/// Sorts runs by what they say by a name, the least first; those that say nothing come last.
pub(super) fn sort(records: &mut [RunRecord], name: &str) {
    records.sort_by_cached_key(|record| {
        let value = value_of(record, name).filter(|value| !value.is_null());
        let number = value.as_ref().and_then(Value::as_f64).map(ordered);
        (value.is_none(), number.is_none(), number, value.as_ref().map(plain))
    });
}

/// Bits that are ordered as the numbers are.
fn ordered(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_compare_numbers_and_words() {
        let holds = |text: &str, value: Value| text.parse::<Condition>().unwrap().holds(Some(&value));
        assert!(holds("valid/accuracy>0.9", json!(0.95)) && !holds("valid/accuracy > 0.9", json!(0.9)));
        assert!(holds("train.optimizer.lr<=1e-3", json!(0.001)) && holds("seed!=3", json!(4)));
        assert!(holds("status=finished", json!("finished")) && !holds("status=finished", json!("failed")));
        assert!(!"a>1".parse::<Condition>().unwrap().holds(None));
        assert!("accuracy".parse::<Condition>().is_err() && ">1".parse::<Condition>().is_err());
    }

    #[test]
    fn numbers_are_ordered_by_their_bits() {
        let mut numbers = [3.0, -1.0, 0.0, -2.5, 1e9];
        numbers.sort_by_key(|x| ordered(*x));
        assert_eq!(numbers, [-2.5, -1.0, 0.0, 3.0, 1e9]);
    }
}
