//! The stages around the engine: its building, the columns it fills, and the pass that fills them.

use std::thread::available_parallelism;

use super::activations::{Outcome, Task};
use super::context::Context;
use super::history::History;
use super::record::Activations;
use super::resolve::Resolved;
use crate::base::progress::Event;
use crate::base::{Digest, Error, Home, Result};
use crate::cache::{Column, ColumnSpec, Store};
use crate::engine::precision::Conversion;
use crate::engine::runtime::{self, Prepared};
use crate::engine::verify::may_batch;
use crate::engine::{BuildRequest, Built, Engine, Manifest, OnnxRuntime, build, fetch_model, part, run_on, shelf};
use crate::plan::{Plan, ResolvedPlan};
use crate::resource::{Address, Fetched, Fetcher};
use crate::sample::Ready;
use crate::sample::image::ImagePreprocess;

/// The columns of a run, in the order of the engine's outputs.
pub struct Columns {
    engine: Built,
    columns: Vec<Column>,
    names: Vec<String>,
    /// Those of the towers behind the first.
    others: Vec<Self>,
}

impl Columns {
    /// Each output with its column's key.
    pub fn keys(&self) -> impl Iterator<Item = (String, Digest)> + '_ {
        let all = std::iter::once(self).chain(&self.others).flat_map(|columns| columns.iter());
        all.map(|(name, column)| (name.to_string(), column.spec().key))
    }

    /// The engine that fills the columns, ready to run.
    ///
    /// # Errors
    /// Those of [`Source::open`].
    pub fn open(&self, source: &Source) -> Result<Box<dyn Engine>> {
        source.open(&self.engine)
    }

    /// What the engine is made of.
    pub fn manifest(&self) -> &Manifest {
        &self.engine.manifest
    }

    /// Those of the towers behind the first.
    pub fn others(&self) -> &[Self] {
        &self.others
    }

    /// Each output with its column.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Column)> {
        self.names.iter().map(String::as_str).zip(&self.columns)
    }
}

/// Builds the cut engine, or finds the one that was built before, and opens its columns.
///
/// # Errors
/// Those of the cut and of the cache; outputs whose shape varies.
pub fn columns(resolved: &Resolved, context: &Context<'_>) -> Result<(Columns, String)> {
    let built = build_engine(&resolved.plan, &resolved.source, context)?;
    let shapes = match known_shapes(&built) {
        Some(shapes) => shapes,
        None => shapes(&built, &mut *resolved.source.open(&built)?, &resolved.source.ready)?,
    };
    let store = Store::open(context.home)?;
    let plan = &resolved.plan;
    let mut columns = Vec::new();
    for (output, RowShape { shape, per_token }) in plan.cut().iter().zip(&shapes) {
        let ingredients = plan.ingredients(output);
        let spec = ColumnSpec {
            key: ingredients.key(),
            ingredients: ingredients.to_map(),
            row_shape: shape.clone(),
            ragged: *per_token,
            dtype: plan.plan.cache.dtype,
            made_by: plan.plan.name.clone(),
        };
        columns.push(store.column(&spec, context.progress)?);
    }
    let names: Vec<String> =
        plan.cut().iter().map(|output| input_name(resolved.field.as_deref(), &output.name)).collect();
    let shown: Vec<String> = names.iter().zip(&shapes).map(|(name, shape)| format!("{name} {shape}")).collect();
    let how = if built.reused { "built before" } else { "built" };
    let engine = &plan.plan.engine;
    let provider = resolved.source.engine.choice.info.name;
    let summary = format!("{} on {provider}, {}, {how}", engine.precision.name(), shown.join(", "));
    let mut others = Vec::new();
    let mut summaries = vec![summary];
    for tower in &resolved.others {
        let (columns, summary) = self::columns(tower, context)?;
        others.push(columns);
        summaries.push(summary);
    }
    Ok((Columns { engine: built, columns, names, others }, summaries.join("; ")))
}

/// The name of a graph's input: of the output, and with several towers of the field.
pub fn input_name(field: Option<&str>, output: &str) -> String {
    field.map_or_else(|| output.to_string(), |field| format!("{field}.{output}"))
}

/// Runs the engine of every tower over every sample whose activations are not stored yet. All rows of a bad
/// sample are skipped.
///
/// # Errors
/// Those of [`Task::fill`].
pub fn fill(resolved: &Resolved, columns: &Columns, context: &Context<'_>) -> Result<(Outcome, String)> {
    let (mut outcome, summary) = fill_one(resolved, columns, context)?;
    let mut summaries = vec![summary];
    // Rows with equal bytes share one activation, and so one verdict.
    let bad: std::collections::HashMap<Digest, String> =
        outcome.skipped.drain(..).map(|(row, reason)| (resolved.digests[row], reason)).collect();
    let verdicts = resolved.digests.iter().enumerate().filter(|_| !bad.is_empty());
    outcome.skipped = verdicts.filter_map(|(row, digest)| Some((row, bad.get(digest)?.clone()))).collect();
    for (tower, columns) in resolved.others.iter().zip(&columns.others) {
        let (other, summary) = fill(tower, columns, context)?;
        outcome.activations.computed += other.activations.computed;
        outcome.activations.reused += other.activations.reused;
        outcome.skipped.extend(other.skipped);
        summaries.push(summary);
    }
    outcome.skipped.sort();
    Ok((outcome, summaries.join("; ")))
}

