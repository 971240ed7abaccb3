//! `kind: csv`: a text table with one row per sample, its image's path or its text in one column and its label
//! in another.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::Field;
use super::fields::{Both, described};
use super::load::{Found, Read, Set, SetPlace};
use super::table::Delimiter;
use super::targets::TargetKind;
use super::text_table::TextTable;
use crate::base::{Problems, Result};

/// A text table with one row per sample, whose cells may be quoted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Csv(pub Both<CsvKeys, TextTable>);

/// The keys of `csv` that `tsv` has not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CsvKeys {
    /// What stands between the cells.
    pub delimiter: Delimiter,
}

impl JsonSchema for Csv {
    fn schema_name() -> Cow<'static, str> {
        "Csv".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        described(
            Both::<CsvKeys, TextTable>::json_schema(generator),
            "A text table with one row per sample: an image's path or a text in one column, its label in another. Paths \
             start from `root`, or without one from the table's own folder. Cells may be quoted; for tables whose cells \
             are separated by tabs and never quoted there is `tsv`.",
        )
    }
}

impl Read for Csv {
    fn check(&self, problems: &mut Problems) {
        self.0.rest.check(problems);
    }

    fn fields(&self) -> Vec<Field> {
        self.0.rest.rest.fields()
    }

    fn target_kind(&self) -> TargetKind {
        self.0.rest.rest.target_kind()
    }

    fn parts(&self) -> Option<Vec<String>> {
        self.0.rest.rest.parts()
    }

    fn find(&self, root: &Path) -> Result<Found> {
        TextTable::find(root)
    }

    fn read(&self, paths: &[PathBuf], place: &SetPlace<'_>) -> Result<Set> {
        self.0.rest.read(self.0.own.delimiter, paths, place)
    }
}

#[cfg(test)]
mod tests {
    use crate::data::Targets;
    use crate::data::load::tests::{Fixture, class_names};
    use serde_json::json;

    #[test]
    fn pairs_are_numbered_by_their_samples_and_rows_have_weights() {
        let fixture = Fixture::new();
        fixture.write("t.csv", b"w,q,a,n\n1,x,y,z\n0.5,x,z,y\n2,u,y,x\n");
        fixture.write("v.csv", b"q,a,n\nv,y,z\n");
        let label = json!({"kind": "pairs", "fields": ["a", "q", "n"]});
        let config = |weight| {
            json!({"kind": "csv", "train": {"path": "t.csv"}, "test": {"path": "v.csv"}, "text": ["q", "a", "n"],
                "label": label, "weight": weight})
        };
        let data = fixture.load(config("w")).unwrap();
        let names = vec!["a".to_string(), "q".into(), "n".into()];
        assert_eq!(data.targets, Targets::Pairs { names, of_row: vec![0, 1, 2, 2, 1, 0, 0, 3, 1, 0, 4, 2] });
        assert_eq!(data.weights, Some(vec![1.0, 0.5, 2.0, 1.0]));
        assert_eq!(data.targets.summary(), "pairs of a and q and n");
        let error = fixture.load(config("q")).unwrap_err().to_string();
        assert!(error.contains("t.csv:2: `x`") && error.contains("t.csv:4: `u`"), "{error}");
        let pictures = json!({"kind": "image_folder", "train": {"path": "."}, "weight": "w"});
        fixture.write("k/1.png", b"");
        assert!(fixture.load(pictures).unwrap_err().to_string().contains("a `weight` needs a table"));
    }

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
        assert_eq!(data.rows[1].origin.to_string(), "labels.csv:2");
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
