//! The layers of a recipe, and their merging by figment.
//!
//! From the lowest to the highest: built-in defaults, the extended recipes, the file, the environment,
//! the words of the command line. figment merges them: maps merge, lists and everything else replace.
//! Two things it does not know are done to the layers before: a deletion, and a changed `kind` (or a
//! backbone's changed `name` or `onnx`), take what they replace out of the layers below.

use std::path::Path;
use std::sync::Arc;

use figment::value::{Dict, Num, Tag, Value as Figured};
use figment::{Figment, Metadata, Profile, Provider};
use indexmap::IndexMap;

use super::tree::{Entry, Map, Node, Origin, Segment, Source, Value};
use super::{KeyPath, yaml};
use crate::base::suggest::did_you_mean;
use crate::base::{Place, Problems};

/// What is laid over a recipe's file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Words of the command line: `key.path=value`, `++key.path=value`, `~key.path`.
    pub words: Vec<String>,
    /// Environment variables; those named `CAFT__A__B` count.
    pub variables: Vec<(String, String)>,
    /// A file with a sweep in the format of Weights & Biases; it becomes the recipe's `sweep`.
    pub sweep: Option<std::path::PathBuf>,
}

/// What begins the name of an environment variable that sets a recipe's key.
pub const PREFIX: &str = "CAFT__";

impl Overrides {
    /// The process's environment under the words of its command line.
    pub fn from_environment(words: &[String]) -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let mut variables: Vec<_> = std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        variables.sort_unstable();
        Self { words: words.to_vec(), variables, sweep: None }
    }

    /// Whether a word of the command line is an override and not a file: it begins with `~` or `++`, or
    /// has a key before its first `=`.
    pub fn is_word(word: &str) -> bool {
        let key = |key: &str| !key.is_empty() && !key.contains(['/', '\\', ' ']) && KeyPath::parse(key).is_some();
        word.starts_with("++")
            || (word.starts_with('~') && !word.contains('/'))
            || (word.split_once('=').is_some_and(|(name, _)| key(name)) && !Path::new(word).exists())
    }
}

/// A stack of layers, the lowest first; each is a map.
#[derive(Debug, Default)]
pub struct Layers(Vec<Node>);

impl Layers {
    /// Puts a layer on top.
    pub fn push(&mut self, layer: Node) {
        for path in replaced(&layer, &self.0) {
            self.remove(&path);
        }
        self.0.push(layer);
    }

    /// Puts the environment on top, as one layer.
    pub fn push_variables(&mut self, variables: &[(String, String)], problems: &mut Problems) {
        let mut layer = None;
        for (name, value) in variables {
            let Some(keys) = name.strip_prefix(PREFIX) else { continue };
            let source = Arc::new(Source::Variable { name: name.clone(), value: value.clone() });
            let keys: Vec<String> = keys.split("__").map(str::to_lowercase).collect();
            let place = Place::Environment { variable: name.clone(), value: value.clone() };
            if keys.iter().any(String::is_empty) {
                problems.push(Some(place), "", "the keys of the path are joined by `__`, as in `CAFT__TRAIN__EPOCHS`");
                continue;
            }
            if let Some(node) = value_of(value, &source, &place, problems) {
                set(&mut layer, &keys, node, &source);
            }
        }
        if let Some(layer) = layer {
            self.push(layer);
        }
    }

    /// Puts values with the paths of their keys on top, as one layer.
    pub fn push_values(&mut self, values: impl IntoIterator<Item = (Vec<String>, Node)>) {
        let mut layer = None;
        for (keys, node) in values {
            let source = node.origin.source.clone();
            set(&mut layer, &keys, node, &source);
        }
        if let Some(layer) = layer {
            self.push(layer);
        }
    }

