//! From a `data:` section to a [`Dataset`]: fetch, read each set, join the class names, then subsets
//! and fractions.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use super::bad::{BadRows, Listed, nothing_left, refuse_more_than};
use super::config::Marked;
use super::{DataConfig, Dataset, Field, LeftOut, OnError, Row, SetConfig, Splits, TargetKind, Targets, split};
use crate::base::home::Home;
use crate::base::suggest::did_you_mean;
use crate::base::{Error, Problems, Result};
use crate::resource::{Address, Fetcher, Resource};
use crate::sample::Modality;
use crate::sample::image::mask::Meaning;

/// What loading needs besides the config.
pub struct LoadContext<'a> {
    /// Makes resources local.
    pub fetcher: &'a Fetcher<'a>,
    /// Where bytes embedded in tables are unpacked to.
    pub home: &'a Home,
    /// The seed, if `data.seed` is not given.
    pub seed: u64,
}

/// One kind of data set.
pub(super) trait Read {
    /// Reports what serde and the schema cannot see, with paths below `data`.
    fn check(&self, _problems: &mut Problems) {}

    /// What each row has.
    fn fields(&self) -> Vec<Field> {
        vec![Field { name: "image".into(), modality: Modality::Image }]
    }

    /// What the rows are labelled with.
    fn target_kind(&self) -> TargetKind {
        TargetKind::Classes
    }

    /// The fields of pairs in the order of their parts, where it is said.
    fn parts(&self) -> Option<Vec<String>> {
        None
    }

    /// What the pixels of masks mean, where rows have some.
    fn masks(&self) -> Option<Meaning> {
        None
    }

    /// Where the sets are in a root without further words.
    fn find(&self, root: &Path) -> Result<Found>;

    /// Reads one set from its folders and files.
    fn read(&self, paths: &[PathBuf], place: &SetPlace<'_>) -> Result<Set>;
}

/// The folders and files of each set of a root; none where a set is missing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub train: Vec<PathBuf>,
    pub valid: Vec<PathBuf>,
    pub test: Vec<PathBuf>,
}

impl Found {
    /// The folders `train`, `valid` (or `val`, `validation`) and `test` below a root; without `train` the root is the
    /// training rows.
    pub fn folders(root: &Path) -> Self {
        let folder = |names: &[&str]| -> Vec<PathBuf> {
            names.iter().map(|name| root.join(name)).find(|path| path.is_dir()).into_iter().collect()
        };
        let train = folder(&["train"]);
        if train.is_empty() {
            return Self { train: vec![root.to_path_buf()], ..Self::default() };
        }
        Self { train, valid: folder(&["valid", "val", "validation"]), test: folder(&["test"]) }
    }
}

/// What reading a set may need.
pub(super) struct SetPlace<'a> {
    /// The local folder that `data.root` became.
    pub root: Option<&'a Path>,
    /// Whether the set was fetched: then its rows name files below its own folder alone, as below a root.
    pub is_fetched: bool,
    pub home: &'a Home,
    pub fetcher: &'a Fetcher<'a>,
    /// Columns whose cells the set is to keep.
    pub marks: &'a [String],
    /// What becomes of bad rows.
    pub on_error: OnError,
}

/// The rows of one set, in their final order.
#[derive(Debug)]
pub(super) struct Set {
    pub fields: Vec<Field>,
    pub rows: Vec<Row>,
    pub targets: Targets,
    /// The cells of [`SetPlace::marks`], for each column one per row; a kind without columns has none.
    pub marks: Vec<Vec<String>>,
    /// Rows that cannot be used and are to be left out.
    pub left_out: Vec<LeftOut>,
}

/// The rows of a set that has one picture and one class each.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    pub rows: Vec<Row>,
    pub classes: Vec<String>,
    pub class_of: Vec<u32>,
    pub left_out: Vec<LeftOut>,
}

