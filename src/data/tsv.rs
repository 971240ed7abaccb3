//! `kind: tsv`: a table whose cells are separated by tabs.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::csv::{Keys, find};
use super::label::LabelConfig;
use super::load::{Found, Read, Set, SetPlace};
use super::table::Delimiter;
use super::targets::TargetKind;
use crate::base::{Problems, Result};

/// A text table with one row per line, whose cells are separated by tabs and never quoted: an image's path in
/// one column, its label in another. Paths start from `root`, or without one from the table's own folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tsv {
    /// Whether the first line names the columns.
    pub header: bool,
    /// Names of the columns, in order; needed without a header, and in place of its names with one.
    pub columns: Vec<String>,
    /// The column of the images' paths.
    pub image: String,
    /// The column of the labels.
    pub label: LabelConfig,
}

impl Default for Tsv {
    fn default() -> Self {
        let label = LabelConfig::column_named("label");
        Self { header: true, columns: Vec::new(), image: "image".into(), label }
    }
}

impl Tsv {
    fn keys(&self) -> Keys<'_> {
        let Self { header, columns, image, label } = self;
        Keys { delimiter: Delimiter::Tab, header: *header, columns, image, label }
    }
}

impl Read for Tsv {
    fn check(&self, problems: &mut Problems) {
        self.keys().check(problems);
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
    use serde_json::json;

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
