//! The engine that ONNX Runtime runs.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ort::session::{Session, SessionInputValue};
use ort::value::{TensorElementType, TensorRef, ValueType};

use super::runtime::{self, Lanes, Prepared};
use super::verify::Whole;
use super::{Engine, InputTensor, Port, choose};
use crate::base::{Error, Home, Result};
use crate::sample::Tensor;

/// A cut model in ONNX Runtime: in one session, or in several that share a batch.
pub struct OnnxRuntime {
    lanes: Vec<Session>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl OnnxRuntime {
    /// Loads a model file on a prepared provider, with `threads` threads of the processor. A provider that compiles
    /// keeps what it made under the home, so that the next start is quick.
    ///
    /// # Errors
    /// The provider cannot be set up or cannot load the model; an input is neither f32, u8 nor i64 or an output not f32.
    pub fn open(prepared: &Prepared, home: &Home, model: &Path, threads: usize) -> Result<Self> {
        let Lanes { count, threads } = prepared.lanes(threads);
        let open = || runtime::open_session(prepared, home, model, threads);
        let first = open()?;
        let inputs = ports(first.inputs(), INPUTS, model)?;
        let outputs = ports(first.outputs(), &[TensorElementType::Float32], model)?;
        let mut lanes = vec![first];
        while lanes.len() < count {
            lanes.push(open()?);
        }
        Ok(Self { lanes, inputs, outputs })
    }

    /// Loads a model for a moment: in one session, and nothing that a provider compiles is kept.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub fn trial(prepared: &Prepared, model: &Path, threads: usize) -> Result<Self> {
        let session = runtime::open_unkept(prepared, model, threads, None)?;
        let inputs = ports(session.inputs(), &[TensorElementType::Float32, TensorElementType::Int64], model)?;
        let outputs = ports(session.outputs(), &[TensorElementType::Float32], model)?;
        Ok(Self { lanes: vec![session], inputs, outputs })
    }

    /// Runs one sample and gives its outputs with the shapes of their rows.
    ///
    /// # Errors
    /// Those of [`super::run_on`].
    pub fn run_whole(&mut self, inputs: &[Tensor]) -> Result<Vec<Whole>> {
        let chosen = choose(&self.inputs, inputs)?;
        let mut given = Vec::new();
        with_results(&mut self.lanes[0], (&self.inputs, &self.outputs), &chosen, |_, shape, values| {
            let row = shape.iter().skip(1).map(|&size| usize::try_from(size).unwrap_or(0)).collect();
            given.push(Whole { row, values: values.to_vec() });
        })?;
        Ok(given)
    }

    /// Runs a batch in pieces, each lane taking the next one. A sample's output does not depend on its batch, so
    /// neither does it on the pieces.
    fn run_in_lanes(
        &mut self,
        inputs: &[InputTensor<'_>],
        pieces: &[Range<usize>],
        outputs: &mut [Vec<f32>],
    ) -> Result<()> {
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let ports = (&self.inputs[..], &self.outputs[..]);
        std::thread::scope(|scope| {
            for session in &mut self.lanes {
                scope.spawn(|| {
                    while let Some(rows) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let mut part_outputs = vec![Vec::new(); ports.1.len()];
                        let outcome = run_piece(session, ports, inputs, rows, &mut part_outputs);
                        let entry = (rows.start, outcome.map(|()| part_outputs));
                        done.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
                    }
                });
            }
        });
        let mut parts = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        parts.sort_unstable_by_key(|(start, _)| *start);
        outputs.iter_mut().for_each(Vec::clear);
        for (_, part) in parts {
            part?.iter().zip(&mut *outputs).for_each(|(values, out)| out.extend_from_slice(values));
        }
        Ok(())
    }
}

/// The elements of what a model may take.
const INPUTS: &[TensorElementType] = &[TensorElementType::Float32, TensorElementType::Uint8, TensorElementType::Int64];

/// No piece of a batch is larger: what a layer works on should stay in a core's cache.
const LARGEST_PIECE: usize = 8;

/// The pieces of a batch: equal but for one row, and a multiple of the lanes where the batch allows.
fn pieces(batch: usize, lanes: usize) -> Vec<Range<usize>> {
    let count = batch.div_ceil(LARGEST_PIECE).next_multiple_of(lanes).clamp(1, batch.max(1));
    (0..count).map(|i| i * batch / count..(i + 1) * batch / count).collect()
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
                "`{}` of `{}` is {other}; engines take f32, u8 or i64 tensors and give f32 tensors",
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
        let batch = check(inputs, outputs, (&self.inputs, &self.outputs))?;
        let pieces = pieces(batch, self.lanes.len());
        if self.lanes.len() > 1 && pieces.len() > 1 && inputs.iter().all(|input| is_whole(input, batch)) {
            return self.run_in_lanes(inputs, &pieces, outputs);
        }
        run_session(&mut self.lanes[0], (&self.inputs, &self.outputs), inputs, outputs)
    }

    fn row_shapes(&mut self, inputs: &[InputTensor<'_>]) -> Result<Option<Vec<Vec<usize>>>> {
        let mut shapes = Vec::new();
        with_results(&mut self.lanes[0], (&self.inputs, &self.outputs), inputs, |_, shape, _| {
            shapes.push(shape.iter().skip(1).map(|&size| usize::try_from(size).unwrap_or(0)).collect());
        })?;
        Ok(Some(shapes))
    }

    fn parts(&mut self) -> Vec<Box<dyn Engine + '_>> {
        if self.lanes.len() < 2 {
            return Vec::new();
        }
        let ports = (&self.inputs[..], &self.outputs[..]);
        self.lanes.iter_mut().map(|session| Box::new(Part { session, ports }) as Box<dyn Engine + '_>).collect()
    }
}

