//! The cache key: what produced a column's values, and nothing else.
//!
//! Neither caft's own version nor the bytes of the cut file are in it, so an upgrade or a rebuilt
//! engine recomputes nothing; `PIXELS_VERSION` and [`NUMERICS_VERSION`] are raised when values change.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::base::{DType, Digest, KeyWriter};
use crate::graph::onnx::OutputSpec;

/// Raised when the values of an engine change for another reason than the ones in the key, such as how
/// a selection is computed.
pub const NUMERICS_VERSION: u32 = 1;

/// What produced the values of one column. The order of the fields is part of the key.
#[derive(Debug, Clone, Serialize)]
pub struct Ingredients<'a> {
    /// Digest of the source weights.
    pub weights: Digest,
    /// The source tensor that was taken.
    pub tensor: &'a str,
    /// What was taken from it, such as the mean of the patch tokens.
    pub select: Value,
    /// The precision of the engine.
    pub precision: &'a str,
    /// Digest of what an engine in `int8` was calibrated on, and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Digest>,
    /// Providers of one class give the same values.
    pub numeric_class: &'a str,
    /// The inference runtime with its version.
    pub runtime: &'a str,
    /// The sample transform with all its steps and its version.
    pub transform: Value,
    /// See [`NUMERICS_VERSION`].
    pub numerics_version: u32,
    /// The stored element type.
    pub dtype: DType,
}

impl<'a> Ingredients<'a> {
    /// The ingredients of one output of an engine; `engine` is its precision, its provider's numeric
    /// class, and the runtime with its version.
    pub fn new(
        weights: Digest,
        output: &'a OutputSpec,
        engine: (&'a str, &'a str, &'a str),
        transform: Value,
        dtype: DType,
    ) -> Self {
        Self {
            weights,
            tensor: &output.tensor,
            select: json!(output.select),
            precision: engine.0,
            calibration: None,
            numeric_class: engine.1,
            runtime: engine.2,
            transform,
            numerics_version: NUMERICS_VERSION,
            dtype,
        }
    }

    /// The ingredients by name, for the column's description and for saying what changed.
    pub fn to_map(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            other => unreachable!("a struct of plain data is a JSON object, not {other:?}"),
        }
    }

    /// The column's key.
    pub fn key(&self) -> Digest {
        self.to_map().iter().fold(KeyWriter::new("column"), |key, (name, value)| key.json(name, value)).finish()
    }
}
