//! From a finished run to one ONNX file, compared with the live run before it is put in place.

mod backbone;
mod compare;
mod describe;
mod field;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use compare::Comparison;

use super::context::Context;
use super::exported;
use super::exported::TOKENIZER;
use super::predict::Predictor;
use super::record::RunRecord;
use super::targets;
use crate::base::progress::{Unit, work};
use crate::base::{Error, Result};
use crate::data::{self, LoadContext};
use crate::engine::runtime::{self, Prepared};
use crate::engine::verify::Scratch;
use crate::export::metadata::Provenance;
use crate::export::{Above, Activation, Frozen, Input, Metadata, merge};
use crate::graph::onnx;
use crate::plan::ResolvedPlan;
use crate::postprocess::Output;
use crate::recipe::{Precision, Provider};
use crate::sample::Sample;
use crate::sample::pipeline::Item;
use backbone::{Backbone, backbone, kept_in};
use compare::Compared;
use describe::{describe, names_beside};

/// The exported model's file name.
pub const MODEL: &str = "model.onnx";
/// Weights beside a model that is too large for one file.
const DATA: &str = "model.onnx.data";

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

/// Exports a finished run: as one file, or of a run on pairs as one for each field, in folders of their names, unless all
/// fields go through the same network.
///
/// # Errors
/// Those of [`Predictor::open`] and [`merge()`]; no sample to compare with; a file differs from the live run.
pub fn export(record: &RunRecord, request: &ExportRequest, context: &Context<'_>) -> Result<Vec<Exported>> {
    let run = Path::new(&record.path);
    let plan = ResolvedPlan::read(run)?;
    let folder = request.folder.clone().unwrap_or_else(|| run.to_path_buf());
    let file = |(field, name): (Option<String>, Option<String>)| {
        let folder = name.map_or_else(|| folder.clone(), |name| folder.join(name));
        write(record, request, field.as_deref(), &folder, context)
    };
    targets::of(plan.target).files(&plan).into_iter().map(file).collect()
}