/// One session of several.
struct Part<'a> {
    session: &'a mut Session,
    ports: (&'a [Port], &'a [Port]),
}

impl Engine for Part<'_> {
    fn inputs(&self) -> &[Port] {
        self.ports.0
    }

    fn outputs(&self) -> &[Port] {
        self.ports.1
    }

    fn run(&mut self, inputs: &[InputTensor<'_>], outputs: &mut [Vec<f32>]) -> Result<()> {
        let batch = check(inputs, outputs, self.ports)?;
        let pieces = pieces(batch, 1);
        if pieces.len() < 2 || !inputs.iter().all(|input| is_whole(input, batch)) {
            return run_session(self.session, self.ports, inputs, outputs);
        }
        outputs.iter_mut().for_each(Vec::clear);
        let mut piece_outputs = vec![Vec::new(); outputs.len()];
        for rows in &pieces {
            run_piece(self.session, self.ports, inputs, rows, &mut piece_outputs)?;
            outputs.iter_mut().zip(&piece_outputs).for_each(|(out, values)| out.extend_from_slice(values));
        }
        Ok(())
    }
}

/// The batch, if there are as many inputs and outputs as the model has.
fn check(inputs: &[InputTensor<'_>], outputs: &[Vec<f32>], ports: (&[Port], &[Port])) -> Result<usize> {
    if inputs.len() != ports.0.len() || outputs.len() != ports.1.len() {
        let (i, o) = (ports.0.len(), ports.1.len());
        return Err(Error::failed(format!("the model has {i} inputs and {o} outputs, the caller another number")));
    }
    Ok(inputs.first().and_then(|input| input.shape().first()).copied().unwrap_or(0))
}

fn is_whole(input: &InputTensor<'_>, batch: usize) -> bool {
    input.shape().first() == Some(&batch) && input.is_whole()
}

/// Runs some rows of whole inputs.
fn run_piece(
    session: &mut Session,
    ports: (&[Port], &[Port]),
    inputs: &[InputTensor<'_>],
    rows: &Range<usize>,
    outputs: &mut [Vec<f32>],
) -> Result<()> {
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.shape_of(rows)).collect();
    let piece: Vec<InputTensor<'_>> =
        inputs.iter().zip(&shapes).map(|(input, shape)| input.rows(rows, shape)).collect();
    run_session(session, ports, &piece, outputs)
}

fn run_session(
    session: &mut Session,
    ports: (&[Port], &[Port]),
    inputs: &[InputTensor<'_>],
    outputs: &mut [Vec<f32>],
) -> Result<()> {
    with_results(session, ports, inputs, |place, _, data| {
        if let Some(out) = outputs.get_mut(place) {
            out.clear();
            out.extend_from_slice(data);
        }
    })
}

/// Runs a session and hands each output to `take`: its place, its shape and its values.
fn with_results(
    session: &mut Session,
    (input_ports, output_ports): (&[Port], &[Port]),
    inputs: &[InputTensor<'_>],
    mut take: impl FnMut(usize, &[i64], &[f32]),
) -> Result<()> {
    let failed = |error: ort::Error| Error::failed("the inference engine failed").because(error);
    let values: Vec<(&str, SessionInputValue<'_>)> = input_ports
        .iter()
        .zip(inputs)
        .map(|(port, input)| {
            let value = match *input {
                InputTensor::F32 { shape, data } => TensorRef::from_array_view((shape, data))?.into(),
                InputTensor::U8 { shape, data } => TensorRef::from_array_view((shape, data))?.into(),
                InputTensor::I64 { shape, data } => TensorRef::from_array_view((shape, data))?.into(),
            };
            Ok((port.name.as_str(), value))
        })
        .collect::<Result<_, ort::Error>>()
        .map_err(failed)?;
    let results = session.run(values).map_err(failed)?;
    for (place, port) in output_ports.iter().enumerate() {
        let value = results
            .get(&port.name)
            .ok_or_else(|| Error::failed(format!("the inference engine gave no output `{}`", port.name)))?;
        let (shape, data) = value.try_extract_tensor::<f32>().map_err(failed)?;
        take(place, shape, data);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_split_evenly_and_whole() {
        assert_eq!(pieces(1, 2).len(), 1);
        assert_eq!(pieces(3, 2), [0..1, 1..3]);
        assert_eq!(pieces(32, 2).len(), 4);
        assert_eq!(pieces(0, 2).len(), 1);
        for batch in 1..70 {
            for lanes in 1..5 {
                let pieces = pieces(batch, lanes);
                assert_eq!(pieces.first().map(|p| p.start), Some(0));
                assert_eq!(pieces.last().map(|p| p.end), Some(batch));
                assert!(pieces.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert!(pieces.iter().all(|p| !p.is_empty() && p.len() <= LARGEST_PIECE), "{batch} {lanes}");
            }
        }
    }

    #[test]
    fn rows_of_an_input_are_taken() {
        let data: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let input = InputTensor::F32 { shape: &[3, 2, 2], data: &data };
        assert!(input.is_whole());
        let shape = input.shape_of(&(1..3));
        assert_eq!(shape, [2, 2, 2]);
        let InputTensor::F32 { data: rows, .. } = input.rows(&(1..3), &shape) else { unreachable!("it is f32") };
        assert_eq!(rows, &data[4..]);
    }
}
