//! Precisions: what is done to a cut model so that it computes in less than 32 bits.

use std::path::Path;

use crate::base::Result;
use crate::graph::onnx::proto::ModelProto;
use crate::graph::onnx::{self, to_half};
use crate::recipe::Precision;

/// How a model in fp32 is converted before it is kept as an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// Not at all: it runs in fp32, or in bf16 by a provider that computes so of its own.
    Keep,
    /// Weights and activations become f16; see [`to_half()`].
    Half,
}

impl Conversion {
    /// The conversion that a precision needs.
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
        }
    }

    /// Converts a model.
    ///
    /// # Errors
    /// Those of the conversion.
    pub fn apply(self, mut model: ModelProto) -> Result<ModelProto> {
        if self == Self::Half {
            to_half(&mut model)?;
        }
        Ok(model)
    }
}

/// Writes the model of one file in fp16 to another.
///
/// # Errors
/// Those of [`onnx::read()`], [`to_half()`] and [`onnx::write()`].
pub fn write_half(from: &Path, to: &Path) -> Result<()> {
    onnx::write(&Conversion::Half.apply(onnx::read(from)?)?, to)
}
