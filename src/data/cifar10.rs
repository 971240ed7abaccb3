//! `kind: cifar10`: Krizhevsky's ten classes, in the binary files of the original or in parquet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bad::BadRows;
use super::load::{Found, Pictures, Read, Set, SetPlace};
use super::parquet_file::{Cell, ParquetFile, is_parquet};
use super::{OnError, Row};
use crate::base::{Error, Result};
use crate::sample::{Encoding, Lines, Sample, Source};

/// CIFAR-10: 32×32 pictures of ten classes. A set is a folder or file of the original's binary version
/// (`data_batch_1.bin` …, `test_batch.bin`), or a parquet file as published on the Hugging Face hub
/// (columns `img` and `label`). With a `root` alone both sets are found in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cifar10 {}

const NAMES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

const FILES: Files<'_> = Files {
    labels: 1,
    label: 0,
    column: "label",
    train: "data_batch_",
    test: "test_batch",
    folders: &["", "cifar-10-batches-bin", "plain_text", "data"],
};

impl Read for Cifar10 {
    fn find(&self, root: &Path) -> Result<Found> {
        FILES.find(root)
    }

    fn read(&self, paths: &[PathBuf], place: &SetPlace<'_>) -> Result<Set> {
        FILES.read(paths, place, NAMES.map(String::from).to_vec())
    }
}

/// How one of the CIFAR sets is laid out in files.
pub(super) struct Files<'a> {
    /// Label bytes in front of each binary record.
    pub labels: usize,
    /// Which of them is the class.
    pub label: usize,
    /// The class's column in parquet.
    pub column: &'a str,
    /// What the names of the binary training files begin with.
    pub train: &'a str,
    /// What the names of the binary test files begin with.
    pub test: &'a str,
    /// Where in a root the files may be.
    pub folders: &'a [&'a str],
}

const SIDE: u32 = 32;
const PICTURE: u64 = 3 * SIDE as u64 * SIDE as u64;

impl Files<'_> {
    /// Both sets of a root.
    pub fn find(&self, root: &Path) -> Result<Found> {
        for folder in self.folders {
            let folder = root.join(folder);
            let binary = Found {
                train: named(&folder, self.train, ".bin")?,
                test: named(&folder, self.test, ".bin")?,
                ..Found::default()
            };
            let parquet = Found {
                train: named(&folder, "train", ".parquet")?,
                test: named(&folder, "test", ".parquet")?,
                ..Found::default()
            };
            if let Some(found) = [binary, parquet].into_iter().find(|found| !found.train.is_empty()) {
                return Ok(found);
            }
        }
        let (root, train) = (root.display(), self.train);
        Err(Error::bad_input(format!("`{root}` has no files `{train}*.bin` or `train*.parquet`"))
            .hint("unpack the binary version of the data set, or name the files with `train: {path: …}`"))
    }

    /// The rows of some files; a folder stands for the training files in it.
    pub fn read(&self, paths: &[PathBuf], place: &SetPlace<'_>, names: Vec<String>) -> Result<Set> {
        let mut set = Pictures { classes: names, ..Pictures::default() };
        let mut files = Vec::new();
        for path in paths {
            if path.is_dir() { files.extend(self.find(path)?.train) } else { files.push(path.clone()) }
        }
        for path in files {
            if is_parquet(&path) {
                self.read_parquet(&path, place, &mut set)?;
            } else {
                self.read_binary(&path, place.on_error, &mut set)?;
            }
        }
        Ok(set.into())
    }

    fn read_binary(&self, path: &Path, on_error: OnError, set: &mut Pictures) -> Result<()> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let record = self.labels + PICTURE as usize;
        if bytes.is_empty() || bytes.len() % record != 0 {
            let (size, path) = (bytes.len(), path.display());
            return Err(Error::bad_input(format!(
                "`{path}` has {size} bytes, which is not a number of {record}-byte records"
            )));
        }
        let file: Arc<Path> = path.into();
        let mut bad = BadRows::new(on_error, format!("`{}` has labels that are none", path.display()));
        let encoding = Encoding::PlanarRgb { width: SIDE, height: SIDE };
        let lines = Lines::of(path);
        for (i, bytes) in bytes.chunks_exact(record).enumerate() {
            let offset = (i * record + self.labels) as u64;
            let source = Source::Range { file: file.clone(), offset, len: PICTURE };
            push(set, &mut bad, (path, &lines, i + 1), Sample { source, encoding }, i64::from(bytes[self.label]));
        }
        set.left_out.extend(bad.finish()?);
        Ok(())
    }

    fn read_parquet(&self, path: &Path, place: &SetPlace<'_>, set: &mut Pictures) -> Result<()> {
        let file = ParquetFile::open(path)?;
        let column = |names: &[&str]| {
            names.iter().find_map(|name| file.column(name)).ok_or_else(|| {
                let (path, there) = (path.display(), file.columns().join("`, `"));
                Error::bad_input(format!("`{path}` has no column `{}`; there is `{there}`", names[0]))
            })
        };
        let (image, label) = (column(&["img.bytes", "image.bytes"])?, column(&[self.column])?);
        if let Some(names) = class_names(&file, self.column) {
            if set.rows.is_empty() {
                set.classes = names;
            } else if set.classes != names {
                return Err(Error::bad_input(format!(
                    "`{}` has other classes than the files before it",
                    path.display()
                )));
            }
        }
        let unpacked = file.unpack(image, place)?;
        let mut labels = Vec::with_capacity(unpacked.offsets.len());
        file.visit(label, |_, cell| {
            labels.push(if let Some(Cell::Integer(label)) = cell { label } else { -1 });
            Ok(())
        })?;
        if labels.len() + 1 != unpacked.offsets.len() {
            return Err(Error::bad_input(format!("`{}` has columns of different lengths", path.display())));
        }
        let lines = Lines::of(path);
        let mut bad = BadRows::new(place.on_error, format!("`{}` has rows that cannot be used", path.display()));
        for (i, (range, label)) in unpacked.offsets.windows(2).zip(labels).enumerate() {
            let source = Source::Range { file: unpacked.file.clone(), offset: range[0], len: range[1] - range[0] };
            push(set, &mut bad, (path, &lines, i + 1), Sample { source, encoding: Encoding::Encoded }, label);
        }
        set.left_out.extend(bad.finish()?);
        Ok(())
    }
}