impl From<Pictures> for Set {
    fn from(pictures: Pictures) -> Self {
        let Pictures { rows, classes, class_of, left_out } = pictures;
        let fields = vec![Field { name: "image".into(), modality: Modality::Image }];
        let targets = Targets::Classes { names: classes, of_row: class_of };
        Self { fields, rows, targets, marks: Vec::new(), left_out }
    }
}

/// Loads the data set that a config describes.
///
/// # Errors
/// A resource cannot be fetched; a folder or table is not what the kind expects; rows are bad (all of a table at
/// once) or a label of `valid` or `test` does not occur in `train`, unless such rows are left out and few; a set is
/// empty.
pub fn load(config: &DataConfig, context: &LoadContext<'_>) -> Result<Dataset> {
    let mut problems = Problems::new("the data section is not valid");
    config.check(&mut problems);
    problems.into_result()?;
    let common = &config.common;
    let root = common.root.as_ref().map(|root| context.fetcher.fetch(root)).transpose()?.map(|fetched| fetched.path);
    let root = root.as_deref();
    if let Some(root) = root.filter(|root| !root.is_dir()) {
        return Err(Error::bad_input(format!("data.root: `{}` is not a folder", root.display())));
    }
    let local = |resource: &Resource| match (root, &resource.address) {
        (Some(root), Address::Path(path)) => {
            let address = Address::Path(inside(root, path)?);
            context.fetcher.fetch_all(&Resource { address, sha256: resource.sha256 })
        }
        _ => context.fetcher.fetch_all(resource),
    };
    let local = |resource: &Resource| -> Result<Vec<PathBuf>> {
        Ok(local(resource)?.into_iter().map(|fetched| fetched.path).collect())
    };
    let given = |set: &Option<SetConfig>| -> Result<Vec<PathBuf>> {
        match set {
            Some(SetConfig::Path(resource)) => local(resource),
            _ => Ok(Vec::new()),
        }
    };
    let reader = config.format.reader();
    let paths = match (&common.train, root) {
        (Some(train), _) => {
            Found { train: local(&train.path)?, valid: given(&common.valid)?, test: given(&common.test)? }
        }
        (None, Some(root)) => {
            let found = reader.find(root)?;
            let or_found = |set: &Option<SetConfig>, found| if set.is_some() { given(set) } else { Ok(found) };
            Found { valid: or_found(&common.valid, found.valid)?, test: or_found(&common.test, found.test)?, ..found }
        }
        (None, None) => return Err(Error::bad_input("data: either `train` or `root` is needed")),
    };

    let marks: Vec<String> = [&common.valid, &common.test]
        .into_iter()
        .filter_map(
            |set| if let Some(SetConfig::Column(Marked { name, .. })) = set { Some(name.clone()) } else { None },
        )
        .chain(common.weight.clone())
        .collect();
    let is_fetched = |resource: &Resource| root.is_none() && !resource.address.is_local();
    let place = SetPlace {
        root,
        is_fetched: common.train.as_ref().is_some_and(|train| is_fetched(&train.path)),
        home: context.home,
        fetcher: context.fetcher,
        marks: &marks,
        on_error: common.on_error,
    };
    let seed = common.seed.unwrap_or(context.seed);
    let (subset, on_error) = (common.subset.map(|n| n as usize), common.on_error);
    let mut joined = Joined { subset, seed, on_error, ..Joined::default() };
    let train = reader.read(&paths.train, &place)?;
    if train.marks.len() < marks.len() {
        let kind = config.kind();
        let what = if common.weight.is_some() { "a `weight`" } else { "a set by `column`" };
        return Err(Error::bad_input(format!("data: {what} needs a table, and `{kind}` has no columns")));
    }
    let mut splits = Splits { train: joined.add(train, &paths.train, "train")?, ..Splits::default() };
    let sets = [
        (&common.valid, &paths.valid, &mut splits.valid, "valid"),
        (&common.test, &paths.test, &mut splits.test, "test"),
    ];
    for (set, path, rows, name) in sets {
        if !path.is_empty() {
            let is_fetched = matches!(set, Some(SetConfig::Path(resource)) if is_fetched(resource));
            let place = SetPlace { is_fetched, marks: &[], ..place };
            *rows = joined.add(reader.read(path, &place)?, path, name)?;
        }
    }
    refuse_more_than(common.max_skipped, &joined.left_out, joined.read)?;
    let mut columns = joined.marks.iter();
    for (set, rows, name) in [(&common.valid, &mut splits.valid, "valid"), (&common.test, &mut splits.test, "test")] {
        if let Some(SetConfig::Column(marked)) = set
            && let Some(cells) = columns.next()
        {
            (*rows, splits.train) = splits.train.iter().partition(|row| cells[**row as usize] == marked.is);
            if rows.is_empty() {
                let Marked { name: column, is } = marked;
                let near = did_you_mean(is, cells.iter().map(String::as_str));
                return Err(Error::bad_input(format!("data.{name}: no row has `{is}` in column `{column}`{near}")));
            }
        }
    }
    let weights = columns.next().map(|cells| weights(cells, &joined.rows)).transpose()?;
    // Both fractions are of all the training rows, so that they do not depend on each other.
    let all = splits.train.len();
    let Joined { targets: Some(mut targets), fields, rows, left_out, .. } = joined else {
        return Err(Error::bad_input("data: there are no rows"));
    };
    targets.number_samples(&fields, &rows);
    for (set, rows, name) in [(&common.test, &mut splits.test, "test"), (&common.valid, &mut splits.valid, "valid")] {
        let taken = set.as_ref().and_then(|set| set.take(&mut splits.train, &targets, (all, seed, name)));
        *rows = taken.unwrap_or(std::mem::take(rows));
    }
    if splits.train.is_empty() {
        return Err(Error::bad_input(format!("no training rows are left of {all}")));
    }
    Ok(Dataset { fields, rows, targets, splits, left_out, weights })
}

