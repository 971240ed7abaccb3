//! From a recipe to a plan.

use indexmap::IndexMap;

use super::rules::{Check, RULES};
use super::whole;
use super::{BackbonePlan, CachePlan, EnginePlan, ModelPlan, Plan, Seeds, TailPlan};
use crate::backbone::{Catalogue, Entry};
use crate::base::{DType, Error, Place, Problems, Result};
use crate::data::TargetKind;
use crate::graph::Task;
use crate::graph::onnx::{OutputSpec, Select};
use crate::head::{Embedding, HeadConfig, Kept, Knn, Projections};
use crate::metric::MetricName;
use crate::postprocess::{Argmax, PostprocessConfig, Surroundings};
use crate::recipe::{BackboneConfig, Mode, Precision, Recipe, TrainConfig, loss_of};
use crate::resource::{Address, Resource};
use crate::sample::Transform;
use crate::sample::image::ImagePreprocess;
use crate::sample::text::TextPreprocess;

impl Plan {
    /// Fills every default of a recipe in, offline. `place` says where a value was written, by its path;
    /// `file` is the recipe's name in messages.
    ///
    /// # Errors
    /// The problems of all rules together, each with its place.
    pub fn new(
        recipe: &Recipe,
        catalogue: &Catalogue,
        file: &str,
        place: &dyn Fn(&str) -> Option<Place>,
    ) -> Result<Self> {
        let mut problems = Problems::new(format!("{file} is not a valid recipe"));
        whole::check(recipe, place, &mut problems);
        let spelled = whole::as_backbone(recipe);
        let of_whole = |path: &str| place(&whole::written(path));
        let place: &dyn Fn(&str) -> Option<Place> = if spelled.is_some() { &of_whole } else { place };
        let recipe = spelled.as_ref().unwrap_or(recipe);
        let mut check = Check { recipe, catalogue, place, problems };
        RULES.iter().for_each(|rule| rule(&mut check));
        if spelled.is_some() {
            check.problems.list.iter_mut().for_each(|problem| problem.path = whole::written(&problem.path));
        }
        check.problems.into_result()?;
        let train = &recipe.train;
        let towers: IndexMap<String, BackbonePlan> =
            towers(recipe).map(|(field, tower)| Ok((field, backbone(&tower, catalogue)?))).collect::<Result<_>>()?;
        let only = || backbone(recipe, catalogue);
        let backbone = towers.values().next().cloned().map_or_else(only, Ok)?;
        let outputs = outputs(recipe);
        let cache = CachePlan { dtype: dtype(recipe, &backbone), store: recipe.cache.store };
        Ok(Self {
            name: recipe.name.clone(),
            seeds: Seeds {
                data: recipe.data.common.seed.unwrap_or(recipe.seed),
                order: train.order_seed.unwrap_or(recipe.seed),
                train: train.seed.unwrap_or(recipe.seed),
                augment: recipe.data.common.augment.seed.unwrap_or(recipe.seed),
            },
            model: ModelPlan {
                postprocess: postprocess(recipe, &backbone),
                backbone,
                towers,
                neck: recipe.model.neck.clone(),
                head: match head(recipe) {
                    HeadConfig::Embedding(embedding) if recipe.data.target_kind() == TargetKind::Pairs => {
                        HeadConfig::Embedding(Embedding { projections: projections(recipe, &embedding), ..embedding })
                    }
                    HeadConfig::Knn(knn) if outputs == Task::Values => {
                        HeadConfig::Knn(Knn { keeps: Kept::Values, ..knn })
                    }
                    head => head,
                },
            },
            engine: EnginePlan {
                precision: recipe.engine.precision,
                provider: recipe.engine.provider,
                batch_size: recipe.engine.batch_size as usize,
                calibration: (recipe.engine.precision == Precision::Int8)
                    .then(|| recipe.engine.calibration.clone().unwrap_or_default()),
            },
            data: recipe.data.clone(),
            cache,
            train: TrainConfig {
                loss: Some(train.loss.clone().unwrap_or_else(|| loss_of(recipe.data.target_kind(), outputs))),
                seed: None,
                order_seed: None,
                ..train.clone()
            },
            metrics: metrics(recipe),
        })
    }
}

/// The head that the recipe names, or the one that its targets call for.
pub(super) fn head(recipe: &Recipe) -> HeadConfig {
    recipe.model.head.clone().unwrap_or_else(|| HeadConfig::of_task(recipe.data.target_kind().task()))
}

