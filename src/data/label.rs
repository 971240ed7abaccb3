//! What a table's rows are labelled with, as a recipe says it: a column of classes, a numeric column cut at a
//! threshold, one or several columns of labels, or numbers.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::labels::Labels;
use super::targets::TargetKind;
use crate::base::Problems;

/// The label of a table's rows: a column's name, or a map with more.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelConfig(Keys);

/// Label columns and what is made of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "LabelKeys")]
pub(super) struct Keys {
    /// `classes`: one of several per row, from one column. `multi_label`: any number per row, from one column
    /// that lists them or from several that hold 0 or 1. `values`: numbers to be predicted as such. `pairs`: no column;
    /// the fields of a row belong together, such as a query and its answer.
    pub kind: TargetKind,
    /// The column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// In place of `column` several: one per label or value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// What stands between the labels of one `multi_label` column of text, a comma if nothing is said. Lists of
    /// JSON and parquet need none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    /// Makes two classes of a numeric column: below, and at or above this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Names of the classes, labels or values. With a `threshold` two, for below and for at or above; with
    /// `columns` one each. Otherwise the column holds these names, or their positions from 0. Without names
    /// the classes and labels are what the column holds in the training rows, in numeric order if all are
    /// whole numbers, else in alphabetic order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// For `pairs` the fields in the order of their parts: the first looks for the second, and those behind it are hard
    /// negatives, which are not to be found. By default the order of the rows' fields: pictures before texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2))]
    pub fields: Option<Vec<String>>,
}

impl LabelConfig {
    /// The plain classes of a column.
    pub fn column_named(column: &str) -> Self {
        Self(Keys { column: Some(column.into()), ..Keys::default() })
    }

    /// The columns.
    pub fn columns(&self) -> &[String] {
        match &self.0 {
            Keys { columns: Some(columns), .. } => columns,
            Keys { column: Some(column), .. } => std::slice::from_ref(column),
            _ => &[],
        }
    }

    /// What the label is.
    pub fn kind(&self) -> TargetKind {
        self.0.kind
    }

    /// The fields of pairs in the order of their parts, where it is said.
    pub(super) fn fields(&self) -> Option<&[String]> {
        self.0.fields.as_deref()
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        let Keys { kind, column, columns, separator, threshold, names, fields } = &self.0;
        let mut push = |key: &str, message: String| problems.push(None, format!("data.label{key}"), message);
        if *kind == TargetKind::Pairs {
            let given = [
                (".column", column.is_some()),
                (".columns", columns.is_some()),
                (".separator", separator.is_some()),
                (".threshold", threshold.is_some()),
                (".names", names.is_some()),
            ];
            let given = given.into_iter().filter(|(_, given)| *given);
            return given.for_each(|(key, _)| push(key, "is not for `pairs`, which are labelled by nothing".into()));
        }
        if fields.is_some() {
            push(".fields", format!("is for `kind: pairs`, and the kind is `{}`", kind.name()));
        }
        match (column, columns) {
            (None, None) => push("", "needs a `column`, or `columns`".into()),
            (Some(_), Some(_)) => push(".columns", "stands in place of `column`; give one of the two".into()),
            (None, Some(columns)) => {
                if *kind == TargetKind::Classes {
                    push(
                        ".columns",
                        "are for `kind: multi_label` and `kind: values`; classes have one `column`".into(),
                    );
                }
                no_name_or_twice(columns, &mut |message| push(".columns", message));
            }
            (Some(_), None) => {}
        }
        if *kind == TargetKind::Masks {
            push(".kind", "masks are pictures; `data.kind: segmentation` reads them".into());
        }
        if threshold.is_some_and(|t| !t.is_finite()) {
            push(".threshold", "it is not a finite number".into());
        }
        if threshold.is_some() && *kind != TargetKind::Classes {
            push(".threshold", format!("makes classes, and the kind is `{}`", kind.name()));
        }
        if let Some(separator) = separator {
            if *kind != TargetKind::MultiLabel || columns.is_some() {
                push(".separator", "is for one `column` of `kind: multi_label`".into());
            }
            if separator.is_empty() {
                push(".separator", "is empty".into());
            }
        }
        let Some(names) = names else { return };
        if threshold.is_some() && *kind == TargetKind::Classes && names.len() != 2 {
            push(".names", format!("a threshold makes two classes, and here are {} names", names.len()));
        }
        let fixed = if columns.is_some() || *kind == TargetKind::Values { self.columns().len() } else { names.len() };
        if names.len() != fixed {
            push(".names", format!("{} names for {fixed} columns", names.len()));
        }
        no_name_or_twice(names, &mut |message| push(".names", message));
    }

    /// Starts to make targets of cells; `known` are names of classes that the data itself gives.
    pub(super) fn labels(&self, known: Option<Vec<String>>) -> Labels<'_> {
        Labels::new(&self.0, known)
    }
}

fn no_name_or_twice(names: &[String], push: &mut dyn FnMut(String)) {
    if names.is_empty() {
        push("there is no name".into());
    }
    if let Some((_, twice)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        push(format!("`{twice}` is there twice"));
    }
}

impl Serialize for LabelConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.column {
            Some(column) if *self == Self::column_named(column) => serializer.serialize_str(column),
            _ => self.0.serialize(serializer),
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
            "description": "The label of a table's rows: a column's name, or a map with `column` or `columns` and what is made of them.",
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

    fn problems(config: serde_json::Value) -> Vec<String> {
        let config: LabelConfig = serde_json::from_value(config).unwrap();
        let mut problems = Problems::new("x");
        config.check(&mut problems);
        problems.list.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
    }

    #[test]
    fn a_wrong_config_is_reported() {
        assert_eq!(problems(json!({"column": "c", "threshold": 1, "names": ["a", "a", "b"]})).len(), 2);
        assert!(serde_json::from_value::<LabelConfig>(json!({"colum": "c"})).is_err());
        assert_eq!(problems(json!({})), ["data.label: needs a `column`, or `columns`"]);
        assert_eq!(problems(json!({"column": "a", "columns": ["a", "a"]})).len(), 1);
        assert_eq!(problems(json!({"columns": ["a", "a"]})).len(), 2);
        let values = json!({"kind": "values", "columns": ["a", "b"], "names": ["x"], "threshold": 1, "separator": ","});
        assert_eq!(problems(values).len(), 3);
        assert_eq!(problems(json!({"kind": "multi_label", "column": "a", "separator": "|"})), [""; 0]);
        assert_eq!(problems(json!({"kind": "multi_label", "columns": ["a", "b"]})), [""; 0]);
    }

    #[test]
    fn a_config_comes_back_as_it_was_written() {
        let back = |written: serde_json::Value| {
            serde_json::to_value(serde_json::from_value::<LabelConfig>(written).unwrap()).unwrap()
        };
        assert_eq!(back(json!("c")), json!("c"));
        let values = json!({"kind": "values", "columns": ["x", "y"]});
        assert_eq!(back(values.clone()), values);
    }
}
