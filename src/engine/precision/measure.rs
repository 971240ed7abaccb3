//! Inner tensors of a model, by running it with some of them as outputs.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;

use super::histogram::Histogram;
use crate::base::progress::{Event, Unit, work};
use crate::base::{Cancel, Error, Progress, Result};
use crate::engine::runtime::Prepared;
use crate::engine::{Engine, OnnxRuntime, run_on};
use crate::graph::onnx::proto::{DataType, ModelProto};
use crate::graph::onnx::quantize::Range;
use crate::graph::onnx::{self, make};
use crate::recipe::CalibrationConfig;
use crate::sample::Tensor;

/// What runs a model for a moment.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// The processor's provider, in fp32.
    pub processor: &'a Prepared,
    /// Threads of the processor.
    pub threads: usize,
    /// A folder for models that are needed for a moment.
    pub scratch: &'a Path,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
    /// Checked between batches.
    pub cancel: &'a Cancel,
}

/// The outputs of a pass hold at most this many bytes, unless one tensor of one sample is larger.
const GROUP_BYTES: usize = 256 << 20;

impl Bench<'_> {
    /// Opens a model on a provider, for a moment.
    ///
    /// # Errors
    /// The model cannot be written, or the provider cannot load it.
    pub fn open(&self, model: &ModelProto, on: &Prepared) -> Result<OnnxRuntime> {
        let path = self.scratch.join("trial.onnx");
        onnx::write(model, &path)?;
        OnnxRuntime::trial(on, &path, self.threads)
    }

    /// Runs a model over samples, those of one size behind each other together, and gives its outputs batch by batch to
    /// `take`.
    ///
    /// # Errors
    /// Those of the engine and of `take`; an interruption.
    pub fn pass(
        &self,
        engine: &mut dyn Engine,
        samples: &[Vec<Tensor>],
        batch: usize,
        mut take: impl FnMut(&[Vec<f32>]) -> Result<()>,
    ) -> Result<()> {
        let mut outputs = vec![Vec::new(); engine.outputs().len()];
        let same = |a: &Vec<Tensor>, b: &Vec<Tensor>| a.iter().zip(b).all(|(a, b)| a.shape == b.shape);
        for samples in samples.chunk_by(same).flat_map(|same| same.chunks(batch.max(1))) {
            self.cancel.check()?;
            let inputs = (0..samples[0].len()).map(|input| {
                let parts: Option<Vec<&Tensor>> = samples.iter().map(|sample| sample.get(input)).collect();
                let joined = parts.and_then(|parts| Tensor::join(&parts));
                joined.ok_or_else(|| Error::failed("samples have inputs of different types"))
            });
            run_on(engine, &inputs.collect::<Result<Vec<_>>>()?, &mut outputs)?;
            take(&outputs)?;
        }
        Ok(())
    }

    /// The range of every tensor over some samples, of which `row` is the shape of the largest.
    ///
    /// # Errors
    /// Those of the engine; a value that is not finite.
    pub fn ranges(
        &self,
        model: &ModelProto,
        tensors: &[String],
        (row, samples): (Option<&[usize]>, &[Vec<Tensor>]),
        config: &CalibrationConfig,
    ) -> Result<HashMap<String, Range>> {
        let groups = groups(model, tensors, row)?;
        let mut ranges = HashMap::new();
        let total = (samples.len() * groups.len()) as u64;
        work(self.progress, "calibration", Some(total), Unit::Samples, || {
            let mut done = 0;
            for Group { tensors, batch } in &groups {
                let mut engine = self.open(&with_outputs(model, tensors), self.processor)?;
                let mut histograms = vec![Histogram::default(); tensors.len()];
                self.pass(&mut engine, samples, *batch, |outputs| {
                    let counted =
                        histograms.par_iter_mut().zip(outputs).map(|(histogram, values)| histogram.add(values));
                    let counted: Vec<Option<()>> = counted.collect();
                    if let Some(at) = counted.iter().position(Option::is_none) {
                        let tensor = &tensors[at];
                        return Err(Error::bad_input(format!("`{tensor}` has values that are not finite")));
                    }
                    done += *batch as u64;
                    self.progress.event(Event::WorkAdvanced { done: done.min(total), detail: String::new() });
                    Ok(())
                })?;
                let found = tensors.iter().cloned().zip(histograms.iter().map(|histogram| histogram.range(config)));
                ranges.extend(found);
            }
            Ok(ranges)
        })
    }
}

/// Tensors that are measured in one pass, and how many samples it takes at a time.
struct Group {
    tensors: Vec<String>,
    batch: usize,
}

fn groups(model: &ModelProto, tensors: &[String], row: Option<&[usize]>) -> Result<Vec<Group>> {
    const UNKNOWN: usize = 4 << 20;
    let facts = onnx::inspect::facts(model, row)?;
    let bytes = |tensor: &String| {
        let shape = facts.get(tensor).and_then(onnx::shape::Fact::row_shape);
        let shape: Option<Vec<usize>> = shape.and_then(|shape| shape.into_iter().collect());
        shape.map_or(UNKNOWN, |shape| 4 * shape.iter().product::<usize>())
    };
    let mut groups: Vec<(Vec<String>, usize)> = Vec::new();
    for tensor in tensors {
        let size = bytes(tensor);
        match groups.last_mut().filter(|(_, sum)| sum + size <= GROUP_BYTES) {
            Some((group, sum)) => {
                group.push(tensor.clone());
                *sum += size;
            }
            None => groups.push((vec![tensor.clone()], size)),
        }
    }
    let group = |(tensors, sum): (Vec<String>, usize)| Group { tensors, batch: (GROUP_BYTES / sum.max(1)).clamp(1, 8) };
    Ok(groups.into_iter().map(group).collect())
}

/// A model with other tensors as its outputs.
pub fn with_outputs(model: &ModelProto, tensors: &[String]) -> ModelProto {
    let mut model = model.clone();
    let Some(graph) = &mut model.graph else { return model };
    let inputs: Vec<String> = graph.input.iter().map(|value| value.name.clone()).collect();
    graph.output.clear();
    for (number, tensor) in tensors.iter().enumerate() {
        let name = match inputs.contains(tensor) {
            // An input cannot be an output itself.
            true => {
                let copy = format!("{tensor}/seen {number}");
                graph.node.push(make::node("Identity", &[tensor], &[&copy], Vec::new()));
                copy
            }
            false => tensor.clone(),
        };
        graph.output.push(make::value_info(&name, DataType::Float, None));
    }
    model
}
