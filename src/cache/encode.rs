//! Rows as stored bytes.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::decode::decode;
use super::spec::ColumnSpec;
use crate::base::{DType, Error, Result};

/// Rows in stored form, one behind the other, and what storing them lost.
#[derive(Default)]
pub(super) struct Encoded {
    /// One f32 per row, if the dtype has scales.
    pub scales: Vec<u8>,
    pub values: Vec<u8>,
    /// Sum of the squares of all values, and of the differences between values and stored values.
    pub energy: [f64; 2],
    decoded: Vec<f32>,
}

impl Encoded {
    /// Adds a row.
    ///
    /// # Errors
    /// A value is not finite, or overflows the stored dtype; nothing is added.
    pub fn push(&mut self, spec: &ColumnSpec, row: &[f32]) -> Result<()> {
        let before = self.values.len();
        self.values.resize(before + row.len() * spec.dtype.size(), 0);
        let bytes = &mut self.values[before..];
        let mut scale = 1.0;
        let sound = match spec.dtype {
            DType::F32 => {
                bytes.copy_from_slice(bytemuck::cast_slice(row));
                row.iter().all(|value| value.is_finite())
            }
            DType::F16 => half_floats(row, bytes, f16::ZERO, |value: f16| value.is_finite()),
            DType::Bf16 => half_floats(row, bytes, bf16::ZERO, |value: bf16| value.is_finite()),
            DType::I8 => {
                let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                // The smallest magnitudes have no normal scale; they are nought then.
                scale = if largest < f32::MIN_POSITIVE * 127.0 { 0.0 } else { largest / 127.0 };
                let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
                for (byte, value) in bytes.iter_mut().zip(row) {
                    *byte = (value * inverse).round_ties_even() as i8 as u8;
                }
                // A maximum hides a NaN.
                row.iter().all(|value| value.is_finite())
            }
        };
        if !sound {
            self.values.truncate(before);
            return Err(refusal(spec, row));
        }
        if spec.is_scaled() {
            self.scales.extend(scale.to_le_bytes());
        }
        self.measure(spec.dtype, before, scale, row);
        Ok(())
    }

    pub fn clear(&mut self) {
        self.scales.clear();
        self.values.clear();
    }

    fn measure(&mut self, dtype: DType, before: usize, scale: f32, row: &[f32]) {
        self.decoded.resize(row.len(), 0.0);
        decode(dtype, &self.values[before..], scale, &mut self.decoded);
        for (value, decoded) in row.iter().zip(&self.decoded) {
            self.energy[0] += f64::from(*value) * f64::from(*value);
            self.energy[1] += f64::from(value - decoded) * f64::from(value - decoded);
        }
    }
}

impl ColumnSpec {
    /// What is read of a row after it was stored, into `out`, as long as the row.
    ///
    /// # Errors
    /// A value is not finite, or overflows the stored dtype.
    pub fn round(&self, row: &[f32], out: &mut [f32]) -> Result<()> {
        let mut stored = Encoded::default();
        stored.push(self, row)?;
        let scale = stored.scales.first_chunk().map_or(1.0, |bytes| f32::from_le_bytes(*bytes));
        decode(self.dtype, &stored.values, scale, out);
        Ok(())
    }
}

fn half_floats<T: bytemuck::Pod>(row: &[f32], bytes: &mut [u8], zero: T, finite: impl Fn(T) -> bool) -> bool
where
    [T]: HalfFloatSliceExt,
{
    // The bytes may begin at an odd address; a buffer of numbers does not.
    let mut buffer = [zero; CHUNK];
    row.chunks(CHUNK).zip(bytes.chunks_mut(CHUNK * 2)).fold(true, |sound, (values, bytes)| {
        let buffer = &mut buffer[..values.len()];
        buffer.convert_from_f32_slice(values);
        bytes.copy_from_slice(bytemuck::cast_slice(buffer));
        sound & buffer.iter().all(|value| finite(*value))
    })
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
                .hint("set `cache.dtype: bf16` or `f32`")
        }
    }
}
