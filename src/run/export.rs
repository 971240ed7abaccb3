//! From a finished run to one ONNX file, compared with the live run before it is put in place.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use serde::Serialize;

use super::calibration;
use super::context::Context;
use super::engine::{self, Source};
use super::pixels::{self, FromPixels};
use super::predict::Predictor;
use super::record::RunRecord;
use crate::base::progress::{Unit, work};
use crate::base::{Error, Result, file};
use crate::data::{self, LoadContext};
use crate::engine::precision::Conversion;
use crate::engine::runtime::{self, Prepared};
use crate::engine::verify::Scratch;
use crate::engine::{Engine, OnnxRuntime, run_on};
use crate::export::metadata::Provenance;
use crate::export::{Activation, Input, Metadata, hugging_face, merge};
use crate::graph::onnx;
use crate::plan::{Plan, ResolvedPlan};
use crate::recipe::{Precision, Provider};
use crate::sample::Sample;
use crate::sample::pipeline::{Batch, Item, Options, prepare};

/// The exported model's file name.
pub const MODEL: &str = "model.onnx";
/// Weights beside a model that is too large for one file.
const DATA: &str = "model.onnx.data";
/// The tokenizer of a network of texts.
const TOKENIZER: &str = "tokenizer.json";

/// What to export, and how.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// The folder that the files go to; the run's own by default.
    pub folder: Option<PathBuf>,
    /// What is made of the head's outputs.
    pub activation: Activation,
    /// What the file takes.
    pub input: Input,
    /// The precision of the backbone; by default what the run's engine is kept in.
    pub precision: Option<Precision>,
    /// How many samples of the run's data are compared.
    pub samples: usize,
    /// Pictures or texts to compare in place of the run's data.
    pub files: Vec<String>,
}

/// What was exported.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// The model.
    pub model: PathBuf,
    /// Its size, weights beside it included.
    pub bytes: u64,
    /// How it compares with the live run.
    pub comparisons: Vec<Comparison>,
    /// What loads it, and what is not inside.
    pub notes: Vec<String>,
}

/// How an exported file compares with the live run.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Where the file ran.
    pub runtime: String,
    /// Samples that were compared.
    pub samples: usize,
    /// The largest difference of an output.
    pub max_difference: f32,
    /// The largest magnitude of an output of the run.
    pub largest: f32,
    /// Samples with the same highest output.
    pub same_class: usize,
    /// The difference that would have been refused; none where it is only told.
    pub tolerance: Option<f32>,
}

/// Exports a finished run.
///
/// # Errors
/// Those of [`Predictor::open`] and [`merge()`]; no sample to compare with; the file differs from the live run.
pub fn export(record: &RunRecord, request: &ExportRequest, context: &Context<'_>) -> Result<Exported> {
    let run = Path::new(&record.path);
    let mut predictor = Predictor::open(run, context)?;
    let plan = predictor.plan().clone();
    let source = Source::fetch(&plan.plan, context)?;
    let built = engine::build_engine(&plan, &source, &|| calibration::again(&plan, context), context)?;
    let mut backbone = onnx::read(&built.model())?;
    let own = match plan.plan.engine.precision {
        Precision::Int8 => Precision::Int8,
        other => Conversion::of(other).precision(),
    };
    let precision = request.precision.unwrap_or(own);
    if precision != own {
        backbone = convert(backbone, own, precision)?;
    }
    let (graph, weights) = predictor.above()?;
    let preprocess = plan.plan.model.backbone.preprocess.clone();
    let mut model = merge(backbone, graph, weights, request.activation, (request.input, preprocess.image()))?;
    let provenance = Provenance {
        run: record.name.clone(),
        id: record.id,
        backbone: plan.plan.model.backbone.name.clone(),
        licence: plan.plan.model.backbone.licence.clone(),
        weights: plan.weights,
        dataset: plan.dataset,
        precision: precision.name().into(),
        metrics: record.metrics.clone(),
        caft: env!("CARGO_PKG_VERSION").into(),
    };
    let (activation, input) = (request.activation, request.input);
    Metadata { activation, input, plan: plan.clone(), provenance }.write(&mut model)?;

    let folder = request.folder.clone().unwrap_or_else(|| run.to_path_buf());
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let scratch = Scratch::beside(&folder.join(MODEL))?;
    let file = scratch.file(MODEL);
    onnx::write(&model, &file)?;
    drop(model);
    let (_, tokenizer) = engine::ready(&plan.plan, &context.fetcher())?;
    if let Some(tokenizer) = &tokenizer {
        let to = scratch.file(TOKENIZER);
        fs::copy(&tokenizer.path, &to).map_err(Error::io("write", &to))?;
    }
    let mut notes = describe(&scratch, &plan, request)?;

    let samples = samples(&predictor, request, context)?;
    let items: Vec<Item<'_>> =
        samples.iter().enumerate().map(|(index, (samples, origin))| Item { index, samples, origin }).collect();
    let mut live = predictor.outputs(&items, context)?;
    live.chunks_exact_mut(plan.classes.len().max(1)).for_each(|row| activation.apply(row));
    drop(predictor);
    let mut comparisons = Vec::new();
    let same = &source.engine;
    let plain = runtime::prepare(&context.fetcher(), Provider::Cpu, Precision::Fp32)?;
    for (prepared, is_plain) in [(same, false), (&plain, true)] {
        let name = prepared.choice.info.name;
        if is_plain && comparisons.iter().any(|c: &Comparison| c.runtime.ends_with(&format!("{name}, fp32"))) {
            continue;
        }
        let outputs = outputs_of(&file, prepared, &items, request.input, &plan.plan, context)?;
        let exact = !is_plain && precision == own;
        let told = is_plain && (precision != own || same.choice.info.name != name);
        let runtime = format!("{name}, {}", prepared.precision.name());
        let comparison = compare(runtime, &live, &outputs, plan.classes.len(), exact, told);
        comparison.check(&file_name(&folder))?;
        comparisons.push(comparison);
    }
    let bytes = put_in_place(&scratch, &folder)?;
    if own != precision || plan.plan.engine.precision != precision {
        let run_in = plan.plan.engine.precision.name();
        notes.push(format!("the run computed in {run_in}; the file's backbone is in {}", precision.name()));
    }
    Ok(Exported { model: folder.join(MODEL), bytes, comparisons, notes })
}

