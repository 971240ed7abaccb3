//! Typed access to the values of a [`TensorProto`], and constants made from values.

use std::borrow::Cow;

use bytes::Bytes;

use super::proto::{DataLocation, DataType, TensorProto};
use crate::base::{Error, Result};

impl TensorProto {
    /// An f32 constant of a shape.
    pub fn from_f32(name: impl Into<String>, dims: &[usize], values: &[f32]) -> Self {
        debug_assert_eq!(dims.iter().product::<usize>(), values.len());
        Self::from_raw(name, DataType::Float, dims, Bytes::copy_from_slice(bytemuck::cast_slice(values)))
    }

    /// An i64 constant of a shape; `&[]` is a scalar.
    pub fn from_i64(name: impl Into<String>, dims: &[usize], values: &[i64]) -> Self {
        debug_assert_eq!(dims.iter().product::<usize>(), values.len());
        Self::from_raw(name, DataType::Int64, dims, Bytes::copy_from_slice(bytemuck::cast_slice(values)))
    }

    /// A constant of little-endian bytes.
    pub fn from_raw(name: impl Into<String>, data_type: DataType, dims: &[usize], raw: Bytes) -> Self {
        Self {
            name: name.into(),
            data_type: data_type.into(),
            dims: dims.iter().map(|&d| d as i64).collect(),
            raw_data: Some(raw),
            ..Self::default()
        }
    }

    /// The shape.
    ///
    /// # Errors
    /// A size is negative.
    pub fn shape(&self) -> Result<Vec<usize>> {
        self.dims
            .iter()
            .map(|&d| {
                usize::try_from(d).map_err(|_| self.wrong(&format!("a negative size in its shape {:?}", self.dims)))
            })
            .collect()
    }

    /// The number of elements.
    ///
    /// # Errors
    /// A size is negative, or the product overflows.
    pub fn element_count(&self) -> Result<usize> {
        self.shape()?
            .into_iter()
            .try_fold(1usize, usize::checked_mul)
            .ok_or_else(|| self.wrong(&format!("a shape too large: {:?}", self.dims)))
    }

    /// The bytes that the values take in `raw_data`; `None` for texts.
    ///
    /// # Errors
    /// Those of [`Self::element_count`], and an unknown element type.
    pub fn byte_count(&self) -> Result<Option<u64>> {
        let data_type = DataType::try_from(self.data_type)
            .ok()
            .filter(|t| *t != DataType::Undefined)
            .ok_or_else(|| self.wrong(&format!("the unknown element type {}", self.data_type)))?;
        let count = self.element_count()? as u64;
        let Some(bits) = data_type.bits() else { return Ok(None) };
        let bits = count.checked_mul(bits).ok_or_else(|| self.wrong("a shape too large"))?;
        Ok(Some(bits.div_ceil(8)))
    }

