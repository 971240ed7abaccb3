//! Rules that span several keys of a recipe. Every rule is a function in [`RULES`], so none can be
//! forgotten; all of them run, and all problems are told at once.

use super::build;
use super::build::whole_is_trained;
use crate::backbone::{Catalogue, Entry, TrainSource};
use crate::base::suggest::{did_you_mean, one_of};
use crate::base::{Error, Place, Problems};
use crate::data::TargetKind;
use crate::graph::{Arithmetic, Task};
use crate::head::{Embedding, HeadConfig, Projections, Solved};
use crate::loss::LossConfig;
use crate::optim::OptimizerConfig;
use crate::recipe::{
    BackboneConfig, Backend, Device, FeatureAugment, Mode, Precision, Provider, Recipe, StoreMode, TrainConfig,
};
use crate::sample::image::augment::AugmentConfig;
use crate::sample::{Modality, Transform};
use crate::sampler::SamplerConfig;

/// What a rule looks at, and where it tells what is wrong.
pub(super) struct Check<'a> {
    pub recipe: &'a Recipe,
    pub catalogue: &'a Catalogue,
    pub place: &'a dyn Fn(&str) -> Option<Place>,
    pub problems: Problems,
}

impl<'a> Check<'a> {
    fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.problems.push((self.place)(path), path, message);
    }

    /// The backbone; where there are towers, none that an extended recipe only says the mode of.
    fn backbone(&self) -> Option<&'a BackboneConfig> {
        let named = |backbone: &&BackboneConfig| backbone.name.is_some() || backbone.onnx.is_some();
        let backbone = self.recipe.model.backbone.as_ref();
        backbone.filter(|backbone| self.recipe.model.towers.is_empty() || named(backbone))
    }

    /// The catalogue entry, if the backbone names one that exists.
    fn entry(&self) -> Option<&'a Entry> {
        self.catalogue.get(self.backbone()?.name.as_deref()?).ok()
    }
}

