//! The keys of `data:` that every kind shares, and how they are joined with a kind's own.
//!
//! In YAML a kind's keys stand beside the shared ones. serde's `flatten` cannot be had together with
//! `deny_unknown_fields`, so a map is split by hand: the shared keys are one strict struct, the rest
//! with `kind` the other.

use std::borrow::Cow;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{Field, Format, TargetKind, Targets, split};
use crate::base::Problems;
use crate::resource::{Address, Resource};
use crate::sample::PreprocessConfig;
use crate::sample::image::augment::AugmentConfig;
use crate::sample::image::mask::Meaning;

/// `data:` of a recipe: what the rows are, what they are labelled with, and how they are split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataConfig {
    /// The kind of data set with the keys of its own.
    #[serde(flatten)]
    pub format: Format,
    /// The keys that every kind has.
    #[serde(flatten)]
    pub common: Common,
}

/// The keys of `data:` that every kind has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Common {
    /// The folder (or the address of one) that relative paths of `train`, `valid` and `test`, and of the
    /// rows in tables, start from. Nothing outside of it is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Resource>,
    /// The training rows; without it the kind looks in `root`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<TrainSet>,
    /// The rows that guide training (early stopping, the choice of an epoch), from a place of their own
    /// or a fraction of the training rows. Without it the kind looks in `root`; there may be none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid: Option<SetConfig>,
    /// The rows that are only looked at in the end, from a place of their own or a fraction of the
    /// training rows. Without it the kind looks in `root`; there may be none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<SetConfig>,
    /// Seed of the fractions and of `subset`; the recipe's top `seed` if it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Takes at most so many rows of each set that has a place of its own, drawn at random with the
    /// shares of the classes kept, before fractions are taken.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subset: Option<u64>,
    /// A numeric column of the training table, 0 or more: how likely each row is to be drawn by `train.sampler:
    /// {kind: weighted}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// `auto` for the backbone's own preprocess, or a map of the steps to replace in it.
    pub preprocess: PreprocessConfig,
    /// Views of the training samples: changed copies, each stored as a row of its own.
    pub augment: AugmentConfig,
    /// What a bad row does: a sample that cannot be read, a table's row with a missing or superfluous cell, a path
    /// outside of `root`, a label that is none or never occurs in training, or text that is not UTF-8.
    pub on_error: OnError,
    /// With `on_error: skip`, the greatest share of rows that may be left out; where more are bad the run is
    /// refused, for that is another mistake than a few bad files.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_skipped: f64,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            root: None,
            train: None,
            valid: None,
            test: None,
            seed: None,
            subset: None,
            weight: None,
            preprocess: PreprocessConfig::default(),
            augment: AugmentConfig::default(),
            on_error: OnError::default(),
            max_skipped: 0.1,
        }
    }
}

/// Where the training rows are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainSet {
    /// The folder or file that holds the rows; a star in a file's name, as in `data/train-*.parquet` or
    /// `hf:datasets/owner/repo/data/train-*.parquet@revision`, stands for all files that match.
    pub path: Resource,
}

/// Where the rows of a set come from: a `path`, or a part of the training rows by `fraction`, `fold` or
/// `column`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = one_key_of)]
pub enum SetConfig {
    /// The folder or file that holds the rows.
    Path(Resource),
    /// The share of the training rows, drawn at random with the shares of the classes kept.
    Fraction(#[schemars(range(min = 0.0, max = 1.0))] f64),
    /// One of several equal parts of the training rows, drawn at random with the shares of the classes kept:
    /// the parts of `index` 0, 1, … together are all rows, for cross-validation.
    Fold(Fold),
    /// The training rows that a column of the table marks.
    Column(Marked),
}

/// One of several equal parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fold {
    /// The number of parts.
    #[schemars(range(min = 2))]
    pub of: u32,
    /// Which of them, from 0.
    pub index: u32,
}

/// The rows with a value in a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Marked {
    /// The column.
    pub name: String,
    /// What it holds in the rows of this set; all other rows are for training.
    pub is: String,
}

/// What to do about a bad row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Stop before anything is computed, with the file and the row of each.
    #[default]
    Fail,
    /// Leave the row out; each is recorded, and the count is shown.
    Skip,
}

impl SetConfig {
    /// Takes the rows of this set, in their order, out of the training rows if it is a fraction or a fold of them.
    /// `all` is what fractions are of.
    pub fn take(
        &self,
        train: &mut Vec<u32>,
        targets: &Targets,
        (all, seed, name): (usize, u64, &str),
    ) -> Option<Vec<u32>> {
        let stratum = |row: u32| targets.stratum(row);
        let (rows, rest) = match self {
            Self::Fraction(fraction) => split::choose(train, stratum, split::fraction_of(all, *fraction), seed, name),
            Self::Fold(Fold { of, index }) => split::fold(train, stratum, *of, *index, seed),
            Self::Path(_) | Self::Column(_) => return None,
        };
        *train = rest;
        Some(rows)
    }
}

