//! `kind: parquet`: any parquet file with a column of images, as paths or bytes, or of texts, and a label column.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::Field;
use super::bad::Listed;
use super::cifar10::{class_names, named};
use super::fields::{FieldColumn, RowColumns};
use super::labels::LabelCell;
use super::listing::{Listing, TableRows};
use super::load::{Found, Read, Set, SetPlace};
use super::parquet_file::{Cell, ParquetFile, Unpacked};
use super::targets::TargetKind;
use crate::base::suggest::{did_you_mean, one_of};
use crate::base::{Error, Problems, Result};
use crate::sample::{Encoding, Modality, Sample, Source};

/// A parquet file, such as those on the Hugging Face hub: images in one column, as embedded bytes (a binary
/// column, or one with `bytes` in it) or as paths in text, or texts; labels in another. Names of classes that the hub's
/// tools left in the file are used. A set may be a folder: then all `*.parquet` in it, or with a `root`
/// alone those that begin with `train`, `valid` and `test`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parquet(pub RowColumns);

impl JsonSchema for Parquet {
    fn schema_name() -> Cow<'static, str> {
        "Parquet".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        RowColumns::schema_of(
            "A parquet file, such as those on the Hugging Face hub: images in one column, as embedded bytes (a \
             binary column, or one with `bytes` in it) or as paths in text, or texts; labels in another. Names of \
             classes that the hub's tools left in the file are used. A set may be a folder: then all `*.parquet` \
             in it, or with a `root` alone those that begin with `train`, `valid` and `test`.",
            generator,
        )
    }
}

impl Read for Parquet {
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
        for folder in [root.to_path_buf(), root.join("data")] {
            let files = |begin| named(&folder, begin, ".parquet");
            let found = Found { train: files("train")?, valid: files("valid")?, test: files("test")? };
            if !found.train.is_empty() {
                return Ok(found);
            }
        }
        Err(Error::bad_input(format!("`{}` has no files `train*.parquet`", root.display()))
            .hint("name the file or folder with `train: {path: …}`; the path starts from `root`"))
    }

    fn read(&self, paths: &[PathBuf], place: &SetPlace<'_>) -> Result<Set> {
        let mut files = Vec::new();
        for path in paths {
            if path.is_dir() { files.extend(named(path, "", ".parquet")?) } else { files.push(path.clone()) }
        }
        let known = match (files.first(), self.0.label.columns()) {
            (Some(first), [column]) => class_names(&ParquetFile::open(first)?, column),
            _ => None,
        };
        let mut listing = Listing::new(self.0.field_columns(), &self.0.label, known, place);
        for path in &files {
            self.read_file(path, place, &mut listing)?;
        }
        Ok(listing.finish())
    }
}

impl Parquet {
    fn read_file(&self, path: &Path, set_place: &SetPlace<'_>, listing: &mut Listing<'_>) -> Result<()> {
        let file = ParquetFile::open(path)?;
        let mut listed = Listed::new(format!("`{}` does not fit the recipe", path.display()));
        let columns = file.columns();
        let names = || columns.iter().map(|name| name.strip_suffix(".bytes").unwrap_or(name));
        let mut column = |key: &str, name: &str| {
            let found = file.column(name).or_else(|| file.column(&format!("{name}.bytes")));
            let found = found.or_else(|| file.list_column(name));
            if found.is_none() {
                let (there, near) = (one_of(names()), did_you_mean(name, names()));
                listed.push(None, format!("{key}: no column is named `{name}`; there is {there}{near}"));
            }
            found.unwrap_or_default()
        };
        let fields = self.0.field_columns().list();
        let places: Vec<usize> = fields.iter().map(|one| column(one.key, one.column)).collect();
        let label: Vec<usize> = self.0.label.columns().iter().map(|name| column(self.0.label_key(), name)).collect();
        let marks: Vec<usize> = set_place.marks.iter().map(|name| column("data, a set's column", name)).collect();
        listed.into_result()?;
        let mut bad = BadCells::new();
        let labels = label.into_iter().map(|column| Ok(labels(&file, column, &mut bad)?.into_iter()));
        let mut labels = labels.collect::<Result<Vec<_>>>()?;
        let mut row_label = || labels.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>();
        let marks = marks.into_iter().map(|column| texts(&file, column, &mut bad)).collect::<Result<Vec<_>>>()?;
        let row_marks = |row: usize| marks.iter().map(|cells| cells[row].clone()).collect();
        let mut at = listing.table(path);
        let fields = fields.iter().zip(places);
        let fields = fields.map(|(one, place)| FieldCells::read(&file, one, place, set_place, &mut bad));
        let fields = fields.collect::<Result<Vec<_>>>()?;
        for row in 0..file.rows() {
            let label = row_label();
            if let Some(why) = bad.remove(&row) {
                at.bad(row + 1, why);
                continue;
            }
            let samples = fields.iter().map(|cells| cells.sample(row, &mut at)).collect();
            at.push(row + 1, samples, &label, row_marks(row));
        }
        at.finish()
    }
}

