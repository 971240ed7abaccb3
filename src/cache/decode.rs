//! Stored rows as f32, by the widest instructions that the processor has.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::base::DType;

/// Converts a stored row. `bytes` is as long as `out` asks.
pub(super) fn decode(dtype: DType, bytes: &[u8], scale: f32, out: &mut [f32]) {
    match dtype {
        DType::F32 => bytemuck::cast_slice_mut::<f32, u8>(out).copy_from_slice(bytes),
        DType::F16 => widen_f16(bytes.as_chunks().0, out),
        DType::Bf16 => widen_bf16(bytes.as_chunks().0, out),
        DType::I8 => widen_i8(bytes, scale, out),
    }
}

/// Sixteen (or eight) numbers by one instruction: the conversion is exact, whichever way is taken.
fn widen_f16(bytes: &[[u8; 2]], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the feature.
            return unsafe { x86::widen_f16_by_16(bytes, out) };
        }
        if is_x86_feature_detected!("f16c") {
            // SAFETY: the processor has the features; F16C comes after AVX.
            return unsafe { x86::widen_f16_by_8(bytes, out) };
        }
    }
    widen_f16_plainly(bytes, out);
}

fn widen_f16_plainly(bytes: &[[u8; 2]], out: &mut [f32]) {
    // The bytes may begin at an odd address; a buffer of numbers does not.
    let mut numbers = [f16::ZERO; 256];
    for (bytes, out) in bytes.chunks(numbers.len()).zip(out.chunks_mut(256)) {
        let numbers = &mut numbers[..bytes.len()];
        numbers.iter_mut().zip(bytes).for_each(|(number, bytes)| *number = f16::from_le_bytes(*bytes));
        numbers.convert_to_f32_slice(out);
    }
}

fn widen_bf16(bytes: &[[u8; 2]], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        return unsafe { x86::widen_bf16_by_8(bytes, out) };
    }
    widen_bf16_plainly(bytes, out);
}

#[inline(always)]
fn widen_bf16_plainly(bytes: &[[u8; 2]], out: &mut [f32]) {
    for (out, bytes) in out.iter_mut().zip(bytes) {
        *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}

fn widen_i8(bytes: &[u8], scale: f32, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        return unsafe { x86::widen_i8_by_8(bytes, scale, out) };
    }
    widen_i8_plainly(bytes, scale, out);
}

#[inline(always)]
fn widen_i8_plainly(bytes: &[u8], scale: f32, out: &mut [f32]) {
    out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = f32::from(*byte as i8) * scale);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_loadu_si128, _mm256_cvtph_ps, _mm256_loadu_si256, _mm256_storeu_ps, _mm512_cvtph_ps,
        _mm512_storeu_ps,
    };

    #[target_feature(enable = "avx512f")]
    pub fn widen_f16_by_16(bytes: &[[u8; 2]], out: &mut [f32]) {
        let ((whole, rest), (filled, open)) = (bytes.as_chunks::<16>(), out.as_chunks_mut::<16>());
        for (bytes, out) in whole.iter().zip(filled) {
            let bytes = std::ptr::from_ref(bytes).cast::<__m256i>();
            // SAFETY: 32 bytes are read from an array of as many, 16 numbers written to an array of as many,
            // both by instructions that ask for no alignment.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_cvtph_ps(_mm256_loadu_si256(bytes))) };
        }
        super::widen_f16_plainly(rest, open);
    }

    #[target_feature(enable = "avx,f16c")]
    pub fn widen_f16_by_8(bytes: &[[u8; 2]], out: &mut [f32]) {
        let ((whole, rest), (filled, open)) = (bytes.as_chunks::<8>(), out.as_chunks_mut::<8>());
        for (bytes, out) in whole.iter().zip(filled) {
            let bytes = std::ptr::from_ref(bytes).cast::<__m128i>();
            // SAFETY: 16 bytes are read from an array of as many, 8 numbers written to an array of as many,
            // both by instructions that ask for no alignment.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(bytes))) };
        }
        super::widen_f16_plainly(rest, open);
    }

    #[target_feature(enable = "avx2")]
    pub fn widen_bf16_by_8(bytes: &[[u8; 2]], out: &mut [f32]) {
        super::widen_bf16_plainly(bytes, out);
    }

    #[target_feature(enable = "avx2")]
    pub fn widen_i8_by_8(bytes: &[u8], scale: f32, out: &mut [f32]) {
        super::widen_i8_plainly(bytes, scale, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    /// Every finite 16-bit number, at lengths that leave a rest.
    #[test]
    fn every_number_is_widened_exactly_by_every_way() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let halves: Vec<u16> = all.iter().copied().filter(|bits| f16::from_bits(*bits).is_finite()).collect();
        let brains: Vec<u16> = all.iter().copied().filter(|bits| bf16::from_bits(*bits).is_finite()).collect();
        for (dtype, numbers) in [(DType::F16, &halves), (DType::Bf16, &brains)] {
            let exact = |bits: &u16| match dtype {
                DType::F16 => f16::from_bits(*bits).to_f32(),
                _ => bf16::from_bits(*bits).to_f32(),
            };
            for len in [numbers.len(), numbers.len() - 5, 17, 15, 7, 1, 0] {
                let wanted: Vec<u32> = numbers[..len].iter().map(|bits| exact(bits).to_bits()).collect();
                let stored: Vec<[u8; 2]> = numbers[..len].iter().map(|bits| bits.to_le_bytes()).collect();
                let mut out = vec![9.0; len];
                decode(dtype, stored.as_flattened(), 1.0, &mut out);
                assert_eq!(out.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), wanted, "{dtype:?} {len}");
                out.fill(9.0);
                match dtype {
                    DType::F16 => widen_f16_plainly(&stored, &mut out),
                    _ => widen_bf16_plainly(&stored, &mut out),
                }
                assert_eq!(out.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), wanted, "{dtype:?} {len}");
                #[cfg(target_arch = "x86_64")]
                if dtype == DType::F16 && is_x86_feature_detected!("f16c") {
                    out.fill(9.0);
                    // SAFETY: the processor has the feature.
                    unsafe { x86::widen_f16_by_8(&stored, &mut out) };
                    assert_eq!(out.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), wanted, "{len}");
                }
            }
        }
    }

    #[test]
    fn integers_are_multiplied_with_the_scale() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut out = vec![0.0; 256];
        decode(DType::I8, &bytes, 0.5, &mut out);
        assert!(out.iter().zip(&bytes).all(|(out, byte)| *out == f32::from(*byte as i8) * 0.5));
    }
}
