//! A source model with its weights, wherever they lie, and their digest.

use std::fs;
use std::path::{Path, PathBuf};

use crate::base::{Digest, Error, KeyWriter, Result, file};
use crate::graph::onnx;
use crate::resource::{Address, DigestTable, Fetched, Fetcher, Resource};

/// Fetches a model with the files that it keeps values in, where these lie beside it on a hub; the digest is that of
/// all its weights.
///
/// # Errors
/// Those of the fetcher and of [`weights_digest`].
pub fn fetch_model(fetcher: &Fetcher<'_>, resource: &Resource) -> Result<Fetched> {
    let mut model = fetcher.fetch(resource)?;
    if let Address::Hf { dataset, repo, path, revision } = &resource.address {
        let locations = onnx::external_locations(&model.path)?;
        if !locations.is_empty() {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let beside = |location: &String| {
                let path = format!("{folder}/{location}");
                let dataset = if *dataset { "datasets/" } else { "" };
                // As an address, so that a location that leaves the folder is none.
                let address = format!("hf:{dataset}{repo}/{}@{revision}", path.trim_start_matches('/'));
                let fetched = fetcher.fetch(&address.parse().map_err(|error: Error| {
                    Error::bad_input(format!("`{resource}` keeps values in `{location}`")).because(error)
                })?)?;
                Ok((location.clone(), fetched))
            };
            let beside: Vec<(String, Fetched)> = locations.iter().map(beside).collect::<Result<_>>()?;
            model.path = together(fetcher, &model, &beside)?;
        }
    }
    model.digest = weights_digest(&model.path, model.digest, fetcher.digests()?)?;
    Ok(model)
}

/// Files that were fetched one by one as a folder, by links where the file system has them.
fn together(fetcher: &Fetcher<'_>, model: &Fetched, beside: &[(String, Fetched)]) -> Result<PathBuf> {
    let name = model.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files: Vec<(&str, &Fetched)> =
        std::iter::once((&*name, model)).chain(beside.iter().map(|(location, file)| (&**location, file))).collect();
    let key = files.iter().fold(KeyWriter::new("model with files"), |key, (name, file)| key.json(name, &file.digest));
    let folder = fetcher.home().folder("models")?.join(key.finish().short(32));
    for (name, fetched) in files {
        let to = folder.join(name);
        if to.is_file() {
            continue;
        }
        let parent = to.parent().unwrap_or(&folder);
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        let temporary = file::temporary_beside(&to);
        fs::hard_link(&fetched.path, &temporary)
            .or_else(|_| fs::copy(&fetched.path, &temporary).map(|_| ()))
            .and_then(|()| fs::rename(&temporary, &to))
            .map_err(Error::io("write", &to))?;
    }
    Ok(folder.join(name))
}

/// The digest of a model with all files that it keeps values in. `file` is the digest of the model's own
/// file, and the result for a model that keeps everything there.
///
/// # Errors
/// It is not a model, or names files that are missing or outside its folder.
pub fn weights_digest(model: &Path, file: Digest, digests: &DigestTable) -> Result<Digest> {
    let beside = onnx::external_files(model)?;
    if beside.is_empty() {
        return Ok(file);
    }
    let mut key = KeyWriter::new("weights").json("model", &file);
    for (location, path) in &beside {
        key = key.field("location", location).json("file", &digests.digest(path)?);
    }
    Ok(key.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Home;

    #[test]
    fn weights_beside_the_model_are_part_of_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let digests = DigestTable::open(&Home::at(folder.path().join("home"))).unwrap();
        let model = folder.path().join("model.onnx");
        let digest = || weights_digest(&model, Digest::of_file(&model).unwrap(), &digests).unwrap();
        onnx::write(&onnx::testing::tiny_cnn(), &model).unwrap();
        assert_eq!(digest(), Digest::of_file(&model).unwrap());

        // A limit that the weights do not fit puts them beside the model.
        onnx::write_split(&onnx::testing::tiny_cnn(), &model, 1 << 10).unwrap();
        let beside = onnx::external_files(&model).unwrap();
        let path = beside.values().next().unwrap();
        let before = digest();
        let mut bytes = std::fs::read(path).unwrap();
        bytes[0] ^= 1;
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, bytes).unwrap();
        assert_ne!(digest(), before);
    }
}