/// What a field's column holds.
enum FieldCells {
    Texts(Modality, Vec<String>),
    Bytes(Unpacked),
}

impl FieldCells {
    fn read(
        file: &ParquetFile,
        one: &FieldColumn<'_>,
        column: usize,
        place: &SetPlace<'_>,
        bad: &mut BadCells,
    ) -> Result<Self> {
        if one.field.modality == Modality::Text || file.is_text(column) {
            return Ok(Self::Texts(one.field.modality, texts(file, column, bad)?));
        }
        let unpacked = file.unpack(column, place)?;
        check_count(file, column, unpacked.offsets.len() - 1)?;
        Ok(Self::Bytes(unpacked))
    }

    fn sample(&self, row: usize, at: &mut TableRows<'_, '_>) -> Option<Sample> {
        match self {
            Self::Texts(modality, cells) => at.sample(row + 1, *modality, &cells[row]),
            Self::Bytes(Unpacked { file, offsets }) => {
                let len = offsets[row + 1] - offsets[row];
                if len == 0 {
                    at.bad(row + 1, format!("row {} has no image", row + 1));
                    return None;
                }
                let source = Source::Range { file: file.clone(), offset: offsets[row], len };
                Some(Sample { source, encoding: Encoding::Encoded })
            }
        }
    }
}

/// Rows with a cell that cannot be used, and what is wrong with it.
type BadCells = BTreeMap<usize, String>;

/// A column as text; what is missing or bad is empty.
fn texts(file: &ParquetFile, column: usize, bad: &mut BadCells) -> Result<Vec<String>> {
    let mut cells = Vec::new();
    file.visit(column, |row, cell| {
        cells.push(cell.map_or(String::new(), |cell| text(file, (column, row), cell, bad)));
        Ok(())
    })?;
    check_count(file, column, cells.len())?;
    Ok(cells)
}

/// A column of labels: text, or lists of it.
fn labels(file: &ParquetFile, column: usize, bad: &mut BadCells) -> Result<Vec<LabelCell<'static>>> {
    if !file.is_list(column) {
        return Ok(texts(file, column, bad)?.into_iter().map(LabelCell::from).collect());
    }
    let mut lists: Vec<Vec<String>> = Vec::new();
    file.visit_all(column, |row, cell| {
        lists.resize_with(row + 1, Vec::new);
        if let Some(cell) = cell {
            lists[row].push(text(file, (column, row), cell, bad));
        }
        Ok(())
    })?;
    check_count(file, column, lists.len())?;
    Ok(lists.into_iter().map(LabelCell::List).collect())
}

