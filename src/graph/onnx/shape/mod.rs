//! What is known of a model's tensors without running it.

use std::collections::HashMap;

use super::proto::{DataType, ModelProto};

/// What is known of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// The element type; `Undefined` if not known.
    pub element: DataType,
    /// The sizes of its axes, the batch first; `None` if not even the rank is known.
    pub dims: Option<Vec<Option<usize>>>,
}

impl Fact {
    /// The shape without the batch.
    pub fn row_shape(&self) -> Option<Vec<Option<usize>>> {
        self.dims.as_ref().filter(|d| !d.is_empty()).map(|dims| dims[1..].to_vec())
    }
}

/// What the model says of its tensors.
pub fn infer(model: &ModelProto) -> HashMap<String, Fact> {
    let Some(graph) = &model.graph else { return HashMap::new() };
    let described = graph.input.iter().chain(&graph.value_info).chain(&graph.output).filter_map(|value| {
        let tensor = value.tensor()?;
        let dims = tensor.shape.as_ref().map(|s| s.dim.iter().map(super::proto::Dimension::fixed).collect());
        Some((value.name.clone(), Fact { element: tensor.elem_type(), dims }))
    });
    described.collect()
}