/// The backbone in another precision.
fn convert(
    mut backbone: onnx::proto::ModelProto,
    own: Precision,
    wanted: Precision,
) -> Result<onnx::proto::ModelProto> {
    let conversion = Conversion::of(wanted);
    if own != Precision::Fp32 || conversion.precision() != wanted {
        let (own, wanted) = (own.name(), wanted.name());
        return Err(Error::bad_input(format!("a backbone in {own} is not converted to {wanted} here"))
            .hint("run the recipe with `engine.precision` set to it, and export that run"));
    }
    if wanted == Precision::Fp16 {
        onnx::to_half(&mut backbone)?;
    }
    Ok(backbone)
}

/// Writes Hugging Face's files; says what loads the model and what is not inside.
fn describe(scratch: &Scratch, plan: &ResolvedPlan, request: &ExportRequest) -> Result<Vec<String>> {
    let backbone = &plan.plan.model.backbone;
    let files = hugging_face::files(backbone.family.as_deref(), &plan.classes, &backbone.preprocess);
    for (name, value) in [("config.json", &files.config), (files.preprocessor.0, &files.preprocessor.1)] {
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| Error::failed("a configuration does not serialise").because(e))?;
        file::write_bytes(&scratch.file(name), (text + "\n").as_bytes())?;
    }
    let mut notes = files.notes;
    let plain = request.input == Input::Tensor && request.activation == Activation::None;
    notes.push(match (files.model_type, plain) {
        (Some(model_type), true) => {
            format!("optimum's pipelines for classification load the folder as `{model_type}`")
        }
        (Some(_), false) => {
            "optimum's pipelines load only `--input tensor --activation none`; ONNX Runtime loads this file".into()
        }
        (None, _) => {
            "optimum has no architecture of this backbone; ONNX Runtime loads the file, and `caft predict`".into()
        }
    });
    notes.push(match (request.input, backbone.preprocess.image()) {
        (Input::Pixels, Some(steps)) => {
            let side = steps.output_shape()[1];
            format!("decoding, resizing and cropping to {side}×{side} are not inside")
        }
        _ => format!("the preprocess is not inside; `{}` and the metadata say it", files.preprocessor.0),
    });
    Ok(notes)
}

/// Samples of the run's data, evenly spread over its test rows, or over all where there are none; or given files.
fn samples(
    predictor: &Predictor,
    request: &ExportRequest,
    context: &Context<'_>,
) -> Result<Vec<(Vec<Sample>, String)>> {
    if !request.files.is_empty() {
        return Ok(predictor.samples(&request.files)?.into_iter().zip(request.files.iter().cloned()).collect());
    }
    let plan = &predictor.plan().plan;
    let fetcher = context.fetcher();
    let load = LoadContext { fetcher: &fetcher, home: context.home, seed: plan.seeds.data };
    let unavailable = |e| {
        Error::bad_input("the run's data cannot be read to compare the export with the run")
            .hint("give pictures to compare with `--compare FILE`")
            .because(e)
    };
    let dataset = data::load(&plan.data, &load).map_err(unavailable)?;
    let all: Vec<u32> = (0..dataset.rows.len() as u32).collect();
    let rows = if dataset.splits.test.is_empty() { &all } else { &dataset.splits.test };
    let count = request.samples.clamp(1, rows.len().max(1));
    let chosen = (0..count).filter_map(|i| rows.get(i * rows.len() / count)).map(|&row| {
        let row = &dataset.rows[row as usize];
        (row.samples.clone(), row.origin.clone())
    });
    Ok(chosen.collect())
}

