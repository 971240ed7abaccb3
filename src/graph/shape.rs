//! Shapes of a graph's values.

use std::fmt;

use crate::base::{Error, Result};

/// A shape: of a value with a row per sample (`batched`: `dims` is the shape of one row), or of one that all
/// samples share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Whether there is a leading batch dimension, not in `dims`.
    pub batched: bool,
    /// The dimensions, without the batch.
    pub dims: Vec<usize>,
}

impl Shape {
    /// The shape of a value with rows of `dims`.
    pub fn rows(dims: impl Into<Vec<usize>>) -> Self {
        Self { batched: true, dims: dims.into() }
    }

    /// The shape of a value shared by all samples.
    pub fn fixed(dims: impl Into<Vec<usize>>) -> Self {
        Self { batched: false, dims: dims.into() }
    }

    /// Elements without the batch dimension.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Elements of a value of this shape when the batch has `rows` rows.
    pub fn len(&self, rows: usize) -> usize {
        if self.batched { rows * self.elements() } else { self.elements() }
    }

    /// The last dimension; 1 for a scalar.
    pub fn last(&self) -> usize {
        self.dims.last().copied().unwrap_or(1)
    }

    /// An error that names an operator and the shapes it cannot take.
    pub(crate) fn refuse(operator: &str, why: &str, shapes: &[&Self]) -> Error {
        let shapes: Vec<String> = shapes.iter().map(|s| format!("`{s}`")).collect();
        Error::bad_input(format!("{operator} cannot take {}: {why}", shapes.join(" and ")))
    }

    /// The element count, refused beyond what memory could hold.
    pub(crate) fn checked_elements(dims: &[usize]) -> Result<usize> {
        dims.iter()
            .try_fold(1usize, |n, d| n.checked_mul(*d))
            .filter(|n| *n <= MAX_ELEMENTS)
            .ok_or_else(|| Error::bad_input(format!("a tensor of shape `{dims:?}` is too large")))
    }
}

/// 16 GiB of f32.
const MAX_ELEMENTS: usize = 1 << 32;

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batch = self.batched.then(|| "batch".to_string());
        let dims: Vec<String> = batch.into_iter().chain(self.dims.iter().map(ToString::to_string)).collect();
        write!(f, "[{}]", dims.join(", "))
    }
}
