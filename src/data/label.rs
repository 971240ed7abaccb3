//! What a table's rows are labelled with: a column of class names or numbers, or a numeric column cut
//! at a threshold.

use std::borrow::Cow;
use std::collections::HashMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::Problems;
use crate::base::suggest::{did_you_mean, one_of};

/// The label of a table's rows: a column's name, or a map with more.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelConfig(Keys);

/// A label column and how classes are made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LabelKeys")]
struct Keys {
    /// The column.
    column: String,
    /// Makes two classes of a numeric column: below, and at or above this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
    /// Names of the classes. With a `threshold` two, for below and for at or above. Otherwise the column
    /// holds these names, or their positions from 0. Without names the classes are what the column holds
    /// in the training rows, in numeric order if all are whole numbers, else in alphabetic order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    names: Option<Vec<String>>,
}

impl LabelConfig {
    /// The plain classes of a column.
    pub fn column_named(column: &str) -> Self {
        Self(Keys { column: column.into(), threshold: None, names: None })
    }

    /// The column.
    pub fn column(&self) -> &str {
        &self.0.column
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        let Keys { threshold, names, .. } = &self.0;
        let mut push = |key: &str, message: String| problems.push(None, format!("data.label.{key}"), message);
        if threshold.is_some_and(|t| !t.is_finite()) {
            push("threshold", "it is not a finite number".into());
        }
        let Some(names) = names else { return };
        if threshold.is_some() && names.len() != 2 {
            push("names", format!("a threshold makes two classes, and here are {} names", names.len()));
        }
        if names.is_empty() {
            push("names", "there is no name".into());
        }
        if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            push("names", format!("`{}` is there twice", twice.1));
        }
    }

    /// Starts to make classes of cells; `known` are names that the data itself gives.
    pub(super) fn classes_or(&self, known: Option<Vec<String>>) -> Classes<'_> {
        let mut classes = self.classes();
        if let (Keys { threshold: None, names: None, .. }, Some(known)) = (&self.0, known) {
            classes.fixed = known;
        }
        classes
    }

    /// Starts to make classes of cells.
    pub(super) fn classes(&self) -> Classes<'_> {
        let Keys { threshold, names, .. } = &self.0;
        let fixed = match (threshold, names) {
            (_, Some(names)) => names.clone(),
            (Some(t), None) => vec![format!("below_{t}"), format!("at_least_{t}")],
            (None, None) => Vec::new(),
        };
        Classes { config: &self.0, fixed, seen: HashMap::new(), of_row: Vec::new() }
    }
}

/// Classes made of the cells of a column, one cell per row.
pub(super) struct Classes<'a> {
    config: &'a Keys,
    fixed: Vec<String>,
    seen: HashMap<String, u32>,
    of_row: Vec<u32>,
}

impl Classes<'_> {
    /// Takes the next row's cell; `Err` says what is wrong with it.
    pub fn push(&mut self, cell: &str) -> Result<(), String> {
        let class = self.class(cell.trim())?;
        self.of_row.push(class);
        Ok(())
    }

    fn class(&mut self, cell: &str) -> Result<u32, String> {
        let column = &self.config.column;
        if cell.is_empty() {
            return Err(format!("`{column}` is empty"));
        }
        if let Some(threshold) = self.config.threshold {
            let value: f64 = cell.parse().map_err(|_| format!("`{column}` is `{cell}`, which is not a number"))?;
            if !value.is_finite() {
                return Err(format!("`{column}` is `{cell}`, which is not finite"));
            }
            return Ok(u32::from(value >= threshold));
        }
        if self.fixed.is_empty() {
            let next = self.seen.len() as u32;
            return Ok(*self.seen.entry(cell.into()).or_insert(next));
        }
        let position = self.fixed.iter().position(|name| name == cell);
        let position = position.or_else(|| cell.parse().ok().filter(|number| *number < self.fixed.len()));
        position.map(|p| p as u32).ok_or_else(|| {
            let names = || self.fixed.iter().map(String::as_str);
            let near = did_you_mean(cell, names());
            format!("`{column}` is `{cell}`, which is not one of {}{near}", one_of(names()))
        })
    }

    /// The names of the classes, and the class of every row.
    pub fn finish(self) -> (Vec<String>, Vec<u32>) {
        if !self.fixed.is_empty() {
            return (self.fixed, self.of_row);
        }
        let mut names: Vec<(String, u32)> = self.seen.into_iter().collect();
        let number = |(name, _): &(String, u32)| name.parse::<i64>().ok();
        if names.iter().all(|name| number(name).is_some()) {
            names.sort_by(|a, b| (number(a), &a.0).cmp(&(number(b), &b.0)));
        } else {
            names.sort();
        }
        let mut new = vec![0; names.len()];
        for (position, (_, old)) in names.iter().enumerate() {
            new[*old as usize] = position as u32;
        }
        let of_row = self.of_row.into_iter().map(|old| new[old as usize]).collect();
        (names.into_iter().map(|(name, _)| name).collect(), of_row)
    }
}