impl DataConfig {
    /// Everything named that may need fetching.
    pub fn resources(&self) -> Vec<&Resource> {
        let Common { root, train, valid, test, .. } = &self.common;
        let sets = [valid, test].into_iter().flatten().filter_map(|set| match set {
            SetConfig::Path(resource) => Some(resource),
            SetConfig::Fraction(_) | SetConfig::Fold(_) | SetConfig::Column(_) => None,
        });
        let train = train.as_ref().map(|set| &set.path);
        // Below a root these are paths inside of it, which fetching the root brings.
        let below = move |resource: &&Resource| !(root.is_some() && resource.address.is_local());
        root.iter().chain(train.into_iter().chain(sets).filter(below)).collect()
    }

    /// The name of the kind, as `kind:` has it.
    pub fn kind(&self) -> &'static str {
        self.format.kind()
    }

    /// The fold of the training rows that is validated on, if it is one.
    pub fn valid_fold(&self) -> Option<Fold> {
        match self.common.valid {
            Some(SetConfig::Fold(fold)) => Some(fold),
            _ => None,
        }
    }

    /// What each row has.
    pub fn fields(&self) -> Vec<Field> {
        self.format.reader().fields()
    }

    /// What the rows are labelled with.
    pub fn target_kind(&self) -> TargetKind {
        self.format.reader().target_kind()
    }

    /// What the pixels of masks mean, where rows have some.
    pub fn masks(&self) -> Option<Meaning> {
        self.format.reader().masks()
    }

    /// The fields of pairs in the order of their parts, where the label says it.
    pub fn parts(&self) -> Option<Vec<String>> {
        self.format.reader().parts()
    }

    /// The same data with one of its fields alone; `None` if there is no such field.
    pub fn only(&self, field: &str) -> Option<Self> {
        let mut config = self.clone();
        let columns = match &mut config.format {
            Format::Csv(csv) => &mut csv.0.rest.rest,
            Format::Tsv(tsv) => &mut tsv.0.rest,
            Format::Jsonl(jsonl) => &mut jsonl.0,
            Format::Parquet(parquet) => &mut parquet.0,
            _ => return self.fields().iter().any(|known| known.name == field).then_some(config),
        };
        columns.keep_only(field).then_some(config)
    }

    /// Makes relative paths relative to `folder`, the folder of the file that names them. Below a `root`
    /// the sets' paths stay as they are, for they start there.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Self {
        let rooted = self.common.root.is_some();
        let place = |resource: &mut Resource| *resource = resource.clone().relative_to(folder);
        let Common { root, train, valid, test, .. } = &mut self.common;
        if let Some(root) = root {
            place(root);
        }
        if !rooted {
            train.iter_mut().for_each(|set| place(&mut set.path));
            for set in [valid, test].into_iter().flatten() {
                if let SetConfig::Path(resource) = set {
                    place(resource);
                }
            }
        }
        self
    }

    /// What the schema cannot see; paths are of the keys below `data`.
    pub fn check(&self, problems: &mut Problems) {
        let Common { root, train, valid, test, subset, .. } = &self.common;
        let mut taken = 0.0;
        for (name, set) in [("valid", valid), ("test", test)] {
            if let Some(SetConfig::Fraction(fraction)) = set {
                if *fraction > 0.0 && *fraction < 1.0 {
                    taken += fraction;
                } else {
                    problems.push(None, format!("data.{name}.fraction"), format!("{fraction} is not between 0 and 1"));
                }
            }
        }
        for (name, set) in [("valid", valid), ("test", test)] {
            if let Some(SetConfig::Fold(Fold { of, index })) = set
                && (*of < 2 || index >= of)
            {
                let message = format!("`of` is 2 or more, and `index` from 0 to `of` - 1; here are {of} and {index}");
                problems.push(None, format!("data.{name}.fold"), message);
            }
        }
        if taken >= 1.0 {
            let message = format!("`valid` and `test` take {taken} of the training rows, so that none are left");
            problems.push(None, "data.valid.fraction", message);
        }
        if root.is_none() && train.is_none() {
            problems.push(None, "data", "either `train` or `root` is needed");
        }
        if *subset == Some(0) {
            problems.push(None, "data.subset", "0 is less than the minimum of 1");
        }
        if let Some(Resource { address: Address::Path(path), .. }) = root
            && path.as_os_str().is_empty()
        {
            problems.push(None, "data.root", "the path is empty");
        }
        for (key, message) in self.common.augment.problems() {
            problems.push(None, format!("data.augment.{key}"), message);
        }
        self.format.check(problems);
    }
}

impl<'de> Deserialize<'de> for DataConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let mut own = Map::<String, Value>::deserialize(deserializer)?;
        let shared = COMMON_KEYS.iter().filter_map(|key| own.shift_remove_entry(*key)).collect();
        let format = serde_json::from_value(Value::Object(own)).map_err(D::Error::custom)?;
        let common = serde_json::from_value(Value::Object(shared)).map_err(D::Error::custom)?;
        Ok(Self { format, common })
    }
}

