//! The recipes and configs that are part of the program.

use std::path::{Component, Path};

use include_dir::{Dir, include_dir};

use crate::base::suggest::did_you_mean;
use crate::base::{Error, Result};

static RECIPES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/recipes");
static CONFIGS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/configs");

/// A recipe or config inside the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipped {
    /// Its name, such as `linear_probe`.
    pub name: &'static str,
    /// `recipes` for what others extend, `configs` for what runs as it is.
    pub folder: &'static str,
    /// Its text.
    pub text: &'static str,
}

impl Shipped {
    /// Its path in the repository, such as `recipes/linear_probe.yaml`.
    pub fn path(&self) -> String {
        format!("{}/{}.yaml", self.folder, self.name)
    }

    /// Its text without the line that tells an editor where the schema is: that path holds in the repository only.
    pub fn body(&self) -> &'static str {
        match self.text.split_once('\n') {
            Some((first, rest)) if first.starts_with("# yaml-language-server") => rest,
            _ => self.text,
        }
    }

    /// When to use it: the comment at its beginning.
    pub fn about(&self) -> String {
        let lines: Vec<&str> = self.body().lines().map_while(|line| line.strip_prefix('#')).map(str::trim).collect();
        lines.join(" ").trim().to_string()
    }

    /// The first sentence of [`Self::about`].
    pub fn summary(&self) -> String {
        let about = self.about();
        about.split_once(". ").map_or(about.trim_end_matches('.'), |(first, _)| first).to_string()
    }
}

/// All of them: recipes first, each folder by name.
pub fn all() -> Vec<Shipped> {
    let of = |folder: &'static str, dir: &'static Dir<'static>| {
        let mut found: Vec<Shipped> = dir
            .files()
            .filter_map(|file| {
                let name = file.path().to_str()?.strip_suffix(".yaml")?;
                Some(Shipped { name, folder, text: file.contents_utf8()? })
            })
            .collect();
        found.sort_unstable_by_key(|shipped| shipped.name);
        found
    };
    [of("recipes", &RECIPES), of("configs", &CONFIGS)].concat()
}

/// The recipe of a name, for `extends`.
///
/// # Errors
/// There is none; the error suggests the nearest.
pub fn recipe(name: &str) -> Result<Shipped> {
    let recipes: Vec<Shipped> = all().into_iter().filter(|s| s.folder == "recipes").collect();
    recipes.iter().find(|s| s.name == name).copied().ok_or_else(|| {
        let near = did_you_mean(name, recipes.iter().map(|s| s.name));
        Error::bad_input(format!("there is no recipe `{name}`{near}"))
            .hint("`caft recipe ls` lists the names; a file is named by its path, such as `./base.yaml`")
    })
}

/// A recipe or config by its name or its path in the repository.
///
/// # Errors
/// There is none; the error suggests the nearest.
pub fn find(name: &str) -> Result<Shipped> {
    let all = all();
    all.iter().find(|s| s.name == name || s.path() == name).copied().ok_or_else(|| {
        let near = did_you_mean(name, all.iter().map(|s| s.name));
        Error::bad_input(format!("there is no recipe or config `{name}`{near}")).hint("`caft recipe ls` lists them")
    })
}

/// The file that a shipped file names by a relative path.
pub(super) fn beside(from: &str, relative: &str) -> Option<Shipped> {
    let mut parts: Vec<String> = Vec::new();
    for part in Path::new(from).parent()?.join(relative).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?.to_string()),
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    let path = parts.join("/");
    all().into_iter().find(|shipped| shipped.path() == path)
}
