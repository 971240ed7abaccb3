//! Rules of backbones: where they come from, what they take and give, and what of them is trained.

use super::{Check, Rule, with_hint};
use crate::backbone::TrainSource;
use crate::base::Problems;
use crate::base::suggest::{did_you_mean, one_of};
use crate::head::HeadConfig;
use crate::plan::build;
use crate::plan::build::whole_is_trained;
use crate::recipe::{BackboneConfig, Mode};
use crate::sample::{Modality, Transform};

pub(super) fn one_backbone(check: &mut Check<'_>) {
    if !check.recipe.model.towers.is_empty() {
        if check.backbone().is_some() {
            check.problem("model.towers", "stand in place of `model.backbone`; give one of the two");
        }
        return;
    }
    let Some(BackboneConfig { name, onnx, outputs, .. }) = check.backbone() else {
        return check.problem("model.backbone", "is missing; name a catalogue entry (`caft models`) or an `onnx` file");
    };
    match (name, onnx) {
        (None, None) => check.problem("model.backbone", "needs a `name` from the catalogue or an `onnx` file"),
        (None, Some(_)) if outputs.is_none() && check.recipe.model.full.is_none() => {
            let message = "is missing; for an `onnx` file it names the tensors at which the model is cut";
            check.problem("model.backbone.outputs", message);
        }
        _ => {}
    }
}

pub(super) fn backbone_is_known(check: &mut Check<'_>) {
    let Some(name) = check.backbone().and_then(|backbone| backbone.name.as_deref()) else { return };
    match check.catalogue.get(name) {
        Err(_) => {
            let guess = did_you_mean(name, check.catalogue.names());
            check
                .problem("model.backbone.name", format!("unknown backbone `{name}`{guess} (`caft models` lists them)"));
        }
        Ok(entry) if check.backbone().is_some_and(|b| b.onnx.is_none() && whole_is_trained(b.mode)) => {
            let export = match entry.weights.train_source {
                Some(TrainSource::Export) => format!("`caft engine export {name} --train`"),
                None => "an export of your own in training mode".into(),
                _ => return,
            };
            let message = format!(
                "all of `{name}` is trained from a file with its BatchNorm intact, and none is published: make one \
                 ({export}) and write `backbone: {{name: {name}, onnx: FILE}}`, or use mode `last_block`"
            );
            check.problem("model.backbone.mode", message);
        }
        Ok(entry)
            if entry.weights.onnx.is_none()
                && check.backbone().is_some_and(|b| {
                    b.onnx.is_none() && (b.mode != Mode::Frozen || check.recipe.model.full.is_some())
                }) =>
        {
            let export = entry.weights.export.as_ref().map(|export| format!(" `{}`", export.model)).unwrap_or_default();
            let message = format!(
                "no ONNX file of `{name}` is published; export{export} and write `backbone: {{name: {name}, onnx: FILE}}`"
            );
            check.problem("model.backbone.name", message);
        }
        Ok(_) => {}
    }
}

pub(super) fn outputs_are_known(check: &mut Check<'_>) {
    let (Some(entry), Some(backbone)) = (check.entry(), check.backbone()) else { return };
    let names = backbone.outputs.clone().unwrap_or_default();
    for (i, name) in names.iter().enumerate() {
        let path = format!("model.backbone.outputs[{i}]");
        if let Err(error) = entry.output(name)
            && check.recipe.model.full.is_none()
        {
            check.problem(&path, with_hint(&error));
        } else if names[..i].contains(name) {
            check.problem(&path, format!("`{name}` is named twice"));
        }
    }
}

pub(super) fn preprocess_is_known(check: &mut Check<'_>) {
    if check.backbone().is_none() {
        return;
    }
    let preprocess = &check.recipe.data.common.preprocess;
    let unknown =
        |backbone: &BackboneConfig| backbone.onnx.is_some() && backbone.name.is_none() && backbone.tokenizer.is_none();
    let texts = check.recipe.data.fields().iter().any(|field| field.modality == Modality::Text);
    if check.backbone().is_some_and(unknown) && texts {
        let message = "is missing; a backbone for text needs a `tokenizer.json`";
        return check.problem("model.backbone.tokenizer", message);
    }
    if check.backbone().is_some_and(unknown) && preprocess.is_auto() {
        let message =
            "an `onnx` file does not say what it expects of a picture: give `resize` or `crop`, `mean`, `std`";
        return check.problem("data.preprocess", message);
    }
    let resolved = build::preprocess(check.recipe, check.entry());
    if let Err(error) = resolved.and_then(|transform| preprocess.check_used(&[&transform])) {
        check.problem("data.preprocess", error.to_string());
    }
}

