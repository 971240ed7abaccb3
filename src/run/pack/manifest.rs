//! What a pack holds, as its files say it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::{DType, Digest, Error, Result};
use crate::cache::ColumnSpec;
use crate::plan::PLAN;
use crate::run::{lock, record, training};

/// The ending of a pack's name.
pub const ENDING: &str = "caft-run";
/// The file that names all others.
pub const MANIFEST: &str = "pack.yaml";
/// The rows of a pack with activations.
pub const ROWS: &str = "rows.json";
/// What of the backbone is trained, in a pack with activations: the model with the weights of that part alone.
pub const TAIL: &str = "tail.onnx";
/// The folder of masks in a pack with activations, which have their digests as names.
pub const MASKS: &str = "masks";
/// The form of a pack.
pub const FORMAT: u32 = 1;
/// The recipe in a run's folder.
pub const RECIPE: &str = "recipe.yaml";

/// The files of a run that are packed, where it has them; the first five it must have.
pub fn files_of_run() -> [String; 7] {
    let checkpoint = format!("{}/{}", training::CHECKPOINT, training::BEST);
    [RECIPE, PLAN, lock::LOCK, record::RECORD, &checkpoint, "metrics.jsonl", "confusion.json"].map(String::from)
}

/// The contents of `pack.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of this file.
    pub format: u32,
    /// The run's name.
    pub name: String,
    /// The run's id.
    pub id: Digest,
    /// caft's version that packed it.
    pub caft: String,
    /// The columns of the activations, in the order of the inputs of what is trained; those of views behind the others.
    #[serde(default)]
    pub columns: Vec<PackedColumn>,
    /// All other files of the pack.
    pub files: BTreeMap<String, PackedFile>,
}

/// A file of a pack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedFile {
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub digest: Digest,
}

/// A column of a pack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedColumn {
    /// The input of what is trained that it is for.
    pub input: String,
    /// Which of the samples of a row it is of.
    pub sample: usize,
    /// Its key.
    pub key: Digest,
    /// The shape of a row, or of a token.
    pub row_shape: Vec<usize>,
    /// Whether a row is a list of tokens.
    #[serde(default)]
    pub ragged: bool,
    /// How values are stored.
    pub dtype: DType,
    /// Whether its rows are the views of training rows beside the plain one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub views: bool,
}

impl PackedColumn {
    /// The column as the cache knows it.
    pub fn spec(&self, made_by: &str) -> ColumnSpec {
        let Self { key, row_shape, ragged, dtype, .. } = self.clone();
        ColumnSpec { key, ingredients: serde_json::Map::new(), row_shape, ragged, dtype, made_by: made_by.into() }
    }
}

/// The contents of `rows.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// By sample of a row, the digest in every row.
    pub digests: Vec<Vec<Digest>>,
    /// What the rows are labelled with.
    pub targets: PackedTargets,
    /// How likely each row is to be drawn, where the data say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<f32>>,
    /// Numbers of training rows.
    pub train: Vec<u32>,
    /// Numbers of validation rows.
    pub valid: Vec<u32>,
    /// Numbers of test rows.
    pub test: Vec<u32>,
}

/// Targets without their names, which are in the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackedTargets {
    /// A class per row.
    Classes(Vec<u32>),
    /// The labels of every row.
    MultiLabel(Vec<Vec<u32>>),
    /// `[rows, values]`.
    Values(Vec<f32>),
    /// `[rows, fields]`: equal numbers are of equal samples.
    Pairs(Vec<u32>),
    /// The mask of every row, by its digest.
    Masks(Vec<Digest>),
}

/// The name of a mask.
pub fn mask_name(digest: &Digest) -> String {
    format!("{MASKS}/{digest}")
}

impl PackedTargets {
    /// Rows.
    pub fn len(&self, width: usize) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::MultiLabel(labels) => labels.len(),
            Self::Values(values) => values.len() / width.max(1),
            Self::Pairs(samples) => samples.len() / width.max(1),
            Self::Masks(masks) => masks.len(),
        }
    }
}

/// All files below a folder.
///
/// # Errors
/// Those of the file system.
pub fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let path = entry.map_err(Error::io("read", &folder))?.path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}
