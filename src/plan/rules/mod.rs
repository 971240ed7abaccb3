//! Rules that span several keys of a recipe. Every rule is a function in [`RULES`], so none can be
//! forgotten; all of them run, and all problems are told at once.

mod backbone;
mod data;
mod engine;
mod train;

use crate::backbone::{Catalogue, Entry};
use crate::base::{Error, Place, Problems};
use crate::recipe::{BackboneConfig, Recipe};

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

/// The paths of what a recipe says of steps, if its head takes none: what a sweep of heads leaves out for those that are
/// solved.
pub(super) fn needless_steps(recipe: &Recipe) -> Vec<String> {
    train::needless_steps(recipe)
}

type Rule = fn(&mut Check<'_>);

pub(super) const RULES: &[Rule] = &[
    backbone::one_backbone,
    backbone::backbone_is_known,
    backbone::outputs_are_known,
    backbone::preprocess_is_known,
    data::fields_fit_the_backbone,
    backbone::towers_fit_the_fields,
    data::views_are_of_pictures,
    train::features_change_in_steps,
    backbone::trained_part_is_known,
    engine::engine_is_available,
    train::trainer_is_available,
    engine::store_fits,
    train::warm_up_fits,
    train::solved_heads_take_no_steps,
    train::full_batches_stand_alone,
    train::batches_are_of_whole_classes,
    data::data_is_consistent,
    train::head_loss_and_metrics_fit,
    data::masks_are_of_frozen_places,
    data::postprocess_fits,
    data::pairs_are_embedded,
    data::weights_are_said,
    train::margins_are_of_cosines,
    train::sweep_is_consistent,
];

fn with_hint(error: &Error) -> String {
    error.hint_text().map_or_else(|| error.to_string(), |hint| format!("{error} ({hint})"))
}
