//! `caft runs --where 'valid/accuracy>0.9' --sort train.optimizer.lr`: conditions and orders of runs.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::base::suggest::did_you_mean;
use crate::base::{Error, Result};
use crate::run::record::RunRecord;
use crate::run::settings::{self, plain};

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
        let wrong = || {
            Error::bad_input(format!("`{text}` is not a condition"))
                .hint("such as `valid/accuracy>0.9`, `train.optimizer.lr<=1e-3` or `status=finished`")
        };
        let first = SIGNS.iter().filter_map(|(sign, c)| Some((text.find(sign)?, *sign, *c)));
        // Of those that begin first the longest, which stand first in the list.
        let (at, sign, comparison) = first.min_by_key(|(at, sign, _)| (*at, 2 - sign.len())).ok_or_else(wrong)?;
        let (name, value) = (text[..at].trim(), text[at + sign.len()..].trim());
        if name.is_empty() || value.is_empty() || value.starts_with(['<', '>', '=', '!']) {
            return Err(wrong());
        }
        Ok(Self { name: name.into(), comparison, value: value.into() })
    }
}

impl Condition {
    /// What it is about.
    pub fn name(&self) -> &str {
        &self.name
    }

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

    /// Whether the runs' values can be compared with its own: numbers with numbers; a word that must be equal is one that
    /// some run has.
    fn check(&self, values: &[Value]) -> Result<()> {
        let Self { name, comparison, value } = self;
        if value.parse::<f64>().is_err() && values.iter().all(Value::is_number) {
            return Err(Error::bad_input(format!("`{value}` is not a number, as every `{name}` is")));
        }
        let words: BTreeSet<String> = values.iter().filter(|value| value.is_string()).map(plain).collect();
        let near = did_you_mean(value, words.iter().map(String::as_str));
        if *comparison == Comparison::Equal && !words.contains(value) && !near.is_empty() {
            return Err(Error::bad_input(format!("no run has `{value}` as `{name}`{near}")));
        }
        Ok(())
    }
}

/// A run, and what it says by names: of its metrics (`valid/accuracy`), of the fields of its record (`status`,
/// `activations.computed`), and of the keys of its recipe, or where that says nothing of its plan (`train.optimizer.lr`).
pub(super) struct Named {
    /// The run.
    pub record: RunRecord,
    fields: OnceCell<BTreeMap<String, Value>>,
    said: OnceCell<BTreeMap<String, Value>>,
    filled_in: OnceCell<BTreeMap<String, Value>>,
}

impl Named {
    /// A run, of which more is read once it is asked for.
    pub fn new(record: RunRecord) -> Self {
        Self { record, fields: OnceCell::new(), said: OnceCell::new(), filled_in: OnceCell::new() }
    }

    /// What the run says by a name.
    pub fn value(&self, name: &str) -> Option<Value> {
        let metric = self.record.metrics.get(name).map(|metric| (*metric).into());
        let other = || self.fields().get(name).or_else(|| self.said().get(name)).or_else(|| self.filled_in().get(name));
        metric.or_else(|| other().cloned()).filter(|value| !value.is_null())
    }

    fn fields(&self) -> &BTreeMap<String, Value> {
        self.fields.get_or_init(|| {
            let mut record = serde_json::to_value(&self.record).unwrap_or_default();
            record.as_object_mut().map(|record| record.remove("metrics"));
            settings::flat(record)
        })
    }

    fn said(&self) -> &BTreeMap<String, Value> {
        self.said.get_or_init(|| settings::said(Path::new(&self.record.path)))
    }

    fn filled_in(&self) -> &BTreeMap<String, Value> {
        self.filled_in.get_or_init(|| settings::filled_in(Path::new(&self.record.path)))
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        let metrics = self.record.metrics.keys();
        metrics.chain(self.fields().keys()).chain(self.said().keys()).chain(self.filled_in().keys())
    }
}

/// The runs for which all conditions hold.
///
/// # Errors
/// A condition is about what no run has, or compares what cannot be.
pub(super) fn chosen(runs: Vec<Named>, conditions: &[Condition]) -> Result<Vec<Named>> {
    for condition in conditions {
        let values: Vec<Value> = runs.iter().filter_map(|run| run.value(&condition.name)).collect();
        if values.is_empty() {
            known(&runs, &condition.name)?;
        } else {
            condition.check(&values)?;
        }
    }
    let holds = |run: &Named| conditions.iter().all(|c| c.holds(run.value(&c.name).as_ref()));
    Ok(runs.into_iter().filter(holds).collect())
}

