//! Rank 5: engines. An engine is one compiled, cut ONNX model at one precision on one execution
//! provider; below the cut nothing else ever runs, so what made the features is what ships.
//!
//! What an implementer of [`Engine`] must not do: let a sample's output depend on its batch mates,
//! change outputs between calls, print, or keep state between calls. Inputs are ready network inputs;
//! decoding and preprocess are `sample/`'s.

mod build;
pub mod manifest;
mod onnxruntime;
pub mod runtime;

pub use build::{BuildRequest, Built, build};
pub use manifest::Manifest;
pub use onnxruntime::OnnxRuntime;

use crate::base::Result;

/// One input of a batch.
#[derive(Debug, Clone, Copy)]
pub enum InputTensor<'a> {
    /// 32-bit floats, such as pixels `[batch, 3, height, width]`.
    F32 {
        /// The shape, the batch first.
        shape: &'a [usize],
        /// The values in row-major order.
        data: &'a [f32],
    },
    /// 64-bit integers, such as token ids `[batch, tokens]`.
    I64 {
        /// The shape, the batch first.
        shape: &'a [usize],
        /// The values in row-major order.
        data: &'a [i64],
    },
}

/// A named input or output of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The tensor's name in the model.
    pub name: String,
    /// The shape of one row, without the batch; `None` where it varies from sample to sample.
    pub row_shape: Vec<Option<usize>>,
}

/// A compiled cut model that turns network inputs into activations.
pub trait Engine: Send {
    /// The inputs, in the order that [`Engine::run`] takes them.
    fn inputs(&self) -> &[Port];

    /// The outputs, in the order that [`Engine::run`] fills them.
    fn outputs(&self) -> &[Port];

    /// Runs one batch. Each of `outputs` is cleared and filled with `[batch, …row shape]` in row-major
    /// order; its capacity is reused.
    ///
    /// # Errors
    /// The runtime's own, and inputs or outputs that do not fit the model.
    fn run(&mut self, inputs: &[InputTensor<'_>], outputs: &mut [Vec<f32>]) -> Result<()>;
}
