//! Freeing the batch: the first axis of every input gets the name `batch`.

use super::proto::{Dimension, DimensionValue, ModelProto};
use crate::base::{Error, Result};

/// Makes the first axis of every input dynamic.
///
/// # Errors
/// An input has no axes.
pub fn free_batch(model: &mut ModelProto, _opset: i64) -> Result<()> {
    for input in model.graph.iter_mut().flat_map(|graph| &mut graph.input) {
        let name = input.name.clone();
        let Some(shape) = input.tensor_mut().and_then(|tensor| tensor.shape.as_mut()) else { continue };
        let Some(first) = shape.dim.first_mut() else {
            return Err(Error::bad_input(format!("the input `{name}` of the model has no batch axis")));
        };
        *first = Dimension { value: Some(DimensionValue::Param("batch".into())), ..Dimension::default() };
    }
    Ok(())
}