/// The weights that the cells of the first rows say; the others are not trained on.
fn weights(cells: &[String], rows: &[Row]) -> Result<Vec<f32>> {
    let mut weights = vec![1.0; rows.len()];
    let mut listed = Listed::new("data.weight: rows have weights that are no numbers of 0 or more");
    for ((weight, cell), row) in weights.iter_mut().zip(cells).zip(rows) {
        match cell.trim().parse::<f32>() {
            Ok(number) if number.is_finite() && number >= 0.0 => *weight = number,
            _ => listed.push(None, format!("{}: `{cell}`", row.origin)),
        }
    }
    listed.into_result().map(|()| weights)
}

/// The sets read so far, as one.
#[derive(Default)]
struct Joined {
    subset: Option<usize>,
    seed: u64,
    on_error: OnError,
    fields: Vec<Field>,
    rows: Vec<Row>,
    /// None before the first set, whose names they have.
    targets: Option<Targets>,
    /// Of the first set.
    marks: Vec<Vec<String>>,
    /// Bad rows, and how many rows there were with them.
    left_out: Vec<LeftOut>,
    read: usize,
}

impl Joined {
    /// Adds a set, whose classes or labels must be those of the first, and returns its row numbers.
    fn add(&mut self, set: Set, paths: &[PathBuf], name: &str) -> Result<Vec<u32>> {
        let path = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
        if set.rows.is_empty() {
            return Err(nothing_left(name, &path, &set.left_out));
        }
        self.read += set.rows.len() + set.left_out.len();
        self.left_out.extend(set.left_out);
        if u32::try_from(self.rows.len() + set.rows.len()).is_err() {
            return Err(Error::bad_input(format!("data.{name}: more than {} rows", u32::MAX)));
        }
        let targets = match &mut self.targets {
            Some(targets) => targets,
            empty => {
                self.fields.clone_from(&set.fields);
                self.marks = vec![Vec::new(); set.marks.len()];
                empty.insert(set.targets.without_rows())
            }
        };
        let known: HashMap<&str, u32> = targets.names().iter().map(String::as_str).zip(0..).collect();
        let numbers: Vec<Option<u32>> =
            set.targets.names().iter().map(|name| known.get(name.as_str()).copied()).collect();
        let positions: Vec<u32> = (0..set.rows.len() as u32).collect();
        let chosen = match self.subset {
            Some(count) => {
                split::choose(&positions, |row| set.targets.stratum(row), count, self.seed, &format!("subset/{name}")).0
            }
            None => positions,
        };
        let first = self.rows.len() as u32;
        let mut wanted = chosen.iter().copied().peekable();
        let title = format!("the {name} rows of `{path}` do not fit the training rows");
        let mut bad = BadRows::new(self.on_error, title);
        for (position, row) in set.rows.into_iter().enumerate() {
            if wanted.next_if_eq(&(position as u32)).is_none() {
                continue;
            }
            match targets.adopt(&set.targets, position, &numbers) {
                Ok(()) => {
                    self.rows.push(row);
                    for (kept, cells) in self.marks.iter_mut().zip(&set.marks) {
                        kept.push(cells[position].clone());
                    }
                }
                Err(label) => {
                    let label = &set.targets.names()[label as usize];
                    let near = did_you_mean(label, targets.names().iter().map(String::as_str));
                    bad.push_row(
                        &row.origin.to_string(),
                        &format!("the label `{label}` never occurs in training{near}"),
                    );
                }
            }
        }
        let bad = bad.finish()?;
        if self.rows.len() as u32 == first {
            return Err(nothing_left(name, &path, &bad));
        }
        self.left_out.extend(bad);
        Ok((first..self.rows.len() as u32).collect())
    }
}