    /// The values as little-endian bytes, borrowed where the file holds them so.
    ///
    /// # Errors
    /// The number of bytes does not fit the shape, the values are texts, or they are in another file
    /// that was not read.
    pub fn raw(&self) -> Result<Cow<'_, [u8]>> {
        if self.data_location() == DataLocation::External {
            return Err(self.wrong("its values in another file"));
        }
        let Some(wanted) = self.byte_count()? else { return Err(self.wrong("texts where numbers are needed")) };
        let bytes: Cow<'_, [u8]> = match (&self.raw_data, self.data_type()) {
            (Some(raw), _) => Cow::Borrowed(raw.as_ref()),
            (None, DataType::Float | DataType::Complex64) => Cow::Borrowed(bytemuck::cast_slice(&self.float_data)),
            (None, DataType::Double | DataType::Complex128) => Cow::Borrowed(bytemuck::cast_slice(&self.double_data)),
            (None, DataType::Int64) => Cow::Borrowed(bytemuck::cast_slice(&self.int64_data)),
            (None, DataType::Uint64) => Cow::Borrowed(bytemuck::cast_slice(&self.uint64_data)),
            (None, DataType::Uint32) => {
                Cow::Owned(self.uint64_data.iter().flat_map(|&v| (v as u32).to_le_bytes()).collect())
            }
            (None, DataType::Int32) => Cow::Borrowed(bytemuck::cast_slice(&self.int32_data)),
            (None, data_type) => match data_type.bits() {
                Some(16) => Cow::Owned(self.int32_data.iter().flat_map(|&v| (v as u16).to_le_bytes()).collect()),
                _ => Cow::Owned(self.int32_data.iter().map(|&v| v as u8).collect()),
            },
        };
        if bytes.len() as u64 != wanted {
            let (has, dims) = (bytes.len(), &self.dims);
            return Err(self.wrong(&format!("{has} bytes of values where its shape {dims:?} needs {wanted}")));
        }
        Ok(bytes)
    }

    /// The values of a float constant, in row-major order.
    ///
    /// # Errors
    /// Those of [`Self::raw`], and other element types than f16, bf16, f32 and f64.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let raw = self.raw()?;
        Ok(match self.data_type() {
            DataType::Float => chunks(&raw, f32::from_le_bytes),
            DataType::Double => chunks(&raw, |b| f64::from_le_bytes(b) as f32),
            DataType::Float16 => chunks(&raw, |b| half::f16::from_le_bytes(b).to_f32()),
            DataType::Bfloat16 => chunks(&raw, |b| half::bf16::from_le_bytes(b).to_f32()),
            other => return Err(self.wrong(&format!("the element type {other:?} where floats are needed"))),
        })
    }

    /// The values of an integer or boolean constant, in row-major order.
    ///
    /// # Errors
    /// Those of [`Self::raw`], other element types, and values above those of i64.
    pub fn to_i64(&self) -> Result<Vec<i64>> {
        let raw = self.raw()?;
        Ok(match self.data_type() {
            DataType::Int64 => chunks(&raw, i64::from_le_bytes),
            DataType::Int32 => chunks(&raw, |b| i32::from_le_bytes(b).into()),
            DataType::Int16 => chunks(&raw, |b| i16::from_le_bytes(b).into()),
            DataType::Int8 => chunks(&raw, |b| i8::from_le_bytes(b).into()),
            DataType::Uint32 => chunks(&raw, |b| u32::from_le_bytes(b).into()),
            DataType::Uint16 => chunks(&raw, |b| u16::from_le_bytes(b).into()),
            DataType::Uint8 | DataType::Bool => raw.iter().map(|&b| b.into()).collect(),
            DataType::Uint64 => chunks(&raw, u64::from_le_bytes)
                .into_iter()
                .map(|v| i64::try_from(v).map_err(|_| self.wrong("a value above those of a 64-bit integer")))
                .collect::<Result<_>>()?,
            other => return Err(self.wrong(&format!("the element type {other:?} where integers are needed"))),
        })
    }

    fn wrong(&self, what: &str) -> Error {
        Error::bad_input(format!("the constant `{}` of the model has {what}", self.name))
    }
}

fn chunks<const N: usize, T>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (values, _) = raw.as_chunks::<N>();
    values.iter().map(|bytes| read(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_from_each_field_they_may_be_in() {
        let raw = TensorProto::from_f32("w", &[2], &[1.5, -2.0]);
        assert_eq!(raw.to_f32().unwrap(), [1.5, -2.0]);
        let typed = TensorProto { dims: vec![2], data_type: 1, float_data: vec![1.5, -2.0], ..Default::default() };
        assert_eq!(typed.to_f32().unwrap(), [1.5, -2.0]);
        let bits = TensorProto { dims: vec![1], data_type: 10, int32_data: vec![0x3c00], ..Default::default() };
        assert_eq!(bits.to_f32().unwrap(), [1.0]);
        let bytes = TensorProto { dims: vec![2], data_type: 3, int32_data: vec![-1, 5], ..Default::default() };
        assert_eq!(bytes.to_i64().unwrap(), [-1, 5]);
        assert_eq!(TensorProto::from_i64("s", &[], &[7]).to_i64().unwrap(), [7]);
    }

    #[test]
    fn sizes_that_do_not_fit_are_errors() {
        let mut tensor = TensorProto::from_f32("w", &[2], &[1.5, -2.0]);
        tensor.dims = vec![3];
        assert_eq!(
            tensor.to_f32().unwrap_err().to_string(),
            "the constant `w` of the model has 8 bytes of values where its shape [3] needs 12"
        );
        tensor.dims = vec![-1];
        assert!(tensor.to_f32().unwrap_err().to_string().contains("negative"));
        tensor.dims = vec![i64::MAX, 3];
        assert!(tensor.to_f32().unwrap_err().to_string().contains("too large"));
        tensor.data_type = 99;
        assert!(tensor.byte_count().is_err());
        assert!(TensorProto::from_i64("s", &[], &[7]).to_f32().is_err());
    }
}