/// What is asked of each tower as if it were the only backbone.
pub(super) const OF_A_TOWER: &[Rule] = &[one_backbone, backbone_is_known, outputs_are_known, trained_part_is_known];

pub(super) fn towers_fit_the_fields(check: &mut Check<'_>) {
    if check.recipe.model.towers.is_empty() {
        return;
    }
    let fields = check.recipe.data.fields();
    let mut transforms = Vec::new();
    for (name, alone) in build::towers(check.recipe) {
        let of_tower = |path: &str| path.replacen("model.backbone", &format!("model.towers.{name}"), 1);
        let whole = check.place;
        let place = |path: &str| whole(&of_tower(path));
        let mut sub =
            Check { recipe: &alone, catalogue: check.catalogue, place: &place, problems: Problems::default() };
        OF_A_TOWER.iter().for_each(|rule| rule(&mut sub));
        if sub.backbone().is_some_and(|backbone| backbone.mode != Mode::Frozen) {
            sub.problem("model.backbone.mode", "towers are not trained; they run in mode `frozen`");
        }
        let tokenizer = build::tokenizer(&alone, sub.entry()).is_some();
        match (build::preprocess(&alone, sub.entry()), fields.iter().find(|field| field.name == name)) {
            (Err(error), _) => sub.problem("data.preprocess", error.to_string()),
            (Ok(_), None) => {
                let there = one_of(fields.iter().map(|field| field.name.as_str()));
                sub.problem("model.backbone", format!("rows have no field `{name}`; there is {there}"));
            }
            (Ok(transform), Some(field)) => {
                let (has, takes) = (field.modality, transform.modality());
                if has != takes {
                    let message = format!("`{name}` has {}, and the backbone takes {}", has.name(), takes.name());
                    sub.problem("model.backbone", message);
                } else if has == Modality::Text && !tokenizer {
                    let message = "is missing; a backbone for text needs a `tokenizer.json`";
                    sub.problem("model.backbone.tokenizer", message);
                }
                transforms.push(transform);
            }
        }
        for problem in sub.problems.list {
            let path = of_tower(&problem.path);
            check.problem(&path, problem.message);
        }
    }
    for field in fields.iter().filter(|field| !check.recipe.model.towers.contains_key(&field.name)) {
        check.problem("model.towers", format!("the field `{}` has no tower", field.name));
    }
    let all: Vec<&Transform> = transforms.iter().collect();
    if let Err(error) = check.recipe.data.common.preprocess.check_used(&all) {
        check.problem("data.preprocess", error.to_string());
    }
}

pub(super) fn trained_part_is_known(check: &mut Check<'_>) {
    let (Some(backbone), entry) = (check.backbone(), check.entry()) else { return };
    let head = build::head(check.recipe);
    if let Some(head) = head.solved().filter(|_| backbone.mode != Mode::Frozen) {
        let message =
            format!("trains by steps, but the head `{}` is solved without; take `linear` or `mlp`", head.name());
        check.problem("model.backbone.mode", message);
    }
    let path = "model.backbone.train_from";
    match (backbone.mode, &backbone.train_from) {
        (Mode::Frozen, Some(_)) => {
            check.problem(path, "is for mode `last_block`; in mode `frozen` nothing of the backbone is trained");
        }
        (Mode::LastBlock, None) if entry.is_none_or(|entry| entry.blocks.is_empty()) => {
            check.problem(path, "is missing; it names the block or the tensor from which on the backbone is trained");
        }
        (Mode::Full | Mode::Scratch, Some(_)) => {
            check.problem(path, "is for mode `last_block`; this mode trains all of the backbone");
        }
        _ => {}
    }
    let model = &check.recipe.model;
    let nothing = backbone.mode == Mode::Frozen && model.full.is_none() && !model.neck.is_trained();
    if nothing && matches!(head, HeadConfig::Identity(_)) {
        let message =
            "has no weights, and nothing below it is trained; take `linear`, or name a whole model as `model.full`";
        check.problem("model.head.kind", message);
    }
}
