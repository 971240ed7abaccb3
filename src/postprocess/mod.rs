//! Rank 2: postprocessing, from the outputs of a head to what is asked for, one file per kind. A kind is a function from
//! its config and the shape of the outputs to nodes of a [`Graph`] without weights: predictions run them, and an exported
//! file holds them, so both give the same.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::graph::{Graph, ValueId};

mod argmax;

pub use argmax::Argmax;

/// What is made of outputs when a model is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PostprocessConfig {
    /// The class of each pixel, from logits at places of a grid.
    Argmax(Argmax),
}

impl PostprocessConfig {
    /// Adds its nodes behind the outputs of a head. Names begin with `postprocess`.
    ///
    /// # Errors
    /// It cannot take outputs of this shape.
    pub fn build(&self, graph: &mut Graph, outputs: ValueId) -> Result<ValueId> {
        match self {
            Self::Argmax(argmax) => argmax.build(graph, outputs),
        }
    }
}
