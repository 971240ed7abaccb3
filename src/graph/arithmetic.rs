//! In what numbers matrix products are computed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Matrix, Real};

/// In what numbers the large matrix products of training are computed: of fully connected layers, convolutions and
/// attention. Everything else, and what is trained, is f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Arithmetic {
    /// 32-bit floating point.
    #[default]
    Fp32,
    /// Factors rounded to bfloat16 and added up in f32, by the processor's own units where it has them (AMX, AVX-512
    /// BF16); elsewhere slower than `fp32`.
    Bf16,
}

impl Arithmetic {
    /// `out = a · b`, or `out += a · b`; `out` is row-major. In f64, which is for checks, always exactly.
    ///
    /// # Panics
    /// The shapes do not fit.
    pub fn gemm<F: Real>(self, out: &mut [F], a: Matrix<'_, F>, b: Matrix<'_, F>, accumulate: bool) {
        match self {
            Self::Fp32 => super::gemm(out, a, b, accumulate),
            Self::Bf16 => F::gemm_bf16(out, a, b, accumulate),
        }
    }
}