    /// Puts the words of the command line on top, as one layer; deletions act on all below.
    pub fn push_words(&mut self, words: &[String], problems: &mut Problems) {
        let mut layer = None;
        let mut deleted = Vec::new();
        for word in words {
            let source = Arc::new(Source::Word(word.clone()));
            let place = Place::CommandLine { word: word.clone() };
            let mut wrong = |message: String| problems.push(Some(place.clone()), "", message);
            let keys = |text: &str| KeyPath::parse(text).filter(|path| !path.0.is_empty())?.keys();
            let bad_path = |text: &str| match text.contains('[') {
                true => format!("`{text}` goes into a list; lists are replaced whole, as in `key=[a, b]`"),
                false => format!("`{text}` is not a path of keys, such as `train.optimizer.lr`"),
            };
            if let Some(path) = word.strip_prefix('~') {
                match keys(path) {
                    _ if path.contains('=') => wrong("a deletion is `~key.path`, without a value".into()),
                    None => wrong(bad_path(path)),
                    Some(keys) => deleted.push((keys, place)),
                }
                continue;
            }
            let Some((path, text)) = word.strip_prefix("++").unwrap_or(word).split_once('=') else {
                wrong("an override is `key.path=value`, `++key.path=value` or `~key.path`".into());
                continue;
            };
            if path.starts_with('+') {
                wrong("one `+` is not known here; `key=value` and `++key=value` both add or replace".into());
                continue;
            }
            let Some(keys) = keys(path) else {
                wrong(bad_path(path));
                continue;
            };
            if let Some(node) = value_of(text, &source, &place, problems) {
                set(&mut layer, &keys, node, &source);
            }
        }
        for (keys, place) in deleted {
            let path: Vec<Segment> = keys.iter().cloned().map(Segment::Key).collect();
            if !self.remove(&path) {
                let last = keys.last().map_or("", String::as_str);
                let parent = &path[..path.len().saturating_sub(1)];
                let beside = self.0.iter().filter_map(|layer| layer.at(parent)?.as_map());
                let near = did_you_mean(last, beside.flat_map(Map::keys).map(String::as_str));
                problems.push(Some(place), "", format!("there is no `{}` to delete{near}", KeyPath(path)));
            }
        }
        if let Some(layer) = layer {
            self.push(layer);
        }
    }

    /// Takes a path out of every layer; whether it was in any.
    pub fn remove(&mut self, path: &[Segment]) -> bool {
        let Some((Segment::Key(last), parents)) = path.split_last() else { return false };
        let mut found = false;
        for layer in &mut self.0 {
            let parent = parents.iter().try_fold(layer, |node, segment| match segment {
                Segment::Key(key) => node.as_map_mut()?.get_mut(key).map(|entry| &mut entry.node),
                Segment::Index(_) => None,
            });
            if let Some(map) = parent.and_then(Node::as_map_mut) {
                found |= map.shift_remove(last).is_some();
            }
        }
        found
    }

    /// Merges the layers; every value keeps the place of the layer it came from. Keys stand in the order
    /// of the highest file that has them.
    pub fn merge(self) -> Node {
        let figment = self.0.iter().enumerate().fold(Figment::new(), |figment, (index, layer)| {
            figment.merge(Layer { index, dict: layer.as_map().map(dict).unwrap_or_default() })
        });
        let merged =
            figment.data().ok().and_then(|mut profiles| profiles.remove(&Profile::Default)).unwrap_or_default();
        let layer_of = |tag: Tag| figment.get_metadata(tag)?.source.as_ref()?.custom()?.parse::<usize>().ok();
        let layers: Vec<&Node> = self.0.iter().collect();
        let origin = layers.last().map_or_else(nowhere, |layer| layer.origin.clone());
        Node { value: Value::Map(placed(&merged, &layers, &layer_of)), origin }
    }
}

fn nowhere() -> Origin {
    Origin { source: Arc::new(Source::Defaults), line: 0, column: 0 }
}

/// Reads the text of an override as YAML.
fn value_of(text: &str, source: &Arc<Source>, place: &Place, problems: &mut Problems) -> Option<Node> {
    let mut own = Problems::new("");
    let node = yaml::parse(text, source, &mut own);
    for problem in &own.list {
        problems.push(Some(place.clone()), "", format!("the value is not YAML: {}", problem.message));
    }
    if !own.is_empty() {
        return None;
    }
    // Nothing at all is null, as it is behind a key in a file.
    Some(
        node.unwrap_or_else(|| Node {
            value: Value::Null,
            origin: Origin { source: source.clone(), line: 1, column: 1 },
        }),
    )
}