/// The postprocessing that the recipe names, or the one that its targets call for.
fn postprocess(recipe: &Recipe, backbone: &BackbonePlan) -> Option<PostprocessConfig> {
    let of_targets = match recipe.data.target_kind() {
        TargetKind::Masks => Some(PostprocessConfig::Argmax(Argmax::default())),
        TargetKind::Classes | TargetKind::MultiLabel | TargetKind::Values | TargetKind::Pairs => None,
    };
    let [_, height, width] = backbone.preprocess.image().map_or([0; 3], ImagePreprocess::output_shape);
    let named = recipe.model.postprocess.clone().or(of_targets)?;
    Some(named.filled(Surroundings { input: [height, width] }))
}

/// Whether the fields of pairs share their weights: as the head says, else where they have the same backbone.
pub(super) fn projections(recipe: &Recipe, embedding: &Embedding) -> Projections {
    let mut configs = recipe.model.towers.values();
    let first = configs.next();
    match embedding.projections {
        Projections::Auto if configs.all(|other| Some(other) == first) => Projections::Shared,
        Projections::Auto => Projections::Own,
        said => said,
    }
}

/// What the outputs are; where the head does not fit the targets, what they would have to be.
fn outputs(recipe: &Recipe) -> Task {
    let targets = recipe.data.target_kind().task();
    head(recipe).task(targets).unwrap_or(targets)
}

/// What is measured: what the recipe names, or what its targets and its head call for.
pub fn metrics(recipe: &Recipe) -> Vec<MetricName> {
    recipe.metrics.clone().unwrap_or_else(|| match recipe.data.target_kind() {
        TargetKind::Masks => vec![MetricName::MeanIou, MetricName::Accuracy],
        TargetKind::Pairs => vec![MetricName::RecallAt1, MetricName::MrrAt10],
        _ => MetricName::of_task(outputs(recipe)),
    })
}

/// The recipe of each tower as if it were alone. Of rows that are pairs each field has a tower: the one backbone, if it
/// has none of its own.
pub(super) fn towers(recipe: &Recipe) -> impl Iterator<Item = (String, Recipe)> {
    let mut towers = recipe.model.towers.clone();
    if let Some(backbone) = recipe.model.backbone.as_ref().filter(|_| towers.is_empty())
        && recipe.data.target_kind() == TargetKind::Pairs
    {
        towers = recipe.data.fields().into_iter().map(|field| (field.name, backbone.clone())).collect();
    }
    towers.into_iter().map(|(field, config)| {
        let mut alone = recipe.clone();
        alone.model.towers.clear();
        alone.model.backbone = Some(config);
        (field, alone)
    })
}

fn backbone(recipe: &Recipe, catalogue: &Catalogue) -> Result<BackbonePlan> {
    let missing = || Error::bad_input("model.backbone: names neither a catalogue entry nor an `onnx` file");
    let config = recipe.model.backbone.as_ref().ok_or_else(missing)?;
    let entry = config.name.as_deref().map(|name| catalogue.get(name)).transpose()?;
    // A file beside a name is the user's own export of the entry.
    let trained = whole_is_trained(config.mode);
    let published = entry.and_then(|entry| match trained {
        true => entry.weights.to_train().cloned(),
        false => entry.weights.onnx.clone(),
    });
    // Where none is published, an engine of that name may have been pulled.
    let kept = || {
        let name = entry.filter(|_| config.mode == Mode::Frozen && recipe.model.full.is_none())?.name.clone();
        Some(Resource { address: Address::Engine { name }, sha256: None })
    };
    let source = config.onnx.clone().or(published).or_else(kept).ok_or_else(missing)?;
    let outputs = match entry {
        Some(_) if recipe.model.full.is_some() && config.outputs.is_none() => Vec::new(),
        Some(entry) => cut_at(entry, config.outputs.as_deref(), recipe.model.full.is_some())?,
        None => config.outputs.iter().flatten().map(|tensor| as_it_is(tensor)).collect(),
    };
    let tail = tail(config, entry).or_else(|| whole::tail(recipe));
    Ok(BackbonePlan {
        name: entry.map_or_else(|| source.address.file_name().to_string(), |entry| entry.name.clone()),
        family: entry.map(|entry| entry.family.clone()),
        tasks: entry.map(|entry| entry.tasks.clone()).unwrap_or_default(),
        licence: entry.map(|entry| entry.licence.clone()),
        source,
        outputs,
        preprocess: of_one_length(preprocess(recipe, entry)?, tail.as_ref()),
        tail,
        tokenizer: tokenizer(recipe, entry).cloned(),
    })
}

