//! Verifying: an engine against its source, and a sample against its batch.

use std::fs;
use std::path::Path;

use super::manifest::{Checks, Manifest, Parity};
use super::{Built, Engine, OnnxRuntime, Samples, run_on};
use crate::base::{Error, Result};
use crate::graph::onnx::proto::{DataType, ModelProto};
use crate::graph::onnx::{self, OutputSpec, Select, make};
use crate::sample::Tensor;

/// A model that gives whole tensors of another.
pub struct Reference {
    /// The tensors, in the order of the model's outputs.
    tensors: Vec<String>,
}

/// A whole tensor of one sample.
#[derive(Debug, Clone)]
pub struct Whole {
    /// The shape of its row.
    pub row: Vec<usize>,
    /// The values in row-major order.
    pub values: Vec<f32>,
}

impl Reference {
    /// Writes the source model as it is, but with the tensors that the engine takes from as its outputs.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn write(source: &Path, manifest: &Manifest, row: &[usize], to: &Path) -> Result<Self> {
        let mut model = onnx::read(source)?;
        let mut tensors: Vec<String> = Vec::new();
        for output in &manifest.outputs {
            if !tensors.contains(&output.tensor) {
                tensors.push(output.tensor.clone());
            }
        }
        let another_size = manifest.inputs.len() == 1 && row.len() == 3 && !takes(&model, row);
        if another_size || takes_more(&model, manifest) {
            // What lies above the tensors may not take the size, or take what the engine does not.
            let all = |name: &String| OutputSpec { name: name.clone(), tensor: name.clone(), select: Select::All };
            model = onnx::cut(model, &tensors.iter().map(all).collect::<Vec<_>>())?;
        }
        if let (true, &[_, height, width]) = (another_size, row) {
            onnx::set_image_size(&mut model, [height, width])?;
        }
        onnx::widen_inputs(&mut model);
        if let Some(graph) = &mut model.graph {
            let output = |tensor: &String| make::value_info(tensor, DataType::Float, None);
            graph.output = tensors.iter().map(output).collect();
        }
        onnx::write(&model, to)?;
        Ok(Self { tensors })
    }

    /// What the model that was written gives for each sample, tensor by tensor. Then it need not be in memory beside
    /// the engine.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn run(&self, runner: &mut OnnxRuntime, samples: &Samples) -> Result<Vec<Vec<Whole>>> {
        samples.inputs.iter().map(|inputs| runner.run_whole(inputs)).collect()
    }

    /// Learns what the manifest could not tell without running: the shapes of the outputs' rows where the inputs have
    /// one size, from what [`Self::run`] gave for a sample.
    ///
    /// # Errors
    /// A selection that does not fit the shape.
    pub fn learn(&self, manifest: &mut Manifest, given: &[Whole]) -> Result<()> {
        if manifest.inputs.iter().any(|input| input.shape.contains(&None)) {
            return Ok(());
        }
        for output in &mut manifest.outputs {
            let place = self.tensors.iter().position(|tensor| *tensor == output.tensor);
            let known = output.shape.as_ref().is_some_and(|shape| !shape.contains(&None));
            if let (false, Some(whole)) = (known, place.and_then(|place| given.get(place))) {
                let shape: Vec<Option<usize>> = whole.row.iter().copied().map(Some).collect();
                output.shape = Some(output.select.row_shape(&shape)?);
            }
        }
        Ok(())
    }
}

/// Whether a model takes more than the engine that was cut from it.
fn takes_more(model: &ModelProto, manifest: &Manifest) -> bool {
    let Some(graph) = &model.graph else { return false };
    let constant = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
    let known = |name: &str| manifest.inputs.iter().any(|input| input.name == name);
    graph.input.iter().any(|input| !known(&input.name) && !constant(&input.name))
}