fn text(file: &ParquetFile, (column, row): (usize, usize), cell: Cell<'_>, bad: &mut BadCells) -> String {
    match cell {
        Cell::Integer(value) => value.to_string(),
        Cell::Real(value) => value.to_string(),
        Cell::Bytes(bytes) => std::str::from_utf8(bytes).map(String::from).unwrap_or_else(|_| {
            bad.entry(row).or_insert_with(|| format!("column `{}` is not UTF-8 text", file.columns()[column]));
            String::new()
        }),
    }
}

/// A column has as many cells as the footer states rows.
fn check_count(file: &ParquetFile, column: usize, found: usize) -> Result<()> {
    let (stated, name) = (file.rows(), &file.columns()[column]);
    if found == stated { Ok(()) } else { Err(Error::bad_input(format!("column `{name}`: {found} of {stated} rows"))) }
}

#[cfg(test)]
mod tests {
    use crate::data::Targets;
    use crate::data::load::tests::{Fixture, class_names};
    use crate::data::parquet_file::tests::{write, write_lists};
    use serde_json::json;

    #[test]
    fn embedded_images_are_read_and_missing_ones_reported() {
        let fixture = Fixture::new();
        write(&fixture.path("d/train-0.parquet"), &[(Some(b"one"), 5), (Some(b"two"), 3), (Some(b"six"), 5)], None);
        write(&fixture.path("d/test-0.parquet"), &[(Some(b"four"), 5)], None);
        let data = fixture.load(json!({"kind": "parquet", "root": "d", "image": "img"})).unwrap();
        assert_eq!(class_names(&data), (&["3".to_string(), "5".into()][..], &[1, 0, 1, 1][..]));
        let mut bytes = Vec::new();
        data.rows[2].samples[0].read(&mut bytes).unwrap();
        assert_eq!(bytes, b"six");
        assert_eq!(data.splits.test, [3]);

        write(&fixture.path("bad.parquet"), &[(None, 0), (Some(b"x"), 1)], None);
        let error = |image: &str, label: &str| {
            let config = json!({"kind": "parquet", "train": {"path": "bad.parquet"}, "image": image, "label": label});
            fixture.load(config).unwrap_err().to_string()
        };
        assert!(error("img", "label").contains("row 1 has no image"));
        let missing = error("imgs", "labels");
        assert!(missing.contains("did you mean `img`?") && missing.contains("did you mean `label`?"), "{missing}");
    }

    #[test]
    fn a_column_of_lists_holds_the_labels_of_a_row() {
        let fixture = Fixture::new();
        fixture.write("1.png", b"");
        let note =
            r#"{"info": {"features": {"tags": {"feature": {"names": ["x", "y", "z"], "_type": "ClassLabel"}}}}}"#;
        write_lists(&fixture.path("t.parquet"), &[("1.png", &[2, 0]), ("1.png", &[])], Some(note));
        let label = json!({"kind": "multi_label", "column": "tags"});
        let data = fixture.load(json!({"kind": "parquet", "train": {"path": "t.parquet"}, "label": label})).unwrap();
        let names = ["x", "y", "z"].map(String::from).to_vec();
        assert_eq!(data.targets, Targets::MultiLabel { names, of_row: vec![vec![0, 2], vec![]] });
        let error = fixture.load(json!({"kind": "parquet", "train": {"path": "t.parquet"}, "label": "tags"}));
        assert!(error.unwrap_err().to_string().contains("`tags` is a list"));
    }

    #[test]
    fn names_of_the_hub_are_the_classes() {
        let fixture = Fixture::new();
        let note = r#"{"info": {"features": {"label": {"names": ["x", "y", "z"]}}}}"#;
        write(&fixture.path("d/a.parquet"), &[(Some(b"one"), 2), (Some(b"two"), 0)], Some(note));
        let data = fixture.load(json!({"kind": "parquet", "train": {"path": "d"}, "image": "img"})).unwrap();
        assert_eq!(class_names(&data), (&["x".to_string(), "y".into(), "z".into()][..], &[2, 0][..]));
    }
}
