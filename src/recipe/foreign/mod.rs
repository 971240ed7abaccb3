//! Recipes of other people: what one names is gathered before anything of it is done, and what it must not name is
//! refused.
//!
//! A recipe cannot name commands at all. Beside that, one from elsewhere names data and models by addresses only: no path
//! of this machine, no host of its own network, and nothing to extend but the recipes that are part of the program. The
//! values of its sweep are looked at like the recipe itself.

mod varied;

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value as Json;

use super::load::{Checked, foreign};
use super::paths::{self, Begins};
use super::schema::Kind;
use super::tree::{KeyPath, Node, Value};
use crate::backbone::catalogue;
use crate::base::{Problems, Result, visible_line};
use crate::resource::{Address, Resource, Sha256, is_inward};

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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Named {
    /// The key, such as `data.root`; of a sweep's value the parameter that has it.
    pub key: String,
    /// The address; what a terminal would obey or not show is written out.
    pub address: String,
    /// Where that is.
    pub kind: NamedKind,
    /// Whether a digest or a commit says which bytes are meant.
    pub pinned: bool,
}

/// Where something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NamedKind {
    /// In the network.
    Fetched,
    /// In the network, for a backbone of the catalogue: the program's own address.
    Backbone,
    /// On a host that is this machine or one of its own network.
    Inward,
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
        let mut names: BTreeSet<Named> = all_named(&tree, kind.schema())?.into_iter().collect();
        for varied in varied::variants(&tree, name)? {
            let of_variant = all_named(&varied.tree, kind.schema())?;
            let others = varied.unknown(&of_variant).into_iter().filter_map(|text| text_named(&varied.key, &text));
            let known: Vec<Named> =
                of_variant.iter().filter(|named| !names.iter().any(|other| is_same(named, other))).cloned().collect();
            let moved = known.into_iter().map(|named| Named { key: varied.key.clone(), ..named });
            names.extend(moved.chain(others));
        }
        let names = names.into_iter().collect();
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
                NamedKind::Inward => {
                    let message =
                        format!("`{address}` is on a host of this machine's own network; name one that others reach");
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

/// Whether two name the same thing in the same way, if not at the same key.
fn is_same(a: &Named, b: &Named) -> bool {
    (&a.address, a.kind, a.pinned) == (&b.address, b.kind, b.pinned)
}

/// All that a tree names.
fn all_named(tree: &Node, schema: &Json) -> Result<Vec<Named>> {
    let resources = paths::resources(tree, schema).into_iter();
    let mut all: Vec<Named> = resources.filter_map(|(path, begins)| named(tree, &path, begins)).collect();
    all.extend(backbones(tree)?);
    Ok(all)
}

/// What is fetched for the backbones of the catalogue that are named, unless they bring a file of their own.
fn backbones(tree: &Node) -> Result<Vec<Named>> {
    let model = KeyPath::default().key("model");
    let fields = tree.at(&model.key("towers").0).and_then(Node::as_map).into_iter().flat_map(|towers| towers.keys());
    let towers = fields.map(|field| model.key("towers").key(field));
    let mut all = Vec::new();
    for path in towers.chain([model.key("backbone"), model.key("full")]) {
        let text = |key: &str| match &tree.at(&path.key(key).0)?.value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        };
        let Some(entry) = text("name").and_then(|name| catalogue().ok()?.get(name).ok()) else { continue };
        let has_own = tree.at(&path.key("onnx").0).is_some_and(|node| node.value != Value::Null);
        let weights = entry.weights.onnx.iter().filter(|_| !has_own);
        let fetched = weights.chain(&entry.tokenizer).filter(|file| !file.address.is_local());
        all.extend(fetched.map(|Resource { address, sha256 }| Named {
            key: path.key("name").to_string(),
            address: address.to_string(),
            kind: NamedKind::Backbone,
            pinned: sha256.is_some(),
        }));
    }
    Ok(all)
}

/// What a text is that stands where the schema has nothing, if it looks like an address or a path.
fn text_named(key: &str, text: &str) -> Option<Named> {
    let address: Option<Address> = text.parse().ok();
    let is_path = text.contains(['/', '\\']) || text.starts_with(['~', '.']);
    let (kind, pinned) = match &address {
        Some(Address::Path(_)) | None if !is_path => return None,
        address => kind_of(address.as_ref()),
    };
    Some(Named { key: key.into(), address: visible_line(text).into_owned(), kind, pinned })
}