/// Whether a model's only input is open for, or made for, rows of a shape.
fn takes(model: &ModelProto, row: &[usize]) -> bool {
    let input = model.graph.as_ref().and_then(|graph| graph.input.first());
    let Some(shape) = input.and_then(|input| input.tensor()?.shape.as_ref()) else { return true };
    shape.dim.iter().skip(1).zip(row).all(|(dim, size)| dim.fixed().is_none_or(|fixed| fixed == *size))
}

/// Compares an engine with what its source gives for samples, see [`Reference::run`], and checks that what it gives
/// for a sample does not depend on its batch.
///
/// # Errors
/// Those of the engine.
pub fn verify(
    manifest: &Manifest,
    engine: &mut dyn Engine,
    (reference, wanted): (&Reference, &[Vec<Whole>]),
    probe: Probe<'_>,
    samples: &Samples,
    runtime: &str,
) -> Result<Checks> {
    let mut sums = vec![Agreement::default(); manifest.outputs.len()];
    let mut ours = vec![Vec::new(); sums.len()];
    for (inputs, theirs) in samples.inputs.iter().zip(wanted) {
        run_on(engine, inputs, &mut ours)?;
        for ((output, ours), sum) in manifest.outputs.iter().zip(&ours).zip(&mut sums) {
            let place = reference.tensors.iter().position(|tensor| *tensor == output.tensor);
            let Some(whole) = place.and_then(|place| theirs.get(place)) else { continue };
            let wanted = selected(output.select, &whole.row, &whole.values);
            sum.add(ours, &wanted).ok_or_else(|| {
                let (ours, wanted, name) = (ours.len(), wanted.len(), &output.name);
                Error::failed(format!("output `{name}` has {ours} values for a sample, its source {wanted}"))
            })?;
        }
    }
    let parity = manifest.outputs.iter().zip(&sums).map(|(output, sum)| sum.parity(&output.name)).collect();
    let batch_invariant = batch_invariant(engine, probe, 8)?;
    let (samples, samples_of) = (samples.inputs.len(), samples.of.clone());
    Ok(Checks { runtime: runtime.into(), samples, samples_of, parity, batch_invariant, batch_culprit: None })
}

/// Makes the inputs of a sample, each `[1, …]`: the same for the same number, and of one shape.
pub type Probe<'a> = &'a dyn Fn(u64) -> Vec<Tensor>;

/// Whether an engine may run batches: what [`batch_invariant`] found for this runtime before, else what it finds
/// now, noted in the engine's manifest.
///
/// # Errors
/// Those of the engine; the manifest cannot be written.
pub fn may_batch(built: &Built, engine: &mut dyn Engine, probe: Probe<'_>, runtime: &str) -> Result<bool> {
    let mut manifest = Manifest::read(&built.folder)?;
    if let Some(checks) = manifest.checked_by(runtime) {
        return Ok(checks.batch_invariant);
    }
    let batch_invariant = batch_invariant(engine, probe, 8)?;
    let (runtime, samples_of) = (runtime.into(), "random numbers".into());
    manifest.set_checks(Checks {
        runtime,
        samples: 0,
        samples_of,
        parity: Vec::new(),
        batch_invariant,
        batch_culprit: None,
    });
    manifest.write(&built.folder)?;
    Ok(batch_invariant)
}

