//! Loading: what files say, overrides, the schema, serde; and where every value came from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value as Json;

use super::gather::Gather;
use super::layers::{Layers, Overrides};
use super::schema::Kind;
use super::train::loss_of;
use super::tree::{Entry, Node, Origin, Segment, Source, Value};
use super::types::Recipe;
use super::{KeyPath, check, paths, sweep_file};
use crate::backbone::catalogue;
use crate::base::{Error, Place, Problems, Result};
use crate::data::{DataConfig, TargetKind};
use crate::head::HeadConfig;

/// A recipe with all its layers merged and checked against schema and types.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The recipe.
    pub recipe: Recipe,
    /// What was written, merged: without the defaults, with paths made absolute.
    pub merged: Json,
    /// Where each value came from.
    pub provenance: Provenance,
}

/// Where the values of a recipe came from.
#[derive(Debug, Clone)]
pub struct Provenance {
    file: String,
    tree: Node,
}

/// A key that [`Loaded::with`] sets.
#[derive(Debug, Clone, Copy)]
pub struct Varied<'a> {
    /// The key's path.
    pub path: &'a str,
    /// Its value.
    pub value: &'a Json,
    /// The path at which the recipe says so.
    pub written: &'a str,
}

/// What a file turned out to be that [`check_file`] has nothing against.
#[derive(Debug, Clone)]
pub enum Checked {
    /// A recipe that can be planned.
    Whole(Box<Loaded>),
    /// A recipe for others to extend: it names neither a backbone nor data.
    Part,
}

impl Provenance {
    /// The file that was loaded, as it was named.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where the value at a path such as `model.backbone.outputs[0]` was written; `None` if it was not.
    pub fn place(&self, path: &str) -> Option<Place> {
        let path = KeyPath::parse(path)?;
        self.tree.at(&path.0).map(|node| node.origin.place())
    }

    /// Where the value at a path, or what it would stand in, was written.
    pub fn nearest(&self, path: &str) -> Option<Place> {
        let path = KeyPath::parse(path).unwrap_or_default();
        place_in(&self.tree, &path, false)
    }
}