/// A path inside a folder.
///
/// # Errors
/// It is absolute or climbs out.
pub(super) fn inside(folder: &Path, path: &Path) -> Result<PathBuf> {
    let mut joined = folder.to_path_buf();
    let mut depth = 0_usize;
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                joined.push(name);
                depth += 1;
            }
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => {
                joined.pop();
                depth -= 1;
            }
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                let (path, folder) = (path.display(), folder.display());
                return Err(Error::bad_input(format!("`{path}` is outside of `{folder}`"))
                    .hint("paths below `data.root` and in fetched tables are relative and stay inside"));
            }
        }
    }
    Ok(joined)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::Cancel;
    use crate::base::progress::Silent;
    use serde_json::{Value, json};

    /// A folder of data and a home.
    pub struct Fixture {
        folder: tempfile::TempDir,
        home: Home,
        cancel: Cancel,
    }

    impl Fixture {
        pub fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let home = Home::at(folder.path().join("home"));
            Self { folder, home, cancel: Cancel::default() }
        }

        /// A path in the folder of data.
        pub fn path(&self, name: &str) -> PathBuf {
            let path = self.folder.path().join("data").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        }

        pub fn write(&self, name: &str, bytes: &[u8]) {
            std::fs::write(self.path(name), bytes).unwrap();
        }

        pub fn with_place<T>(&self, body: impl FnOnce(&SetPlace<'_>) -> T) -> T {
            let fetcher = Fetcher::new(&self.home, &Silent, &self.cancel, true);
            body(&SetPlace {
                root: None,
                is_fetched: false,
                home: &self.home,
                fetcher: &fetcher,
                marks: &[],
                on_error: OnError::Fail,
            })
        }

        /// Loads a config whose paths are relative to the folder of data.
        pub fn load(&self, config: Value) -> Result<Dataset> {
            let config: DataConfig = serde_json::from_value(config).unwrap();
            let config = config.relative_to(&self.folder.path().join("data"));
            let fetcher = Fetcher::new(&self.home, &Silent, &self.cancel, true);
            load(&config, &LoadContext { fetcher: &fetcher, home: &self.home, seed: 0 })
        }

        /// A table of `n` rows whose image exists, with classes `a` (a quarter) and `b`.
        pub fn table(&self, name: &str, n: usize) {
            self.write("1.png", b"");
            let rows: String = (0..n).map(|i| format!("1.png,{}\n", if i % 4 == 0 { "a" } else { "b" })).collect();
            self.write(name, format!("image,label\n{rows}").as_bytes());
        }
    }

    pub fn class_names(dataset: &Dataset) -> (&[String], &[u32]) {
        let Targets::Classes { names, of_row } = &dataset.targets else { panic!("{:?}", dataset.targets) };
        (names, of_row)
    }

    #[test]
    fn a_path_may_not_climb_out_of_its_folder() {
        let folder = Path::new("/data");
        assert_eq!(inside(folder, Path::new("a/../b.png")).unwrap(), Path::new("/data/b.png"));
        for bad in ["../x", "a/../../x", "/etc/passwd"] {
            assert!(inside(folder, Path::new(bad)).unwrap_err().to_string().contains("is outside of `/data`"));
        }
    }

    #[test]
    fn fractions_and_subsets_keep_the_shares_of_the_classes() {
        let fixture = Fixture::new();
        fixture.table("t.csv", 400);
        let config = json!({"kind": "csv", "train": {"path": "t.csv"}, "test": {"fraction": 0.25},
                            "valid": {"fraction": 0.1}, "subset": 200, "seed": 3});
        let data = fixture.load(config.clone()).unwrap();
        let Splits { train, valid, test } = &data.splits;
        assert_eq!((data.rows.len(), train.len(), valid.len(), test.len()), (200, 130, 20, 50));
        let (_, of_row) = class_names(&data);
        let of_a = |rows: &[u32]| rows.iter().filter(|row| of_row[**row as usize] == 0).count();
        assert_eq!(of_a(train) + of_a(valid) + of_a(test), 50);
        assert!((12..=13).contains(&of_a(test)) && of_a(valid) == 5, "{} {}", of_a(test), of_a(valid));
        let mut all = [train.clone(), valid.clone(), test.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..200).collect::<Vec<_>>());
        assert_eq!(fixture.load(config.clone()).unwrap(), data);
        let mut other = config;
        other["seed"] = json!(4);
        assert_ne!(fixture.load(other).unwrap().splits, data.splits);
    }

    #[test]
    fn sets_by_column_and_by_fold_are_parts_of_the_training_rows() {
        let fixture = Fixture::new();
        fixture.write("1.png", b"");
        let rows: String =
            (0..40).map(|i| format!("1.png,{},{}\n", i % 2, if i < 10 { "test" } else { "rest" })).collect();
        fixture.write("t.csv", format!("image,label,part\n{rows}").as_bytes());
        let config = |test: Value, valid: Value| json!({"kind": "csv", "train": {"path": "t.csv"}, "test": test, "valid": valid});
        let by_column = json!({"column": {"name": "part", "is": "test"}});
        let data = fixture.load(config(by_column.clone(), json!({"fold": {"of": 5, "index": 1}}))).unwrap();
        assert_eq!(data.splits.test, (0..10).collect::<Vec<_>>());
        assert_eq!((data.splits.valid.len(), data.splits.train.len()), (6, 24));
        let error = |test, valid| fixture.load(config(test, valid)).unwrap_err().to_string();
        let fraction = json!({"fraction": 0.1});
        assert!(
            error(json!({"column": {"name": "part", "is": "tset"}}), fraction.clone()).contains("did you mean `test`?")
        );
        assert!(
            error(json!({"column": {"name": "parts", "is": "x"}}), fraction.clone()).contains("did you mean `part`?")
        );
        assert!(error(json!({"fold": {"of": 5, "index": 5}}), fraction).contains("`index` from 0"));
        fixture.write("d/a/1.png", b"");
        let folder = fixture.load(json!({"kind": "image_folder", "root": "d", "test": by_column}));
        assert!(folder.unwrap_err().to_string().contains("`image_folder` has no columns"));
    }

    #[test]
    fn labels_that_training_lacks_are_all_reported() {
        let fixture = Fixture::new();
        fixture.table("t.csv", 8);
        fixture.write("test.csv", b"image,label\n1.png,A\n1.png,b\n1.png,zebra\n");
        let config = json!({"kind": "csv", "train": {"path": "t.csv"}, "test": {"path": "test.csv"}});
        let error = fixture.load(config).unwrap_err().to_string();
        assert!(error.contains("test.csv:2: the label `A` never occurs in training; did you mean `a`?"), "{error}");
        assert!(error.contains("test.csv:4: the label `zebra` never occurs in training"), "{error}");
    }

    #[test]
    fn labels_and_values_join_by_name_and_split_without_strata() {
        let fixture = Fixture::new();
        fixture.write("1.png", b"");
        let table = |name: &str, cells: &[&str]| {
            let rows: String = cells.iter().map(|cell| format!("1.png,{cell}\n")).collect();
            fixture.write(name, format!("image,label\n{rows}").as_bytes());
        };
        table("train.csv", &["b a", "a", "", "c"]);
        table("test.csv", &["c b", "z"]);
        let label = json!({"kind": "multi_label", "column": "label", "separator": " "});
        let load = |test: Value| {
            fixture.load(json!({"kind": "csv", "train": {"path": "train.csv"}, "test": test, "label": label}))
        };
        let error = load(json!({"path": "test.csv"})).unwrap_err().to_string();
        assert!(error.contains("test.csv:3: the label `z` never occurs in training"), "{error}");
        table("test.csv", &["c b"]);
        let data = load(json!({"path": "test.csv"})).unwrap();
        let names = ["a", "b", "c"].map(String::from).to_vec();
        let of_row = vec![vec![0, 1], vec![0], vec![], vec![2], vec![1, 2]];
        assert_eq!((&data.targets, data.splits.test.as_slice()), (&Targets::MultiLabel { names, of_row }, &[4][..]));
        assert_eq!(load(json!({"fraction": 0.5})).unwrap().splits.test.len(), 2);
        table("values.csv", &["1", "2.5", "-3", "0"]);
        let config = json!({"kind": "csv", "train": {"path": "values.csv"}, "valid": {"fold": {"of": 2, "index": 0}},
                            "subset": 3, "label": {"kind": "values", "column": "label"}});
        let data = fixture.load(config).unwrap();
        assert_eq!((data.targets.len(), data.targets.kind(), data.splits.valid.len()), (3, TargetKind::Values, 2));
    }

    #[test]
    fn a_star_stands_for_all_files_that_match() {
        let fixture = Fixture::new();
        for (name, rows) in [("d/train-1.csv", 8), ("d/train-0.csv", 4), ("d/test.csv", 4)] {
            fixture.table(name, rows);
        }
        fixture.write("d/1.png", b"");
        let load =
            |root: Value, path: &str| fixture.load(json!({"kind": "csv", "root": root, "train": {"path": path}}));
        for (root, path) in [(Value::Null, "d/train-*.csv"), (json!("d"), "t*n-*.csv")] {
            let data = load(root, path).unwrap();
            assert_eq!((data.rows.len(), data.rows[0].origin.to_string()), (12, "train-0.csv:2".into()));
        }
        assert!(load(Value::Null, "d/none-*.csv").unwrap_err().to_string().contains("no file is named like"));
    }

    #[test]
    fn a_root_bounds_the_paths_of_the_recipe() {
        let fixture = Fixture::new();
        fixture.table("in/t.csv", 8);
        fixture.write("in/1.png", b"");
        let load = |path: &str| fixture.load(json!({"kind": "csv", "root": "in", "train": {"path": path}}));
        assert_eq!(load("t.csv").unwrap().rows.len(), 8);
        assert!(load("../t.csv").unwrap_err().to_string().contains("is outside of"));
        assert!(load("none.csv").is_err());
        let file_as_root = fixture.load(json!({"kind": "csv", "root": "in/t.csv", "train": {"path": "x"}}));
        assert!(file_as_root.unwrap_err().to_string().ends_with("is not a folder"));
    }
}
