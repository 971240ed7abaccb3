//! What `csv` and `tsv` share: the keys of a text table, and the reading of it.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bad::Listed;
use super::fields::{Both, RowColumns};
use super::labels::LabelCell;
use super::listing::Listing;
use super::load::{Found, Set, SetPlace};
use super::table::{Delimiter, Table};
use crate::base::{Error, Problems, Result};

/// The keys of a text table, whatever stands between its cells.
pub type TextTable = Both<TableKeys, RowColumns>;

/// The keys of text tables alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TableKeys {
    /// Whether the first line names the columns.
    pub header: bool,
    /// Names of the columns, in order; needed without a header, and in place of its names with one.
    pub columns: Vec<String>,
}

impl Default for TableKeys {
    fn default() -> Self {
        Self { header: true, columns: Vec::new() }
    }
}

impl TextTable {
    pub(super) fn check(&self, problems: &mut Problems) {
        if !self.own.header && self.own.columns.is_empty() {
            problems.push(
                None,
                "data.columns",
                "without a header the columns need names, as in `columns: [image, label]`",
            );
        }
        self.rest.check(problems);
    }

    /// Which table of a root is meant cannot be guessed.
    pub(super) fn find(root: &Path) -> Result<Found> {
        Err(Error::bad_input(format!("data.train: which table of `{}` holds the rows?", root.display()))
            .hint("write `train: {path: TABLE}`; the path starts from `root`"))
    }

    pub(super) fn read(&self, delimiter: Delimiter, paths: &[PathBuf], place: &SetPlace<'_>) -> Result<Set> {
        let Self { own: TableKeys { header, columns: names }, rest: columns } = self;
        let mut listing = Listing::new(columns.field_columns(), &columns.label, None, place);
        let fields = columns.field_columns().list();
        for path in paths {
            let table = Table::read(path, delimiter, *header, names)?;
            let mut listed = Listed::new(format!("`{}` does not fit the recipe", path.display()));
            let mut column = |key: &str, name: &str| {
                let found = table.column(key, name).map_err(|message| listed.push(None, message));
                found.unwrap_or_default()
            };
            let places: Vec<usize> = fields.iter().map(|one| column(one.key, one.column)).collect();
            let label: Vec<usize> =
                columns.label.columns().iter().map(|name| column(columns.label_key(), name)).collect();
            let marks: Vec<usize> = place.marks.iter().map(|name| column("data, a set's column", name)).collect();
            listed.into_result()?;
            let mut at = listing.table(path);
            table.each(|line, cells| {
                let cells = match cells {
                    Ok(cells) => cells,
                    Err(why) => return at.bad(line, why),
                };
                let marks = marks.iter().map(|mark| cells[*mark].to_string()).collect();
                let label: Vec<LabelCell<'_>> = label.iter().map(|label| LabelCell::from(&cells[*label])).collect();
                let samples = fields.iter().zip(&places);
                let samples = samples.map(|(one, place)| at.sample(line, one.field.modality, &cells[*place])).collect();
                at.push(line, samples, &label, marks);
            })?;
            at.finish()?;
        }
        Ok(listing.finish())
    }
}