type Rule = fn(&mut Check<'_>);

pub(super) const RULES: &[Rule] = &[
    one_backbone,
    backbone_is_known,
    outputs_are_known,
    preprocess_is_known,
    fields_fit_the_backbone,
    towers_fit_the_fields,
    views_are_of_pictures,
    features_change_in_steps,
    trained_part_is_known,
    engine_is_available,
    trainer_is_available,
    store_fits,
    warm_up_fits,
    solved_heads_take_no_steps,
    full_batches_stand_alone,
    batches_are_of_whole_classes,
    data_is_consistent,
    head_loss_and_metrics_fit,
    masks_are_of_frozen_tokens,
    pairs_are_embedded,
    weights_are_said,
    margins_are_of_cosines,
    sweep_is_consistent,
];

fn one_backbone(check: &mut Check<'_>) {
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

fn backbone_is_known(check: &mut Check<'_>) {
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

fn outputs_are_known(check: &mut Check<'_>) {
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

fn preprocess_is_known(check: &mut Check<'_>) {
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
    let resolved = super::build::preprocess(check.recipe, check.entry());
    if let Err(error) = resolved.and_then(|transform| preprocess.check_used(&[&transform])) {
        check.problem("data.preprocess", error.to_string());
    }
}

/// What is asked of each tower as if it were the only backbone.
const OF_A_TOWER: &[Rule] = &[one_backbone, backbone_is_known, outputs_are_known, trained_part_is_known];

fn towers_fit_the_fields(check: &mut Check<'_>) {
    if check.recipe.model.towers.is_empty() {
        return;
    }
    let fields = check.recipe.data.fields();
    let mut transforms = Vec::new();
    for (name, alone) in super::build::towers(check.recipe) {
        let of_tower = |path: &str| path.replacen("model.backbone", &format!("model.towers.{name}"), 1);
        let whole = check.place;
        let place = |path: &str| whole(&of_tower(path));
        let mut sub =
            Check { recipe: &alone, catalogue: check.catalogue, place: &place, problems: Problems::default() };
        OF_A_TOWER.iter().for_each(|rule| rule(&mut sub));
        if sub.backbone().is_some_and(|backbone| backbone.mode != Mode::Frozen) {
            sub.problem("model.backbone.mode", "towers are not trained; they run in mode `frozen`");
        }
        let tokenizer = super::build::tokenizer(&alone, sub.entry()).is_some();
        match (super::build::preprocess(&alone, sub.entry()), fields.iter().find(|field| field.name == name)) {
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

fn features_change_in_steps(check: &mut Check<'_>) {
    let train = &check.recipe.train;
    if train.augment.is_empty() {
        return;
    }
    if let Some(head) = check.recipe.model.head.as_ref().and_then(|head| head.solved()) {
        let message = format!("changes batches, and `{}` is solved without any", head.name());
        return check.problem("train.augment", message);
    }
    if train.optimizer.build().is_none() {
        check.problem("train.augment", "changes every batch, but this optimizer needs the same loss at each look");
    }
}

fn views_are_of_pictures(check: &mut Check<'_>) {
    let Ok(transform) = super::build::preprocess(check.recipe, check.entry()) else { return };
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

fn fields_fit_the_backbone(check: &mut Check<'_>) {
    if check.backbone().is_none() {
        return;
    }
    let Ok(transform) = super::build::preprocess(check.recipe, check.entry()) else { return };
    let tokenizer = super::build::tokenizer(check.recipe, check.entry());
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

fn trained_part_is_known(check: &mut Check<'_>) {
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

fn engine_is_available(check: &mut Check<'_>) {
    let engine = &check.recipe.engine;
    // Whether the machine has the provider is seen when the plan is resolved; this is what no machine can do.
    let able: &[Provider] = match engine.precision {
        Precision::Fp32 => &[Provider::Auto],

        Precision::Fp16 => &[
            Provider::Cpu,
            Provider::Cuda,
            Provider::Tensorrt,
            Provider::TensorrtRtx,
            Provider::Webgpu,
            Provider::Coreml,
            Provider::Directml,
        ],
        Precision::Bf16 => &[Provider::Openvino, Provider::Tensorrt],
        Precision::Int8 => &[Provider::Cpu, Provider::Openvino, Provider::Tensorrt],
    };
    let any = engine.provider == Provider::Auto || engine.precision == Precision::Fp32;
    if !any && !able.contains(&engine.provider) {
        let (name, precision) = (engine.provider.name(), engine.precision.name());
        let able: Vec<String> = able.iter().map(|provider| format!("`{}`", provider.name())).collect();
        let message = format!("`{name}` does not compute in {precision}; {} do", able.join(", "));
        check.problem("engine.provider", message);
    }
    if engine.precision != Precision::Int8 && engine.calibration.is_some() {
        check.problem("engine.calibration", "is for `precision: int8`; nothing else is calibrated");
    }
}

fn trainer_is_available(check: &mut Check<'_>) {
    let train = &check.recipe.train;
    if train.backend == Backend::Libtorch {
        if !cfg!(feature = "libtorch") {
            let message = "this build has no libtorch trainer; use `embedded`, or build caft from source with \
                `LIBTORCH=$(.ci/libtorch) cargo build --release --features libtorch`";
            check.problem("train.backend", message);
        }
        return;
    }
    if train.device == Device::Cuda {
        check.problem(
            "train.device",
            "the `embedded` trainer computes on the processor; `backend: libtorch` takes GPUs",
        );
    }
}

fn store_fits(check: &mut Check<'_>) {
    let above = |mode| matches!(mode, Mode::Full | Mode::Scratch);
    let at_input = check.backbone().is_some_and(|backbone| above(backbone.mode));
    match check.recipe.cache.store {
        StoreMode::Inputs if !at_input => check.problem(
            "cache.store",
            "`inputs` is for the modes `full` and `scratch`, whose cut is at the input; here the cut has `activations`",
        ),
        _ => {}
    }
}

fn warm_up_fits(check: &mut Check<'_>) {
    let epochs = f64::from(check.recipe.train.epochs);
    let warmup = check.recipe.train.scheduler.warmup_epochs();
    if warmup > epochs {
        let message = format!("{warmup} epochs of warm-up are more than the {epochs} of `train.epochs`");
        check.problem("train.scheduler.warmup_epochs", message);
    }
}

fn solved_heads_take_no_steps(check: &mut Check<'_>) {
    let head = build::head(check.recipe);
    let Some(head) = head.solved().map(Solved::name) else { return };
    if check.recipe.model.neck.is_trained() {
        let message = format!("has parameters to train, but `{head}` is solved without steps; take `standardize`");
        check.problem("model.neck", message);
    }
    let keys = |train: &TrainConfig| match serde_json::to_value(train) {
        Ok(serde_json::Value::Object(keys)) => keys,
        other => unreachable!("a section is a JSON object, not {other:?}"),
    };
    let usual = keys(&TrainConfig::default());
    // Of seeds one holds rows out to choose with.
    let read = ["seed", "order_seed", "backend", "device", "fraction"];
    for (key, value) in keys(&check.recipe.train) {
        if !read.contains(&key.as_str()) && usual.get(&key) != Some(&value) {
            let message = format!(
                "is for heads that are trained by steps; `{head}` is solved at once (delete the key with `~train.{key}`)"
            );
            check.problem(&format!("train.{key}"), message);
        }
    }
}

fn full_batches_stand_alone(check: &mut Check<'_>) {
    let train = &check.recipe.train;
    if !matches!(train.optimizer, OptimizerConfig::Lbfgs(_)) {
        return;
    }
    let used = [
        ("accumulate", train.accumulate > 1),
        ("sampler", train.sampler.draws()),
        ("clip_norm", train.clip_norm.is_some()),
        ("parameter_groups", !train.parameter_groups.is_empty()),
        ("layer_decay", train.layer_decay < 1.0),
        ("ema", train.ema.is_some()),
        ("precision", train.precision != Arithmetic::Fp32),
    ];
    for (key, _) in used.iter().filter(|(_, used)| *used) {
        check.problem(&format!("train.{key}"), "does not apply to `lbfgs`, whose steps see all rows at once");
    }
}

fn batches_are_of_whole_classes(check: &mut Check<'_>) {
    let train = &check.recipe.train;
    if let SamplerConfig::Pk(pk) = &train.sampler
        && !train.batch_size.is_multiple_of(pk.rows_per_class.max(1))
    {
        let message = format!("`train.batch_size` {} is no multiple of it", train.batch_size);
        check.problem("train.sampler.rows_per_class", message);
    }
}

fn data_is_consistent(check: &mut Check<'_>) {
    let mut found = Problems::default();
    check.recipe.data.check(&mut found);
    for problem in found.list {
        check.problem(&problem.path, problem.message);
    }
}

fn head_loss_and_metrics_fit(check: &mut Check<'_>) {
    let Recipe { data, train, metrics, .. } = check.recipe;
    let targets = data.target_kind().task();
    let head = build::head(check.recipe);
    let Some(outputs) = head.task(targets) else {
        if data.target_kind() == TargetKind::Pairs {
            return check.problem("model.head.kind", "rows that are pairs need the head `embedding`");
        }
        let message = format!("does not fit the targets, which are {}", targets.name());
        return check.problem("model.head.kind", message);
    };
    if let Some(loss) = &train.loss
        && loss.task() != outputs
    {
        let message = format!("is for {}, and the outputs are {}", loss.task().name(), outputs.name());
        check.problem("train.loss.kind", message);
    }
    for (i, metric) in metrics.iter().flatten().enumerate().filter(|(_, metric)| !metric.fits(outputs)) {
        let path = format!("metrics[{i}]");
        check.problem(&path, format!("`{}` does not measure {}", metric.name(), outputs.name()));
    }
    if train.sampler.needs_classes() && targets != Task::Classes {
        let message = format!("draws rows by their class, and the targets are {}", targets.name());
        check.problem("train.sampler.kind", message);
    }
}

fn masks_are_of_frozen_tokens(check: &mut Check<'_>) {
    let Recipe { data, model, .. } = check.recipe;
    if data.target_kind() != TargetKind::Masks {
        return;
    }
    if check.backbone().is_some_and(|backbone| backbone.mode != Mode::Frozen) {
        check.problem("model.backbone.mode", "masks train a head on each token of a frozen backbone; use `frozen`");
    }
    if !model.towers.is_empty() {
        check.problem("model.towers", "masks are of one picture; use `model.backbone`");
    }
    if data.common.augment != AugmentConfig::default() {
        check.problem("data.augment", "does not change masks along with their pictures in this version; leave it out");
    }
    if build::head(check.recipe).task(Task::Classes) != Some(Task::Classes) {
        check.problem("model.head.kind", "does not give a logit per class at each place");
    }
}

fn pairs_are_embedded(check: &mut Check<'_>) {
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

fn weights_are_said(check: &mut Check<'_>) {
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

fn margins_are_of_cosines(check: &mut Check<'_>) {
    let Some(LossConfig::Arcface(arcface)) = &check.recipe.train.loss else { return };
    match build::head(check.recipe) {
        HeadConfig::Cosine(cosine) if cosine.learn_scale => {
            check.problem("model.head.learn_scale", "the loss `arcface` needs a scale that is not trained");
        }
        HeadConfig::Cosine(cosine) => {
            if (f64::from(cosine.scale) - arcface.scale).abs() > 1e-6 * arcface.scale {
                let message = format!("must be the head's, which is {}", cosine.scale);
                check.problem("train.loss.scale", message);
            }
        }
        _ => check.problem("model.head.kind", "the loss `arcface` needs the head `cosine`"),
    }
}

fn sweep_is_consistent(check: &mut Check<'_>) {
    let Some(sweep) = &check.recipe.sweep else { return };
    let mut found = Problems::default();
    let metrics: Vec<(&str, bool)> = build::metrics(check.recipe).iter().map(|m| (m.name(), m.maximize())).collect();
    sweep.check(&metrics, &mut found);
    for problem in found.list {
        check.problem(&problem.path, problem.message);
    }
}

fn with_hint(error: &Error) -> String {
    error.hint_text().map_or_else(|| error.to_string(), |hint| format!("{error} ({hint})"))
}
