//! Network inputs of some samples.

/// A named input of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The name of the network's input; a network of one input takes any.
    pub name: String,
    /// The shape, the batch first.
    pub shape: Vec<usize>,
    /// The values in row-major order.
    pub data: Values,
}

/// The values of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// 32-bit floats, such as pixels.
    F32(Vec<f32>),
    /// 64-bit integers, such as token ids.
    I64(Vec<i64>),
}

impl Tensor {
    /// The values, if they are floats.
    pub fn f32(&self) -> &[f32] {
        match &self.data {
            Values::F32(values) => values,
            Values::I64(_) => &[],
        }
    }

    /// The values, if they are integers.
    pub fn i64(&self) -> &[i64] {
        match &self.data {
            Values::I64(values) => values,
            Values::F32(_) => &[],
        }
    }

    /// Puts the batches of tensors of one name and row shape behind each other.
    pub fn join(parts: &[&Self]) -> Option<Self> {
        let mut joined = (*parts.first()?).clone();
        for part in &parts[1..] {
            *joined.shape.first_mut()? += part.shape.first()?;
            match (&mut joined.data, &part.data) {
                (Values::F32(all), Values::F32(more)) => all.extend_from_slice(more),
                (Values::I64(all), Values::I64(more)) => all.extend_from_slice(more),
                _ => return None,
            }
        }
        Some(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_put_behind_each_other() {
        let ids = |values: &[i64]| Tensor { name: "ids".into(), shape: vec![1, 2], data: Values::I64(values.to_vec()) };
        let joined = Tensor::join(&[&ids(&[1, 2]), &ids(&[3, 4])]).unwrap();
        assert_eq!((joined.shape.as_slice(), joined.i64()), (&[2, 2][..], &[1, 2, 3, 4][..]));
        let floats = Tensor { data: Values::F32(vec![0.0, 0.0]), ..ids(&[]) };
        assert!(Tensor::join(&[&ids(&[1, 2]), &floats]).is_none() && Tensor::join(&[]).is_none());
    }
}
