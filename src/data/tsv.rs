//! `kind: tsv`: a table whose cells are separated by tabs.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::Field;
use super::fields::described;
use super::load::{Found, Read, Set, SetPlace};
use super::table::Delimiter;
use super::targets::TargetKind;
use super::text_table::TextTable;
use crate::base::{Problems, Result};

/// A text table with one row per line, whose cells are separated by tabs and never quoted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tsv(pub TextTable);

impl JsonSchema for Tsv {
    fn schema_name() -> Cow<'static, str> {
        "Tsv".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        described(
            TextTable::json_schema(generator),
            "A text table with one row per line, whose cells are separated by tabs and never quoted: an image's path or a \
             text in one column, its label in another. Paths start from `root`, or without one from the table's own \
             folder.",
        )
    }
}

impl Read for Tsv {
    fn check(&self, problems: &mut Problems) {
        self.0.check(problems);
    }

    fn fields(&self) -> Vec<Field> {
        self.0.rest.fields()
    }

    fn target_kind(&self) -> TargetKind {
        self.0.rest.target_kind()
    }

    fn parts(&self) -> Option<Vec<String>> {
        self.0.rest.parts()
    }

    fn find(&self, root: &Path) -> Result<Found> {
        TextTable::find(root)
    }

    fn read(&self, paths: &[PathBuf], place: &SetPlace<'_>) -> Result<Set> {
        self.0.read(Delimiter::Tab, paths, place)
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
        assert_eq!(data.rows[0].samples[..], [Sample::text("a film"), Sample::text("güt")]);
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
