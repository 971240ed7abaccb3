//! The engines that are measured: one for each provider and precision of this machine.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;

use super::{Args, Measured};
use crate::base::home::Home;
use crate::base::random::Stream;
use crate::base::{Cancel, Digest, Error};
use crate::cli::progress::Terminal;
use crate::engine::precision::{Bench as Quantiser, Calibration, CalibrationSamples, quantise, write_half};
use crate::engine::runtime::{Machine, Prepared, ProviderInfo};
use crate::engine::verify::{Agreement, Scratch};
use crate::engine::{Engine, InputTensor, OnnxRuntime, Samples, random_tensor};
use crate::graph::onnx;
use crate::recipe::{CalibrationConfig, Precision, Provider};
use crate::sample::Tensor;
use crate::sample::image::ImagePreprocess;

/// Whether a provider can be measured without adding what nobody asked for.
pub fn is_here(info: &ProviderInfo, precision: Precision, machine: &Machine, home: &Home) -> bool {
    let usable = info.check_precision(precision, machine).and_then(|()| info.check(machine)).is_ok();
    let added = |platform| info.package(machine).is_some_and(|package| package.installed(home, platform).is_some());
    usable && (info.provider == Provider::Cpu || machine.platform.is_some_and(added))
}

/// An engine that is measured.
pub struct Lane {
    prepared: Prepared,
    /// The file that it runs.
    pub model: PathBuf,
    engine: OnnxRuntime,
    float_layers: usize,
    starts: [f64; 2],
}

impl Lane {
    /// What it computes in.
    pub fn precision(&self) -> Precision {
        self.prepared.precision
    }

    fn run(&mut self, shape: &[usize], data: &[f32]) -> Result<Vec<Vec<f32>>> {
        let mut outputs = vec![Vec::new(); self.engine.outputs().len()];
        self.engine.run(&[InputTensor::F32 { shape, data }], &mut outputs)?;
        Ok(outputs)
    }

    /// Samples per second over so many seconds.
    pub fn rate(&mut self, (shape, data): (&[usize], &[f32]), seconds: f64) -> Result<f64> {
        let mut outputs = vec![Vec::new(); self.engine.outputs().len()];
        let (begin, mut samples) = (Instant::now(), 0);
        while begin.elapsed().as_secs_f64() < seconds {
            self.engine.run(&[InputTensor::F32 { shape, data }], &mut outputs)?;
            samples += shape[0];
        }
        Ok(samples as f64 / begin.elapsed().as_secs_f64())
    }
}

/// The engines, with what makes them.
pub struct Bench<'a> {
    pub args: &'a Args,
    pub home: &'a Home,
    pub model: &'a Path,
    pub scratch: &'a Scratch,
    pub progress: &'a Terminal,
    pub cancel: &'a Cancel,
    pub lanes: Vec<Lane>,
}

