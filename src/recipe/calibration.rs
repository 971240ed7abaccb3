//! The `engine.calibration` section: how an engine in 8-bit integers is calibrated and judged.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an engine in `int8` is calibrated, on samples of the training rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CalibrationConfig {
    /// How the range of a tensor is chosen.
    pub method: CalibrationMethod,
    /// How many training samples are measured. A quarter as many more are held out, to compare the engine with fp32.
    #[schemars(range(min = 4, max = 4096))]
    pub samples: u32,
    /// With `percentile`, how many in a hundred values a range covers, at each of its ends.
    #[schemars(range(min = 50.0, max = 100.0))]
    pub percentile: f64,
    /// The least cosine of every output with fp32 on the held-out samples. The layers that lose most stay in float until
    /// it is reached; where that would be most of the network, the run ends with an error that says how far it got.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_cosine: f64,
}

impl Default for CalibrationConfig {
    fn default() -> Self {
        Self { method: CalibrationMethod::default(), samples: 128, percentile: 99.99, min_cosine: 0.99 }
    }
}

/// How the range of a tensor is chosen from what was measured of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationMethod {
    /// From the least to the greatest value.
    Minmax,
    /// What loses least information: the distribution of the rounded values is nearest to that of the values
    /// (Kullback-Leibler divergence, as TensorRT's calibrator does it).
    Entropy,
    /// Without the few values outside `percentile`.
    #[default]
    Percentile,
}

impl CalibrationMethod {
    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Minmax => "minmax",
            Self::Entropy => "entropy",
            Self::Percentile => "percentile",
        }
    }
}
