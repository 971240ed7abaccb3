//! 8-bit integers: calibrated, compared with fp32, and left in float where they cost too much.

use std::collections::{HashMap, HashSet};

use super::measure::Bench;
use crate::base::progress::{Event, Progress};
use crate::base::{Cancel, Digest, Error, Result};
use crate::engine::Engine;
use crate::engine::manifest::{Calibrated, Checks, Parity};
use crate::engine::runtime::Prepared;
use crate::engine::verify::{Agreement, Probe, batch_invariant};
use crate::graph::onnx;
use crate::graph::onnx::proto::ModelProto;
use crate::graph::onnx::quantize::{self, Range, Site};
use crate::recipe::CalibrationConfig;
use crate::sample::Tensor;

/// What an engine is calibrated on, and how.
pub struct Calibration<'a> {
    /// How.
    pub config: &'a CalibrationConfig,
    /// The digest of how, and of the samples: of all that decides the result beside the model and the provider.
    pub digest: Digest,
    /// Gives the samples; only called where the engine is not there yet.
    pub samples: &'a dyn Fn() -> Result<CalibrationSamples>,
    /// Makes samples that it is checked with that a batch changes nothing.
    pub probe: Probe<'a>,
    /// The provider that will run the engine.
    pub target: &'a Prepared,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
    /// Checked between batches.
    pub cancel: &'a Cancel,
}

/// Ready inputs of one sample each, `[1, …]`.
#[derive(Debug, Clone)]
pub struct CalibrationSamples {
    measured: Vec<Vec<Tensor>>,
    held_out: Vec<Vec<Tensor>>,
}

impl CalibrationSamples {
    /// Those that are measured, and those that the result is judged on.
    pub fn new(mut measured: Vec<Vec<Tensor>>, mut held_out: Vec<Vec<Tensor>>) -> Self {
        // Samples of one size run together; the largest first, so that memory is short early or never.
        let size = |sample: &Vec<Tensor>| std::cmp::Reverse(sample.first().map(|tensor| tensor.shape.clone()));
        measured.sort_by_key(size);
        held_out.sort_by_key(size);
        Self { measured, held_out }
    }

    /// The shape of the largest sample, which fills the sizes that the model leaves open.
    fn row(&self) -> Option<&[usize]> {
        self.measured.first()?.first()?.shape.get(1..)
    }
}

/// A quantised model.
pub struct Quantised {
    /// The model.
    pub model: ModelProto,
    /// What it was calibrated on, and which layers stayed in float.
    pub calibrated: Calibrated,
    /// How it compares with fp32 on the held-out samples.
    pub checks: Checks,
}

/// Samples that local losses are measured on.
const RANKING: usize = 16;

/// Quantises a model. If the outputs' cosine with fp32 on the held-out samples is below the threshold, the layers that
/// lose most, each measured by itself, go back to float: as few as will do.
///
/// # Errors
/// Those of [`quantize::quantize()`] and of the engines; a model without a layer to quantise; one of which more than half
/// the work would have to stay in float, with how far it got.
pub fn quantise(mut model: ModelProto, calibration: &Calibration<'_>, bench: &Bench<'_>) -> Result<Quantised> {
    quantize::fold(&mut model)?;
    quantize::check_opset(&model)?;
    let sites = quantize::sites(&model);
    if !sites.iter().any(|site| site.weighted) {
        let what = "the model has no convolution or matrix product with weights that `int8` could take";
        return Err(Error::bad_input(what).hint("is it quantised already? use `precision: fp32`"));
    }
    let samples = (calibration.samples)()?;
    let mut tensors: Vec<String> = sites.iter().flat_map(Site::tensors).map(str::to_string).collect();
    tensors.sort_unstable();
    tensors.dedup();
    let ranges = bench.ranges(&model, &tensors, (samples.row(), &samples.measured), calibration.config)?;
    let judge = Judge::new(&model, &sites, &ranges, &samples, calibration, bench)?;
    let all = judge.trial(0, &[])?;
    let (cosine_in_full, least) = (all.cosine(), calibration.config.min_cosine);
    let (trial, float) = match cosine_in_full >= least {
        true => (all, Vec::new()),
        false => judge.with_floats(cosine_in_full)?,
    };
    let calibrated = Calibrated {
        digest: calibration.digest,
        method: calibration.config.method,
        samples: samples.measured.len(),
        held_out: samples.held_out.len(),
        min_cosine: least,
        cosine: trial.cosine(),
        cosine_in_full,
        layers: sites.iter().filter(|site| site.weighted).count(),
        float_layers: float.iter().map(|site| site.name.clone()).collect(),
    };
    let mut engine = bench.open(&trial.model, calibration.target)?;
    let checks = Checks {
        runtime: calibration.target.describe(),
        samples: samples.held_out.len(),
        samples_of: "held-out samples of the calibration".into(),
        parity: trial.parity,
        batch_invariant: batch_invariant(&mut engine, calibration.probe, 8)?,
        batch_culprit: None,
    };
    Ok(Quantised { model: trial.model, calibrated, checks })
}

/// A quantised model and how it compares with fp32.
struct Trial {
    model: ModelProto,
    parity: Vec<Parity>,
}

impl Trial {
    /// The least cosine of an output.
    fn cosine(&self) -> f64 {
        self.parity.iter().map(|parity| parity.cosine).min_by(f64::total_cmp).unwrap_or(0.0)
    }
}