/// Sorts runs by what they say by a name, the least first, or the greatest; those that say nothing come last.
///
/// # Errors
/// No run has it.
pub(super) fn sort(runs: &mut [Named], name: &str, descending: bool) -> Result<()> {
    if runs.iter().all(|run| run.value(name).is_none()) {
        known(runs, name)?;
    }
    let flip = |number: u64| if descending { !number } else { number };
    runs.sort_by_cached_key(|run| {
        let value = run.value(name);
        let number = value.as_ref().and_then(Value::as_f64).map(ordered).map(flip);
        let word = value.as_ref().map(plain).unwrap_or_default();
        // Of words the order of their bytes is turned round by turning each.
        let word: Vec<u32> = word.chars().map(u32::from).chain([0]).map(|c| if descending { !c } else { c }).collect();
        (value.is_none(), number.is_none(), number, word)
    });
    Ok(())
}

/// An error about a name that no run has.
fn known(runs: &[Named], name: &str) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let names: BTreeSet<&String> = runs.iter().flat_map(Named::names).collect();
    if names.iter().any(|known| *known == name) {
        return Ok(());
    }
    // `accuracy` alone is most likely meant of a split.
    let of_split = names.iter().find(|known| known.split_once('/').is_some_and(|(_, metric)| metric == name));
    let near = match of_split {
        Some(metric) => format!("; did you mean `{metric}`?"),
        None => did_you_mean(name, names.iter().map(|known| known.as_str())),
    };
    Err(Error::bad_input(format!("no run has `{name}`{near}")).hint(
        "a metric such as `valid/accuracy`, a field of `caft runs --json`, or a key such as `train.optimizer.lr`",
    ))
}

/// Bits that are ordered as the numbers are.
fn ordered(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named(name: &str, accuracy: f64) -> Named {
        let mut record = RunRecord::begin(name, crate::base::Digest::of(name.as_bytes()), Path::new("nowhere"));
        record.metrics.insert("valid/accuracy".into(), accuracy);
        Named::new(record)
    }

    #[test]
    fn conditions_compare_numbers_and_words() {
        let holds = |text: &str, value: Value| text.parse::<Condition>().unwrap().holds(Some(&value));
        assert!(holds("valid/accuracy>0.9", json!(0.95)) && !holds("valid/accuracy > 0.9", json!(0.9)));
        assert!(holds("train.optimizer.lr<=1e-3", json!(0.001)) && holds("seed!=3", json!(4)));
        assert!(holds("status=finished", json!("finished")) && !holds("status=finished", json!("failed")));
        assert!(!"a>1".parse::<Condition>().unwrap().holds(None));
        for wrong in ["accuracy", ">1", "accuracy>", "accuracy=>1", "accuracy<>1"] {
            assert!(wrong.parse::<Condition>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_no_run_has_is_told_with_what_is_near() {
        let told = |text: &str| {
            let runs = vec![named("a", 0.5), named("b", 0.7)];
            match chosen(runs, &[text.parse().unwrap()]) {
                Ok(runs) => runs.iter().map(|run| run.record.name.clone()).collect::<String>(),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(told("valid/accuracy>0.6"), "b");
        assert_eq!(told("valid/acuracy>0.6"), "no run has `valid/acuracy`; did you mean `valid/accuracy`?");
        assert_eq!(told("accuracy>0.6"), "no run has `accuracy`; did you mean `valid/accuracy`?");
        assert_eq!(told("valid/accuracy>high"), "`high` is not a number, as every `valid/accuracy` is");
        assert_eq!(told("status=runing"), "no run has `runing` as `status`; did you mean `running`?");
        assert_eq!(told("activations.computed=0"), "ab");
        assert_eq!(told("name!=a"), "b");
        assert!(chosen(Vec::new(), &["x=1".parse().unwrap()]).unwrap().is_empty());
    }

    #[test]
    fn runs_are_sorted_by_numbers_and_words_either_way() {
        let mut runs = vec![named("b", 0.5), named("a", 0.7), named("ab", -0.1)];
        let mut order = |name: &str, descending: bool| {
            sort(&mut runs, name, descending).unwrap();
            runs.iter().map(|run| run.record.name.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(order("valid/accuracy", false), "ab b a");
        assert_eq!(order("valid/accuracy", true), "a b ab");
        assert_eq!(order("name", false), "a ab b");
        assert_eq!(order("name", true), "b ab a");
        assert!(sort(&mut runs, "nam", false).unwrap_err().to_string().contains("did you mean `name`"));
    }
}
