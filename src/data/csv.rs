//! `kind: csv`: a text table with one row per sample, its image's path or its text in one column and its label
//! in another. What it shares with `tsv` is here too.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Field;
use super::bad::Listed;
use super::fields::FieldColumns;
use super::label::LabelConfig;
use super::labels::LabelCell;
use super::listing::Listing;
use super::load::{Found, Read, Set, SetPlace};
use super::table::{Delimiter, Table};
use super::targets::TargetKind;
use crate::base::{Error, Problems, Result};

/// A text table with one row per sample: an image's path or a text in one column, its label in another. Paths
/// start from `root`, or without one from the table's own folder. Cells may be quoted; for tables whose cells
/// are separated by tabs and never quoted there is `tsv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Csv {
    /// What stands between the cells.
    pub delimiter: Delimiter,
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

impl Default for Csv {
    fn default() -> Self {
        let label = LabelConfig::column_named("label");
        let columns = Vec::new();
        Self { delimiter: Delimiter::Comma, header: true, columns, image: None, text: None, text_b: None, label }
    }
}

impl Csv {
    fn field_columns(&self) -> FieldColumns<'_> {
        FieldColumns { image: &self.image, text: &self.text, text_b: &self.text_b }
    }

    fn keys(&self) -> Keys<'_> {
        let Self { delimiter, header, columns, label, .. } = self;
        Keys { delimiter: *delimiter, header: *header, columns, fields: self.field_columns(), label }
    }
}

impl Read for Csv {
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

/// The keys of a text table, whatever stands between its cells.
pub(super) struct Keys<'a> {
    pub delimiter: Delimiter,
    pub header: bool,
    pub columns: &'a [String],
    pub fields: FieldColumns<'a>,
    pub label: &'a LabelConfig,
}

impl Keys<'_> {
    pub fn check(&self, problems: &mut Problems) {
        if !self.header && self.columns.is_empty() {
            problems.push(
                None,
                "data.columns",
                "without a header the columns need names, as in `columns: [image, label]`",
            );
        }
        self.fields.check(problems);
        self.label.check(problems);
    }

    pub fn read(&self, paths: &[PathBuf], place: &SetPlace<'_>) -> Result<Set> {
        let mut listing = Listing::new(self.fields, self.label, None, place);
        let fields = self.fields.list();
        for path in paths {
            let table = Table::read(path, self.delimiter, self.header, self.columns)?;
            let mut listed = Listed::new(format!("`{}` does not fit the recipe", path.display()));
            let mut column = |key: &str, name: &str| {
                let found = table.column(key, name).map_err(|message| listed.push(None, message));
                found.unwrap_or_default()
            };
            let places: Vec<usize> = fields.iter().map(|one| column(&one.key(), one.column)).collect();
            let label: Vec<usize> = self.label.columns().iter().map(|name| column("data.label", name)).collect();
            let marks: Vec<usize> = place.marks.iter().map(|name| column("data, a set's column", name)).collect();
            listed.into_result()?;
            let mut at = listing.table(path);
            table.bad.iter().for_each(|(line, why)| at.bad(*line, why.as_str()));
            for (line, cells) in &table.rows {
                let marks = marks.iter().map(|mark| cells[*mark].to_string()).collect();
                let label: Vec<LabelCell<'_>> = label.iter().map(|label| LabelCell::from(&cells[*label])).collect();
                let samples = fields.iter().zip(&places);
                let samples =
                    samples.map(|(one, place)| at.sample(*line, one.field.modality, &cells[*place])).collect();
                at.push(*line, samples, &label, marks);
            }
            at.finish()?;
        }
        Ok(listing.finish())
    }
}

/// Which table of a root is meant cannot be guessed.
pub(super) fn find(root: &Path) -> Result<Found> {
    Err(Error::bad_input(format!("data.train: which table of `{}` holds the rows?", root.display()))
        .hint("write `train: {path: TABLE}`; the path starts from `root`"))
}

#[cfg(test)]
mod tests {
    use crate::data::load::tests::{Fixture, class_names};
    use serde_json::json;

    #[test]
    fn a_whitespace_table_with_a_threshold_is_read() {
        let fixture = Fixture::new();
        fixture.write("d/images/1.png", b"");
        fixture.write("d/images/2.png", b"");
        fixture.write("d/labels.csv", b"images/1.png  1.0   mono\nimages/2.png  0.3333333333333333  poly\n");
        let config = json!({
            "kind": "csv", "root": "d", "train": {"path": "labels.csv"}, "delimiter": "whitespace", "header": false,
            "columns": ["path", "p", "type"], "image": "path",
            "label": {"column": "p", "threshold": 0.5, "names": ["ok", "defective"]}
        });
        let data = fixture.load(config).unwrap();
        assert_eq!(class_names(&data), (&["ok".to_string(), "defective".into()][..], &[1, 0][..]));
        assert_eq!(data.rows[1].origin, "labels.csv:2");
        assert_eq!(data.rows[1].samples[0].path(), Some(fixture.path("d/images/2.png").as_path()));
        assert_eq!(data.splits.train, [0, 1]);
    }

    #[test]
    fn every_bad_row_is_reported_with_its_line() {
        let fixture = Fixture::new();
        fixture.write("d/1.png", b"");
        fixture.write("outside.png", b"");
        fixture.write("d/t.csv", b"image,label\n1.png,0.5\nnone.png,1\n../outside.png,1\n1.png,high\n/etc/passwd,\n");
        let config = json!({"kind": "csv", "root": "d", "train": {"path": "t.csv"}, "label": {"column": "label", "threshold": 0.5}});
        let error = fixture.load(config).unwrap_err().to_string();
        for expected in [
            "t.csv:3:1  there is no file `",
            "t.csv:4:1  `../outside.png` is outside of",
            "t.csv:5:1  `label` is `high`, which is not a number",
            "t.csv:6:1  `/etc/passwd` is outside of",
            "t.csv:6:1  `label` is empty",
        ] {
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn a_missing_file_stays_until_it_is_read_and_a_path_outside_is_left_out() {
        let fixture = Fixture::new();
        fixture.write("d/1.png", b"");
        fixture.write("d/t.csv", b"image,label\n1.png,a\nnone.png,b\n../1.png,c\n");
        let config = json!({"kind": "csv", "root": "d", "train": {"path": "t.csv"}, "on_error": "skip",
                            "max_skipped": 0.4});
        let data = fixture.load(config).unwrap();
        assert_eq!(class_names(&data), (&["a".to_string(), "b".into()][..], &[0, 1][..]));
        assert!(data.left_out[0].origin == "t.csv:4" && data.left_out[0].reason.contains("is outside of"));
    }

    #[test]
    fn missing_columns_are_all_named() {
        let fixture = Fixture::new();
        fixture.table("t.csv", 4);
        let error =
            fixture.load(json!({"kind": "csv", "train": {"path": "t.csv"}, "image": "images", "label": "class"}));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("data.image: no column is named `images`") && error.contains("did you mean `image`?"),
            "{error}"
        );
        assert!(error.contains("data.label: no column is named `class`"), "{error}");
        let error = fixture.load(json!({"kind": "csv", "train": {"path": "t.csv"}, "header": false})).unwrap_err();
        assert!(error.to_string().contains("without a header the columns need names"));
        let error = fixture.load(json!({"kind": "csv", "root": "."})).unwrap_err();
        assert!(error.hint_text().unwrap().contains("train: {path: TABLE}"));
    }
}