/// Whether what an engine gives for a sample is the same to the bit alone, in both slots of a pair, and among
/// `batch` mates.
///
/// # Errors
/// Those of the engine.
pub fn batch_invariant(engine: &mut dyn Engine, probe: Probe<'_>, batch: usize) -> Result<bool> {
    let mut outputs = |inputs: &[Tensor]| -> Result<Vec<Vec<f32>>> {
        let mut outputs = vec![Vec::new(); engine.outputs().len()];
        run_on(engine, inputs, &mut outputs)?;
        Ok(outputs)
    };
    let alone = outputs(&probe(0))?;
    for (count, place) in [(2, 0), (2, 1), (3, 1), (batch.max(2), batch / 2)] {
        let seed = |slot: usize| if slot == place { 0 } else { 100 + slot as u64 };
        let mates: Vec<Vec<Tensor>> = (0..count).map(|slot| probe(seed(slot))).collect();
        let joined = (0..mates[0].len()).map(|input| {
            Tensor::join(&mates.iter().map(|mate| &mate[input]).collect::<Vec<_>>())
                .ok_or_else(|| Error::failed("made-up samples have inputs of different types"))
        });
        let together = outputs(&joined.collect::<Result<Vec<_>>>()?)?;
        for (alone, together) in alone.iter().zip(&together) {
            if !same_bits(alone, together, place) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Whether a row alone has the bits that it has at its place in a batch.
pub(super) fn same_bits(alone: &[f32], together: &[f32], place: usize) -> bool {
    let own = together.get(place * alone.len()..(place + 1) * alone.len());
    let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
    own.is_some_and(|own| alone.iter().zip(own).all(same))
}

/// Compares an engine with one that runs the same cut in fp32, on samples, and checks that what it gives for a
/// sample does not depend on its batch.
///
/// # Errors
/// Those of the engines.
pub fn compare(
    manifest: &Manifest,
    engine: &mut dyn Engine,
    plain: &mut dyn Engine,
    samples: (&[Vec<Tensor>], &str),
    probe: Probe<'_>,
    runtime: &str,
) -> Result<Checks> {
    let mut sums = vec![Agreement::default(); manifest.outputs.len()];
    let (mut ours, mut theirs) = (vec![Vec::new(); sums.len()], vec![Vec::new(); sums.len()]);
    for inputs in samples.0 {
        run_on(engine, inputs, &mut ours)?;
        run_on(plain, inputs, &mut theirs)?;
        for ((sum, ours), theirs) in sums.iter_mut().zip(&ours).zip(&theirs) {
            sum.add(ours, theirs).ok_or_else(|| Error::failed("the engines give different numbers of values"))?;
        }
    }
    let parity = manifest.outputs.iter().zip(&sums).map(|(output, sum)| sum.parity(&output.name)).collect();
    let batch_invariant = batch_invariant(engine, probe, 8)?;
    let (samples, samples_of) = (samples.0.len(), samples.1.into());
    Ok(Checks { runtime: runtime.into(), samples, samples_of, parity, batch_invariant, batch_culprit: None })
}

/// What a selection takes from one row, computed plainly.
fn selected(select: Select, row: &[usize], values: &[f32]) -> Vec<f32> {
    let mean = |picked: &dyn Fn(usize) -> Vec<usize>, count: usize| -> Vec<f32> {
        let one = |i: usize| {
            let places = picked(i);
            (places.iter().map(|&at| f64::from(values[at])).sum::<f64>() / places.len().max(1) as f64) as f32
        };
        (0..count).map(one).collect()
    };
    match (select, row) {
        (Select::Token { index }, &[tokens, dim]) => {
            let index = if index < 0 { index + tokens as i64 } else { index } as usize;
            values[index * dim..(index + 1) * dim].to_vec()
        }
        (Select::Tokens { from }, &[_, dim]) => values[from as usize * dim..].to_vec(),
        (Select::MeanTokens { from, to }, &[tokens, dim]) => {
            let end = to.map_or(tokens, |to| (to as usize).min(tokens));
            mean(&|i| (from as usize..end).map(|token| token * dim + i).collect(), dim)
        }
        (Select::Gap, &[channels, height, width]) => {
            let area = height * width;
            mean(&|i| (i * area..(i + 1) * area).collect(), channels)
        }
        (Select::GapLast, &[height, width, channels]) => {
            mean(&|i| (0..height * width).map(|place| place * channels + i).collect(), channels)
        }
        _ => values.to_vec(),
    }
}

/// Sums over samples for the cosine and the largest difference.
#[derive(Debug, Clone, Default)]
pub struct Agreement {
    product: f64,
    ours: f64,
    theirs: f64,
    largest: f32,
}

impl Agreement {
    /// Adds a row of both; `None` if their sizes differ.
    pub fn add(&mut self, ours: &[f32], theirs: &[f32]) -> Option<()> {
        if ours.len() != theirs.len() {
            return None;
        }
        for (&a, &b) in ours.iter().zip(theirs) {
            self.product += f64::from(a) * f64::from(b);
            self.ours += f64::from(a).powi(2);
            self.theirs += f64::from(b).powi(2);
            // A value that is not a number must not pass as a small difference.
            let difference = if a == b { 0.0 } else { (a - b).abs() };
            self.largest = if difference.is_nan() { f32::INFINITY } else { self.largest.max(difference) };
        }
        Some(())
    }

    /// The agreement so far.
    pub fn parity(&self, output: &str) -> Parity {
        let length = (self.ours * self.theirs).sqrt();
        let cosine = if length > 0.0 { self.product / length } else { f64::from(u8::from(self.largest == 0.0)) };
        Parity { output: output.into(), cosine: cosine.min(1.0), max_difference: self.largest }
    }
}

/// A folder for a model that is needed for a moment; gone when dropped.
pub struct Scratch(std::path::PathBuf);

impl Scratch {
    /// A new folder beside `path`.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn beside(path: &Path) -> Result<Self> {
        let folder = crate::base::file::temporary_beside(path);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A rest that cannot be removed does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::samples::random_tensor;
    use crate::engine::{InputTensor, Port};

    /// Doubles its input; with `leaks`, adds the number of samples in the batch.
    struct Double {
        ports: Vec<Port>,
        leaks: bool,
    }

    impl Engine for Double {
        fn inputs(&self) -> &[Port] {
            &self.ports
        }

        fn outputs(&self) -> &[Port] {
            &self.ports
        }

        fn run(&mut self, inputs: &[InputTensor<'_>], outputs: &mut [Vec<f32>]) -> Result<()> {
            if let InputTensor::F32 { shape, data } = inputs[0] {
                let more = if self.leaks { shape[0] as f32 * 1e-6 } else { 0.0 };
                outputs[0] = data.iter().map(|x| x * 2.0 + more).collect();
            }
            Ok(())
        }
    }

    #[test]
    fn a_sample_that_depends_on_its_batch_is_noticed() {
        let ports = || vec![Port { name: "x".into(), row_shape: vec![Some(4)] }];
        assert!(
            batch_invariant(&mut Double { ports: ports(), leaks: false }, &|seed| vec![random_tensor(&[4], seed)], 8)
                .unwrap()
        );
        assert!(
            !batch_invariant(&mut Double { ports: ports(), leaks: true }, &|seed| vec![random_tensor(&[4], seed)], 8)
                .unwrap()
        );
    }

    #[test]
    fn selections_are_computed_plainly() {
        let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
        assert_eq!(selected(Select::Token { index: -1 }, &[4, 3], &values), [9.0, 10.0, 11.0]);
        assert_eq!(selected(Select::MeanTokens { from: 1, to: None }, &[4, 3], &values), [6.0, 7.0, 8.0]);
        assert_eq!(selected(Select::Gap, &[3, 2, 2], &values), [1.5, 5.5, 9.5]);
        assert_eq!(selected(Select::GapLast, &[2, 2, 3], &values), [4.5, 5.5, 6.5]);
        assert_eq!(selected(Select::Tokens { from: 3 }, &[4, 3], &values), [9.0, 10.0, 11.0]);
    }

    #[test]
    fn agreement_is_a_cosine_and_a_difference() {
        let mut sum = Agreement::default();
        sum.add(&[1.0, 2.0], &[1.0, 2.5]).unwrap();
        let parity = sum.parity("x");
        assert!((parity.cosine - 6.0 / (5.0f64 * 7.25).sqrt()).abs() < 1e-12 && parity.max_difference == 0.5);
        assert!(sum.add(&[1.0], &[1.0, 2.0]).is_none());
        sum.add(&[f32::NAN], &[1.0]).unwrap();
        assert_eq!(sum.parity("x").max_difference, f32::INFINITY);
    }
}
