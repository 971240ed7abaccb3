//! An exported file as an engine: from a row's samples to what the file gives.

use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use super::context::Context;
use super::engine::RowShape;
use super::pixels::{self, FromPixels};
use super::tower::{Intake, Tower};
use crate::base::{Digest, Error, Result};
use crate::engine::runtime::Prepared;
use crate::engine::{Engine, OnnxRuntime};
use crate::export::{Activation, Input};
use crate::plan::ResolvedPlan;
use crate::sample::Ready;

/// What the name of a tokenizer beside an exported file ends with.
pub const TOKENIZER: &str = "tokenizer.json";

/// The name of the tokenizer of a field, or of the only one, beside an exported file.
pub fn tokenizer_name(field: Option<&str>) -> String {
    field.map_or_else(|| TOKENIZER.to_string(), |field| format!("{field}.{TOKENIZER}"))
}

/// Opens an exported file on a provider. Its tokenizers are those beside it, or else those that the run names. The
/// steps of `plan` become those that the file itself does not do.
///
/// # Errors
/// The runtime cannot load it; a tokenizer is another than the run's.
pub fn open(
    path: &Path,
    prepared: &Prepared,
    plan: &mut ResolvedPlan,
    (activation, input): (Activation, Input),
    context: &Context<'_>,
) -> Result<Tower> {
    let threads = available_parallelism().map_or(1, usize::from);
    let mut engine: Box<dyn Engine> = Box::new(OnnxRuntime::open(prepared, context.home, path, threads)?);
    if input == Input::Pixels {
        engine = Box::new(FromPixels::new(engine));
        for plan in std::iter::once(&mut plan.plan).chain(plan.towers.iter_mut().map(|tower| &mut tower.plan)) {
            plan.model.backbone.preprocess = pixels::whole(&plan.model.backbone.preprocess);
        }
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let fields = plan.plan.data.fields();
    let of_towers: Vec<&String> = plan.plan.model.towers.keys().collect();
    let intakes = match &of_towers[..] {
        [] => {
            let ready = ready(plan, &folder.join(TOKENIZER), context)?;
            vec![Intake { prefix: String::new(), ready, fields: 0..fields.len() }]
        }
        names => {
            let towers = std::iter::once(&*plan).chain(&plan.towers);
            let intake = |(tower, name): (&ResolvedPlan, &&String)| {
                let place = fields.iter().position(|field| field.name == **name);
                let place = place.ok_or_else(|| Error::bad_input(format!("the data have no field `{name}`")))?;
                let ready = ready(tower, &folder.join(tokenizer_name(Some(name))), context)?;
                Ok(Intake { prefix: format!("{name}."), ready, fields: place..place + 1 })
            };
            towers.zip(names).map(intake).collect::<Result<Vec<_>>>()?
        }
    };
    let shape = match &plan.plan.model.postprocess {
        Some(postprocess) => postprocess.output().shape,
        None => vec![plan.plan.model.head.width(plan.classes.len())],
    };
    let outputs = vec![(output(plan, activation).into(), RowShape { shape, per_token: false })];
    Ok(Tower { engine, intakes, outputs })
}

/// What the output of an exported file is called.
pub fn output(plan: &ResolvedPlan, activation: Activation) -> &'static str {
    match &plan.plan.model.postprocess {
        Some(postprocess) => postprocess.output().name,
        None => activation.output(plan.plan.train.loss().task()),
    }
}

/// How samples become inputs, with the tokenizer beside the file where there is one.
fn ready(plan: &ResolvedPlan, beside: &Path, context: &Context<'_>) -> Result<Ready> {
    let backbone = &plan.plan.model.backbone;
    let tokenizer: Option<PathBuf> = match (&backbone.tokenizer, beside.exists()) {
        (None, _) => None,
        (Some(_), true) => {
            if plan.tokenizer.is_some_and(|known| Digest::of_file(beside).ok() != Some(known)) {
                return Err(Error::bad_input(format!("`{}` is not the run's tokenizer", beside.display()))
                    .hint("keep the files of an export together"));
            }
            Some(beside.to_path_buf())
        }
        (Some(resource), false) => Some(context.fetcher().fetch(resource)?.path),
    };
    backbone.preprocess.ready(tokenizer.as_deref())
}