/// Takes a record, unless its label is none.
fn push(
    set: &mut Pictures,
    bad: &mut BadRows,
    (path, lines, record): (&Path, &Lines, usize),
    sample: Sample,
    label: i64,
) {
    match usize::try_from(label).ok().filter(|label| *label < set.classes.len()) {
        Some(label) => {
            set.class_of.push(label as u32);
            set.rows.push(Row { samples: sample.into(), origin: lines.at(record) });
        }
        None => {
            let last = set.classes.len() - 1;
            bad.push_at(path, record, format!("record {record}: the label is {label}, not 0 to {last}"));
        }
    }
}

/// The names of a label column's classes, as the hub's `datasets` library leaves them in the footer.
pub(super) fn class_names(file: &ParquetFile, column: &str) -> Option<Vec<String>> {
    let note: serde_json::Value = serde_json::from_str(file.note("huggingface")?).ok()?;
    let feature = note.pointer("/info/features")?.get(column)?;
    // A list of classes has them in the feature of its members.
    let names = feature.get("names").or_else(|| feature.get("feature")?.get("names"))?;
    let names: Vec<String> = serde_json::from_value(names.clone()).ok()?;
    (!names.is_empty()).then_some(names)
}

/// The files of a folder whose names begin and end so, in the order of their names; none if there is no
/// folder.
pub(super) fn named(folder: &Path, begin: &str, end: &str) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let name = entry.map_err(Error::io("read", folder))?.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(begin) && name.ends_with(end)) {
            found.push(folder.join(name));
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::load::tests::{Fixture, class_names};
    use crate::data::parquet_file::tests::write;
    use serde_json::json;

    #[test]
    fn the_binary_version_is_read() {
        let fixture = Fixture::new();
        let record = |label: u8| [vec![label], vec![label; 3072]].concat();
        fixture.write("c/cifar-10-batches-bin/data_batch_1.bin", &[record(3), record(0)].concat());
        fixture.write("c/cifar-10-batches-bin/data_batch_2.bin", &record(9));
        fixture.write("c/cifar-10-batches-bin/test_batch.bin", &record(5));
        let data = fixture.load(json!({"kind": "cifar10", "root": "c"})).unwrap();
        let (names, of_row) = class_names(&data);
        assert_eq!((names[9].as_str(), of_row), ("truck", &[3, 0, 9, 5][..]));
        assert_eq!((data.splits.train.len(), data.splits.test.as_slice()), (3, &[3][..]));
        assert_eq!(data.rows[1].origin.to_string(), "data_batch_1.bin:2");
        let sample = &data.rows[1].samples[0];
        let mut bytes = Vec::new();
        sample.read(&mut bytes).unwrap();
        assert_eq!(bytes, vec![0; 3072]);
        assert_eq!(sample.encoding, Encoding::PlanarRgb { width: 32, height: 32 });
    }

    #[test]
    fn parquet_of_the_hub_is_read_with_its_class_names() {
        let fixture = Fixture::new();
        let note = r#"{"info": {"features": {"label": {"names": ["x", "y"], "_type": "ClassLabel"}}}}"#;
        write(
            &fixture.path("train-00000-of-00001.parquet"),
            &[(Some(b"one"), 1), (Some(b"two"), 0), (Some(b"3"), 1)],
            Some(note),
        );
        write(&fixture.path("test-00000-of-00001.parquet"), &[(Some(b"four"), 0)], Some(note));
        let data = fixture.load(json!({"kind": "cifar10", "root": "."})).unwrap();
        assert_eq!(class_names(&data), (&["x".to_string(), "y".into()][..], &[1, 0, 1, 0][..]));
        assert_eq!((data.splits.train.len(), data.splits.test.len()), (3, 1));
        let mut bytes = Vec::new();
        data.rows[1].samples[0].read(&mut bytes).unwrap();
        assert_eq!(bytes, b"two");
        let train =
            json!({"kind": "cifar10", "train": {"path": "train-00000-of-00001.parquet"}, "test": {"fraction": 0.3}});
        assert_eq!(fixture.load(train).unwrap().splits.train.len(), 2);
    }

    #[test]
    fn damaged_and_missing_files_are_clear_errors() {
        let fixture = Fixture::new();
        fixture.write("a/data_batch_1.bin", &[0; 3072]);
        fixture.write("b/data_batch_1.bin", &[10; 3073]);
        write(&fixture.path("c/train.parquet"), &[(Some(b"one"), 10), (Some(b"one"), -1)], None);
        fixture.write("d/readme", b"");
        let error = |root: &str| fixture.load(json!({"kind": "cifar10", "root": root})).unwrap_err().to_string();
        assert!(error("a").contains("not a number of 3073-byte records"));
        assert!(error("b").contains("record 1: the label is 10, not 0 to 9"));
        assert!(error("c").contains("record 1: the label is 10") && error("c").contains("record 2: the label is -1"));
        assert!(error("d").contains("has no files `data_batch_*.bin` or `train*.parquet`"));
    }
}