/// What the exported file gives on a provider, sample by sample.
fn outputs_of(
    model: &Path,
    prepared: &Prepared,
    items: &[Item<'_>],
    input: Input,
    plan: &Plan,
    context: &Context<'_>,
) -> Result<Vec<f32>> {
    let threads = available_parallelism().map_or(1, usize::from);
    let mut engine: Box<dyn Engine> = Box::new(OnnxRuntime::open(prepared, context.home, model, threads)?);
    let mut plan = plan.clone();
    if input == Input::Pixels {
        engine = Box::new(FromPixels::new(engine));
        plan.model.backbone.preprocess = pixels::whole(&plan.model.backbone.preprocess);
    }
    let (ready, _) = engine::ready(&plan, &context.fetcher())?;
    let (mut rows, mut outputs) = (vec![Vec::new(); items.len()], vec![Vec::new()]);
    let options = Options { batch_size: 8, threads: 1, cancel: context.cancel, skip_bad: false };
    let what = format!("the export on {}", prepared.choice.info.name);
    work(context.progress, &what, Some(items.len() as u64), Unit::Samples, || {
        prepare(items, &ready, &options, |batch: &Batch| {
            run_on(&mut *engine, &batch.inputs, &mut outputs)?;
            let width = outputs[0].len() / batch.indices.len().max(1);
            for (row, index) in outputs[0].chunks_exact(width.max(1)).zip(&batch.indices) {
                rows[*index] = row.to_vec();
            }
            Ok(())
        })
    })?;
    Ok(rows.concat())
}

/// Compares outputs. In the run's own precision and provider (`exact`) they differ by the order of sums alone;
/// another precision shows in the classes.
fn compare(runtime: String, live: &[f32], export: &[f32], width: usize, exact: bool, told: bool) -> Comparison {
    let magnitude = |values: &[f32]| values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let largest = magnitude(live);
    let mut differences = live.iter().zip(export).map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() });
    let max_difference = differences.try_fold(0.0f32, |most, x| if x.is_nan() { Err(x) } else { Ok(most.max(x)) });
    let best = |row: &[f32]| crate::metric::argmax(row);
    let rows = live.chunks_exact(width.max(1)).zip(export.chunks_exact(width.max(1)));
    let same_class = rows.filter(|(a, b)| best(a) == best(b)).count();
    Comparison {
        samples: live.len() / width.max(1),
        max_difference: if live.len() == export.len() {
            max_difference.unwrap_or(f32::INFINITY)
        } else {
            f32::INFINITY
        },
        largest,
        same_class,
        tolerance: (!told).then(|| if exact { 2e-2 } else { 0.5 } * largest.max(1e-3)),
        runtime,
    }
}

impl Comparison {
    fn check(&self, shown: &str) -> Result<()> {
        let differs = self.tolerance.is_some_and(|tolerance| self.max_difference > tolerance);
        // An output near a tie may fall to either side.
        if !differs && self.same_class * 10 >= self.samples * 9 {
            return Ok(());
        }
        let Self { runtime, samples, max_difference, largest, same_class, .. } = self;
        Err(Error::failed(format!(
            "the export differs from the run on `{runtime}`: by up to {max_difference:.2e} where outputs go up to \
             {largest:.2e}, with the same class for {same_class} of {samples} samples; `{shown}` was not written"
        )))
    }
}

fn file_name(folder: &Path) -> String {
    folder.join(MODEL).display().to_string()
}

/// Renames the finished files to their places, the model last.
fn put_in_place(scratch: &Scratch, folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    let beside = ["config.json", "preprocessor_config.json", "tokenizer_config.json", TOKENIZER, DATA];
    for name in beside.into_iter().chain([MODEL]) {
        let (from, to) = (scratch.file(name), folder.join(name));
        if let Ok(metadata) = fs::metadata(&from) {
            bytes += if name.starts_with(MODEL) { metadata.len() } else { 0 };
            fs::rename(&from, &to).map_err(Error::io("create", &to))?;
        } else if name == DATA && to.exists() {
            // Weights beside an earlier export.
            fs::remove_file(&to).map_err(Error::io("remove", &to))?;
        }
    }
    Ok(bytes)
}
