//! The recipes that a sweep makes of a recipe: what its values name is named too.

use serde_json::Value as Json;

use super::{Named, visible_line};
use crate::base::{Error, Problems, Result};
use crate::recipe::load::with_value;
use crate::recipe::tree::{KeyPath, Node};
use crate::sweep::{Domain, SweepConfig};

/// The most values with texts that are looked through.
const MOST: usize = 2000;
/// The parts of a recipe in which something can be named.
const NAMING: [&str; 2] = ["data", "model"];

/// A recipe with one value of its sweep.
pub struct Variant {
    /// The parameter that has the value, such as `sweep.parameters.data.root`.
    pub key: String,
    /// The recipe.
    pub tree: Node,
    value: Json,
    in_naming: bool,
}

impl Variant {
    /// Texts of the value that are none of those that are known to name something, where one may yet do so: what a key
    /// means can depend on another parameter.
    pub fn unknown(&self, known: &[Named]) -> Vec<String> {
        let mut all = Vec::new();
        if self.in_naming {
            texts(&self.value, &mut all);
        }
        all.retain(|text| known.iter().all(|named| named.address != visible_line(text)));
        all
    }
}

/// A recipe with each value of its sweep that holds a text, or takes one away.
///
/// # Errors
/// The sweep is none, or has too many such values to look at.
pub fn variants(tree: &Node, shown: &str) -> Result<Vec<Variant>> {
    let Some(sweep) = tree.at(&KeyPath::default().key("sweep").0) else { return Ok(Vec::new()) };
    let wrong = |e| Error::bad_input(format!("the sweep of `{shown}` cannot be read")).because(e);
    let config: SweepConfig = serde_json::from_value(sweep.to_json()).map_err(wrong)?;
    let mut problems = Problems::new(format!("{shown} is not a valid recipe"));
    let space = config.space(&[], &mut problems);
    problems.into_result()?;
    let mut base = tree.clone();
    base.as_map_mut().map(|map| map.shift_remove("sweep"));
    let mut all = Vec::new();
    for dimension in &space.dimensions {
        let Domain::Choice { values, .. } = &dimension.domain else { continue };
        let path = KeyPath::parse(&dimension.path).and_then(KeyPath::keys);
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            return Err(Error::bad_input(format!("`{}` of `{shown}` is not a path of keys", dimension.path)));
        };
        for value in values.iter().filter(|value| !matches!(value, Json::Number(_) | Json::Bool(_))) {
            if all.len() == MOST {
                return Err(Error::bad_input(format!("the sweep of `{shown}` has more than {MOST} values to look at")));
            }
            let in_naming = NAMING.contains(&path[0].as_str());
            let tree = with_value(&base, &path, value);
            all.push(Variant { key: dimension.written.clone(), tree, value: value.clone(), in_naming });
        }
    }
    Ok(all)
}

fn texts(value: &Json, found: &mut Vec<String>) {
    match value {
        Json::String(text) => found.push(text.clone()),
        Json::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Json::Object(map) => map.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}