fn fill_one(resolved: &Resolved, columns: &Columns, context: &Context<'_>) -> Result<(Outcome, String)> {
    let plan = &resolved.plan.plan;
    let mut task = Task {
        dataset: &resolved.dataset,
        digests: &resolved.digests,
        columns: &columns.columns,
        ready: &resolved.source.ready,
        batch_size: plan.engine.batch_size,
        on_error: plan.data.common.on_error,
        progress: context.progress,
        cancel: context.cancel,
    };
    let missing = task.missing();
    if missing.is_empty() {
        let activations = Activations { computed: 0, reused: task.distinct() };
        let summary = format!("0 computed, {} reused", activations.reused);
        return Ok((Outcome { activations, skipped: Vec::new() }, summary));
    }
    let mut engine = resolved.source.open(&columns.engine)?;
    let runtime = resolved.source.engine.describe();
    if !may_batch(&columns.engine, &mut *engine, &|seed| task.ready.probe(seed, 0), &runtime)? {
        let name = &plan.model.backbone.name;
        let what = format!("what `{name}` gives for a sample depends on its batch here, so each runs alone");
        context.progress.event(Event::Warning(what));
        task.batch_size = 1;
    }
    let begin = std::time::Instant::now();
    let outcome = task.fill(&missing, &mut *engine)?;
    for column in &columns.columns {
        column.refresh(context.progress)?;
    }
    let Activations { computed, reused } = outcome.activations;
    let secs = begin.elapsed().as_secs_f64().max(1e-9);
    History::open(context.home)?.add(&resolved.plan, computed, secs)?;
    let rate = computed as f64 / secs;
    let skipped = match outcome.skipped.len() {
        0 => String::new(),
        count => format!(", {count} skipped"),
    };
    let summary = format!("{computed} computed at {rate:.1} samples/s, {reused} reused{skipped}");
    Ok((outcome, summary))
}

/// What an engine is made of: the source model and the provider that runs it, on this machine.
pub struct Source {
    /// The source model; its digest is that of all its weights, those in files beside it included.
    pub model: Fetched,
    /// The provider with all it needs.
    pub engine: Prepared,
    /// How samples become the model's inputs.
    pub ready: Ready,
    /// The digest of the tokenizer, for text.
    pub tokenizer: Option<Digest>,
    /// The engine that stands in for the source, where only that is here.
    kept: Option<Built>,
    home: Home,
}

impl Source {
    /// Fetches what is not here yet.
    ///
    /// # Errors
    /// Those of the fetcher.
    pub fn fetch(plan: &Plan, context: &Context<'_>) -> Result<Self> {
        let fetcher = context.fetcher();
        let engine = runtime::prepare(&fetcher, plan.engine.provider, plan.engine.precision)?;
        let why = format!("`{}` runs the engine: {}", engine.choice.info.name, engine.choice.why);
        context.progress.event(Event::Detail(why));
        let kept = stand_in(plan, context)?;
        let model = match &kept {
            Some(kept) => {
                kept.manifest.check_files(&kept.folder, fetcher.digests()?)?;
                let (shown, id) = (&kept.manifest.name, shelf::id(kept));
                let from = kept.manifest.origin.as_ref().map(|origin| format!(" of {origin}")).unwrap_or_default();
                let what = format!("the engine `{shown}` ({id}){from} stands in for its source, which is not here");
                context.progress.event(Event::Detail(what));
                Fetched { path: kept.model(), digest: kept.manifest.source.digest }
            }
            None => fetch_model(&fetcher, &plan.model.backbone.source)?,
        };
        let (ready, tokenizer) = ready(plan, &fetcher)?;
        let tokenizer = tokenizer.map(|tokenizer| tokenizer.digest);
        Ok(Self { model, engine, kept, ready, tokenizer, home: context.home.clone() })
    }

    /// A built engine, ready to run.
    ///
    /// # Errors
    /// The provider cannot be set up, or cannot load the model.
    pub fn open(&self, built: &Built) -> Result<Box<dyn Engine>> {
        let threads = available_parallelism().map_or(1, usize::from);
        Ok(Box::new(OnnxRuntime::open(&self.engine, &self.home, &built.model(), threads)?))
    }
}

/// How samples become the model's inputs, with the tokenizer's file for text.
///
/// # Errors
/// Those of the fetcher, and of the tokenizer.
pub fn ready(plan: &Plan, fetcher: &Fetcher<'_>) -> Result<(Ready, Option<Fetched>)> {
    let backbone = &plan.model.backbone;
    let tokenizer = backbone.tokenizer.as_ref().map(|tokenizer| fetcher.fetch(tokenizer)).transpose()?;
    let ready = backbone.preprocess.ready(tokenizer.as_ref().map(|tokenizer| tokenizer.path.as_path()))?;
    Ok((ready, tokenizer))
}

