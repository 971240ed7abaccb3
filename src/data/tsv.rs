//! `kind: tsv`: a table whose cells are separated by tabs.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Field;
use super::csv::{Keys, find};
use super::fields::FieldColumns;
use super::label::LabelConfig;
use super::load::{Found, Read, Set, SetPlace};
use super::table::Delimiter;
use super::targets::TargetKind;
use crate::base::{Problems, Result};

/// A text table with one row per line, whose cells are separated by tabs and never quoted: an image's path or a
/// text in one column, its label in another. Paths start from `root`, or without one from the table's own folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tsv {
    /// Whether the first line names the columns.
    pub header: bool,
    /// Names of the columns, in order; needed without a header, and in place of its names with one.
    pub columns: Vec<String>,
    /// The column of the images' paths; `image` if neither pictures nor texts are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The column of the texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The column of the second texts, where rows are pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_b: Option<String>,
    /// The column of the labels.
    pub label: LabelConfig,
}

impl Default for Tsv {
    fn default() -> Self {
        let label = LabelConfig::column_named("label");
        Self { header: true, columns: Vec::new(), image: None, text: None, text_b: None, label }
    }
}

impl Tsv {
    fn field_columns(&self) -> FieldColumns<'_> {
        FieldColumns { image: &self.image, text: &self.text, text_b: &self.text_b }
    }

    fn keys(&self) -> Keys<'_> {
        let Self { header, columns, label, .. } = self;
        Keys { delimiter: Delimiter::Tab, header: *header, columns, fields: self.field_columns(), label }
    }
}

impl Read for Tsv {
    fn check(&self, problems: &mut Problems) {
        self.keys().check(problems);
    }

    fn fields(&self) -> Vec<Field> {
        self.field_columns().fields()
    }

    fn target_kind(&self) -> TargetKind {
        self.label.kind()
    }

    fn find(&self, root: &Path) -> Result<Found> {
        find(root)
    }

    fn read(&self, paths: &[PathBuf], place: &SetPlace<'_>) -> Result<Set> {
        self.keys().read(paths, place)
    }
}

#[cfg(test)]
mod tests {
    use crate::data::Targets;
    use crate::data::load::tests::Fixture;
    use crate::sample::Sample;
    use serde_json::json;

    #[test]
    fn texts_and_pairs_are_samples_of_their_own() {
        let fixture = Fixture::new();
        fixture.write("t.tsv", "a film\tgüt\t1\nb\t\t0\n".as_bytes());
        let config = json!({
            "kind": "tsv", "train": {"path": "t.tsv"}, "header": false, "columns": ["a", "b", "label"],
            "text": "a", "text_b": "b"
        });
        let data = fixture.load(config).unwrap();
        let names: Vec<&str> = data.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["text", "text_b"]);
        assert_eq!(data.rows[0].samples, [Sample::text("a film"), Sample::text("güt")]);
        assert_eq!(data.rows[1].samples[1], Sample::text(""));
        fixture.write("bad.tsv", b"a\t1\nb \xff\t0\n");
        let config = json!({"kind": "tsv", "train": {"path": "bad.tsv"}, "header": false, "columns": ["t", "label"],
                            "text": "t"});
        assert!(fixture.load(config).unwrap_err().to_string().contains("bad.tsv:2:1  not UTF-8 text"));
    }

    #[test]
    fn cells_are_separated_by_tabs_and_never_quoted() {
        let fixture = Fixture::new();
        fixture.write("a \"b\".png", b"");
        fixture.write("t.tsv", b"a \"b\".png\t0.5\t-1\n");
        let config = json!({
            "kind": "tsv", "train": {"path": "t.tsv"}, "header": false, "columns": ["image", "x", "y"],
            "label": {"kind": "values", "columns": ["y", "x"]}
        });
        let data = fixture.load(config).unwrap();
        let expected = Targets::Values { names: vec!["y".into(), "x".into()], of_row: vec![-1.0, 0.5] };
        assert_eq!(data.targets, expected);
    }
}
