//! `kind: segmentation`: pictures with a mask each.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::image_folder::{entries, is_picture};
use super::load::{Found, Read, Set, SetPlace, inside};
use super::targets::Mask;
use super::{Field, Row, TargetKind, Targets};
use crate::base::suggest::did_you_mean;
use crate::base::{Digest, Error, Problems, Result};
use crate::sample::image::mask::Meaning;
use crate::sample::{Modality, Sample};

/// Pictures in one folder and a mask for each in another, of the same name but for the ending: a picture of the same size
/// whose pixels are classes, by the values of a grey one, by the indices of a PNG with a palette, or by `colors`. With a
/// `root` alone the sets are its folders `train`, `valid` (or `val`, `validation`) and `test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Segmentation {
    /// The folder of the pictures in that of a set.
    pub images: String,
    /// The folder of the masks.
    pub masks: String,
    /// The names of the classes, in the order of their numbers from 0; those of `colors` if they are not given.
    pub names: Vec<String>,
    /// The value of pixels of no class, which neither train nor count; `null` for none.
    pub void: Option<u16>,
    /// The red, green and blue of each class's pixels, by the class's name; `void` is the colour of no class.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub colors: IndexMap<String, [u8; 3]>,
}

/// The key of the colour of no class.
const NO_CLASS: &str = "void";

impl Default for Segmentation {
    fn default() -> Self {
        let (images, masks) = ("images".into(), "masks".into());
        Self { images, masks, names: Vec::new(), void: Some(255), colors: IndexMap::new() }
    }
}

impl Segmentation {
    /// The names of the classes.
    fn classes(&self) -> Vec<String> {
        if self.names.is_empty() {
            return self.colors.keys().filter(|name| *name != NO_CLASS).cloned().collect();
        }
        self.names.clone()
    }

    fn meaning(&self) -> Meaning {
        let names = self.classes();
        Meaning {
            classes: names.len(),
            void: self.void,
            colors: names.iter().filter_map(|name| self.colors.get(name)).copied().collect(),
            void_color: self.colors.get(NO_CLASS).copied().filter(|_| !names.contains(&NO_CLASS.to_string())),
        }
    }
}

impl Read for Segmentation {
    fn check(&self, problems: &mut Problems) {
        let names = self.classes();
        if !(2..=255).contains(&names.len()) {
            let count = names.len();
            problems.push(None, "data.names", format!("there are {count}; masks need the names of 2 to 255 classes"));
        }
        if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            problems.push(None, "data.names", format!("`{}` is there twice", twice.1));
        }
        if self.colors.is_empty() {
            if self.void.is_some_and(|void| usize::from(void) < names.len()) {
                problems.push(None, "data.void", "is the number of a class");
            }
            return;
        }
        for name in names.iter().filter(|name| !self.colors.contains_key(*name)) {
            problems.push(None, "data.colors", format!("the class `{name}` has no colour"));
        }
        for (i, (name, color)) in self.colors.iter().enumerate() {
            if *name != NO_CLASS && !names.contains(name) {
                let guess = did_you_mean(name, names.iter().map(String::as_str));
                problems.push(None, format!("data.colors.{name}"), format!("is none of `data.names`{guess}"));
            }
            if let Some((other, _)) = self.colors[..i].iter().find(|(_, other)| *other == color) {
                problems.push(None, format!("data.colors.{name}"), format!("is the colour of `{other}`"));
            }
        }
    }

    fn target_kind(&self) -> TargetKind {
        TargetKind::Masks
    }

    fn masks(&self) -> Option<Meaning> {
        Some(self.meaning())
    }

    fn find(&self, root: &Path) -> Result<Found> {
        Ok(Found::folders(root))
    }

    fn read(&self, paths: &[PathBuf], _: &SetPlace<'_>) -> Result<Set> {
        let (mut rows, mut masks) = (Vec::new(), Vec::new());
        for path in paths {
            let (images, of_masks) = (inside(path, Path::new(&self.images))?, inside(path, Path::new(&self.masks))?);
            let stem = |name: &str| name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_string();
            let (_, mask_names) = entries(&of_masks)?;
            let (_, names) = entries(&images)?;
            let set = path.file_name().unwrap_or_default().to_string_lossy();
            for name in names.iter().filter(|name| is_picture(name)) {
                let mask = mask_names.iter().find(|mask| is_picture(mask) && stem(mask) == stem(name));
                let mask = mask.ok_or_else(|| {
                    Error::bad_input(format!(
                        "`{}` has no mask in `{}`",
                        images.join(name).display(),
                        of_masks.display()
                    ))
                    .hint("a mask has the name of its picture, but for the ending")
                })?;
                let path = of_masks.join(mask);
                masks.push(Mask { digest: Digest::of_file(&path)?, path });
                let origin = format!("{set}/{}/{name}", self.images);
                rows.push(Row { samples: Sample::file(images.join(name)).into(), origin: origin.into() });
            }
        }
        let fields = vec![Field { name: "image".into(), modality: Modality::Image }];
        let targets = Targets::Masks { names: self.classes(), meaning: self.meaning(), of_row: masks };
        Ok(Set { fields, rows, targets, marks: Vec::new(), left_out: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_config_is_reported() {
        let count = |json: serde_json::Value| {
            let config: Segmentation = serde_json::from_value(json).unwrap();
            let mut problems = Problems::new("x");
            config.check(&mut problems);
            problems.list.len()
        };
        assert_eq!(count(serde_json::json!({"names": ["a", "b"]})), 0);
        assert_eq!(count(serde_json::json!({})), 1);
        assert_eq!(count(serde_json::json!({"names": ["a", "a"], "void": 1})), 2);
        let colors = |colors: serde_json::Value| count(serde_json::json!({"names": ["a", "b"], "colors": colors}));
        assert_eq!(colors(serde_json::json!({"a": [0, 0, 0], "b": [1, 0, 0], "void": [2, 0, 0]})), 0);
        assert_eq!(colors(serde_json::json!({"a": [0, 0, 0], "c": [0, 0, 0]})), 3);
        let named = serde_json::json!({"colors": {"a": [0, 0, 0], "void": [9, 9, 9], "b": [1, 0, 0]}});
        assert_eq!(count(named.clone()), 0);
        let meaning = serde_json::from_value::<Segmentation>(named).unwrap().meaning();
        assert_eq!((meaning.classes, meaning.void_color), (2, Some([9, 9, 9])));
    }
}
