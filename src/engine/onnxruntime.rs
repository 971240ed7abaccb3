//! The engine that ONNX Runtime runs.

use std::path::Path;

use ort::session::{Session, SessionInputValue};
use ort::value::{TensorElementType, TensorRef, ValueType};

use super::runtime::{self, Prepared};
use super::{Engine, InputTensor, Port};
use crate::base::{Error, Home, Result};

/// A cut model in an ONNX Runtime session.
pub struct OnnxRuntime {
    session: Session,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl OnnxRuntime {
    /// Loads a model file on a prepared provider, with `threads` threads of the processor. A provider that compiles
    /// keeps what it made under the home, so that the next start is quick.
    ///
    /// # Errors
    /// The provider cannot be set up or cannot load the model; an input is neither f32 nor i64 or an output not f32.
    pub fn open(prepared: &Prepared, home: &Home, model: &Path, threads: usize) -> Result<Self> {
        Self::of(runtime::open_session(prepared, home, model, threads)?, model)
    }

    fn of(session: Session, model: &Path) -> Result<Self> {
        let inputs = ports(session.inputs(), &[TensorElementType::Float32, TensorElementType::Int64], model)?;
        let outputs = ports(session.outputs(), &[TensorElementType::Float32], model)?;
        Ok(Self { session, inputs, outputs })
    }
}

fn ports(outlets: &[ort::value::Outlet], allowed: &[TensorElementType], model: &Path) -> Result<Vec<Port>> {
    outlets
        .iter()
        .map(|outlet| match outlet.dtype() {
            ValueType::Tensor { ty, shape, .. } if allowed.contains(ty) => Ok(Port {
                name: outlet.name().to_string(),
                row_shape: shape.iter().skip(1).map(|&size| usize::try_from(size).ok()).collect(),
            }),
            other => Err(Error::bad_input(format!(
                "`{}` of `{}` is {other}; engines take f32 or i64 tensors and give f32 tensors",
                outlet.name(),
                model.display()
            ))),
        })
        .collect()
}

impl Engine for OnnxRuntime {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[InputTensor<'_>], outputs: &mut [Vec<f32>]) -> Result<()> {
        if inputs.len() != self.inputs.len() || outputs.len() != self.outputs.len() {
            let (i, o) = (self.inputs.len(), self.outputs.len());
            return Err(Error::failed(format!("the model has {i} inputs and {o} outputs, the caller another number")));
        }
        let failed = |error: ort::Error| Error::failed("the inference engine failed").because(error);
        let values: Vec<(&str, SessionInputValue<'_>)> = self
            .inputs
            .iter()
            .zip(inputs)
            .map(|(port, input)| {
                let value = match *input {
                    InputTensor::F32 { shape, data } => TensorRef::from_array_view((shape, data))?.into(),
                    InputTensor::I64 { shape, data } => TensorRef::from_array_view((shape, data))?.into(),
                };
                Ok((port.name.as_str(), value))
            })
            .collect::<Result<_, ort::Error>>()
            .map_err(failed)?;
        let results = self.session.run(values).map_err(failed)?;
        for (port, out) in self.outputs.iter().zip(outputs) {
            let value = results
                .get(&port.name)
                .ok_or_else(|| Error::failed(format!("the inference engine gave no output `{}`", port.name)))?;
            let (_, data) = value.try_extract_tensor::<f32>().map_err(failed)?;
            out.clear();
            out.extend_from_slice(data);
        }
        Ok(())
    }
}
