//! `kind: jsonl`: one JSON object per line, its image's path or its text under one key and its label under
//! another.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Field;
use super::fields::{FieldColumn, RowColumns};
use super::labels::LabelCell;
use super::listing::Listing;
use super::load::{Found, Read, Set, SetPlace};
use super::table;
use super::targets::TargetKind;
use crate::base::suggest::did_you_mean;
use crate::base::{Error, Problems, Result};

/// One JSON object per line: an image's path or a text under one key, its label (a text, number or truth value, or a
/// list of them) under another. Paths start from `root`, or without one from the file's own folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Jsonl(pub RowColumns);

impl JsonSchema for Jsonl {
    fn schema_name() -> Cow<'static, str> {
        "Jsonl".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        RowColumns::schema_of(
            "One JSON object per line: an image's path or a text under one key, its label (a text, number or \
             truth value, or a list of them) under another. Paths start from `root`, or without one from the \
             file's own folder.",
            generator,
        )
    }
}

impl Read for Jsonl {
    fn check(&self, problems: &mut Problems) {
        self.0.check(problems);
    }

    fn fields(&self) -> Vec<Field> {
        self.0.fields()
    }

    fn target_kind(&self) -> TargetKind {
        self.0.target_kind()
    }

    fn parts(&self) -> Option<Vec<String>> {
        self.0.parts()
    }

    fn find(&self, root: &Path) -> Result<Found> {
        Err(Error::bad_input(format!("data.train: which file of `{}` holds the rows?", root.display()))
            .hint("write `train: {path: FILE}`; the path starts from `root`"))
    }

    fn read(&self, paths: &[PathBuf], place: &SetPlace<'_>) -> Result<Set> {
        let mut listing = Listing::new(self.0.field_columns(), &self.0.label, None, place);
        let fields = self.0.field_columns().list();
        for path in paths {
            let bytes = table::read_bytes(path)?;
            let mut at = listing.table(path);
            for (line, text) in table::lines(&bytes) {
                match text.map_err(String::from).and_then(|text| self.row(&fields, text, place.marks)) {
                    Ok((cells, label, marks)) => {
                        let cells = fields.iter().zip(&cells);
                        let samples = cells.map(|(one, cell)| at.sample(line, one.field.modality, cell)).collect();
                        at.push(line, samples, &label, marks);
                    }
                    Err(message) => at.bad(line, message),
                }
            }
            at.finish()?;
        }
        Ok(listing.finish())
    }
}

impl Jsonl {
    /// The cells of the fields, the label and the marks of an object.
    fn row(&self, fields: &[FieldColumn<'_>], text: &str, marks: &[String]) -> Result<Cells, String> {
        let object: &Map<String, Value> =
            &serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
        let label = self.0.label.columns().iter().map(|key| label_of(object, key));
        let marks = marks.iter().map(|key| text_of(object, key));
        let cells = fields.iter().map(|one| text_of(object, one.column)).collect::<Result<_, _>>()?;
        Ok((cells, label.collect::<Result<_, _>>()?, marks.collect::<Result<_, _>>()?))
    }
}

type Cells = (Vec<String>, Vec<LabelCell<'static>>, Vec<String>);

fn value_of<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a Value, String> {
    let near = || did_you_mean(key, object.keys().map(String::as_str));
    object.get(key).ok_or_else(|| format!("there is no key `{key}`{}", near()))
}

fn as_text(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err(format!("`{key}` is not a text, a number or a truth value")),
    }
}

fn text_of(object: &Map<String, Value>, key: &str) -> Result<String, String> {
    as_text(key, value_of(object, key)?)
}

fn label_of(object: &Map<String, Value>, key: &str) -> Result<LabelCell<'static>, String> {
    match value_of(object, key)? {
        Value::Array(values) => {
            values.iter().map(|value| as_text(key, value)).collect::<Result<_, _>>().map(LabelCell::List)
        }
        value => as_text(key, value).map(LabelCell::from),
    }
}

#[cfg(test)]
mod tests {
    use crate::data::Targets;
    use crate::data::load::tests::{Fixture, class_names};
    use serde_json::json;

    #[test]
    fn a_list_is_the_labels_of_a_row() {
        let fixture = Fixture::new();
        fixture.write("1.png", b"");
        let lines = [r#"{"image": "1.png", "tags": ["b", 1]}"#, r#"{"image": "1.png", "tags": []}"#];
        fixture.write("t.jsonl", lines.join("\n").as_bytes());
        let config = json!({"kind": "jsonl", "train": {"path": "t.jsonl"},
                            "label": {"kind": "multi_label", "column": "tags"}});
        let expected = Targets::MultiLabel { names: vec!["1".into(), "b".into()], of_row: vec![vec![0, 1], vec![]] };
        assert_eq!(fixture.load(config).unwrap().targets, expected);
    }

    #[test]
    fn objects_are_rows_and_every_bad_line_is_reported() {
        let fixture = Fixture::new();
        let write = |lines: &[&str]| fixture.write("d/t.jsonl", lines.join("\n").as_bytes());
        fixture.write("d/1.png", b"");
        write(&[r#"{"image": "1.png", "label": 7}"#, "", r#"{"image": "1.png", "label": true, "x": null}"#]);
        let config = json!({"kind": "jsonl", "train": {"path": "d/t.jsonl"}});
        let data = fixture.load(config.clone()).unwrap();
        assert_eq!(class_names(&data), (&["7".to_string(), "true".into()][..], &[0, 1][..]));
        assert_eq!(data.rows[1].origin.to_string(), "t.jsonl:3");
        write(&[
            r#"{"image": "2.png", "label": 7}"#,
            "[]",
            r#"{"imgae": "1.png", "label": 1}"#,
            r#"{"image": [], "label": 1}"#,
        ]);
        let error = fixture.load(config).unwrap_err().to_string();
        for expected in [
            "t.jsonl:1:1  there is no file",
            "t.jsonl:2:1  not a JSON object",
            "t.jsonl:3:1  there is no key `image`; did you mean `imgae`?",
            "t.jsonl:4:1  `image` is not a text",
        ] {
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