/// Writes one file: of the whole network, or of that of one field of pairs.
fn write(
    record: &RunRecord,
    request: &ExportRequest,
    field: Option<&str>,
    folder: &Path,
    context: &Context<'_>,
) -> Result<Exported> {
    let mut predictor = Predictor::open(Path::new(&record.path), context)?;
    let whole = predictor.plan().clone();
    // What the file says of itself.
    let plan = field.map_or_else(|| Ok(whole.clone()), |field| field::alone(&whole, field))?;
    let task = plan.plan.train.loss().task();
    let (activation, input) = (request.activation, request.input);
    activation.check(task)?;
    let postprocess = plan.plan.model.postprocess.as_ref();
    if let Some(postprocess) = postprocess
        && activation != Activation::None
    {
        let Output { name, what, .. } = postprocess.output();
        return Err(Error::bad_input(format!("the file gives `{name}`, {what}, of which nothing else is made"))
            .hint("export with `--activation none`"));
    }
    let takes_pictures = |plan: &ResolvedPlan| plan.plan.model.backbone.preprocess.image().is_some();
    let input = match field {
        // What is asked for is for the file of pictures.
        Some(_) if !takes_pictures(&plan) && whole.towers.iter().chain([&whole]).any(takes_pictures) => Input::Tensor,
        _ => input,
    };
    let own = kept_in(&plan);
    let precision = request.precision.unwrap_or(own);
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let scratch = Scratch::beside(&folder.join(MODEL))?;

    let (mut frozen, mut prepared_for, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for (place, tower) in predictor.towers().iter().enumerate() {
        let of_tower = whole.plan.model.towers.get_index(place).map(|(name, _)| name.as_str());
        if field.is_some() && field != of_tower {
            continue;
        }
        let resolved = field::tower(&whole, place);
        let Backbone { model, target, note } = backbone((resolved, of_tower), precision, &scratch, context)?;
        let transform = &resolved.plan.model.backbone.preprocess;
        let outputs = tower.outputs.iter().map(|(name, shape)| (name.clone(), shape.per_token)).collect();
        let named = of_tower.filter(|_| field.is_none());
        frozen.push(Frozen { model, field: named, transform, outputs });
        prepared_for.push(target);
        notes.extend(note);
    }
    let (_, weights) = predictor.above();
    let output = exported::output(&plan, activation);
    let graph = |tokens: usize| match field {
        Some(field) => predictor.graph_of_field(field, tokens),
        None => predictor.graph_for_length(tokens),
    };
    let above = Above { graph: &graph, weights, task, output };
    let mut model = merge(frozen, &above, activation, input)?;
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
    Metadata { activation, input, plan: plan.clone(), provenance }.write(&mut model)?;
    let file = scratch.file(MODEL);
    onnx::write(&model, &file)?;
    drop(model);
    notes.extend(describe(&scratch, &plan, (request.activation, input), context)?);

    let mut samples = samples(&predictor, request, context)?;
    let items = items_of(&samples);
    let mut live = match field {
        Some(field) => predictor.outputs_of(field, &items, context)?,
        None => predictor.outputs(&items, context)?,
    };
    drop(predictor);
    let width = live.len() / items.len().max(1);
    live.chunks_exact_mut(width.max(1)).for_each(|row| activation.apply(row));
    if let Some(place) = field.and_then(|field| whole.plan.data.fields().iter().position(|known| known.name == field)) {
        samples.iter_mut().for_each(|(row, _)| *row = vec![row[place].clone()]);
    }
    let items = items_of(&samples);
    let mut comparisons: Vec<Comparison> = Vec::new();
    // One provider runs all towers of a file; the plain processor runs whatever another one does.
    let plain = runtime::prepare(&context.fetcher(), Provider::Cpu, Precision::Fp32)?;
    let own_target = prepared_for.into_iter().next().unwrap_or_else(|| plain.clone());
    let is_processor = own_target.choice.info.name == plain.choice.info.name;
    for (prepared, is_plain) in [(&own_target, false), (&plain, true)] {
        if is_plain && is_processor {
            continue;
        }
        let (exact, told) = (!is_plain && precision == own, is_plain);
        let runtime = format!("{}, {}", prepared.choice.info.name, prepared.precision.name());
        let outputs = outputs_of(&file, prepared, &items, (activation, input), &plan, context)?;
        let threshold = if activation == Activation::Sigmoid { 0.5 } else { 0.0 };
        let compared =
            Compared { runtime, live: &live, export: &outputs, width, task, threshold, exact, told, postprocess };
        let comparison = compared.compare();
        comparison.check(&file_name(folder))?;
        comparisons.push(comparison);
    }
    let bytes = put_in_place(&scratch, folder, &names_beside(&plan))?;
    if own != precision || plan.plan.engine.precision != precision {
        let run_in = plan.plan.engine.precision.name();
        notes.push(format!("the run computed in {run_in}; the file's backbone is in {}", precision.name()));
    }
    Ok(Exported { model: folder.join(MODEL), bytes, comparisons, notes })
}

fn items_of(samples: &[(Vec<Sample>, String)]) -> Vec<Item<'_>> {
    samples
        .iter()
        .enumerate()
        .map(|(index, (samples, origin))| Item { index, samples, origin: origin.into() })
        .collect()
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
        (row.samples.to_vec(), row.origin.to_string())
    });
    Ok(chosen.collect())
}

/// What the exported file gives on a provider, sample by sample.
fn outputs_of(
    model: &Path,
    prepared: &Prepared,
    items: &[Item<'_>],
    form: (Activation, Input),
    plan: &ResolvedPlan,
    context: &Context<'_>,
) -> Result<Vec<f32>> {
    let mut tower = exported::open(model, prepared, &mut plan.clone(), form, context)?;
    let what = format!("the export on {}", prepared.choice.info.name);
    let rows =
        work(context.progress, &what, Some(items.len() as u64), Unit::Samples, || tower.rows(items, 8, context))?;
    Ok(rows.into_iter().next().unwrap_or_default().concat())
}

fn file_name(folder: &Path) -> String {
    folder.join(MODEL).display().to_string()
}

/// Renames the finished files to their places, the model last.
fn put_in_place(scratch: &Scratch, folder: &Path, beside: &[String]) -> Result<u64> {
    let mut bytes = 0;
    for name in beside.iter().map(String::as_str).chain([DATA, MODEL]) {
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
