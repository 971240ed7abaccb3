//! The engine of a run: what it is made of, its building, and the columns that it fills.

use std::collections::BTreeMap;
use std::thread::available_parallelism;

use super::calibration;
use super::context::Context;
use super::record::Stored;
use super::resolve::Resolved;
use crate::base::progress::Event;
use crate::base::{Digest, Error, Home, Result};
use crate::cache::{Column, ColumnSpec, Store};
use crate::engine::manifest::Checks;
use crate::engine::precision::{Calibration, CalibrationSamples, Conversion};
use crate::engine::runtime::{self, Prepared};
use crate::engine::verify::compare;
use crate::engine::{
    BuildRequest, Built, Engine, Manifest, OneByOne, OnnxRuntime, build, fetch_model, part, row_shapes_on, run_on,
    shelf,
};
use crate::plan::key::Ingredients;
use crate::plan::{Plan, ResolvedPlan};
use crate::recipe::Precision;
use crate::resource::{Address, Fetched, Fetcher};
use crate::sample::Ready;
use crate::sample::image::ImagePreprocess;

/// The columns of a run, in the order of the engine's outputs.
pub struct Columns {
    pub(super) engine: Built,
    pub(super) columns: Vec<Column>,
    /// Those of the views, where there are several.
    pub(super) views: Vec<Column>,
    names: Vec<String>,
    /// Those of the towers behind the first.
    pub(super) others: Vec<Self>,
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

    /// The columns of the views, in the order of the outputs; none where samples have one view.
    pub fn views(&self) -> &[Column] {
        &self.views
    }

    /// How each output is stored.
    pub fn stored(&self) -> BTreeMap<String, Stored> {
        let all = std::iter::once(self).chain(&self.others).flat_map(Self::iter);
        let stored = |column: &Column| Stored { dtype: column.spec().dtype, error: column.error() };
        all.map(|(name, column)| (name.to_string(), stored(column))).collect()
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
    let samples = || calibration::samples(resolved, context);
    let built = build_engine(&resolved.plan, &resolved.source, &samples, context)?;
    let built = compared(built, resolved, context)?;
    let shapes = match known_shapes(&built) {
        Some(shapes) => shapes,
        None => shapes(&built, &mut *resolved.source.open(&built)?, resolved.source.probed(&resolved.plan))?,
    };
    let store = Store::open(context.home)?;
    let plan = &resolved.plan;
    let (mut columns, mut views) = (Vec::new(), Vec::new());
    for (output, RowShape { shape, per_token }) in plan.cut().iter().zip(&shapes) {
        let spec = |ingredients: Ingredients<'_>| ColumnSpec {
            key: ingredients.key(),
            ingredients: ingredients.to_map(),
            row_shape: shape.clone(),
            ragged: *per_token,
            dtype: plan.plan.cache.dtype,
            made_by: plan.plan.name.clone(),
        };
        columns.push(store.column(&spec(plan.ingredients(output)), context.progress)?);
        if let Some((augment, _)) = plan.plan.augment() {
            views.push(store.column(&spec(plan.view_ingredients(output, &augment)), context.progress)?);
        }
    }
    let names: Vec<String> =
        plan.cut().iter().map(|output| input_name(resolved.field.as_deref(), &output.name)).collect();
    let shown: Vec<String> = names.iter().zip(&shapes).map(|(name, shape)| format!("{name} {shape}")).collect();
    let how = if built.reused { "built before" } else { "built" };
    let engine = &plan.plan.engine;
    let provider = resolved.source.engine.choice.info.name;
    let parity = built.manifest.checked_by(&resolved.source.engine.describe()).and_then(Checks::worst_cosine);
    let parity = parity.map(|cosine| format!(", cosine {cosine:.5} to fp32")).unwrap_or_default();
    let float = match built.manifest.calibration.as_ref().map_or(0, |calibrated| calibrated.float_layers.len()) {
        0 => String::new(),
        count => format!(", {count} layers left in float"),
    };
    let summary = format!("{} on {provider}, {}{parity}{float}, {how}", engine.precision.name(), shown.join(", "));
    let mut others = Vec::new();
    let mut summaries = vec![summary];
    for tower in &resolved.others {
        let (columns, summary) = self::columns(tower, context)?;
        others.push(columns);
        summaries.push(summary);
    }
    Ok((Columns { engine: built, columns, views, names, others }, summaries.join("; ")))
}

/// The name of a graph's input: of the output, and with several towers of the field.
pub fn input_name(field: Option<&str>, output: &str) -> String {
    field.map_or_else(|| output.to_string(), |field| format!("{field}.{output}"))
}

/// Samples that an engine is compared with fp32 on.
const COMPARED: usize = 8;