/// Where an address is, and whether it says by itself which bytes are meant.
fn kind_of(address: Option<&Address>) -> (NamedKind, bool) {
    let is_commit = |revision: &str| revision.len() == 40 && revision.chars().all(|c| c.is_ascii_hexdigit());
    match address {
        Some(Address::Path(_)) | None => (NamedKind::Path, false),
        Some(Address::Git { repository, .. }) if repository.url.starts_with("file:") => (NamedKind::Path, false),
        Some(address) if address.host().is_some_and(is_inward) => (NamedKind::Inward, false),
        Some(Address::Engine { .. }) => (NamedKind::Engine, false),
        Some(Address::Hf { revision, .. }) => (NamedKind::Fetched, is_commit(revision)),
        Some(Address::Git { repository, .. }) => {
            (NamedKind::Fetched, repository.revision.as_deref().is_some_and(is_commit))
        }
        Some(Address::Https { .. } | Address::Pip { .. }) => (NamedKind::Fetched, false),
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
    let (kind, by_itself) = match &address {
        Some(Address::Path(_)) | None if begins == Begins::AtRoot => (NamedKind::BelowRoot, true),
        address => kind_of(address.as_ref()),
    };
    Some(Named { key, address: visible_line(text).into_owned(), kind, pinned: by_itself || digest.is_some() })
}

/// Whether a path does not stay in the folder that it begins in.
fn leaves(path: &str) -> bool {
    use std::path::{Component, Path};
    let windows = path.contains('\\') || path.get(1..2) == Some(":") || path.starts_with('~');
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

    /// What a recipe with these lines behind it is refused for; nothing if it is not.
    fn refused(text: &str) -> String {
        let review = Review::of(text, "x.yaml").and_then(|review| review.check("x.yaml", false));
        review.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_values_of_a_sweep_are_looked_at_like_the_recipe() {
        let swept = |parameters: &str| refused(&format!("{GOOD}sweep: {{parameters: {{{parameters}}}}}\n"));
        assert_eq!(
            swept("lr: {values: [0.1, 0.2]}, model.head: {values: [{kind: linear}, {kind: mlp, hidden: [8]}]}"),
            ""
        );
        for (parameters, part) in [
            ("data.root: {values: [/etc, /home]}", "`/etc` is a path"),
            ("data.train.path: {values: [labels.csv, ../../secret.csv]}", "`../../secret.csv` leads out"),
            ("data: {parameters: {root: {value: /etc}}}", "`/etc` is a path"),
            ("data.root: 'choice(/etc,/home)'", "`/etc` is a path"),
            ("data.root: {values: [~]}", "`labels.csv` is a path"),
            ("model.backbone: {values: [{onnx: ./x.onnx, outputs: [y]}]}", "`./x.onnx` is a path"),
            // What a key means may depend on another one.
            (
                "data.kind: {values: [csv, segmentation]}, data.images: {values: [/home/me/pictures]}",
                "`/home/me/pictures`",
            ),
            ("data.test.path: {values: ['git+file:///srv/x.git#y']}", "git+file"),
        ] {
            let told = swept(parameters);
            assert!(told.contains(part) && told.contains("sweep.parameters"), "{parameters}: {told}");
        }
    }

    #[test]
    fn nothing_of_the_machines_own_network_is_named() {
        let digest = "ab".repeat(32);
        let root = GOOD.lines().find(|line| line.contains("root:")).unwrap();
        let rooted = |address: &str| {
            refused(&GOOD.replace(root, &format!("  root: {{address: '{address}', sha256: {digest}}}")))
        };
        assert_eq!(rooted("https://example.org/x.zip"), "");
        for host in [
            "https://127.0.0.1/x",
            "https://169.254.169.254/latest",
            "http://localhost:8000/x",
            "git+https://10.1.2.3/x.git",
            "git+ssh://git@router/x.git",
        ] {
            assert!(rooted(host).contains("own network"), "{host}: {}", rooted(host));
        }
        assert!(rooted("git+file:///srv/x.git").contains("is a path"));
    }

    #[test]
    fn what_is_shown_is_what_stands_there() {
        let root = GOOD.lines().find(|line| line.contains("root:")).unwrap();
        for address in ["hf:o/r/x\\n  runs no commands", "hf:o/r/\\u202Egnp.x", "./a\\e[2Jb"] {
            let text = GOOD.replace(root, &format!("  root: \"{address}\""));
            let told = refused(&text);
            assert!(!told.is_empty() && !told.contains(['\u{1b}', '\u{202e}']), "{told:?}");
        }
        let review = Review::of(GOOD, "theirs.yaml").unwrap();
        let backbone = review.names.iter().find(|named| named.kind == NamedKind::Backbone).unwrap();
        assert!(backbone.key == "model.backbone.name" && backbone.address.starts_with("pip:"), "{backbone:?}");
    }
}
