//! `kind: segmentation`: pictures with a mask each.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::image_folder::{entries, is_picture};
use super::load::{Found, Read, Set, SetPlace, inside};
use super::targets::Mask;
use super::{Field, Row, TargetKind, Targets};
use crate::base::{Digest, Error, Problems, Result};
use crate::sample::{Modality, Sample};

/// Pictures in one folder and a mask for each in another, of the same name but for the ending: a grey picture of the same
/// size whose values are class numbers. With a `root` alone the sets are its folders `train`, `valid` (or `val`,
/// `validation`) and `test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Segmentation {
    /// The folder of the pictures in that of a set.
    pub images: String,
    /// The folder of the masks.
    pub masks: String,
    /// The names of the classes, in the order of their numbers from 0.
    pub names: Vec<String>,
    /// The value of pixels of no class, which neither train nor count; `null` for none.
    pub void: Option<u8>,
}

impl Default for Segmentation {
    fn default() -> Self {
        Self { images: "images".into(), masks: "masks".into(), names: Vec::new(), void: Some(255) }
    }
}

impl Read for Segmentation {
    fn check(&self, problems: &mut Problems) {
        if !(2..=255).contains(&self.names.len()) {
            let count = self.names.len();
            problems.push(None, "data.names", format!("there are {count}; masks need the names of 2 to 255 classes"));
        }
        if let Some(twice) = self.names.iter().enumerate().find(|(i, name)| self.names[..*i].contains(name)) {
            problems.push(None, "data.names", format!("`{}` is there twice", twice.1));
        }
        if self.void.is_some_and(|void| usize::from(void) < self.names.len()) {
            problems.push(None, "data.void", "is the number of a class");
        }
    }

    fn target_kind(&self) -> TargetKind {
        TargetKind::Masks
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
        let targets = Targets::Masks { names: self.names.clone(), void: self.void, of_row: masks };
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
    }
}
