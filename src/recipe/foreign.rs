//! Recipes of other people: what one names is gathered before anything of it is done, and what it must not name is
//! refused.
//!
//! A recipe cannot name commands at all. Beside that, one from elsewhere names data and models by addresses only: no path
//! of this machine, and nothing to extend but the recipes that are part of the program.

use serde::Serialize;
use serde_json::Value as Json;

use super::load::{Checked, foreign};
use super::paths::{self, Begins};
use super::schema::Kind;
use super::tree::{KeyPath, Node, Value};
use crate::base::{Problems, Result};
use crate::resource::{Address, Sha256};

/// What a recipe would read and fetch, and the name under which it would write.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Review {
    /// The name of its runs: they are written to `runs/NAME/`.
    pub name: String,
    /// Whether it is for others to extend: it names neither a backbone nor data.
    pub is_part: bool,
    /// What it names.
    pub names: Vec<Named>,
}

/// Something that a recipe names.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Named {
    /// The key, such as `data.root`.
    pub key: String,
    /// The address.
    pub address: String,
    /// Where that is.
    pub kind: NamedKind,
    /// Whether a digest or a commit says which bytes are meant.
    pub pinned: bool,
}

/// Where something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NamedKind {
    /// In the network.
    Fetched,
    /// An engine that is kept on this machine.
    Engine,
    /// Below `data.root`, wherever that is.
    BelowRoot,
    /// A file or folder of this machine.
    Path,
}

impl Review {
    /// Looks at a recipe's text; no file is read and nothing is fetched.
    ///
    /// # Errors
    /// Everything that is wrong with the recipe as such.
    pub fn of(text: &str, name: &str) -> Result<Self> {
        let (tree, checked) = foreign(text, name)?;
        let is_part = matches!(checked, Checked::Part);
        let kind = if is_part { Kind::Recipe } else { Kind::Merged };
        let names = paths::resources(&tree, kind.schema())
            .into_iter()
            .filter_map(|(path, begins)| named(&tree, &path, begins))
            .collect();
        let name = match tree.to_json().get("name") {
            Some(Json::String(name)) => name.clone(),
            _ => String::new(),
        };
        Ok(Self { name, is_part, names })
    }

    /// Refuses paths of this machine; for `sharing` also addresses that do not say which bytes are meant.
    ///
    /// # Errors
    /// All that is refused, at once.
    pub fn check(&self, shown: &str, sharing: bool) -> Result<()> {
        let mut problems = Problems::new(format!("{shown} names what only its author has"));
        for named in &self.names {
            let Named { key, address, kind, pinned } = named;
            match kind {
                NamedKind::Path => {
                    let message = format!(
                        "`{address}` is a path; others need an address (`hf:`, `https:`, `pip:`, `git+`), or no `{key}` at all"
                    );
                    problems.push(None, key, message);
                }
                NamedKind::BelowRoot if leaves(address) => {
                    problems.push(None, key, format!("`{address}` leads out of `data.root`"));
                }
                NamedKind::Fetched if sharing && !pinned => {
                    let message =
                        format!("`{address}` does not say which bytes are meant; add its `sha256`, or name a commit");
                    problems.push(None, key, message);
                }
                _ => {}
            }
        }
        problems.into_result()
    }
}

/// What is named at a key, if it is a resource's text.
fn named(tree: &Node, path: &KeyPath, begins: Begins) -> Option<Named> {
    let Value::String(text) = &tree.at(&path.0)?.value else { return None };
    let key = path.to_string();
    let sibling = key.strip_suffix(".address").and_then(KeyPath::parse).map(|map| map.key("sha256"));
    let digest = sibling.and_then(|sibling| match &tree.at(&sibling.0)?.value {
        Value::String(digest) => digest.parse::<Sha256>().ok(),
        _ => None,
    });
    let address: Option<Address> = text.parse().ok();
    let is_commit = |revision: &str| revision.len() == 40 && revision.chars().all(|c| c.is_ascii_hexdigit());
    let (kind, by_itself) = match &address {
        Some(Address::Path(_)) | None if begins == Begins::AtRoot => (NamedKind::BelowRoot, true),
        Some(Address::Path(_)) | None => (NamedKind::Path, false),
        Some(Address::Engine { .. }) => (NamedKind::Engine, false),
        Some(Address::Hf { revision, .. }) => (NamedKind::Fetched, is_commit(revision)),
        Some(Address::Git { repository, .. }) => {
            (NamedKind::Fetched, repository.revision.as_deref().is_some_and(is_commit))
        }
        Some(Address::Https { .. } | Address::Pip { .. }) => (NamedKind::Fetched, false),
    };
    Some(Named { key, address: text.clone(), kind, pinned: by_itself || digest.is_some() })
}

/// Whether a path does not stay in the folder that it begins in.
fn leaves(path: &str) -> bool {
    use std::path::{Component, Path};
    let windows = path.contains('\\') || path.get(1..2) == Some(":");
    windows || Path::new(path).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
name: theirs
extends: [linear_probe]
model: {backbone: {name: vit_small_patch14_focus}}
data:
  kind: csv
  root: {address: 'pip:elpv-dataset==1.0.0.post1#elpv_dataset/data', sha256: 85e31c1185e31c1185e31c1185e31c1185e31c1185e31c1185e31c1185e31c11}
  train: {path: labels.csv}
  image: image
  label: defect_probability
";

    #[test]
    fn what_a_recipe_names_is_known_before_anything_is_done() {
        let review = Review::of(GOOD, "theirs.yaml").unwrap();
        assert_eq!((review.name.as_str(), review.is_part), ("theirs", false));
        let root = review.names.iter().find(|named| named.key == "data.root.address").unwrap();
        assert_eq!((root.kind, root.pinned), (NamedKind::Fetched, true));
        assert!(review.names.iter().any(|named| named.kind == NamedKind::BelowRoot));
        review.check("theirs.yaml", true).unwrap();
        let part = Review::of("train: {epochs: 3}\n", "part.yaml").unwrap();
        assert!(part.is_part && part.names.is_empty());
    }

    #[test]
    fn paths_of_this_machine_are_refused() {
        let told = |text: String, sharing: bool, part: &str| {
            let error = Review::of(&text, "x.yaml").and_then(|review| review.check("x.yaml", sharing)).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        };
        told(GOOD.replace("path: labels.csv", "path: /etc/passwd"), false, "leads out of `data.root`");
        told(GOOD.replace("path: labels.csv", "path: ../../x.csv"), false, "leads out of `data.root`");
        let root = GOOD.lines().find(|line| line.contains("root:")).unwrap();
        told(GOOD.replace(root, ""), false, "`labels.csv` is a path");
        told(GOOD.replace(root, "  root: /home"), false, "`/home` is a path");
        told(
            GOOD.replace("{name: vit_small_patch14_focus}", "{onnx: ../model.onnx, outputs: [x]}"),
            false,
            "is a path",
        );
        told(GOOD.replace("[linear_probe]", "[../secret.yaml]"), false, "in the program");
        let unpinned = "  root: 'pip:elpv-dataset==1.0.0.post1#elpv_dataset/data'";
        told(GOOD.replace(root, unpinned), true, "does not say which bytes");
        Review::of(&GOOD.replace(root, unpinned), "x.yaml").unwrap().check("x.yaml", false).unwrap();
    }
}