/// Sets a path in a layer that is being made; a map merges into the map that is there.
fn set(layer: &mut Option<Node>, keys: &[String], node: Node, source: &Arc<Source>) {
    let origin = Origin { source: source.clone(), line: 1, column: 1 };
    let empty = || Node { value: Value::Map(Map::new()), origin: origin.clone() };
    let mut slot = layer.get_or_insert_with(empty);
    for key in keys {
        if slot.as_map().is_none() {
            *slot = empty();
        }
        let Value::Map(map) = &mut slot.value else { return };
        let new = || Entry { key: origin.clone(), node: empty() };
        slot = &mut map.entry(key.clone()).or_insert_with(new).node;
    }
    lay_over(slot, node);
}

fn lay_over(base: &mut Node, over: Node) {
    match (&mut base.value, over.value) {
        (Value::Map(base), Value::Map(over)) => {
            for (key, entry) in over {
                match base.get_mut(&key) {
                    Some(old) => lay_over(&mut old.node, entry.node),
                    None => {
                        base.insert(key, entry);
                    }
                }
            }
        }
        (_, value) => *base = Node { value, origin: over.origin },
    }
}

/// The paths below which a new layer replaces what is in the layers under it.
fn replaced(layer: &Node, below: &[Node]) -> Vec<Vec<Segment>> {
    fn walk(node: &Node, below: &[&Node], path: &mut Vec<Segment>, found: &mut Vec<Vec<Segment>>) {
        let Some(map) = node.as_map() else { return };
        let is_backbone = match path.as_slice() {
            [.., Segment::Key(towers), Segment::Key(_)] if towers == "towers" => true,
            [.., Segment::Key(key)] => key == "backbone",
            _ => false,
        };
        let identity: &[&str] = if is_backbone { &["name", "onnx"] } else { &["kind"] };
        let current = |key: &str| below.iter().rev().find_map(|under| under.as_map()?.get(key));
        let has_identity = identity.iter().any(|key| current(key).is_some());
        let changed = identity.iter().any(|key| {
            let Some(new) = map.get(*key) else { return false };
            has_identity && current(key).is_none_or(|old| old.node.to_json() != new.node.to_json())
        });
        if changed && !path.is_empty() {
            found.push(path.clone());
            return;
        }
        for (key, entry) in map {
            // Only the layers above the last one that is not a map still show.
            let children: Vec<Option<&Node>> = below.iter().map(|u| Some(&u.as_map()?.get(key)?.node)).collect();
            let shown = children.iter().flatten().rev().take_while(|child| child.as_map().is_some()).count();
            let all: Vec<&Node> = children.into_iter().flatten().collect();
            path.push(Segment::Key(key.clone()));
            walk(&entry.node, &all[all.len() - shown..], path, found);
            path.pop();
        }
    }
    let mut found = Vec::new();
    walk(layer, &below.iter().collect::<Vec<_>>(), &mut Vec::new(), &mut found);
    found
}

/// A layer as figment takes it.
struct Layer {
    index: usize,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::from("a layer of the recipe", figment::Source::Custom(self.index.to_string()))
    }

    fn data(&self) -> Result<figment::value::Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

fn dict(map: &Map) -> Dict {
    map.iter().map(|(key, entry)| (key.clone(), figured(&entry.node))).collect()
}

fn figured(node: &Node) -> Figured {
    match &node.value {
        Value::Null => Figured::from(figment::value::Empty::Unit),
        Value::Bool(flag) => Figured::from(*flag),
        // The number itself is taken from the layer afterwards.
        Value::Number(number) => Figured::from(Num::F64(number.as_f64().unwrap_or_default())),
        Value::String(text) => Figured::from(text.as_str()),
        Value::List(items) => items.iter().map(figured).collect::<Vec<_>>().into(),
        Value::Map(map) => Figured::from(dict(map)),
    }
}