/// Where a part of a network of texts is trained, all texts have as many tokens, so that what it is trained on has one
/// shape.
fn of_one_length(preprocess: Transform, tail: Option<&TailPlan>) -> Transform {
    match preprocess {
        Transform::Text(steps) if tail.is_some() => {
            Transform::Text(TextPreprocess { pad_to: steps.pad_to.or(Some(steps.max_tokens)), ..steps })
        }
        other => other,
    }
}

/// How activations are stored: ids of tokens and masks of attention as they are.
fn dtype(recipe: &Recipe, backbone: &BackbonePlan) -> DType {
    match backbone.preprocess {
        Transform::Text(_) if backbone.tail.is_some() => DType::F32,
        _ => recipe.cache.dtype,
    }
}

/// Whether all of the network is trained, from its input on.
pub(super) fn whole_is_trained(mode: Mode) -> bool {
    matches!(mode, Mode::Full | Mode::Scratch)
}

/// What of the backbone is trained. A block of the entry stands for the tensor that enters it, an output of the
/// entry for its tensor; without a name the entry's last block is meant.
fn tail(config: &BackboneConfig, entry: Option<&Entry>) -> Option<TailPlan> {
    let last = || entry?.blocks.last().map(|(name, _)| name.clone());
    let from = match config.mode {
        Mode::Frozen => return None,
        Mode::LastBlock => config.train_from.clone().or_else(last),
        Mode::Full | Mode::Scratch => None,
    };
    let tensor = |name: &String| {
        let entry = entry?;
        entry.blocks.get(name).cloned().flatten().or_else(|| Some(entry.outputs.get(name)?.tensor.clone()))
    };
    Some(TailPlan { mode: config.mode, from: from.map(|name| tensor(&name).unwrap_or(name)) })
}

/// The cut at the outputs that are named, at the entry's first one if none is.
/// A whole model has outputs that the entry does not know.
fn cut_at(entry: &Entry, names: Option<&[String]>, is_whole: bool) -> Result<Vec<OutputSpec>> {
    let output = |name: &String| match entry.output(name) {
        Err(_) if is_whole => Ok(as_it_is(name)),
        output => output,
    };
    match names {
        Some(names) => names.iter().map(output).collect(),
        None => entry.output_names().take(1).map(|name| entry.output(name)).collect(),
    }
}

fn as_it_is(tensor: &str) -> OutputSpec {
    OutputSpec { name: tensor.into(), tensor: tensor.into(), select: Select::All }
}

/// The backbone's own preprocess with the recipe's steps in place of its. A file that is no catalogue
/// entry has none of its own; what the recipe does not say is then scaling alone, and [`TOKENS`] at most with a
/// tokenizer.
pub(super) fn preprocess(recipe: &Recipe, entry: Option<&Entry>) -> Result<Transform> {
    let plain = ImagePreprocess { resize: None, crop: None, scale: 1.0 / 255.0, mean: [0.0; 3], std: [1.0; 3] };
    let own = match entry {
        Some(entry) => entry.preprocess.clone(),
        None if tokenizer(recipe, None).is_some() => Transform::Text(TextPreprocess::at_most(TOKENS)),
        None => Transform::Image(plain),
    };
    let size = recipe.model.backbone.as_ref().and_then(|backbone| backbone.image_size);
    let own = match (own, size) {
        (Transform::Image(steps), Some(size)) => Transform::Image(steps.at_size(size)),
        (own, _) => own,
    };
    recipe.data.common.preprocess.resolve(&own)
}

/// What most language models were trained on.
const TOKENS: u32 = 512;

/// The recipe's tokenizer, else the entry's.
pub(super) fn tokenizer<'a>(recipe: &'a Recipe, entry: Option<&'a Entry>) -> Option<&'a Resource> {
    let own = recipe.model.backbone.as_ref().and_then(|backbone| backbone.tokenizer.as_ref());
    own.or(entry.and_then(|entry| entry.tokenizer.as_ref()))
}