impl Loaded {
    /// This recipe with some keys set, as words of the command line would set them, but that a map is the whole value
    /// of its key: a changed `kind` replaces its whole map. What is wrong with a value is told at the place that `written` has in the
    /// recipe, such as `sweep.parameters.lr`. The `sweep` section is left out, and so are the keys `without`.
    ///
    /// # Errors
    /// As [`load`]; a path that goes into a list.
    pub fn with(&self, settings: &[Varied<'_>], without: &[String]) -> Result<Self> {
        let Provenance { file, tree } = &self.provenance;
        let mut problems = Problems::new(format!("{file} is not a valid recipe"));
        let mut base = tree.clone();
        base.as_map_mut().map(|map| map.shift_remove("sweep"));
        let mut layers = Layers::default();
        layers.push(base);
        for path in without.iter().filter_map(|path| KeyPath::parse(path)) {
            layers.remove(&path.0);
        }
        // A map is the whole value, not a change to what was there.
        for varied in settings.iter().filter(|varied| varied.value.is_object()) {
            KeyPath::parse(varied.path).map(|path| layers.remove(&path.0));
        }
        layers.push_values(settings.iter().filter_map(|varied| {
            let origin = KeyPath::parse(varied.written).and_then(|path| nearest_node(tree, &path));
            let origin = origin.map_or_else(|| tree.origin.clone(), |node| node.origin.clone());
            let keys = KeyPath::parse(varied.path).and_then(|path| path.keys());
            if keys.is_none() {
                let message = format!("`{}` is not a path of keys, such as `train.optimizer.lr`", varied.path);
                problems.push(Some(origin.place()), varied.written, message);
            }
            Some((keys?, Node::from_json(varied.value, &origin)))
        }));
        match finish(file.clone(), layers.merge(), problems)? {
            Checked::Whole(loaded) => Ok(*loaded),
            Checked::Part => Err(Error::bad_input(format!("`{file}` names neither a backbone nor data"))),
        }
    }

    /// The value of a key: as it was written, else what it is without being said.
    pub fn value(&self, path: &str) -> Option<serde_json::Value> {
        let keys = KeyPath::parse(path)?.keys()?;
        let find = |root: &serde_json::Value| keys.iter().try_fold(root, |value, key| value.get(key)).cloned();
        find(&self.merged).or_else(|| find(&serde_json::to_value(&self.recipe).ok()?)).filter(|value| !value.is_null())
    }

    /// The merged recipe as YAML, for a run's directory. Loading it gives the same recipe.
    pub fn to_yaml(&self) -> String {
        let text = serde_yaml::to_string(&self.merged);
        text.unwrap_or_else(|e| unreachable!("plain data is written as YAML: {e}"))
    }
}

/// A tree with a value at a path of keys, as a sweep sets it: a map is the whole value of its key.
pub(super) fn with_value(tree: &Node, path: &[String], value: &serde_json::Value) -> Node {
    let mut layers = Layers::default();
    layers.push(tree.clone());
    if value.is_object() {
        let path: Vec<Segment> = path.iter().cloned().map(Segment::Key).collect();
        layers.remove(&path);
    }
    layers.push_values([(path.to_vec(), Node::from_json(value, &tree.origin))]);
    layers.merge()
}

/// Loads a recipe: a file, or the name or path of one that is part of the program.
///
/// # Errors
/// Everything that is wrong, all at once; see [`Problems`].
pub fn load(path: &Path, overrides: &Overrides) -> Result<Loaded> {
    match check_file(path, overrides)? {
        Checked::Whole(loaded) => Ok(*loaded),
        Checked::Part => {
            let shown = path.display();
            Err(Error::bad_input(format!("`{shown}` names neither a backbone nor data, so there is nothing to run"))
                .hint(format!("write a recipe with `extends: [{shown}]`, `model.backbone` and `data`")))
        }
    }
}

/// Loads a recipe that may be one for others to extend.
///
/// # Errors
/// As [`load`].
pub fn check_file(path: &Path, overrides: &Overrides) -> Result<Checked> {
    let file = path.display().to_string();
    let mut gather = Gather::new(&file);
    gather.root(path)?;
    let mut problems = gather.problems;
    let mut layers = gather.layers;
    if let Some(file) = &overrides.sweep {
        layers.push(sweep_file::read(file, &mut problems)?);
    }
    layers.push_variables(&overrides.variables, &mut problems);
    layers.push_words(&overrides.words, &mut problems);
    finish(file, layers.merge(), problems)
}

/// The text of a recipe from elsewhere, merged with what it extends, which can only be recipes that are part of the
/// program; no file is read.
///
/// # Errors
/// Everything that is wrong with it, all at once.
pub(super) fn foreign(text: &str, name: &str) -> Result<(Node, Checked)> {
    let mut gather = Gather::new(name);
    gather.named(Path::new(name));
    gather.text(text, PathBuf::from(name), None, name.to_string());
    let tree = gather.layers.merge();
    let checked = finish(name.into(), tree.clone(), gather.problems)?;
    Ok((tree, checked))
}

/// Checks a merged tree and reads it into the types.
fn finish(file: String, mut tree: Node, mut problems: Problems) -> Result<Checked> {
    let part = ["data", "model.backbone.name", "model.backbone.onnx", "model.towers", "model.full"]
        .iter()
        .all(|path| KeyPath::parse(path).is_none_or(|path| tree.at(&path.0).is_none()));
    let kind = if part { Kind::Recipe } else { Kind::Merged };
    if !part {
        imply_loss(&mut tree);
    }
    let schema = kind.schema();
    let written = tree.to_json();
    for finding in check::validate_recipe(&written, kind) {
        let place = place_in(&tree, &finding.path, finding.at_key);
        problems.push(place, finding.path.to_string(), finding.message);
    }
    check_backbone(&tree, &mut problems)?;
    problems.into_result()?;
    if part {
        return Ok(Checked::Part);
    }
    paths::resolve(&mut tree, schema);
    let merged = tree.to_json();
    let recipe: Recipe = serde_path_to_error::deserialize(&merged).map_err(|error| {
        let mut problems = Problems::new(format!("{file} is not a valid recipe"));
        let path = KeyPath::parse(&error.path().to_string()).unwrap_or_default();
        problems.push(place_in(&tree, &path, false), path.to_string(), error.inner().to_string());
        Error::Invalid(problems)
    })?;
    Ok(Checked::Whole(Box::new(Loaded { recipe, merged, provenance: Provenance { file, tree } })))
}

/// Gives a loss that has settings and no kind the kind that a recipe without any loss has.
fn imply_loss(tree: &mut Node) {
    let written = tree.to_json();
    let path = KeyPath::default().key("train").key("loss");
    let Some(node) = paths::node_mut(tree, &path.0) else { return };
    let origin = Origin { source: Arc::new(Source::Defaults), line: 0, column: 0 };
    let Some(map) = node.as_map_mut().filter(|map| !map.contains_key("kind")) else { return };
    // What cannot be read is told when all is checked.
    let data = serde_json::from_value::<DataConfig>(written["data"].clone());
    let kind = data.map_or(TargetKind::Classes, |data| data.target_kind());
    let targets = kind.task();
    let head = serde_json::from_value::<HeadConfig>(written["model"]["head"].clone());
    let outputs = head.ok().and_then(|head| head.task(targets)).unwrap_or(targets);
    let Ok(loss) = serde_json::to_value(loss_of(kind, outputs)) else { return };
    map.insert("kind".into(), Entry { key: origin.clone(), node: Node::from_json(&loss["kind"], &origin) });
}

/// The place of a path, or of the nearest thing around it that was written.
fn place_in(tree: &Node, path: &KeyPath, at_key: bool) -> Option<Place> {
    if at_key
        && let Some((Segment::Key(key), parents)) = path.0.split_last()
        && let Some(entry) = tree.at(parents).and_then(|parent| parent.as_map()?.get(key))
    {
        return Some(entry.key.place());
    }
    nearest_node(tree, path).map(|node| node.origin.place()).filter(|place| *place != Place::Default)
}

/// The node at a path, or the nearest one around it.
fn nearest_node<'a>(tree: &'a Node, path: &KeyPath) -> Option<&'a Node> {
    (0..=path.0.len()).rev().find_map(|length| tree.at(&path.0[..length]))
}

/// The backbone's name must be in the catalogue.
fn check_backbone(tree: &Node, problems: &mut Problems) -> Result<()> {
    for parent in ["backbone", "full"] {
        let path = KeyPath::default().key("model").key(parent).key("name");
        let Some(Node { value: Value::String(name), origin }) = tree.at(&path.0) else { continue };
        if let Err(error) = catalogue()?.get(name) {
            problems.push(Some(origin.place()), path.to_string(), error.to_string());
        }
    }
    Ok(())
}
