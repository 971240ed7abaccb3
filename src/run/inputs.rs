//! What a user names as inputs: files, folders of pictures, texts.

use std::fs;
use std::path::{Path, PathBuf};

use super::predict::Predictor;
use crate::base::{Error, Result};
use crate::data::is_picture;
use crate::sample::Modality;

/// More files than this are not taken from folders.
const MOST_FILES: usize = 10_000_000;

/// What a model takes, with each folder replaced by the pictures in it and below, in the order of their paths. Texts
/// stay as they are.
///
/// # Errors
/// A folder cannot be read, or has no pictures.
pub fn expand(words: Vec<String>, model: &Predictor) -> Result<Vec<String>> {
    if model.what() == "file" { without_folders(words) } else { Ok(words) }
}

/// Like [`expand`] for one field of a row.
///
/// # Errors
/// Those of [`expand`].
pub fn expand_of(words: Vec<String>, field: &str, model: &Predictor) -> Result<Vec<String>> {
    let fields = model.plan().plan.data.fields();
    let takes_files = fields.iter().any(|known| known.name == field && known.modality == Modality::Image);
    if takes_files { without_folders(words) } else { Ok(words) }
}

fn without_folders(words: Vec<String>) -> Result<Vec<String>> {
    let mut all = Vec::with_capacity(words.len());
    for word in words {
        let path = Path::new(&word);
        if !path.is_dir() {
            all.push(word);
            continue;
        }
        let before = all.len();
        below(path, &mut all)?;
        if all.len() == before {
            return Err(Error::bad_input(format!("there are no pictures in `{word}`")));
        }
    }
    Ok(all)
}

fn below(folder: &Path, all: &mut Vec<String>) -> Result<()> {
    let mut entries: Vec<(PathBuf, bool)> = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        // Links may lead in circles.
        let is_folder = entry.file_type().map_err(Error::io("read", folder))?.is_dir();
        entries.push((entry.path(), is_folder));
    }
    entries.sort_unstable();
    for (path, is_folder) in entries {
        if is_folder {
            below(&path, all)?;
        } else if is_picture(&path.to_string_lossy()) {
            if all.len() == MOST_FILES {
                return Err(Error::bad_input(format!("there are more than {MOST_FILES} pictures")));
            }
            all.push(path.display().to_string());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_become_their_pictures_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b/2.PNG", "a.jpg", "b/notes.txt", "c/1.bmp"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        let at = |name: &str| folder.path().join(name).display().to_string();
        let words = vec!["x.png".to_string(), at("")];
        let found = without_folders(words).unwrap();
        assert_eq!(found, ["x.png".to_string(), at("a.jpg"), at("b/2.PNG"), at("c/1.bmp")]);
        fs::create_dir(folder.path().join("none")).unwrap();
        assert!(without_folders(vec![at("none")]).unwrap_err().to_string().contains("no pictures"));
    }
}
