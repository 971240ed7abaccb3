//! Rank 5: engines. An engine is one compiled, cut ONNX model at one precision on one execution
//! provider; below the cut nothing else ever runs, so what made the features is what ships.
//!
//! What an implementer of [`Engine`] must not do: let a sample's output depend on its batch mates,
//! change outputs between calls, print, or keep state between calls. Inputs are ready network inputs;
//! decoding and preprocess are `sample/`'s.

mod alone;
mod build;
pub mod exchange;
mod feed;
pub mod manifest;
mod onnxruntime;
pub mod pack;
pub mod precision;
pub mod runtime;
mod samples;
pub mod shelf;
pub mod verify;
mod weights;

pub use alone::{OneByOne, culprit};
pub use build::{BuildRequest, Built, build, part};
pub use feed::Feed;
pub use manifest::Manifest;
pub use onnxruntime::OnnxRuntime;
pub use samples::{Samples, random_tensor};
pub use weights::{fetch_model, weights_digest};

use std::ops::Range;

use crate::base::suggest::one_of;
use crate::base::{Error, Result};
use crate::sample::text::TextInput;
use crate::sample::{Tensor, Values};

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
    /// 8-bit pixels, such as `[batch, height, width, 3]`.
    U8 {
        /// The shape, the batch first.
        shape: &'a [usize],
        /// The values in row-major order.
        data: &'a [u8],
    },
    /// 64-bit integers, such as token ids `[batch, tokens]`.
    I64 {
        /// The shape, the batch first.
        shape: &'a [usize],
        /// The values in row-major order.
        data: &'a [i64],
    },
}

impl<'a> InputTensor<'a> {
    /// The shape, the batch first.
    pub fn shape(&self) -> &'a [usize] {
        match *self {
            Self::F32 { shape, .. } | Self::U8 { shape, .. } | Self::I64 { shape, .. } => shape,
        }
    }

    /// Whether there are as many values as the shape says.
    fn is_whole(&self) -> bool {
        let values = match self {
            Self::F32 { data, .. } => data.len(),
            Self::U8 { data, .. } => data.len(),
            Self::I64 { data, .. } => data.len(),
        };
        self.shape().iter().product::<usize>() == values
    }

    /// The shape of some of its rows.
    fn shape_of(&self, rows: &Range<usize>) -> Vec<usize> {
        let tail = self.shape().iter().skip(1);
        std::iter::once(rows.len()).chain(tail.copied()).collect()
    }

    /// Some rows of a whole tensor, with the shape that [`Self::shape_of`] gives.
    fn rows<'b>(&self, rows: &Range<usize>, shape: &'b [usize]) -> InputTensor<'b>
    where
        'a: 'b,
    {
        let row: usize = self.shape().iter().skip(1).product();
        let range = rows.start * row..rows.end * row;
        match *self {
            Self::F32 { data, .. } => InputTensor::F32 { shape, data: &data[range] },
            Self::U8 { data, .. } => InputTensor::U8 { shape, data: &data[range] },
            Self::I64 { data, .. } => InputTensor::I64 { shape, data: &data[range] },
        }
    }
}

impl<'a> From<&'a Tensor> for InputTensor<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        match &tensor.data {
            Values::F32(data) => Self::F32 { shape: &tensor.shape, data },
            Values::I64(data) => Self::I64 { shape: &tensor.shape, data },
        }
    }
}

/// Runs an engine on prepared inputs: each of its inputs takes the tensor of its name or, where that is a usual one of
/// text networks, the one that stands for the same; an only input takes the only tensor.
///
/// # Errors
/// The engine has an input that nothing is prepared for; those of [`Engine::run`].
pub fn run_on(engine: &mut dyn Engine, inputs: &[Tensor], outputs: &mut [Vec<f32>]) -> Result<()> {
    let chosen = choose(engine.inputs(), inputs)?;
    engine.run(&chosen, outputs)
}

/// [`Engine::row_shapes`] of prepared inputs.
///
/// # Errors
/// Those of [`run_on`].
pub fn row_shapes_on(engine: &mut dyn Engine, inputs: &[Tensor]) -> Result<Option<Vec<Vec<usize>>>> {
    let chosen = choose(engine.inputs(), inputs)?;
    engine.row_shapes(&chosen)
}

/// The tensors that some inputs take, in their order.
fn choose<'a>(ports: &[Port], inputs: &'a [Tensor]) -> Result<Vec<InputTensor<'a>>> {
    let of_port = |port: &Port| {
        let usual = TextInput::usual(&port.name);
        let named = inputs.iter().find(|tensor| tensor.name == port.name);
        named.or_else(|| inputs.iter().find(|tensor| usual.is_some() && TextInput::usual(&tensor.name) == usual))
    };
    let chosen: Option<Vec<InputTensor<'a>>> = match (ports, inputs) {
        ([_], [one]) => Some(vec![one.into()]),
        _ => ports.iter().map(|port| of_port(port).map(InputTensor::from)).collect(),
    };
    chosen.ok_or_else(|| {
        let wanted = one_of(ports.iter().filter(|port| of_port(port).is_none()).map(|port| port.name.as_str()));
        let there = one_of(inputs.iter().map(|tensor| tensor.name.as_str()));
        Error::bad_input(format!("the model has the input {wanted}, and what is prepared is {there}"))
            .hint("where its inputs have other names than usual, say which takes what with `preprocess.inputs`")
    })
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

    /// The shapes of the outputs' rows for some inputs, by running them; `None` where the engine does not tell.
    ///
    /// # Errors
    /// Those of [`Engine::run`].
    fn row_shapes(&mut self, _inputs: &[InputTensor<'_>]) -> Result<Option<Vec<Vec<usize>>>> {
        Ok(None)
    }

    /// Engines that give the same and may run at the same time, a batch each, on a part of the threads: who has many
    /// batches loses no time at the end of each. None where the engine is of one piece.
    fn parts(&mut self) -> Vec<Box<dyn Engine + '_>> {
        Vec::new()
    }
}