/// Compares an engine that is not in fp32 with one that is, on training samples, unless that was done before.
fn compared(mut built: Built, resolved: &Resolved, context: &Context<'_>) -> Result<Built> {
    let runtime = resolved.source.engine.describe();
    let known = built.manifest.checked_by(&runtime).is_some_and(|checks| !checks.parity.is_empty());
    if known || resolved.plan.plan.engine.precision == Precision::Fp32 || !resolved.source.has_fp32() {
        return Ok(built);
    }
    let rows: Vec<usize> = resolved.dataset.splits.train.iter().map(|&row| row as usize).take(COMPARED).collect();
    let samples = calibration::inputs(resolved, &rows, context)?;
    if samples.is_empty() {
        return Ok(built);
    }
    let plain = resolved.in_fp32()?;
    let in_fp32 = build_engine(&plain.plan, &plain.source, &|| calibration::samples(&plain, context), context)?;
    let (mut ours, mut theirs) = (resolved.source.open(&built)?, plain.source.open(&in_fp32)?);
    let probe = |seed| resolved.source.ready.probe(seed, 0);
    let samples = (&samples[..], "training samples");
    let checks = compare(&built.manifest, &mut *ours, &mut *theirs, samples, &probe, &runtime)?;
    built.manifest.set_checks(checks);
    built.manifest.write(&built.folder)?;
    Ok(built)
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

    /// A built engine, ready to run; one that was found to mix the samples of a batch is given one at a time.
    ///
    /// # Errors
    /// The provider cannot be set up, or cannot load the model.
    pub fn open(&self, built: &Built) -> Result<Box<dyn Engine>> {
        let threads = available_parallelism().map_or(1, usize::from);
        let engine = Box::new(OnnxRuntime::open(&self.engine, &self.home, &built.model(), threads)?);
        let manifest = Manifest::read(&built.folder)?;
        match manifest.checked_by(&self.engine.describe()).is_none_or(|checks| checks.batch_invariant) {
            true => Ok(engine),
            false => Ok(Box::new(OneByOne(engine))),
        }
    }

    /// How samples become the model's inputs, and whether what comes out has one shape, as what is trained on needs.
    pub fn probed(&self, plan: &ResolvedPlan) -> (&Ready, bool) {
        (&self.ready, plan.frontier.is_some())
    }

    /// Whether there is a model in fp32: an engine that stands in for its source may be in fp16.
    pub fn has_fp32(&self) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.manifest.precision == Precision::Fp32.name())
    }

    /// The same model on the processor in fp32.
    ///
    /// # Errors
    /// There is no such provider.
    pub fn in_fp32(&self) -> Result<Self> {
        let Self { model, engine, kept, ready, tokenizer, home } = self;
        let (model, kept, ready, home) = (model.clone(), kept.clone(), ready.clone(), home.clone());
        Ok(Self { model, engine: engine.on_processor()?, kept, ready, tokenizer: *tokenizer, home })
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
    // A trained tail is read from the source, and a calibration quantises it.
    let whole = backbone.tail.is_some() || plan.engine.precision == Precision::Int8;
    if whole || context.fetcher().cached(&backbone.source).is_some() {
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

/// Cuts the source model and converts it, or finds that it was done before. `samples` gives what an engine in `int8` is
/// calibrated on.
///
/// # Errors
/// Those of the cut and of the conversion; a model with several inputs, where one is needed.
pub fn build_engine(
    resolved: &ResolvedPlan,
    source: &Source,
    samples: &dyn Fn() -> Result<CalibrationSamples>,
    context: &Context<'_>,
) -> Result<Built> {
    let plan = &resolved.plan;
    let probe = |seed| source.ready.probe(seed, 0);
    let calibration = plan.engine.calibration.as_ref().zip(resolved.calibration).map(|(config, digest)| Calibration {
        config,
        digest,
        samples,
        probe: &probe,
        target: &source.engine,
        progress: context.progress,
        cancel: context.cancel,
    });
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
        inputs: backbone.preprocess.text().map(|steps| &steps.inputs),
        image: backbone.preprocess.image().map(|steps| steps.output_shape()).map(|[_, height, width]| [height, width]),
        conversion: calibration.as_ref().map_or(Conversion::of(plan.engine.precision), Conversion::Int8),
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

/// The shape of one row of every output: from the manifest, else from the runtime, else by running once. With `fixed` no
/// shape varies from sample to sample.
///
/// # Errors
/// Those of the engine; an output that is empty.
pub fn shapes(built: &Built, engine: &mut dyn Engine, (ready, fixed): (&Ready, bool)) -> Result<Vec<RowShape>> {
    if let Some(shapes) = known_shapes(built) {
        return Ok(shapes);
    }
    if fixed && let Some(shapes) = row_shapes_on(engine, &ready.probe(0, 0))? {
        return Ok(shapes.into_iter().map(|shape| RowShape { shape, per_token: false }).collect());
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
