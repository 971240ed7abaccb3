//! Rows as stored bytes, and back.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::spec::ColumnSpec;
use crate::base::{DType, Error, Result};

/// Appends a row as stored bytes.
///
/// # Errors
/// A value is not finite, or overflows the stored dtype; nothing is appended.
pub(super) fn encode(spec: &ColumnSpec, row: &[f32], out: &mut Vec<u8>) -> Result<()> {
    let before = out.len();
    out.resize(before + row.len() * spec.dtype.size(), 0);
    let bytes = &mut out[before..];
    let sound = match spec.dtype {
        DType::F32 => {
            bytes.copy_from_slice(bytemuck::cast_slice(row));
            row.iter().all(|value| value.is_finite())
        }
        DType::F16 => {
            // The buffer may begin at an odd address; a stack buffer does not.
            let mut buffer = [f16::ZERO; CHUNK];
            let mut sound = true;
            for (values, bytes) in row.chunks(CHUNK).zip(bytes.chunks_mut(CHUNK * 2)) {
                let buffer = &mut buffer[..values.len()];
                buffer.convert_from_f32_slice(values);
                sound &= buffer.iter().all(|value| value.is_finite());
                bytes.copy_from_slice(bytemuck::cast_slice(buffer));
            }
            sound
        }
    };
    if !sound {
        out.truncate(before);
        return Err(refusal(spec, row));
    }
    Ok(())
}

const CHUNK: usize = 512;

fn refusal(spec: &ColumnSpec, row: &[f32]) -> Error {
    let tensor = spec.tensor();
    match row.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        Some((at, value)) => Error::failed(format!("tensor `{tensor}` has the value {value} at element {at}"))
            .hint("a lower precision overflows more easily; try `engine.precision: fp32`"),
        None => {
            let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let dtype = spec.dtype.name();
            Error::failed(format!("tensor `{tensor}` has a value of magnitude {largest}, which overflows `{dtype}`"))
                .hint("set `cache.dtype: f32`")
        }
    }
}

/// Converts a stored row. `bytes` begins at a multiple of the dtype's size and is as long as `out` asks.
pub(super) fn decode(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        DType::F32 => bytemuck::cast_slice_mut::<f32, u8>(out).copy_from_slice(bytes),
        DType::F16 => bytemuck::cast_slice::<u8, f16>(bytes).convert_to_f32_slice(out),
    }
}
