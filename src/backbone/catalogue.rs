//! Reading the catalogue: family files, whose shared keys every variant takes over.

use std::sync::OnceLock;

use include_dir::{Dir, include_dir};
use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::Entry;
use crate::base::suggest::did_you_mean;
use crate::base::{Error, Result};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/configs/backbones");

/// All entries, by name.
#[derive(Debug)]
pub struct Catalogue {
    entries: IndexMap<String, Entry>,
}

/// The catalogue inside the program. It is read at the first call.
///
/// # Errors
/// A file of the catalogue is wrong; the tests keep that from happening.
pub fn catalogue() -> Result<&'static Catalogue> {
    static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
    if let Some(catalogue) = CATALOGUE.get() {
        return Ok(catalogue);
    }
    let mut files: Vec<(&str, &str)> = FILES
        .files()
        .filter_map(|file| Some((file.path().to_str()?, file.contents_utf8()?)))
        .filter(|(path, _)| path.ends_with(".yaml"))
        .collect();
    files.sort_unstable();
    let catalogue = Catalogue::read(&files)?;
    Ok(CATALOGUE.get_or_init(|| catalogue))
}

impl Catalogue {
    /// Reads family files, each a name and its text.
    ///
    /// # Errors
    /// A file is not YAML, a variant is not an entry, or two have the same name.
    pub fn read(files: &[(&str, &str)]) -> Result<Self> {
        let mut entries = IndexMap::new();
        for (path, text) in files {
            let wrong = |what: String| Error::bad_input(format!("configs/backbones/{path}: {what}"));
            let family: Value = serde_yaml::from_str(text).map_err(|e| wrong("it is not YAML".into()).because(e))?;
            for (name, value) in variants(family).map_err(wrong)? {
                let entry: Entry = serde_json::from_value(value)
                    .map_err(|e| wrong(format!("variant `{name}` is not an entry")).because(e))?;
                entry.check().map_err(|e| wrong(format!("variant `{name}` cannot be")).because(e))?;
                if entries.insert(name.clone(), entry).is_some() {
                    return Err(wrong(format!("variant `{name}` is in the catalogue already")));
                }
            }
        }
        Ok(Self { entries })
    }

    /// Every entry, family by family.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The entry of a name.
    ///
    /// # Errors
    /// There is none; the error suggests the nearest.
    pub fn get(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| {
            let near = did_you_mean(name, self.names());
            Error::bad_input(format!("`{name}` is not in the catalogue of backbones{near}"))
                .hint("`caft models` lists the catalogue; any other network is named by `onnx:`")
        })
    }
}

/// The variants of a family file, each with the file's shared keys below its own.
fn variants(family: Value) -> Result<Vec<(String, Value)>, String> {
    let Value::Object(mut shared) = family else { return Err("it is not a map".into()) };
    let Some(Value::Object(variants)) = shared.shift_remove("variants") else {
        return Err("it has no map of `variants`".into());
    };
    let join = |(name, own): (String, Value)| {
        let Value::Object(own) = own else { return Err(format!("variant `{name}` is not a map")) };
        let mut value = Map::from_iter([("name".to_string(), Value::from(name.as_str()))]);
        merge(&mut value, shared.clone());
        merge(&mut value, own);
        Ok((name, Value::Object(value)))
    };
    variants.into_iter().map(join).collect()
}

/// Puts `over` over `base`: maps merge, a changed `kind` replaces its map, everything else replaces.
fn merge(base: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new))
                if new.get("kind").is_none_or(|kind| old.get("kind") == Some(kind)) =>
            {
                merge(old, new);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILY: &str = "
family: Toy
description: A toy.
architecture: toy
tasks: [image_classification]
licence: MIT
weights: {export: {model: 'timm:toy'}}
input: {name: x, size: 8}
preprocess: {crop: 8, mean: [0, 0, 0], std: [1, 1, 1]}
outputs:
  cls: {tensor: h, select: {kind: token, index: 0}, shape: [4]}
variants:
  toy_small: {}
  toy_large:
    description: A large toy.
    outputs: {cls: {shape: [8]}}
";

    #[test]
    fn variants_take_over_what_they_do_not_say() {
        let catalogue = Catalogue::read(&[("toy.yaml", FAMILY)]).unwrap();
        assert_eq!(catalogue.names().collect::<Vec<_>>(), ["toy_small", "toy_large"]);
        let large = catalogue.get("toy_large").unwrap();
        assert_eq!((large.description.as_str(), large.outputs["cls"].shape.as_slice()), ("A large toy.", &[8][..]));
        assert_eq!(large.output("cls").unwrap().tensor, "h");
        assert_eq!(
            large.output("csl").unwrap_err().to_string(),
            "backbone `toy_large` has no output `csl`; did you mean `cls`?"
        );
        assert!(catalogue.get("toy_smal").unwrap_err().to_string().ends_with("did you mean `toy_small`?"));
    }

    #[test]
    fn a_wrong_file_is_named() {
        let read = |text: &str| Catalogue::read(&[("toy.yaml", text)]).unwrap_err();
        assert!(read("[").to_string().starts_with("configs/backbones/toy.yaml: "));
        assert!(read(&FAMILY.replace("crop: 8", "crop: 9")).to_string().contains("`toy_small`"));
        assert!(read(&FAMILY.replace("licence", "license")).to_string().contains("is not an entry"));
        let twice = Catalogue::read(&[("a.yaml", FAMILY), ("b.yaml", FAMILY)]).unwrap_err();
        assert!(twice.to_string().contains("b.yaml: variant `toy_small` is in the catalogue already"));
    }

    #[test]
    fn the_catalogue_inside_the_program_is_right() {
        let catalogue = catalogue().unwrap();
        assert!(catalogue.get("vit_base_patch16_224").is_ok());
        assert!(catalogue.entries().all(|entry| !entry.description.ends_with(' ')));
    }
}
