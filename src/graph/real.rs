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

/// e to this power to 1e-7 of it, without a branch, so that loops over it become vector instructions: a power of two
/// times a polynomial on ±ln 2 / 2 (coefficients of Cephes' `expf`).
#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    // Beyond these the result is infinite, or 0. Comparisons, not `clamp`, leave NaN as it is.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    // Adding 1.5 · 2²³ rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    // ln 2 in two parts, of which the first times a whole number is exact.
    let r = x - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    let p = 1.987_569_1e-4 * r + 1.398_199_9e-3;
    let p = ((p * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 0.166_666_66;
    let p = (p * r + 0.5) * r * r + r + 1.0;
    // In two factors, because the power of two alone may be too large or too small for a float.
    let power = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = power >> 1;
    let two_to = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    p * two_to(half) * two_to(power.wrapping_sub(half))
}

/// The error function to 4e-7, which is near f32's own precision (Abramowitz and Stegun, 7.1.26).
fn erf_f32(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let p = ((((1.061_405_4 * t - 1.453_152_1) * t + 1.421_413_8) * t - 0.284_496_72) * t + 0.254_829_6) * t;
    (1.0 - p * exp_f32(-x * x)).copysign(x)
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
    ($type:ty, $exp:path, $erf:ident, $gemm_bf16:path) => {
        impl Real for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn of(value: f64) -> Self {
                value as $type
            }
            #[inline(always)]
            fn wide(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                <$type>::ln(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$type>::sqrt(self)
            }
            #[inline(always)]
            fn powf(self, exponent: Self) -> Self {
                <$type>::powf(self, exponent)
            }
            #[inline(always)]
            fn erf(self) -> Self {
                $erf(self)
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                <$type>::max(self, other)
            }
            fn gemm_bf16(out: &mut [Self], a: Matrix<'_, Self>, b: Matrix<'_, Self>, accumulate: bool) {
                $gemm_bf16(out, a, b, accumulate);
            }
        }
    };
}

real!(f32, exp_f32, erf_f32, bf16::gemm);
real!(f64, f64::exp, erf_f64, gemm);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_near_those_of_f64_and_keep_what_is_not_finite() {
        for i in -104_000..=88_000 {
            let x = i as f32 / 1000.0;
            let (ours, exact) = (exp_f32(x), f64::from(x).exp());
            // The smallest floats have fewer digits.
            let bound = 1.5e-7 * exact + 1e-45;
            assert!((f64::from(ours) - exact).abs() < bound, "{x}: {ours}, not {exact}");
        }
        assert_eq!(exp_f32(0.0), 1.0);
        assert_eq!((exp_f32(f32::INFINITY), exp_f32(1e9)), (f32::INFINITY, f32::INFINITY));
        assert_eq!((exp_f32(f32::NEG_INFINITY), exp_f32(-1e9)), (0.0, 0.0));
        assert!(exp_f32(f32::NAN).is_nan());
    }
}