impl Serialize for LabelConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Keys { column, threshold: None, names: None } => serializer.serialize_str(column),
            keys => keys.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for LabelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(column) => Ok(Self::column_named(&column)),
            map @ serde_json::Value::Object(_) => serde_json::from_value(map).map(Self).map_err(D::Error::custom),
            _ => Err(D::Error::custom("a label is a column's name, or a map with `column`")),
        }
    }
}

impl JsonSchema for LabelConfig {
    fn schema_name() -> Cow<'static, str> {
        "LabelConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let keys = generator.subschema_for::<Keys>();
        json_schema!({
            "description": "The label of a table's rows: a column's name, or a map with `column` and how classes are made of it.",
            "type": ["string", "object"],
            "if": {"type": "object"},
            "then": keys,
            "else": {"type": "string", "minLength": 1}
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn classes(config: serde_json::Value, cells: &[&str]) -> Result<(Vec<String>, Vec<u32>), String> {
        let config: LabelConfig = serde_json::from_value(config).unwrap();
        let mut classes = config.classes();
        cells.iter().try_for_each(|cell| classes.push(cell))?;
        Ok(classes.finish())
    }

    #[test]
    fn a_threshold_makes_two_classes() {
        let (names, of_row) = classes(json!({"column": "p", "threshold": 0.5}), &["0", "0.5", "0.49", "1"]).unwrap();
        assert_eq!(names, ["below_0.5", "at_least_0.5"]);
        assert_eq!(of_row, [0, 1, 0, 1]);
        let named = json!({"column": "p", "threshold": 0.5, "names": ["ok", "defective"]});
        assert_eq!(classes(named.clone(), &["1"]).unwrap(), (vec!["ok".into(), "defective".into()], vec![1]));
        assert_eq!(classes(named.clone(), &["high"]).unwrap_err(), "`p` is `high`, which is not a number");
        assert!(classes(named, &["NaN"]).is_err());
    }

    #[test]
    fn classes_are_sorted_as_numbers_or_as_words() {
        assert_eq!(classes(json!("c"), &["10", "9", "10"]).unwrap(), (vec!["9".into(), "10".into()], vec![1, 0, 1]));
        assert_eq!(classes(json!("c"), &["b", " a ", "10"]).unwrap().0, ["10", "a", "b"]);
        assert_eq!(classes(json!("c"), &[" "]).unwrap_err(), "`c` is empty");
    }

    #[test]
    fn names_are_found_by_name_or_position() {
        let config = json!({"column": "c", "names": ["negative", "positive"]});
        assert_eq!(classes(config.clone(), &["1", "negative"]).unwrap().1, [1, 0]);
        assert!(classes(config.clone(), &["2"]).unwrap_err().contains("`negative` or `positive`"));
        assert!(classes(config, &["positve"]).unwrap_err().ends_with("did you mean `positive`?"));
    }

    #[test]
    fn a_wrong_config_is_reported() {
        let read: LabelConfig =
            serde_json::from_value(json!({"column": "c", "threshold": 1, "names": ["a", "a", "b"]})).unwrap();
        let mut problems = Problems::new("x");
        read.check(&mut problems);
        assert_eq!(problems.list.len(), 2);
        assert!(serde_json::from_value::<LabelConfig>(json!({"colum": "c"})).is_err());
        assert_eq!(serde_json::to_value(LabelConfig::column_named("c")).unwrap(), json!("c"));
    }
}
