//! Element types of stored and computed tensors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An element type that caft computes with or stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DType {
    /// 32-bit IEEE float.
    F32,
    /// 16-bit IEEE float: 11 bits of precision, up to 65,504.
    F16,
    /// The upper 16 bits of an f32: 8 bits of precision, the whole range.
    Bf16,
    /// 8-bit integers times one f32 scale per row: the row's largest magnitude is 127.
    I8,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::I8 => 1,
        }
    }

    /// The name used in recipes, such as `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I8 => "i8",
        }
    }
}
