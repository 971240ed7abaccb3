//! Rows that a table lists, whatever its format: pictures or texts and a label each.

use std::path::{Path, PathBuf};

use super::bad::BadRows;
use super::fields::FieldColumns;
use super::label::LabelConfig;
use super::labels::{LabelCell, Labels};
use super::load::{Set, SetPlace, inside};
use super::{LeftOut, OnError, Row};
use crate::base::Result;
use crate::sample::{Lines, Modality, Sample, Samples};

/// The rows of one set, of one or several tables.
pub(super) struct Listing<'a> {
    place: &'a SetPlace<'a>,
    columns: FieldColumns<'a>,
    labels: Labels<'a>,
    rows: Vec<Row>,
    marks: Vec<Vec<String>>,
    left_out: Vec<LeftOut>,
}

impl<'a> Listing<'a> {
    /// No rows yet. `known` are names of classes that the data gives.
    pub fn new(
        columns: FieldColumns<'a>,
        label: &'a LabelConfig,
        known: Option<Vec<String>>,
        place: &'a SetPlace<'a>,
    ) -> Self {
        let marks = vec![Vec::new(); place.marks.len()];
        Self { place, columns, labels: label.labels(known), rows: Vec::new(), marks, left_out: Vec::new() }
    }

    /// Begins a table.
    pub fn table<'b>(&'b mut self, path: &'b Path) -> TableRows<'a, 'b> {
        let title = format!("`{}` has rows that cannot be used", path.display());
        let bad = BadRows::new(self.place.on_error, title);
        let base = self.place.root.or(path.parent()).unwrap_or(Path::new("")).to_path_buf();
        TableRows { listing: self, path, lines: Lines::of(path), base, bad }
    }

    /// The set.
    pub fn finish(self) -> Set {
        let fields = self.columns.fields();
        let Self { rows, marks, left_out, .. } = self;
        Set { fields, rows, targets: self.labels.finish(), marks, left_out }
    }
}

/// The rows of one table.
pub(super) struct TableRows<'a, 'b> {
    listing: &'b mut Listing<'a>,
    path: &'b Path,
    lines: Lines,
    base: PathBuf,
    bad: BadRows,
}

impl TableRows<'_, '_> {
    /// The sample of a cell: of the file that it names, or of the text that it is.
    pub fn sample(&mut self, line: usize, modality: Modality, cell: &str) -> Option<Sample> {
        match modality {
            Modality::Image => self.file(line, cell),
            Modality::Text => Some(Sample::text(cell)),
        }
    }

    /// The sample of an image's path: from the root and inside of it, or from the table's folder, and inside of that
    /// if the table is not of this machine. A missing file is reported, unless bad rows are to be skipped: then reading
    /// it will tell.
    fn file(&mut self, line: usize, text: &str) -> Option<Sample> {
        let is_bound = self.listing.place.root.is_some() || self.listing.place.is_fetched;
        let file = if is_bound { inside(&self.base, Path::new(text)) } else { Ok(self.base.join(text)) };
        match file {
            Ok(file) if self.listing.place.on_error == OnError::Skip || file.is_file() => {
                return Some(Sample::file(file));
            }
            Ok(file) => self.bad(line, format!("there is no file `{}`", file.display())),
            Err(error) => self.bad(line, error.to_string()),
        }
        None
    }

    /// Reports a row.
    pub fn bad(&mut self, line: usize, message: impl Into<String>) {
        self.bad.push_at(self.path, line, message);
    }

    /// Takes the next row with the cells of its label columns; one that lacks a sample has been reported.
    pub fn push(&mut self, line: usize, samples: Vec<Option<Sample>>, label: &[LabelCell<'_>], marks: Vec<String>) {
        let parsed = match self.listing.labels.parse(label) {
            Ok(parsed) => parsed,
            Err(message) => return self.bad(line, message),
        };
        let Some(samples) = samples.into_iter().collect::<Option<Samples>>() else { return };
        self.listing.labels.push(parsed);
        let origin = self.lines.at(line);
        self.listing.rows.push(Row { samples, origin });
        for (kept, cell) in self.listing.marks.iter_mut().zip(marks) {
            kept.push(cell);
        }
    }

    /// Ends the table.
    ///
    /// # Errors
    /// Every row that was reported, unless they are left out.
    pub fn finish(self) -> Result<()> {
        self.listing.left_out.extend(self.bad.finish()?);
        Ok(())
    }
}
