//! `kind: jsonl`: one JSON object per line, its image's path under one key and its label under another.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::label::LabelConfig;
use super::listing::Listing;
use super::load::{Found, Read, Set, SetPlace};
use super::table::read_utf8;
use crate::base::suggest::did_you_mean;
use crate::base::{Error, Problems, Result};

/// One JSON object per line: an image's path under one key, its label (a text, number or truth value) under
/// another. Paths start from `root`, or without one from the file's own folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Jsonl {
    /// The key of the images' paths.
    pub image: String,
    /// The key of the labels.
    pub label: LabelConfig,
}

impl Default for Jsonl {
    fn default() -> Self {
        Self { image: "image".into(), label: LabelConfig::column_named("label") }
    }
}

impl Read for Jsonl {
    fn check(&self, problems: &mut Problems) {
        self.label.check(problems);
    }

    fn find(&self, root: &Path) -> Result<Found> {
        Err(Error::bad_input(format!("data.train: which file of `{}` holds the rows?", root.display()))
            .hint("write `train: {path: FILE}`; the path starts from `root`"))
    }

    fn read(&self, paths: &[PathBuf], place: &SetPlace<'_>) -> Result<Set> {
        let mut listing = Listing::new(&self.label, None, place);
        for path in paths {
            let text = read_utf8(path)?;
            let mut at = listing.table(path);
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            for (line, text) in lines.map(|(i, text)| (i + 1, text)) {
                let object: Map<String, Value> = match serde_json::from_str(text) {
                    Ok(object) => object,
                    Err(error) => {
                        at.bad(line, format!("not a JSON object: {error}"));
                        continue;
                    }
                };
                let cell = |key: &str| match object.get(key) {
                    Some(Value::String(text)) => Ok(text.clone()),
                    Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
                    Some(_) => Err(format!("`{key}` is not a text, a number or a truth value")),
                    None => {
                        Err(format!("there is no key `{key}`{}", did_you_mean(key, object.keys().map(String::as_str))))
                    }
                };
                let keys = [self.image.as_str(), self.label.column()];
                let keys = keys.into_iter().chain(place.marks.iter().map(String::as_str));
                match keys.map(cell).collect::<Result<Vec<_>, _>>() {
                    Ok(mut cells) => {
                        let marks = cells.split_off(2);
                        let sample = at.file(line, &cells[0]);
                        at.push(line, sample, &cells[1], marks);
                    }
                    Err(message) => at.bad(line, message),
                }
            }
            at.finish()?;
        }
        Ok(listing.finish())
    }
}

#[cfg(test)]
mod tests {
    use crate::data::load::tests::{Fixture, class_names};
    use serde_json::json;

    #[test]
    fn objects_are_rows_and_every_bad_line_is_reported() {
        let fixture = Fixture::new();
        let write = |lines: &[&str]| fixture.write("d/t.jsonl", lines.join("\n").as_bytes());
        fixture.write("d/1.png", b"");
        write(&[r#"{"image": "1.png", "label": 7}"#, "", r#"{"image": "1.png", "label": true, "x": null}"#]);
        let config = json!({"kind": "jsonl", "train": {"path": "d/t.jsonl"}});
        let data = fixture.load(config.clone()).unwrap();
        assert_eq!(class_names(&data), (&["7".to_string(), "true".into()][..], &[0, 1][..]));
        assert_eq!(data.rows[1].origin, "t.jsonl:3");
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
