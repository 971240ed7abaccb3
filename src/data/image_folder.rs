//! `kind: image_folder`: one folder per class, by torchvision's rules.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Row;
use super::load::{Found, Pictures, Read, Set, SetPlace};
use crate::base::{Error, Result};
use crate::sample::Sample;

/// One folder per class, with the pictures in it or in folders below it, as torchvision's `ImageFolder`
/// reads them: classes in the order of their names, files by extension, hidden ones left out. With a
/// `root` alone the sets are its folders `train`, `valid` (or `val`, `validation`) and `test`; if it has
/// no `train`, the classes are its own folders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImageFolder {}

/// torchvision's list, and GIF.
const EXTENSIONS: [&str; 11] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "gif", "pnm"];

/// Folders nested deeper (a loop of links) are an error.
const DEEPEST: usize = 64;

impl Read for ImageFolder {
    fn find(&self, root: &Path) -> Result<Found> {
        Ok(Found::folders(root))
    }

    fn read(&self, paths: &[PathBuf], _: &SetPlace<'_>) -> Result<Set> {
        let mut set = Pictures::default();
        for path in paths {
            read_folder(path, &mut set)?;
        }
        Ok(set.into())
    }
}

fn read_folder(path: &Path, set: &mut Pictures) -> Result<()> {
    if path.is_file() {
        return Err(Error::bad_input(format!("`{}` is a file, not a folder of class folders", path.display())));
    }
    let (folders, _) = entries(path)?;
    if folders.is_empty() {
        return Err(Error::bad_input(format!("`{}` has no class folders", path.display()))
            .hint("put the pictures of each class into a folder named after it"));
    }
    let set_name = path.file_name().unwrap_or_default().to_string_lossy();
    for class in folders {
        let mut files = Vec::new();
        collect(&path.join(&class), &class, 0, &mut files)?;
        if files.is_empty() {
            return Err(Error::bad_input(format!(
                "the class folder `{}` has no pictures",
                path.join(&class).display()
            ))
            .hint(format!("pictures end in one of {}", EXTENSIONS.join(", "))));
        }
        let number = set.classes.iter().position(|known| *known == class).unwrap_or(set.classes.len());
        if number == set.classes.len() {
            set.classes.push(class);
        }
        for file in files {
            let origin = format!("{set_name}/{file}");
            set.rows.push(Row { samples: Sample::file(path.join(file)).into(), origin: origin.into() });
            set.class_of.push(number as u32);
        }
    }
    Ok(())
}

/// Whether a name ends as pictures' names do.
pub fn is_picture(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// The pictures in a folder and below, by folder and then by name, each with its path from the set's
/// folder.
fn collect(folder: &Path, shown: &str, depth: usize, files: &mut Vec<String>) -> Result<()> {
    if depth > DEEPEST {
        return Err(Error::bad_input(format!("`{}` is nested more than {DEEPEST} folders deep", folder.display())));
    }
    let (folders, names) = entries(folder)?;
    files.extend(names.into_iter().filter(|name| is_picture(name)).map(|name| format!("{shown}/{name}")));
    for name in folders {
        collect(&folder.join(&name), &format!("{shown}/{name}"), depth + 1, files)?;
    }
    Ok(())
}

/// The names of folders and of files in a folder, sorted, without hidden ones; links are followed.
pub(super) fn entries(folder: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        let name = entry.file_name().into_string().map_err(|name| {
            Error::bad_input(format!("`{}` has an entry whose name is not UTF-8: {name:?}", folder.display()))
        })?;
        if name.starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(Error::io("read", entry.path()))?;
        let is_folder = if kind.is_symlink() { entry.path().is_dir() } else { kind.is_dir() };
        if is_folder { &mut folders } else { &mut files }.push(name);
    }
    folders.sort_unstable();
    files.sort_unstable();
    Ok((folders, files))
}

#[cfg(test)]
mod tests {
    use crate::data::load::tests::{Fixture, class_names};
    use serde_json::json;

    #[test]
    fn classes_are_sorted_folders_and_pictures_are_found_below() {
        let fixture = Fixture::new();
        for name in [
            "b/2.JPG",
            "b/10.png",
            "b/deep/er/1.webp",
            "a/x.jpeg",
            "a/.hidden.png",
            "a/notes.txt",
            ".git/x.png",
            "top.png",
        ] {
            fixture.write(&format!("d/{name}"), b"");
        }
        let data = fixture.load(json!({"kind": "image_folder", "root": "d"})).unwrap();
        let origins: Vec<String> = data.rows.iter().map(|row| row.origin.to_string()).collect();
        assert_eq!(origins, ["d/a/x.jpeg", "d/b/10.png", "d/b/2.JPG", "d/b/deep/er/1.webp"]);
        assert_eq!(class_names(&data), (&["a".to_string(), "b".into()][..], &[0, 1, 1, 1][..]));
    }

    #[test]
    fn a_root_has_its_sets_in_folders() {
        let fixture = Fixture::new();
        for name in ["train/a/1.png", "train/b/1.png", "val/b/1.png", "test/a/1.png", "test/b/1.png"] {
            fixture.write(&format!("d/{name}"), b"");
        }
        let data = fixture.load(json!({"kind": "image_folder", "root": "d"})).unwrap();
        let splits = data.splits.clone();
        assert_eq!((splits.train, splits.valid, splits.test), (vec![0, 1], vec![2], vec![3, 4]));
        assert_eq!(class_names(&data).1, [0, 1, 1, 0, 1]);
        let fraction = json!({"kind": "image_folder", "root": "d", "valid": {"fraction": 0.5}});
        assert_eq!(fixture.load(fraction).unwrap().splits.valid.len(), 1);
    }

    #[test]
    fn what_is_no_folder_of_classes_is_a_clear_error() {
        let fixture = Fixture::new();
        fixture.write("d/a/1.png", b"");
        fixture.write("d/b/readme.md", b"");
        fixture.write("flat/1.png", b"");
        let error = |path: &str| {
            fixture.load(json!({"kind": "image_folder", "train": {"path": path}})).unwrap_err().to_string()
        };
        assert!(error("d").contains("b` has no pictures"));
        assert!(error("flat").ends_with("has no class folders"));
        assert!(error("d/a/1.png").contains("is a file, not a folder"));
        assert!(!error("none").is_empty());
    }
}
