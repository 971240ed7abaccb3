//! Paths in a recipe: relative ones become absolute, from the folder of the file that names them.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::KeyPath;
use super::schema::deref;
use super::tree::{Node, Segment, Value};
use crate::resource::Address;

/// Makes relative paths absolute, each from the folder of the file that names it, or from the working
/// folder if a word or variable does. Which values are paths the schema knows.
pub(super) fn resolve(tree: &mut Node, schema: &Json) {
    for (path, place) in resources(tree, schema) {
        if place == Begins::AtRoot {
            continue;
        }
        let Some(node) = node_mut(tree, &path.0) else { continue };
        let Value::String(text) = &node.value else { continue };
        let Ok(Address::Path(relative)) = text.parse() else { continue };
        let folder = node.origin.folder().unwrap_or(Path::new(""));
        if let Ok(absolute) = std::path::absolute(folder.join(&relative)) {
            node.value = Value::String(Address::Path(plain(absolute)).to_string());
        }
    }
}

/// Where a path begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    /// In the folder of the file that names it.
    Beside,
    /// At `data.root`.
    AtRoot,
}

/// The paths of the keys of all texts that the schema says are resources.
pub(super) fn resources(tree: &Node, schema: &Json) -> Vec<(KeyPath, Begins)> {
    let mut found = Vec::new();
    find_resources(tree, schema, schema, &KeyPath::default(), &mut found);
    found.sort_unstable();
    found.dedup();
    let root = KeyPath::default().key("data").key("root");
    let rooted = tree.at(&root.0).is_some_and(|node| node.value != Value::Null);
    // Below a root the sets' paths start there.
    let below_root = ["data.train.path", "data.valid.path", "data.test.path"];
    let begins = |path: &KeyPath| {
        let is_below = rooted && below_root.iter().any(|below| path.to_string().starts_with(below));
        if is_below { Begins::AtRoot } else { Begins::Beside }
    };
    found.into_iter().map(|path| (begins(&path), path)).map(|(begins, path)| (path, begins)).collect()
}

/// The path without `.` and `..`, if that names the same file.
fn plain(path: PathBuf) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    let same = match (std::fs::canonicalize(&path), std::fs::canonicalize(&clean)) {
        (Ok(one), Ok(other)) => one == other,
        (Err(_), Err(_)) => true,
        _ => false,
    };
    if same { clean } else { path }
}

pub(super) fn node_mut<'a>(tree: &'a mut Node, path: &[Segment]) -> Option<&'a mut Node> {
    path.iter().try_fold(tree, |node, segment| match (segment, &mut node.value) {
        (Segment::Key(key), Value::Map(map)) => map.get_mut(key).map(|entry| &mut entry.node),
        (Segment::Index(index), Value::List(items)) => items.get_mut(*index),
        _ => None,
    })
}

/// The paths of all texts that the schema says are resources.
fn find_resources(node: &Node, schema: &Json, root: &Json, path: &KeyPath, found: &mut Vec<KeyPath>) {
    let is_resource = schema.get("$ref").and_then(Json::as_str) == Some("#/definitions/Resource");
    if is_resource {
        match &node.value {
            Value::Map(_) => found.push(path.key("address")),
            _ => found.push(path.clone()),
        }
        return;
    }
    let schema = deref(schema, root);
    for key in ["allOf", "anyOf", "oneOf"] {
        for inner in schema.get(key).and_then(Json::as_array).into_iter().flatten() {
            find_resources(node, inner, root, path, found);
        }
    }
    if let Some(condition) = schema.get("if") {
        let branch = if applies(node, condition) { "then" } else { "else" };
        if let Some(inner) = schema.get(branch) {
            find_resources(node, inner, root, path, found);
        }
    }
    match &node.value {
        Value::Map(map) => {
            for (key, entry) in map {
                let property = schema.pointer("/properties").and_then(|p| p.get(key));
                if let Some(inner) = property.or_else(|| schema.get("additionalProperties")) {
                    find_resources(&entry.node, inner, root, &path.key(key), found);
                }
            }
        }
        Value::List(items) => {
            if let Some(inner) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    find_resources(item, inner, root, &path.index(index), found);
                }
            }
        }
        _ => {}
    }
}

/// Whether the condition of an `if` holds; the schemas have conditions on `kind` and on the type.
fn applies(node: &Node, condition: &Json) -> bool {
    if let Some(kind) = condition.pointer("/properties/kind/const") {
        return node.as_map().and_then(|map| map.get("kind")).is_some_and(|entry| entry.node.to_json() == *kind);
    }
    if condition.pointer("/not/type").is_some_and(|negated| negated == "null") {
        return node.value != Value::Null;
    }
    match condition.get("type").and_then(Json::as_str) {
        Some("object") => node.as_map().is_some(),
        Some("array") => matches!(node.value, Value::List(_)),
        Some("string") => matches!(node.value, Value::String(_)),
        Some("null") => node.value == Value::Null,
        _ => false,
    }
}