const COMMON_KEYS: [&str; 11] =
    ["root", "train", "valid", "test", "seed", "subset", "weight", "preprocess", "augment", "on_error", "max_skipped"];

impl JsonSchema for DataConfig {
    fn schema_name() -> Cow<'static, str> {
        "DataConfig".into()
    }

    /// The schema of [`Format`] with the shared keys added to every kind.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Format::json_schema(generator);
        let common = Common::json_schema(generator);
        let shared = common.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(kinds) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
            for kind in kinds {
                if let Some(own) = kind.get_mut("properties").and_then(Value::as_object_mut) {
                    own.extend(shared.clone());
                }
            }
        }
        schema.insert(
            "description".into(),
            "What the rows are, what they are labelled with, and how they are split.".into(),
        );
        schema
    }
}

/// Turns the schema of an externally tagged enum into one object with exactly one of the keys, so that
/// a wrong key is reported as such and not as "none of the alternatives".
fn one_key_of(schema: &mut Schema) {
    let Some(Value::Array(variants)) = schema.remove("oneOf") else { return };
    let mut properties = Map::new();
    for variant in variants {
        let description = variant.get("description").cloned();
        for (key, value) in variant.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let mut value = value.clone();
            if let (Some(map), Some(text)) = (value.as_object_mut(), &description) {
                map.entry("description").or_insert(text.clone());
            }
            properties.insert(key.clone(), value);
        }
    }
    let description = schema.get("description").cloned();
    *schema = json_schema!({
        "type": "object",
        "properties": properties,
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": false
    });
    if let Some(description) = description {
        schema.insert("description".into(), description);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: Value) -> Result<DataConfig, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn shared_and_own_keys_stand_side_by_side_and_come_back() {
        let written = json!({
            "kind": "csv", "header": false, "delimiter": "whitespace", "columns": ["path", "p", "type"],
            "image": "path", "label": {"column": "p", "threshold": 0.5},
            "root": "pip:elpv-dataset==1.0.0.post1#elpv_dataset/data",
            "train": {"path": "labels.csv"}, "test": {"fraction": 0.25}, "subset": 1000,
            "preprocess": "auto", "on_error": "skip"
        });
        let read = config(written.clone()).unwrap();
        assert_eq!(read.common.test, Some(SetConfig::Fraction(0.25)));
        assert_eq!(read.common.on_error, OnError::Skip);
        let back = serde_json::to_value(&read).unwrap();
        assert_eq!(config(back).unwrap(), read);
        assert_eq!(read.resources().len(), 1);
    }

    #[test]
    fn an_unknown_key_or_kind_is_an_error() {
        let error = |value| config(value).unwrap_err().to_string();
        assert!(error(json!({"kind": "image_folder", "tain": {}})).contains("unknown field `tain`"));
        assert!(error(json!({"kind": "image_foldr"})).contains("unknown variant `image_foldr`"));
        assert!(error(json!({"kind": "image_folder", "test": {"frac": 0.1}})).contains("unknown variant `frac`"));
        assert!(error(json!({"kind": "image_folder", "on_error": "ignore"})).contains("`ignore`"));
    }

    #[test]
    fn the_list_of_shared_keys_is_whole_and_no_kind_has_one_of_its_own() {
        let mut generator = SchemaGenerator::default();
        let keys = |schema: &Value| -> Vec<String> {
            schema.get("properties").and_then(Value::as_object).unwrap().keys().cloned().collect()
        };
        assert_eq!(keys(&Common::json_schema(&mut generator).into()), COMMON_KEYS);
        let kinds = Format::json_schema(&mut generator);
        for kind in kinds.get("oneOf").unwrap().as_array().unwrap() {
            assert!(keys(kind).iter().all(|key| !COMMON_KEYS.contains(&key.as_str())), "{kind}");
            assert_eq!(kind.get("additionalProperties"), Some(&Value::Bool(false)));
        }
    }

    #[test]
    fn cross_field_problems_are_all_reported() {
        let read =
            config(json!({"kind": "image_folder", "valid": {"fraction": 0.6}, "test": {"fraction": 0.5}, "subset": 0}));
        let mut problems = Problems::new("x");
        read.unwrap().check(&mut problems);
        let paths: Vec<&str> = problems.list.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(paths, ["data.valid.fraction", "data", "data.subset"]);
    }

    #[test]
    fn paths_are_placed_below_the_root_if_there_is_one() {
        let read = |value| config(value).unwrap().relative_to(Path::new("/r"));
        let bare = read(json!({"kind": "image_folder", "train": {"path": "a"}, "test": {"path": "hf:o/r/x@main"}}));
        assert_eq!(bare.common.train.unwrap().path, Resource::path("/r/a"));
        let rooted = read(json!({"kind": "image_folder", "root": "d", "train": {"path": "a"}}));
        assert_eq!(rooted.common.root, Some(Resource::path("/r/d")));
        assert_eq!(rooted.common.train.unwrap().path, Resource::path("a"));
    }
}