/// The merged map with the values, places and order of the layers. `layers` are the nodes at this path,
/// lowest first, of the layers that have a map here.
fn placed(merged: &Dict, layers: &[&Node], layer_of: &dyn Fn(Tag) -> Option<usize>) -> Map {
    let mut map = IndexMap::new();
    // `layers` at the root are all layers, by which tags are counted.
    place_into(&mut map, merged, &layers.iter().map(|n| Some(*n)).collect::<Vec<_>>(), layer_of);
    map
}

fn place_into(map: &mut Map, merged: &Dict, layers: &[Option<&Node>], layer_of: &dyn Fn(Tag) -> Option<usize>) {
    let is_file = |node: &Node| matches!(*node.origin.source, Source::File { .. });
    let (files, others): (Vec<&Node>, Vec<&Node>) = layers.iter().rev().flatten().partition(|node| is_file(node));
    for key in files.into_iter().chain(others).filter_map(|n| n.as_map()).flat_map(Map::keys) {
        if map.contains_key(key) {
            continue;
        }
        let Some(value) = merged.get(key) else { continue };
        let children: Vec<Option<&Entry>> = layers.iter().map(|layer| (*layer)?.as_map()?.get(key)).collect();
        let Some(entry) = layer_of(value.tag()).and_then(|index| *children.get(index)?) else { continue };
        let node = match value {
            Figured::Dict(_, dict) => {
                let nodes: Vec<Option<&Node>> = children.iter().map(|child| child.map(|e| &e.node)).collect();
                let mut inner = Map::new();
                place_into(&mut inner, dict, &nodes, layer_of);
                Node { value: Value::Map(inner), origin: entry.node.origin.clone() }
            }
            _ => entry.node.clone(),
        };
        map.insert(key.clone(), Entry { key: entry.key.clone(), node });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> Node {
        let source = Arc::new(Source::File { path: name.into(), folder: None });
        let mut problems = Problems::new("");
        let node = yaml::parse(text, &source, &mut problems).unwrap();
        assert!(problems.is_empty(), "{problems}");
        node
    }

    fn merged(files: &[&str], variables: &[(&str, &str)], words: &[&str]) -> (Node, String) {
        let mut layers = Layers::default();
        for (index, text) in files.iter().enumerate() {
            layers.push(file(&format!("f{index}"), text));
        }
        let mut problems = Problems::new("");
        let variables: Vec<_> = variables.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        layers.push_variables(&variables, &mut problems);
        layers.push_words(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>(), &mut problems);
        (layers.merge(), problems.to_string().trim().to_string())
    }

    fn json(files: &[&str], variables: &[(&str, &str)], words: &[&str]) -> String {
        let (node, problems) = merged(files, variables, words);
        assert_eq!(problems, "");
        node.to_json().to_string()
    }

    #[test]
    fn maps_merge_and_lists_replace() {
        let files = ["a: {x: 1, y: [1, 2]}\nb: 1", "c: 3\na: {y: [3], z: 0.5}"];
        assert_eq!(json(&files, &[], &[]), r#"{"c":3,"a":{"y":[3],"z":0.5,"x":1},"b":1}"#);
        assert_eq!(json(&["a: {x: 1}", "a: ~", "a: {y: 2}"], &[], &[]), r#"{"a":{"y":2}}"#);
    }

    #[test]
    fn a_changed_kind_replaces_its_map() {
        let sgd = "o: {kind: sgd, momentum: 0.9, lr: 1}";
        assert_eq!(json(&[sgd, "o: {kind: adamw, wd: 1}"], &[], &[]), r#"{"o":{"kind":"adamw","wd":1}}"#);
        assert_eq!(json(&[sgd, "o: {kind: sgd, lr: 2}"], &[], &[]), r#"{"o":{"kind":"sgd","lr":2,"momentum":0.9}}"#);
        assert_eq!(json(&[sgd, "o: {lr: 2}"], &[], &[]), r#"{"o":{"lr":2,"kind":"sgd","momentum":0.9}}"#);
        assert_eq!(json(&[sgd], &[], &["o.lr=3", "o.kind=adamw"]), r#"{"o":{"lr":3,"kind":"adamw"}}"#);
        let variables = [("CAFT__O__KIND", "adamw"), ("CAFT__O__BETA", "2")];
        assert_eq!(json(&[sgd], &variables, &[]), r#"{"o":{"kind":"adamw","beta":2}}"#);
        // A kind under a value that has been replaced already is gone.
        assert_eq!(json(&[sgd, "o: ~", "o: {lr: 1}"], &[], &[]), r#"{"o":{"lr":1}}"#);
    }

    #[test]
    fn a_changed_backbone_replaces_its_map() {
        let named = "model: {backbone: {name: a, outputs: [cls]}, head: {kind: x}}";
        let onnx = "model: {backbone: {onnx: ./b.onnx}}";
        assert_eq!(json(&[named, onnx], &[], &[]), r#"{"model":{"backbone":{"onnx":"./b.onnx"},"head":{"kind":"x"}}}"#);
        let same = "model: {backbone: {name: a, mode: frozen}}";
        let kept = r#"{"model":{"backbone":{"name":"a","mode":"frozen","outputs":["cls"]},"head":{"kind":"x"}}}"#;
        assert_eq!(json(&[named, same], &[], &[]), kept);
        assert_eq!(json(&["name: a\nseed: 1", "name: b"], &[], &[]), r#"{"name":"b","seed":1}"#);
    }

    #[test]
    fn words_set_add_and_delete() {
        let file = ["a: {b: 1, c: 2}"];
        assert_eq!(json(&file, &[], &["a.b=1e-3", "++d.e=[x, 2]", "~a.c"]), r#"{"a":{"b":0.001},"d":{"e":["x",2]}}"#);
        assert_eq!(json(&file, &[], &["a={d: 3}"]), r#"{"a":{"b":1,"c":2,"d":3}}"#);
        assert_eq!(json(&file, &[], &["a.b=", "x=no"]), r#"{"a":{"b":null,"c":2},"x":"no"}"#);
        assert_eq!(json(&file, &[], &["s.\"t.lr\"=1"]), r#"{"a":{"b":1,"c":2},"s":{"t.lr":1}}"#);
        let problem = |word: &str| merged(&file, &[], &[word]).1;
        assert!(problem("~a.d").contains("there is no `a.d` to delete"));
        assert!(problem("~a.cc").ends_with("did you mean `c`?"), "{}", problem("~a.cc"));
        assert!(problem("a[0]=1").contains("lists are replaced whole"));
        assert!(problem("a").contains("an override is"));
        assert!(problem("+a=1").contains("one `+` is not known"));
        assert!(problem("a=[1").starts_with("a=[1 (command line): the value is not YAML"), "{}", problem("a=[1"));
        assert!(problem("~a=1").contains("without a value"));
    }

    #[test]
    fn the_environment_stands_between_file_and_words() {
        let variables = [("CAFT__A__B", "5"), ("CAFT_HOME", "/x"), ("CAFT__A__C", "[6]")];
        assert_eq!(json(&["a: {b: 1}"], &variables, &["a.c=7"]), r#"{"a":{"b":5,"c":7}}"#);
        assert!(merged(&["a: 1"], &[("CAFT__A____B", "1")], &[]).1.contains("joined by `__`"));
    }

    #[test]
    fn every_value_keeps_its_place() {
        let (node, _) = merged(&["a: {x: 1}\n", "b: 2\na:\n  y: 3\n"], &[("CAFT__B", "4")], &["a.z=5"]);
        let place = |path: &str| node.at(&KeyPath::parse(path).unwrap().0).unwrap().origin.place().to_string();
        assert_eq!(place("a.x"), "f0:1:8");
        assert_eq!(place("a.y"), "f1:3:6");
        assert_eq!(place("b"), "CAFT__B=4 (environment)");
        assert_eq!(place("a.z"), "a.z=5 (command line)");
    }

    #[test]
    fn words_and_files_are_told_apart() {
        for word in ["a=1", "a.b.c=x/y", "++a=1", "~a.b", "s.\"t.u\"=1"] {
            assert!(Overrides::is_word(word), "{word}");
        }
        for word in ["configs/a.yaml", "./a=1", "x/a=1.yaml", "a.yaml", "~/a.yaml", "=1"] {
            assert!(!Overrides::is_word(word), "{word}");
        }
    }
}
