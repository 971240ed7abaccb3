//! The files beside an exported model, and what is said of it.

use std::fs;

use super::TOKENIZER;
use crate::base::{Error, Result, file};
use crate::engine::verify::Scratch;
use crate::export::hugging_face::{self, Files};
use crate::export::{Activation, Input};
use crate::graph::Task;
use crate::plan::ResolvedPlan;
use crate::postprocess::Output;
use crate::run::context::Context;
use crate::run::engine;
use crate::run::exported::tokenizer_name;

/// Hugging Face's description of a model.
const CONFIG: &str = "config.json";

/// Writes Hugging Face's files and tokenizers; says what loads the model and what is not inside.
///
/// # Errors
/// Those of the fetcher and of the file system.
pub fn describe(
    scratch: &Scratch,
    plan: &ResolvedPlan,
    form: (Activation, Input),
    context: &Context<'_>,
) -> Result<Vec<String>> {
    let task = plan.plan.train.loss().task();
    if let Some(postprocess) = &plan.plan.model.postprocess {
        let Output { name, shape, what } = postprocess.output();
        let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
        return Ok(vec![format!(
            "`{name}` [batch, {}] are {what}, `{}` is inside; ONNX Runtime loads the file, and `caft predict`",
            dims.join(", "),
            postprocess.name()
        )]);
    }
    if plan.plan.model.towers.is_empty() {
        let files = of_one(scratch, plan, (None, task), context)?;
        write_json(scratch, CONFIG, &files.config)?;
        let mut notes = files.notes;
        notes.push(who_loads(files.model_type, task, form));
        notes.push(match (form.1, plan.plan.model.backbone.preprocess.image()) {
            (Input::Pixels, Some(steps)) => {
                let side = steps.output_shape()[1];
                format!("decoding, resizing and cropping to {side}×{side} are not inside")
            }
            _ => format!("the preprocess is not inside; `{}` and the metadata say it", files.preprocessor.0),
        });
        return Ok(notes);
    }
    let mut notes = Vec::new();
    let towers = std::iter::once(plan).chain(&plan.towers);
    for (tower, field) in towers.zip(plan.plan.model.towers.keys()) {
        let files = of_one(scratch, tower, (Some(field), task), context)?;
        let mut config = files.config;
        if let Some(map) = config.as_object_mut() {
            // Of two networks together there is no architecture.
            map.retain(|key, _| key != "model_type" && key != "architectures");
        }
        write_json(scratch, CONFIG, &config)?;
        notes.extend(files.notes);
    }
    notes.push(
        "Hugging Face has no architecture of two networks under one head; ONNX Runtime loads the file, and `caft predict`"
            .into(),
    );
    notes.push(match form.1 {
        Input::Pixels => "inputs are called `FIELD.INPUT`; of pictures scaling and normalisation are inside".into(),
        Input::Tensor => {
            "inputs are called `FIELD.INPUT`; the preprocess is not inside, and the metadata say it".into()
        }
    });
    Ok(notes)
}

/// Writes what belongs to one backbone's input.
fn of_one(
    scratch: &Scratch,
    plan: &ResolvedPlan,
    (field, task): (Option<&str>, Task),
    context: &Context<'_>,
) -> Result<Files> {
    let backbone = &plan.plan.model.backbone;
    let (_, tokenizer) = engine::ready(&plan.plan, &context.fetcher())?;
    let mut text = None;
    if let Some(tokenizer) = &tokenizer {
        let to = scratch.file(&tokenizer_name(field));
        fs::copy(&tokenizer.path, &to).map_err(Error::io("write", &to))?;
        text = Some(file::read_text(&to, 1 << 30)?);
    }
    let of_catalogue = backbone.family.as_deref().map(|family| (family, backbone.name.as_str()));
    let files = hugging_face::files(of_catalogue, (&plan.classes, task), &backbone.preprocess, text.as_deref());
    let name = match field {
        // A tokenizer goes by the name of its field then, which Hugging Face does not look for.
        Some(_) if tokenizer.is_some() => return Ok(files),
        _ => files.preprocessor.0,
    };
    write_json(scratch, name, &files.preprocessor.1)?;
    Ok(files)
}

fn write_json(scratch: &Scratch, name: &str, value: &serde_json::Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::failed("a configuration does not serialise").because(e))?;
    file::write_bytes(&scratch.file(name), (text + "\n").as_bytes())
}

fn who_loads(model_type: Option<&str>, task: Task, (activation, input): (Activation, Input)) -> String {
    let plain = input == Input::Tensor && activation == Activation::None;
    match (model_type, plain) {
        _ if task == Task::Embedding => {
            "optimum's pipelines classify, and this gives embeddings; ONNX Runtime loads the file, and `caft embed`"
                .into()
        }
        (Some(model_type), true) => {
            format!("optimum's pipelines for classification load the folder as `{model_type}`")
        }
        (Some(_), false) => {
            "optimum's pipelines load only `--input tensor --activation none`; ONNX Runtime loads this file".into()
        }
        (None, _) => {
            "optimum has no architecture of this backbone; ONNX Runtime loads the file, and `caft predict`".into()
        }
    }
}

/// The names of the files that may be beside a model.
pub fn names_beside(plan: &ResolvedPlan) -> Vec<String> {
    let fixed = [CONFIG, "preprocessor_config.json", "tokenizer_config.json", TOKENIZER];
    let of_fields = plan.plan.model.towers.keys().map(|field| tokenizer_name(Some(field)));
    fixed.into_iter().map(String::from).chain(of_fields).collect()
}
