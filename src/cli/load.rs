//! From a recipe's file and the words after it to a plan.

use std::path::Path;

use crate::backbone::catalogue;
use crate::base::Result;
use crate::data::DataConfig;
use crate::plan::Plan;
use crate::recipe::{self, Loaded, Overrides};

/// A recipe with the plan that it makes.
pub struct Planned {
    /// The recipe, and where each value came from.
    pub loaded: Loaded,
    /// The recipe with every default filled in.
    pub plan: Plan,
}

/// Loads a recipe with its layers and plans it, offline.
///
/// # Errors
/// Everything that is wrong with the recipe, all at once.
pub fn load(path: &Path, words: &[String]) -> Result<Planned> {
    let loaded = recipe::load(path, &Overrides::from_environment(words))?;
    let place = |path: &str| loaded.provenance.nearest(path);
    let plan = Plan::new(&loaded.recipe, catalogue()?, loaded.provenance.file(), &place)?;
    Ok(Planned { loaded, plan })
}

/// The data that a recipe names.
///
/// # Errors
/// Those of [`load`].
pub fn data(path: &Path) -> Result<DataConfig> {
    Ok(load(path, &[])?.plan.data)
}
