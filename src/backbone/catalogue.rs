//! All entries, from the files that are embedded in the program.

use std::collections::BTreeMap;

use include_dir::{Dir, include_dir};
use indexmap::IndexMap;
use serde::Serialize;

use super::{Family, Output, Task, Variant};
use crate::base::suggest::did_you_mean;
use crate::base::{Error, Result};
use crate::graph::onnx::OutputSpec;
use crate::resource::Resource;
use crate::sample::image::ImagePreprocess;

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/configs/backbones");

/// One backbone with everything filled in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// The name that recipes use.
    pub name: String,
    /// The family's name.
    pub family: String,
    /// What it is, in a sentence.
    pub description: String,
    /// The architecture.
    pub architecture: String,
    /// What its features are used for.
    pub tasks: Vec<Task>,
    /// The licence of the weights.
    pub licence: String,
    /// Where its ONNX file is, if one is published.
    pub source: Option<Resource>,
    /// How to export it where none is published.
    pub export: Option<String>,
    /// What the network expects of a picture, if it takes pictures.
    pub preprocess: Option<ImagePreprocess>,
    /// The frozen outputs by name, the usual one first, each with its size.
    pub outputs: IndexMap<String, Output>,
    /// Blocks from which on the network can be trained.
    pub blocks: IndexMap<String, String>,
    /// Whether the entry was proven by a real build.
    pub proven: bool,
}

impl Entry {
    fn new(family: &Family, variant: &Variant) -> Self {
        fn own<T: Clone>(own: &IndexMap<String, T>, shared: &IndexMap<String, T>) -> IndexMap<String, T> {
            if own.is_empty() { shared.clone() } else { own.clone() }
        }
        let mut outputs = own(&variant.outputs, &family.outputs);
        outputs.values_mut().for_each(|output| output.size = output.size.or(Some(variant.size)));
        let description = match &variant.description {
            Some(more) => format!("{} {more}", family.description),
            None => family.description.clone(),
        };
        Self {
            name: variant.name.clone(),
            family: family.family.clone(),
            description,
            architecture: family.architecture.clone(),
            tasks: family.tasks.clone(),
            licence: variant.licence.clone().unwrap_or_else(|| family.licence.clone()),
            source: variant.source.clone(),
            export: variant.export.clone(),
            preprocess: variant.preprocess.clone().or_else(|| family.preprocess.clone()),
            outputs,
            blocks: own(&variant.blocks, &family.blocks),
            proven: variant.proven,
        }
    }

    /// The cut at some named outputs; at the first one if none is named.
    ///
    /// # Errors
    /// The entry has no such output: the nearest name, and all names.
    pub fn cut_at(&self, names: Option<&[String]>) -> Result<Vec<OutputSpec>> {
        let first = self.outputs.keys().take(1).cloned().collect::<Vec<_>>();
        names.unwrap_or(&first).iter().map(|name| self.output(name)).collect()
    }

    fn output(&self, name: &str) -> Result<OutputSpec> {
        let output = self.outputs.get(name).ok_or_else(|| {
            let known = || self.outputs.keys().map(String::as_str);
            let (guess, all) = (did_you_mean(name, known()), crate::base::suggest::one_of(known()));
            Error::bad_input(format!("`{}` has no output `{name}`{guess}; it has {all}", self.name))
        })?;
        Ok(OutputSpec { name: name.into(), tensor: output.tensor.clone(), select: output.select })
    }
}

/// The backbones by name.
#[derive(Debug, Clone)]
pub struct Catalogue(BTreeMap<String, Entry>);

impl Catalogue {
    /// The catalogue that is embedded in the program.
    ///
    /// # Errors
    /// A file is not a family, or two entries share a name. A test holds that neither happens.
    pub fn shipped() -> Result<Self> {
        let mut files: Vec<_> = FILES.files().collect();
        files.sort_by_key(|file| file.path());
        let mut entries = BTreeMap::new();
        for file in files {
            let name = file.path().display();
            let text = file.contents_utf8().ok_or_else(|| Error::bad_input(format!("`{name}` is not UTF-8")))?;
            let family: Family = serde_yaml::from_str(text)
                .map_err(|e| Error::bad_input(format!("`{name}` is not a family of backbones")).because(e))?;
            for variant in &family.variants {
                let entry = Entry::new(&family, variant);
                if entries.insert(variant.name.clone(), entry).is_some() {
                    return Err(Error::bad_input(format!("`{name}`: a backbone `{}` exists already", variant.name)));
                }
            }
        }
        Ok(Self(entries))
    }

    /// The entry of a name.
    ///
    /// # Errors
    /// There is none: the nearest name.
    pub fn get(&self, name: &str) -> Result<&Entry> {
        self.0.get(name).ok_or_else(|| {
            let guess = did_you_mean(name, self.names());
            Error::bad_input(format!("unknown backbone `{name}`{guess}")).hint("`caft models` lists the backbones")
        })
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// All entries, sorted by name.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_entry_is_whole() {
        let catalogue = Catalogue::shipped().unwrap();
        assert!(catalogue.entries().count() >= 2);
        for entry in catalogue.entries() {
            let name = &entry.name;
            assert!(!entry.outputs.is_empty(), "{name} has no outputs");
            assert!(entry.source.is_some() || entry.export.is_some(), "{name} says neither source nor export");
            if let Some(preprocess) = &entry.preprocess {
                preprocess.check().unwrap();
            }
            assert!(entry.outputs.values().all(|output| output.size.is_some()));
        }
    }

    #[test]
    fn outputs_are_found_by_name_and_slips_are_named() {
        let catalogue = Catalogue::shipped().unwrap();
        let entry = catalogue.get("vit_base_patch16_224").unwrap();
        assert_eq!(entry.cut_at(None).unwrap()[0].name, "cls");
        let error = entry.cut_at(Some(&["patch_meen".into()])).unwrap_err().to_string();
        assert!(error.contains("did you mean `patch_mean`?"), "{error}");
        let error = catalogue.get("vit_base_patch16_242").unwrap_err().to_string();
        assert!(error.contains("did you mean `vit_base_patch16_224`?"), "{error}");
    }
}