/// The engine to use in place of a source that is not here, if one is kept.
fn stand_in(plan: &Plan, context: &Context<'_>) -> Result<Option<Built>> {
    let backbone = &plan.model.backbone;
    // A trained tail is read from the source.
    if backbone.tail.is_some() || context.fetcher().cached(&backbone.source).is_some() {
        return Ok(None);
    }
    let text = backbone.source.to_string();
    let (name, address) = match &backbone.source.address {
        Address::Engine { name } => (name, None),
        _ => (&backbone.name, Some(text.as_str())),
    };
    let precision = Conversion::of(plan.engine.precision).precision().name();
    let image = backbone.preprocess.image().map(ImagePreprocess::output_shape);
    shelf::stand_in(context.home, name, address, precision, &backbone.outputs, image)
}

/// Cuts the source model, or finds that it was cut before.
///
/// # Errors
/// Those of the cut; a model with several inputs, where one is needed.
pub fn build_engine(resolved: &ResolvedPlan, source: &Source, context: &Context<'_>) -> Result<Built> {
    let plan = &resolved.plan;
    let backbone = &plan.model.backbone;
    if let Some(kept) = &source.kept {
        return part(context.home, kept, &backbone.outputs);
    }
    let address = backbone.source.to_string();
    let request = BuildRequest {
        name: &backbone.name,
        source: &source.model.path,
        address: &address,
        digest: source.model.digest,
        outputs: resolved.cut(),
        licence: backbone.licence.as_deref(),
        family: backbone.family.as_deref(),
        tasks: &backbone.tasks,
        preprocess: backbone.preprocess.image(),
        image: backbone.preprocess.image().map(|steps| steps.output_shape()).map(|[_, height, width]| [height, width]),
        conversion: Conversion::of(plan.engine.precision),
    };
    let built = build(context.home, &request)?;
    if backbone.preprocess.image().is_some() {
        built.manifest.only_input()?;
    }
    Ok(built)
}

/// The shape of an output's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowShape {
    /// Of one row; of one token if rows have different numbers of them.
    pub shape: Vec<usize>,
    /// Whether a row is a list of tokens, as many as its sample has.
    pub per_token: bool,
}

impl std::fmt::Display for RowShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tokens = if self.per_token { "tokens × " } else { "" };
        write!(f, "{tokens}{:?}", self.shape)
    }
}

/// The shape of one row of every output, where the engine's manifest tells them all.
fn known_shapes(built: &Built) -> Option<Vec<RowShape>> {
    let shape = |shape: Vec<usize>| RowShape { shape, per_token: false };
    let outputs = built.manifest.outputs.iter();
    outputs.map(|output| Some(shape(output.shape.as_ref()?.iter().copied().collect::<Option<_>>()?))).collect()
}

/// The shape of one row of every output: from the manifest, else from the runtime, else by running once.
///
/// # Errors
/// Those of the engine; an output that is empty.
pub fn shapes(built: &Built, engine: &mut dyn Engine, ready: &Ready) -> Result<Vec<RowShape>> {
    if let Some(shapes) = known_shapes(built) {
        return Ok(shapes);
    }
    // Two samples of different sizes tell what varies.
    let (mut tokens, mut sizes) = (Vec::new(), Vec::new());
    for size in 0..2 {
        let inputs = ready.probe(0, size);
        let mut outputs = vec![Vec::new(); engine.outputs().len()];
        run_on(engine, &inputs, &mut outputs)?;
        tokens.push(inputs.first().and_then(|input| input.shape.get(1)).copied().unwrap_or(1).max(1));
        sizes.push(outputs.iter().map(Vec::len).collect::<Vec<_>>());
    }
    let shapes = engine.outputs().iter().zip(sizes[0].iter().zip(&sizes[1])).map(|(port, (&one, &other))| {
        let known: Option<Vec<usize>> = port.row_shape.iter().copied().collect();
        let tail: Option<Vec<usize>> = port.row_shape.iter().skip(1).copied().collect();
        let fits = |shape: &Vec<usize>, size: usize| shape.iter().product::<usize>() == size;
        let width = one / tokens[0];
        match known.filter(|shape| fits(shape, one)) {
            _ if one == 0 => Err(Error::bad_input(format!("output `{}` is empty", port.name))),
            Some(shape) if one == other => Ok(RowShape { shape, per_token: false }),
            None if one == other => Ok(RowShape { shape: vec![one], per_token: false }),
            _ if ready.varies() && width * tokens[0] == one && width * tokens[1] == other => {
                let shape = tail.filter(|tail| fits(tail, width)).unwrap_or(vec![width]);
                Ok(RowShape { shape, per_token: true })
            }
            _ => Err(Error::bad_input(format!("the rows of output `{}` vary, and not with the tokens", port.name))),
        }
    });
    shapes.collect()
}
