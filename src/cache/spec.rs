//! What a column is, and the `column.json` that says so on disk.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::layout::FORMAT;
use crate::base::{DType, Digest, Error, Result, file};

/// Names a column and says what its rows are.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnSpec {
    /// The digest of the ingredients.
    pub key: Digest,
    /// What the key was made of, by name, for people and for the reasons of misses. An ingredient
    /// `tensor` names the tensor in error messages.
    pub ingredients: Map<String, Value>,
    /// The shape of one row, or of one item of a row if the column is ragged; its product is at least 1.
    pub row_shape: Vec<usize>,
    /// Whether a row is a list of items, as many as its sample has.
    pub ragged: bool,
    /// How the values are stored.
    pub dtype: DType,
    /// The recipe that asks for the column; shown in listings, not part of the key.
    pub made_by: String,
}

impl ColumnSpec {
    /// Values of one row, or of one item.
    pub fn row_len(&self) -> usize {
        self.row_shape.iter().product()
    }

    /// Stored bytes of one row's or item's values.
    pub fn row_bytes(&self) -> usize {
        self.row_len() * self.dtype.size()
    }

    /// Whether each row has a scale beside its values.
    pub(super) fn is_scaled(&self) -> bool {
        self.dtype == DType::I8
    }

    /// The name of the tensor, for messages.
    pub fn tensor(&self) -> &str {
        self.ingredients.get("tensor").and_then(Value::as_str).unwrap_or("values")
    }

    /// The sizes are sane: no row is empty, and a row's size does not overflow.
    pub(super) fn check(&self) -> Result<()> {
        let size = self.row_shape.iter().try_fold(self.dtype.size(), |size, &dim| size.checked_mul(dim));
        match size {
            Some(1..=MAX_ROW_BYTES) => Ok(()),
            _ => Err(Error::bad_input(format!(
                "rows of shape {:?} of tensor `{}` cannot be stored; a row has 1 to {MAX_ROW_BYTES} bytes",
                self.row_shape,
                self.tensor()
            ))),
        }
    }
}

/// A gibibyte.
pub(super) const MAX_ROW_BYTES: usize = 1 << 30;

/// More than any list of ingredients needs.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The contents of `column.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ColumnFile {
    pub format: u32,
    pub key: Digest,
    pub made_by: String,
    pub created: u64,
    pub row_shape: Vec<usize>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ragged: bool,
    pub dtype: DType,
    pub ingredients: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
}

impl ColumnFile {
    pub const NAME: &'static str = "column.json";

    pub fn new(spec: &ColumnSpec) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            format: FORMAT,
            key: spec.key,
            made_by: spec.made_by.clone(),
            created: now.map_or(0, |d| d.as_secs()),
            row_shape: spec.row_shape.clone(),
            ragged: spec.ragged,
            dtype: spec.dtype,
            ingredients: spec.ingredients.clone(),
            error: None,
        }
    }

    /// Reads a column's file.
    ///
    /// # Errors
    /// It is missing, too long, or not what it should be.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(Self::NAME);
        let text = file::read_text(&path, MAX_FILE_BYTES)?;
        let damaged = || Error::failed(format!("`{}` is damaged", path.display()));
        let read: Self = serde_json::from_str(&text).map_err(|cause| damaged().because(cause))?;
        if read.format != FORMAT {
            return Err(damaged().because(format!("its format is {}, not {FORMAT}", read.format)));
        }
        Ok(read)
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        file::write_atomic(&folder.join(Self::NAME), |out| Ok(serde_json::to_writer_pretty(out, self)?))
    }

    /// The spec that the file records.
    pub fn spec(self) -> ColumnSpec {
        let Self { key, ingredients, row_shape, ragged, dtype, made_by, .. } = self;
        ColumnSpec { key, ingredients, row_shape, ragged, dtype, made_by }
    }
}
