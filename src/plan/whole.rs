//! `model.full`: a whole model is planned as a backbone whose own output is taken for the head's. Rules then see a
//! backbone, and tell their problems of the keys that were written.

use super::TailPlan;
use crate::base::{Place, Problems};
use crate::head::{HeadConfig, Identity};
use crate::neck::NeckChain;
use crate::recipe::{BackboneConfig, FullConfig, Mode, Recipe};

/// The recipe with its whole model as `model.backbone`; `None` if it names none. `model.full` stays, as a mark.
pub(super) fn as_backbone(recipe: &Recipe) -> Option<Recipe> {
    let FullConfig { name, onnx, tokenizer, output, image_size, mode, train_from } = recipe.model.full.clone()?;
    // An extended recipe may say the mode, and what is trained, alone.
    let said = recipe.model.backbone.clone().unwrap_or_default();
    let backbone = BackboneConfig {
        name,
        onnx,
        tokenizer,
        outputs: output.map(|output| vec![output]),
        image_size: image_size.or(said.image_size),
        mode: mode.unwrap_or(said.mode),
        train_from: train_from.or(said.train_from),
    };
    let mut spelled = recipe.clone();
    spelled.model.backbone = Some(backbone);
    spelled.model.towers.clear();
    spelled.model.neck = NeckChain::default();
    spelled.model.head = Some(HeadConfig::Identity(Identity {}));
    Some(spelled)
}

/// Tells what cannot stand beside a whole model.
pub(super) fn check(recipe: &Recipe, place: &dyn Fn(&str) -> Option<Place>, problems: &mut Problems) {
    let model = &recipe.model;
    if model.full.is_none() {
        return;
    }
    let named = model.backbone.as_ref().is_some_and(|backbone| backbone.name.is_some() || backbone.onnx.is_some());
    let head = model.head.as_ref().is_some_and(|head| !matches!(head, HeadConfig::Identity(_)));
    let beside = [
        ("model.backbone", named),
        ("model.towers", !model.towers.is_empty()),
        ("model.neck", model.neck != NeckChain::default()),
        ("model.head", head),
    ];
    for (path, _) in beside.iter().filter(|(_, given)| *given) {
        let message = format!("does not go with `model.full`, which is the whole network; leave it out (`~{path}`)");
        problems.push(place(path), *path, message);
    }
}

/// What of a whole model is trained where nothing more is said: its last layer.
pub(super) fn tail(recipe: &Recipe) -> Option<TailPlan> {
    recipe.model.full.as_ref().map(|_| TailPlan { mode: Mode::Frozen, from: None })
}

/// The key that was written for one of the backbone.
pub(super) fn written(path: &str) -> String {
    match path.strip_prefix("model.backbone") {
        Some(rest) if rest.starts_with(".outputs") => "model.full.output".into(),
        Some(rest) => format!("model.full{rest}"),
        None => path.into(),
    }
}
