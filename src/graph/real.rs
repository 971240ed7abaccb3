//! The element types that operators compute in: f32 to train, f64 to check gradients.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use super::{Matrix, bf16, gemm};

/// A floating-point type. `f32` trains; `f64` exists so that every backward is held to finite differences.
pub trait Real:
    Copy
    + Default
    + Debug
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Rounds an f64.
    fn of(value: f64) -> Self;
    /// Widens to f64.
    fn wide(self) -> f64;
    /// e to this power.
    fn exp(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// This to a power.
    fn powf(self, exponent: Self) -> Self;
    /// The error function.
    fn erf(self) -> Self;
    /// The larger of two.
    fn max(self, other: Self) -> Self;
    /// A product in bf16 ([`bf16::gemm`](super::bf16::gemm)), for those that bf16 stands for.
    fn gemm_bf16(out: &mut [Self], a: Matrix<'_, Self>, b: Matrix<'_, Self>, accumulate: bool);
}

/// The error function to 4e-7, which is near f32's own precision (Abramowitz and Stegun, 7.1.26).
fn erf_f32(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let p = ((((1.061_405_4 * t - 1.453_152_1) * t + 1.421_413_8) * t - 0.284_496_72) * t + 0.254_829_6) * t;
    (1.0 - p * (-x * x).exp()).copysign(x)
}

/// The error function by its Maclaurin series times e^{−x²}; beyond 6 it is 1 in f64.
fn erf_f64(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return 1f64.copysign(x);
    }
    // erf x = 2/√π · e^{−x²} · Σ 2ⁿ x^{2n+1} / (2n+1)!!: all terms have one sign, so nothing cancels.
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

macro_rules! real {
    ($type:ty, $erf:ident, $gemm_bf16:path) => {
        impl Real for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            fn of(value: f64) -> Self {
                value as $type
            }
            fn wide(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                <$type>::exp(self)
            }
            fn ln(self) -> Self {
                <$type>::ln(self)
            }
            fn sqrt(self) -> Self {
                <$type>::sqrt(self)
            }
            fn powf(self, exponent: Self) -> Self {
                <$type>::powf(self, exponent)
            }
            fn erf(self) -> Self {
                $erf(self)
            }
            fn max(self, other: Self) -> Self {
                <$type>::max(self, other)
            }
            fn gemm_bf16(out: &mut [Self], a: Matrix<'_, Self>, b: Matrix<'_, Self>, accumulate: bool) {
                $gemm_bf16(out, a, b, accumulate);
            }
        }
    };
}

real!(f32, erf_f32, bf16::gemm);
real!(f64, erf_f64, gemm);