impl Bench<'_> {
    /// Converts the model where the precision needs it, and opens it twice: what was compiled is kept.
    ///
    /// # Errors
    /// Those of the conversion and of the provider.
    pub fn open(&mut self, prepared: Prepared) -> Result<()> {
        let (model, float_layers) = self.converted(&prepared)?;
        let open = || -> Result<(OnnxRuntime, f64)> {
            let begin = Instant::now();
            let engine = OnnxRuntime::open(&prepared, self.home, &model, self.args.threads())?;
            Ok((engine, begin.elapsed().as_secs_f64()))
        };
        let first = open()?.1;
        let (engine, next) = open()?;
        self.lanes.push(Lane { prepared, model, engine, float_layers, starts: [first, next] });
        Ok(())
    }

    /// The file to run, and how many layers stayed in float.
    fn converted(&self, prepared: &Prepared) -> Result<(PathBuf, usize)> {
        let path = self.scratch.file(&format!("{}-{}.onnx", prepared.choice.info.name, prepared.precision.name()));
        match prepared.precision {
            Precision::Fp32 | Precision::Bf16 => Ok((self.model.to_path_buf(), 0)),
            Precision::Fp16 => {
                write_half(self.model, &path)?;
                Ok((path, 0))
            }
            Precision::Int8 => {
                let float_layers = self.quantise(prepared, &path)?;
                Ok((path, float_layers))
            }
        }
    }

    fn quantise(&self, target: &Prepared, path: &Path) -> Result<usize> {
        let (progress, cancel) = (self.progress, self.cancel);
        let config = CalibrationConfig {
            samples: self.args.calibration_samples.into(),
            min_cosine: self.args.min_cosine,
            ..CalibrationConfig::default()
        };
        let row = self.input()?.0[1..].to_vec();
        let samples = || {
            let wanted = usize::from(self.args.calibration_samples);
            let mut measured = self.samples(&row, wanted + wanted.div_ceil(4))?;
            let held_out = measured.split_off(measured.len() - measured.len().div_ceil(5));
            Ok(CalibrationSamples::new(measured, held_out))
        };
        // The digest names engines that are kept, and a bench keeps none.
        let digest = Digest::of(b"bench engine");
        let probe = |seed| vec![random_tensor(&row, seed)];
        let (config, samples, probe) = (&config, &samples, &probe);
        let calibration = Calibration { config, digest, samples, probe, target, progress, cancel };
        let processor = &target.on_processor()?;
        let (threads, scratch) = (self.args.threads(), self.scratch.path());
        let bench = Quantiser { processor, threads, scratch, progress, cancel };
        let quantised = quantise(onnx::read(self.model)?, &calibration, &bench)?;
        onnx::write(&quantised.model, path)?;
        Ok(quantised.calibrated.float_layers.len())
    }

    fn samples(&self, row: &[usize], count: usize) -> crate::base::Result<Vec<Vec<Tensor>>> {
        match &self.args.pictures {
            None => Ok(Samples::random(row, count).inputs),
            Some(path) => {
                let size = row.last().copied().unwrap_or(self.args.image_size);
                Ok(Samples::pictures(path, &ImagePreprocess::plain(size as u32), count)?.inputs)
            }
        }
    }

    /// The shape of a batch, and the values that are measured on.
    ///
    /// # Errors
    /// No engine is open; the model has several inputs; a picture cannot be decoded.
    pub fn input(&self) -> Result<(Vec<usize>, Vec<f32>)> {
        let Some(Lane { engine, .. }) = self.lanes.first() else {
            return Err(Error::failed("no provider runs the model in fp32").into());
        };
        let [port] = engine.inputs() else {
            let count = engine.inputs().len();
            return Err(Error::bad_input(format!("the model has {count} inputs; one is measured")).into());
        };
        let open =
            |(axis, size): (usize, &Option<usize>)| size.unwrap_or(if axis == 0 { 3 } else { self.args.image_size });
        let row: Vec<usize> = port.row_shape.iter().enumerate().map(open).collect();
        let batch = usize::from(self.args.batch);
        let shape: Vec<usize> = std::iter::once(batch).chain(row.iter().copied()).collect();
        let values: Vec<f32> = match &self.args.pictures {
            Some(_) => {
                let rows = self.samples(&row, batch)?;
                (0..batch).flat_map(|at| rows[at % rows.len()][0].f32().to_vec()).collect()
            }
            None => {
                let stream = Stream::named(0, "bench engine");
                (0..shape.iter().product::<usize>() as u64).map(|i| stream.normal(i)).collect()
            }
        };
        Ok((shape, values))
    }

    /// What every engine gives beside the first, alone and in a batch. Rates come later.
    ///
    /// # Errors
    /// Those of the engines; they give different numbers of values.
    pub fn compare(&mut self, shape: &[usize], input: &[f32]) -> Result<Vec<Measured>> {
        let row: usize = shape[1..].iter().product();
        let mut reference: Option<Vec<Vec<f32>>> = None;
        let mut rows = Vec::new();
        for lane in &mut self.lanes {
            let alone = lane.run(&[&[1], &shape[1..]].concat(), &input[..row])?;
            let outputs = lane.run(shape, input)?;
            rows.push(Measured {
                provider: lane.prepared.choice.info.name,
                precision: lane.prepared.precision.name(),
                samples_per_second: 0.0,
                ratio: 0.0,
                cosine: cosine(reference.get_or_insert_with(|| outputs.clone()), &outputs)?,
                float_layers: lane.float_layers,
                batch_invariant: alone.iter().zip(&outputs).all(|(one, all)| all.starts_with(one)),
                first_start: lane.starts[0],
                next_start: lane.starts[1],
            });
        }
        Ok(rows)
    }
}

/// The cosine of all values together.
fn cosine(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> Result<f64> {
    let mut sum = Agreement::default();
    for (ours, theirs) in ours.iter().zip(theirs) {
        sum.add(ours, theirs).ok_or_else(|| Error::failed("the engines give different numbers of values"))?;
    }
    Ok(sum.parity("").cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_outputs_count_in_the_cosine() {
        let a = [vec![1.0, 2.0], vec![-3.0]];
        assert!((cosine(&a, &a).unwrap() - 1.0).abs() < 1e-12);
        assert!(cosine(&a, &[vec![-2.0, 1.0], vec![0.0]]).unwrap().abs() < 1e-12);
        assert!(cosine(&a, &[vec![1.0], vec![0.0]]).is_err());
    }

    #[test]
    fn only_what_is_here_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let machine = Machine { nvidia_driver: None, ..Machine::here() };
        let here = |provider, precision| {
            ProviderInfo::of(provider).is_some_and(|info| is_here(info, precision, &machine, &home))
        };
        assert!(!here(Provider::Cuda, Precision::Fp32) && !here(Provider::Openvino, Precision::Fp32));
        assert!(here(Provider::Cpu, Precision::Fp32));
        assert!(!here(Provider::Cpu, Precision::Bf16));
    }
}
