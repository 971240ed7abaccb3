//! `kind: webdataset`: tar shards whose members of one name are a sample.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cifar10::named;
use super::fields::FieldColumns;
use super::image_folder::is_picture;
use super::label::LabelConfig;
use super::labels::LabelCell;
use super::listing::Listing;
use super::load::{Found, Read, Set, SetPlace};
use super::tar::{Member, members};
use super::targets::TargetKind;
use crate::base::{Error, Problems, Result};
use crate::sample::{Encoding, Sample, Source};

/// Tar shards in WebDataset's form: neighbouring members whose names are the same up to the first dot are one
/// sample, such as `0001.jpg` and `0001.cls`. Samples are read in place. A set is a tar file or a folder of
/// them; with a `root` alone those that begin with `train`, `val` and `test`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Webdataset {
    /// The member that holds the label, by its extension, or a key of a JSON member, as in `json.label`.
    pub label: LabelConfig,
}

impl Default for Webdataset {
    fn default() -> Self {
        Self { label: LabelConfig::column_named("cls") }
    }
}

/// One field, and no column.
const PICTURES: FieldColumns<'_> = FieldColumns { image: &None, text: &None, text_b: &None };

/// No label member is longer.
const MAX_LABEL: u64 = 1 << 20;

impl Read for Webdataset {
    fn check(&self, problems: &mut Problems) {
        self.label.check(problems);
    }

    fn target_kind(&self) -> TargetKind {
        self.label.kind()
    }

    fn find(&self, root: &Path) -> Result<Found> {
        let files = |begin| named(root, begin, ".tar");
        let found = Found { train: files("train")?, valid: files("val")?, test: files("test")? };
        if found.train.is_empty() {
            return Err(Error::bad_input(format!("`{}` has no files `train*.tar`", root.display()))
                .hint("name the file or folder with `train: {path: …}`; the path starts from `root`"));
        }
        Ok(found)
    }

    fn read(&self, paths: &[PathBuf], place: &SetPlace<'_>) -> Result<Set> {
        let mut files = Vec::new();
        for path in paths {
            if path.is_dir() { files.extend(named(path, "", ".tar")?) } else { files.push(path.clone()) }
        }
        let mut listing = Listing::new(PICTURES, &self.label, None, place);
        for path in &files {
            let file: Arc<Path> = path.as_path().into();
            let members = members(path)?;
            let mut at = listing.table(path);
            let samples = members.chunk_by(|a, b| key(a).0 == key(b).0);
            for (number, sample) in samples.enumerate().map(|(i, sample)| (i + 1, sample)) {
                let name = key(&sample[0]).0;
                let Some(image) = sample.iter().find(|member| is_picture(&member.name)) else {
                    at.bad(number, format!("`{name}` has no picture"));
                    continue;
                };
                let cells = |fields: &[String]| {
                    fields.iter().map(|field| cell(&file, sample, field)).collect::<Result<Vec<String>, String>>()
                };
                match cells(self.label.columns()).and_then(|label| Ok((label, cells(place.marks)?))) {
                    Ok((label, marks)) => {
                        let label: Vec<LabelCell<'_>> = label.into_iter().map(LabelCell::from).collect();
                        at.push(number, vec![Some(sample_of(&file, image))], &label, marks);
                    }
                    Err(message) => at.bad(number, format!("`{name}` {message}")),
                }
            }
            at.finish()?;
        }
        Ok(listing.finish())
    }
}

/// A member's name up to the first dot of its last part, and what follows the dot.
fn key(member: &Member) -> (&str, &str) {
    let file = member.name.rfind('/').map_or(0, |slash| slash + 1);
    match member.name[file..].find('.') {
        Some(dot) => (&member.name[..file + dot], &member.name[file + dot + 1..]),
        None => (&member.name, ""),
    }
}

fn sample_of(file: &Arc<Path>, member: &Member) -> Sample {
    let source = Source::Range { file: file.clone(), offset: member.offset, len: member.len };
    Sample { source, encoding: Encoding::Encoded }
}

/// The text of a field: of the member with that extension, or of a key of a JSON member.
fn cell(file: &Arc<Path>, sample: &[Member], field: &str) -> Result<String, String> {
    let (extension, json_key) = match field.split_once('.') {
        Some(("json", json_key)) => ("json", Some(json_key)),
        _ => (field, None),
    };
    let there = || sample.iter().map(|member| key(member).1).collect::<Vec<_>>().join("`, `");
    let member = sample.iter().find(|member| key(member).1 == extension);
    let member = member.ok_or_else(|| format!("has no member `{extension}`; there is `{}`", there()))?;
    if member.len > MAX_LABEL {
        return Err(format!("has a member `{extension}` of {} bytes; at most {MAX_LABEL} are read", member.len));
    }
    let mut bytes = Vec::new();
    sample_of(file, member).read(&mut bytes).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| format!("has a member `{extension}` that is not UTF-8 text"))?;
    let Some(json_key) = json_key else { return Ok(text) };
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("has a bad JSON member: {error}"))?;
    match value.get(json_key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        _ => Err(format!("has no text, number or truth value `{json_key}` in its JSON member")),
    }
}

#[cfg(test)]
mod tests {
    use crate::data::load::tests::{Fixture, class_names};
    use crate::data::tar::tests::tar;
    use serde_json::json;

    #[test]
    fn members_of_one_name_are_a_sample_that_is_read_in_place() {
        let fixture = Fixture::new();
        let files: [(&str, &[u8]); 5] =
            [("a/1.jpg", b"one"), ("a/1.cls", b"7\n"), ("a/2.seg.txt", b"..."), ("a/2.cls", b"3"), ("a/2.png", b"two")];
        fixture.write("w/train-0.tar", &tar(&files));
        fixture.write("w/test-0.tar", &tar(&[("x.json", br#"{"label": 7}"#), ("x.cls", b"7"), ("x.webp", b"six")]));
        let data = fixture.load(json!({"kind": "webdataset", "root": "w"})).unwrap();
        assert_eq!(class_names(&data), (&["3".to_string(), "7".into()][..], &[1, 0, 1][..]));
        assert_eq!((data.splits.test.as_slice(), data.rows[1].origin.to_string()), (&[2][..], "train-0.tar:2".into()));
        let mut bytes = Vec::new();
        data.rows[1].samples[0].read(&mut bytes).unwrap();
        assert_eq!(bytes, b"two");
        let json = json!({"kind": "webdataset", "train": {"path": "w/test-0.tar"}, "label": "json.label"});
        assert_eq!(class_names(&fixture.load(json).unwrap()).0, ["7"]);
    }

    #[test]
    fn samples_without_a_picture_or_a_label_are_all_reported() {
        let fixture = Fixture::new();
        fixture.write("t.tar", &tar(&[("1.cls", b"1"), ("2.jpg", b"x"), ("3.jpg", b"x"), ("3.cls", b"\xff")]));
        let error = fixture.load(json!({"kind": "webdataset", "train": {"path": "t.tar"}})).unwrap_err().to_string();
        for expected in
            ["`1` has no picture", "`2` has no member `cls`; there is `jpg`", "`3` has a member `cls` that is not"]
        {
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
