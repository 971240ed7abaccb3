//! A value tree in which every key and value knows where it was written, and paths into it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Number;

use crate::base::Place;
use crate::base::suggest::key_segment;

/// What a value was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file of the user, or one shipped inside the program (then `folder` is `None`).
    File {
        /// The file as the user or the extending file named it.
        path: PathBuf,
        /// The folder its relative paths start from.
        folder: Option<PathBuf>,
    },
    /// A word of the command line.
    Word(String),
    /// An environment variable.
    Variable {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// The program's own defaults.
    Defaults,
}

/// Where a key or value begins. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// What it was read from.
    pub source: Arc<Source>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Origin {
    /// The place as errors show it.
    pub fn place(&self) -> Place {
        match &*self.source {
            Source::File { path, .. } => Place::File { path: path.clone(), line: self.line, column: self.column },
            Source::Word(word) => Place::CommandLine { word: word.clone() },
            Source::Variable { name, value } => Place::Environment { variable: name.clone(), value: value.clone() },
            Source::Defaults => Place::Default,
        }
    }

    /// The folder that a relative path written here starts from; `None` for the working folder.
    pub fn folder(&self) -> Option<&Path> {
        match &*self.source {
            Source::File { folder, .. } => folder.as_deref(),
            _ => None,
        }
    }
}

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it begins.
    pub origin: Origin,
}

/// What YAML's core schema knows, with text for keys.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `~`, `null` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A finite number.
    Number(Number),
    /// Text.
    String(String),
    /// `[…]` or `- …` lines.
    List(Vec<Node>),
    /// `{…}` or `key: …` lines, in the order written.
    Map(Map),
}

/// Entries by key, in the order written.
pub type Map = IndexMap<String, Entry>;

/// A value of a map, and where its key was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where the key begins.
    pub key: Origin,
    /// The value.
    pub node: Node,
}

impl Node {
    /// The map, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The map, if it is one.
    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The value at a path.
    pub fn at(&self, path: &[Segment]) -> Option<&Node> {
        path.iter().try_fold(self, |node, segment| match (segment, &node.value) {
            (Segment::Key(key), Value::Map(map)) => map.get(key).map(|entry| &entry.node),
            (Segment::Index(index), Value::List(items)) => items.get(*index),
            _ => None,
        })
    }

    /// As JSON; places are lost.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Number(number) => number.clone().into(),
            Value::String(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(map) => map.iter().map(|(key, entry)| (key.clone(), entry.node.to_json())).collect(),
        }
    }

    /// A value that was written at one place as a whole.
    pub fn from_json(value: &serde_json::Value, origin: &Origin) -> Self {
        use serde_json::Value as Json;
        let value = match value {
            Json::Null => Value::Null,
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Number(number) => Value::Number(number.clone()),
            Json::String(text) => Value::String(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(|item| Self::from_json(item, origin)).collect()),
            Json::Object(map) => {
                let entry = |value| Entry { key: origin.clone(), node: Self::from_json(value, origin) };
                Value::Map(map.iter().map(|(key, value)| (key.clone(), entry(value))).collect())
            }
        };
        Self { value, origin: origin.clone() }
    }

    /// What it is, for messages: `a map`, `text`, …
    pub fn kind_name(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// One step into a tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// An entry of a map.
    Key(String),
    /// An item of a list, from 0.
    Index(usize),
}

/// Steps from the root; shown as `data.ops[0].kind`, with quotes around keys that are not plain words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyPath(pub Vec<Segment>);

impl KeyPath {
    /// This path and one more key.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Segment::Key(key.to_string()));
        path
    }

    /// This path and one more index.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Segment::Index(index));
        path
    }

    /// The keys, if there is no index among the steps.
    pub fn keys(self) -> Option<Vec<String>> {
        let key = |segment| match segment {
            Segment::Key(key) => Some(key),
            Segment::Index(_) => None,
        };
        self.0.into_iter().map(key).collect()
    }

    /// Reads what `Display` shows; `None` if it is not a path.
    pub fn parse(text: &str) -> Option<Self> {
        let mut path = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(inside) = rest.strip_prefix('[') {
                let (index, after) = inside.split_once(']')?;
                path.push(Segment::Index(index.parse().ok()?));
                rest = after;
            } else {
                let (key, after) = match rest.strip_prefix('"') {
                    Some(inside) => inside.split_once('"')?,
                    None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
                };
                if key.is_empty() {
                    return None;
                }
                path.push(Segment::Key(key.to_string()));
                rest = after;
            }
            if let Some(after) = rest.strip_prefix('.') {
                if after.is_empty() || after.starts_with('[') {
                    return None;
                }
                rest = after;
            } else if !rest.is_empty() && !rest.starts_with('[') {
                return None;
            }
        }
        Some(Self(path))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    let dot = if position == 0 { "" } else { "." };
                    write!(f, "{dot}{}", key_segment(key))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_back_as_they_are_shown() {
        for text in ["", "name", "data.ops[0].kind", "sweep.parameters.\"train.lr\".min", "a[1][2]"] {
            assert_eq!(KeyPath::parse(text).unwrap().to_string(), text);
        }
        for text in [".", "a.", "a..b", "a[", "a[x]", "a.[0]", "\"a"] {
            assert_eq!(KeyPath::parse(text), None, "{text}");
        }
    }
}
