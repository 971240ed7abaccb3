//! Precisions: what is done to a cut model so that it computes in less than 32 bits.

mod histogram;
mod int8;
mod measure;

use std::path::Path;
use std::thread::available_parallelism;

pub use int8::{Calibration, CalibrationSamples, Quantised, quantise};
pub use measure::{Bench, with_outputs};

use super::manifest::{Calibrated, Checks};
use crate::base::Result;
use crate::graph::onnx::proto::ModelProto;
use crate::graph::onnx::{self, to_half};
use crate::recipe::Precision;

/// How a model in fp32 is converted before it is kept as an engine.
#[derive(Clone, Copy)]
pub enum Conversion<'a> {
    /// Not at all: it runs in fp32, or in bf16 by a provider that computes so of its own.
    Keep,
    /// Weights and activations become f16; see [`to_half()`].
    Half,
    /// Weights and activations become 8-bit integers; see [`quantise()`].
    Int8(&'a Calibration<'a>),
}

/// A converted model.
pub struct Converted {
    /// The model.
    pub model: ModelProto,
    /// How it was calibrated, if it was.
    pub calibrated: Option<Calibrated>,
    /// How it compares with fp32, if that is known already.
    pub checks: Option<Checks>,
}

impl Conversion<'_> {
    /// The conversion that a precision needs, if it needs no samples.
    pub fn of(precision: Precision) -> Self {
        match precision {
            Precision::Fp16 => Self::Half,
            Precision::Fp32 | Precision::Bf16 | Precision::Int8 => Self::Keep,
        }
    }

    /// The precision of the converted file.
    pub fn precision(self) -> Precision {
        match self {
            Self::Keep => Precision::Fp32,
            Self::Half => Precision::Fp16,
            Self::Int8(_) => Precision::Int8,
        }
    }

    /// The provider that the converted file is made for.
    pub fn provider(self) -> &'static str {
        match self {
            Self::Int8(calibration) => calibration.target.choice.info.name,
            Self::Keep | Self::Half => "any",
        }
    }

    /// What decides the converted file, beside the model and the precision.
    pub fn key(self) -> String {
        match self {
            Self::Int8(calibration) => format!("{} {}", calibration.digest, calibration.target.describe()),
            Self::Keep | Self::Half => String::new(),
        }
    }

    /// Converts a model; `scratch` is a folder for what is needed for a moment.
    ///
    /// # Errors
    /// Those of the conversion.
    pub fn apply(self, mut model: ModelProto, scratch: &Path) -> Result<Converted> {
        match self {
            Self::Keep => {}
            Self::Half => {
                to_half(&mut model)?;
            }
            Self::Int8(calibration) => {
                let bench = Bench {
                    processor: &calibration.target.on_processor()?,
                    threads: available_parallelism().map_or(1, usize::from),
                    scratch,
                    progress: calibration.progress,
                    cancel: calibration.cancel,
                };
                let Quantised { model, calibrated, checks } = quantise(model, calibration, &bench)?;
                return Ok(Converted { model, calibrated: Some(calibrated), checks: Some(checks) });
            }
        }
        Ok(Converted { model, calibrated: None, checks: None })
    }
}

/// Writes the model of one file in fp16 to another.
///
/// # Errors
/// Those of [`onnx::read()`], [`to_half()`] and [`onnx::write()`].
pub fn write_half(from: &Path, to: &Path) -> Result<()> {
    let mut model = onnx::read(from)?;
    to_half(&mut model)?;
    onnx::write(&model, to)
}
