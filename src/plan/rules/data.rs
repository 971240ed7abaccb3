//! Rules of the data: what rows hold and are labelled with.

use super::Check;
use crate::base::Problems;
use crate::data::TargetKind;
use crate::graph::Task;
use crate::head::{Embedding, HeadConfig, Projections};
use crate::loss::LossConfig;
use crate::plan::build;
use crate::postprocess::PostprocessConfig;
use crate::recipe::{FeatureAugment, Mode, Recipe, StoreMode};
use crate::sample::Modality;
use crate::sampler::SamplerConfig;

pub(super) fn fields_fit_the_backbone(check: &mut Check<'_>) {
    if check.backbone().is_none() {
        return;
    }
    let Ok(transform) = build::preprocess(check.recipe, check.entry()) else { return };
    let tokenizer = build::tokenizer(check.recipe, check.entry());
    let fields = check.recipe.data.fields();
    let modality = transform.modality();
    if let Some(other) = fields.iter().find(|field| field.modality != modality) {
        let (path, has) = (format!("data.{}", other.name), other.modality.name());
        return check.problem(&path, format!("rows have {has}, and the backbone takes {}", modality.name()));
    }
    // Of pairs each field goes through it by itself.
    let pairs = check.recipe.data.target_kind() == TargetKind::Pairs;
    if modality == Modality::Image && fields.len() > 1 && !pairs {
        return check.problem("model.backbone", "rows have several fields; give each a backbone with `model.towers`");
    }
    if modality == Modality::Text && tokenizer.is_none() {
        check.problem("model.backbone.tokenizer", "is missing; a backbone for text needs a `tokenizer.json`");
    }
    if modality == Modality::Image && tokenizer.is_some() {
        check.problem("model.backbone.tokenizer", "is for text, and this backbone takes pictures");
    }
}

pub(super) fn views_are_of_pictures(check: &mut Check<'_>) {
    let Ok(transform) = build::preprocess(check.recipe, check.entry()) else { return };
    if check.recipe.data.common.augment.is_used() && transform.image().is_none() {
        check.problem("data.augment", format!("is for pictures; the backbone takes {}", transform.modality().name()));
    }
    if check.recipe.data.common.augment.is_used() && !check.recipe.model.towers.is_empty() {
        check.problem("data.augment", "rows of several towers have one view; remove `model.towers` or the views");
    }
    if let Some(head) = check
        .recipe
        .model
        .head
        .as_ref()
        .and_then(|head| head.solved())
        .filter(|_| check.recipe.data.common.augment.is_used())
    {
        let message = format!("an epoch draws views, and `{}` is solved without epochs", head.name());
        check.problem("data.augment", message);
    }
}

pub(super) fn data_is_consistent(check: &mut Check<'_>) {
    let mut found = Problems::default();
    check.recipe.data.check(&mut found);
    for problem in found.list {
        check.problem(&problem.path, problem.message);
    }
}

pub(super) fn masks_are_of_frozen_places(check: &mut Check<'_>) {
    let Recipe { data, model, cache, .. } = check.recipe;
    if data.target_kind() != TargetKind::Masks {
        return;
    }
    if check.backbone().is_some_and(|backbone| backbone.mode != Mode::Frozen) {
        check.problem("model.backbone.mode", "masks train a head at each place of a frozen backbone; use `frozen`");
    }
    if !model.towers.is_empty() {
        check.problem("model.towers", "masks are of one picture; use `model.backbone`");
    }
    if model.full.is_some() {
        check.problem("model.full", "masks train a head at each place of a backbone; use `model.backbone`");
    }
    if cache.store == StoreMode::None {
        check.problem("cache.store", "masks are trained from what is stored; use `auto` or `activations`");
    }
    if build::head(check.recipe).task(Task::Classes) != Some(Task::Classes) {
        check.problem("model.head.kind", "does not give a logit per class at each place");
    }
}

pub(super) fn postprocess_fits(check: &mut Check<'_>) {
    let Some(postprocess) = &check.recipe.model.postprocess else { return };
    let kind = check.recipe.data.target_kind();
    let wanted = match postprocess {
        PostprocessConfig::Argmax(_) => TargetKind::Masks,
    };
    if kind != wanted {
        let (name, wanted, kind) = (postprocess.name(), wanted.name(), kind.name());
        let message = format!("`{name}` is for rows labelled with {wanted}, and these are with {kind}; leave it out");
        check.problem("model.postprocess.kind", message);
    }
}

pub(super) fn pairs_are_embedded(check: &mut Check<'_>) {
    let Recipe { data, model, train, .. } = check.recipe;
    let head = build::head(check.recipe);
    if data.target_kind() != TargetKind::Pairs {
        if let HeadConfig::Embedding(Embedding { projections: Projections::Shared | Projections::Own, .. }) = head {
            check.problem("model.head.projections", "is for rows that are pairs (`data.label: {kind: pairs}`)");
        }
        return;
    }
    let fields = data.fields();
    if let Some(loss) = &train.loss
        && loss.task() == Task::Embedding
    {
        if !loss.takes_pairs() {
            let message = "compares rows of classes; of pairs take `multiple_negatives_ranking` or `triplet`";
            check.problem("train.loss.kind", message);
        } else if matches!(loss, LossConfig::Triplet(_)) && fields.len() < 3 {
            let message = "needs three fields: what looks, what is looked for, and what is not; of two take \
                `multiple_negatives_ranking`, whose negatives are the other rows of the batch";
            check.problem("train.loss.kind", message);
        }
    }
    if check.backbone().is_some_and(|backbone| backbone.mode != Mode::Frozen) {
        check.problem("model.backbone.mode", "pairs are trained on frozen backbones; use `frozen`");
    }
    if data.common.augment.is_used() && model.towers.is_empty() {
        check.problem("data.augment", "rows of several fields have one view; leave it out");
    }
    if let Some(at) = train.augment.iter().position(|op| matches!(op, FeatureAugment::Mixup(_))) {
        check.problem(&format!("train.augment[{at}]"), "a mixture of two rows has no second field to look for");
    }
    if let HeadConfig::Embedding(embedding) = &head
        && build::projections(check.recipe, embedding) == Projections::Own
    {
        // Candidates are compared with each other, so that they must be made alike.
        let order = data.parts().unwrap_or_else(|| fields.into_iter().map(|field| field.name).collect());
        let second = order.get(1).and_then(|name| model.towers.get(name));
        for name in order.iter().skip(2).filter(|name| model.towers.get(*name) != second) {
            let message = format!("hard negatives need the backbone of `{}`, among which they stand", order[1]);
            check.problem(&format!("model.towers.{name}"), message);
        }
    }
}

pub(super) fn weights_are_said(check: &mut Check<'_>) {
    let SamplerConfig::Weighted(weighted) = &check.recipe.train.sampler else { return };
    match (weighted.by_row(), &check.recipe.data.common.weight) {
        (true, None) => {
            let message = "is missing; give one for each class, or name a column with the rows' own as `data.weight`";
            check.problem("train.sampler.weights", message);
        }
        (false, Some(_)) => {
            check.problem(
                "train.sampler.weights",
                "rows have weights of their own by `data.weight`; give one of the two",
            );
        }
        _ => {}
    }
}