/// Compares quantised models with the one in fp32.
struct Judge<'a> {
    model: &'a ModelProto,
    sites: &'a [Site],
    ranges: &'a HashMap<String, Range>,
    samples: &'a CalibrationSamples,
    calibration: &'a Calibration<'a>,
    bench: &'a Bench<'a>,
    /// What fp32 gives for the held-out samples: by batch, by output.
    wanted: Vec<Vec<Vec<f32>>>,
}

/// Samples in one pass of a trial.
const BATCH: usize = 4;

impl<'a> Judge<'a> {
    fn new(
        model: &'a ModelProto,
        sites: &'a [Site],
        ranges: &'a HashMap<String, Range>,
        samples: &'a CalibrationSamples,
        calibration: &'a Calibration<'a>,
        bench: &'a Bench<'a>,
    ) -> Result<Self> {
        let mut wanted = Vec::new();
        let mut engine = bench.open(model, bench.processor)?;
        bench.pass(&mut engine, &samples.held_out, BATCH, |outputs| {
            wanted.push(outputs.to_vec());
            Ok(())
        })?;
        Ok(Self { model, sites, ranges, samples, calibration, bench, wanted })
    }

    /// Quantises all but the first `count` of the ranked sites, and compares.
    fn trial(&self, count: usize, ranked: &[&Site]) -> Result<Trial> {
        let float: HashSet<&str> = ranked[..count].iter().map(|site| site.output.as_str()).collect();
        let mut model = self.model.clone();
        quantize::quantize(&mut model, self.sites, self.ranges, &float)?;
        let mut engine = self.bench.open(&model, self.calibration.target)?;
        let names = self.model.graph.iter().flat_map(|graph| &graph.output).map(|value| value.name.clone());
        let names: Vec<String> = names.collect();
        let mut sums = vec![Agreement::default(); names.len()];
        let mut wanted = self.wanted.iter();
        self.bench.pass(&mut engine, &self.samples.held_out, BATCH, |outputs| {
            for ((sum, ours), theirs) in sums.iter_mut().zip(outputs).zip(wanted.next().into_iter().flatten()) {
                let sizes = || Error::failed("the quantised model gives another number of values");
                sum.add(ours, theirs).ok_or_else(sizes)?;
            }
            Ok(())
        })?;
        let parity: Vec<Parity> = names.iter().zip(&sums).map(|(name, sum)| sum.parity(name)).collect();
        let trial = Trial { model, parity };
        let text = format!("int8 with {count} layers in float: cosine {:.5} with fp32", trial.cosine());
        self.calibration.progress.event(Event::Detail(text));
        Ok(trial)
    }

    /// The trial with the fewest layers in float that is good enough, by bisection.
    fn with_floats(&self, in_full: f64) -> Result<(Trial, Vec<&'a Site>)> {
        let ranked = self.ranked()?;
        let most = self.most(&ranked)?;
        let least = self.calibration.config.min_cosine;
        let mut best = self.trial(most, &ranked)?;
        if best.cosine() < least {
            let (best, name) = (best.cosine(), self.calibration.target.choice.info.name);
            let what = format!(
                "`int8` on {name} has a cosine of {in_full:.6} with fp32, and {best:.6} with the {most} layers that lose \
                 most, half of the work, in float; {least} is asked for"
            );
            let hint = "use `precision: bf16` or `fp32`, another `engine.calibration.method`, or accept less with \
                        `engine.calibration.min_cosine`";
            return Err(Error::bad_input(what).hint(hint));
        }
        let (mut low, mut high) = (0, most);
        while high - low > 1 {
            let middle = low.midpoint(high);
            let trial = self.trial(middle, &ranked)?;
            match trial.cosine() >= least {
                true => (best, high) = (trial, middle),
                false => low = middle,
            }
        }
        Ok((best, ranked[..high].to_vec()))
    }

    /// The sites by what each loses alone, the worst first: the energy of its error relative to its output's, where its
    /// input is exact.
    fn ranked(&self) -> Result<Vec<&'a Site>> {
        let model = quantize::with_losses(self.model, self.sites, self.ranges)?;
        let mut engine = self.bench.open(&model, self.bench.processor)?;
        let mut sums = vec![0f64; engine.outputs().len()];
        let rows = &self.samples.measured[..self.samples.measured.len().min(RANKING)];
        self.bench.pass(&mut engine, rows, BATCH, |outputs| {
            sums.iter_mut()
                .zip(outputs)
                .for_each(|(sum, value)| *sum += value.iter().map(|&v| f64::from(v)).sum::<f64>());
            Ok(())
        })?;
        let loss = |pair: &[f64]| pair[0] / pair[1].max(f64::MIN_POSITIVE);
        let measured = self.sites.iter().filter(|site| site.can_lose()).zip(sums.chunks_exact(2).map(loss));
        let mut ranked: Vec<(&Site, f64)> = measured.collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(ranked.into_iter().map(|(site, _)| site).collect())
    }

    /// How many of the ranked sites may stay in float: those with at most half of the work.
    fn most(&self, ranked: &[&Site]) -> Result<usize> {
        let facts = onnx::inspect::facts(self.model, self.samples.row())?;
        let nodes = self.model.graph.iter().flat_map(|graph| &graph.node);
        let work: HashMap<&str, u64> = nodes
            .filter_map(|node| Some((node.output.first()?.as_str(), onnx::shape::flops(&facts, node).unwrap_or(1))))
            .collect();
        let of = |site: &&Site| work.get(site.output.as_str()).copied().unwrap_or(0);
        let total: u64 = ranked.iter().map(of).sum();
        let mut sum = 0;
        let within = |site: &&Site| {
            sum += of(site);
            sum * 2 <= total
        };
        Ok(ranked.iter().copied().take_while(within).count().max(1).min(ranked.len()))
    }
}
