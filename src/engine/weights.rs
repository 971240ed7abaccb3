//! The digest of a source model's weights, wherever they lie.

use std::path::Path;

use crate::base::{Digest, KeyWriter, Result};
use crate::graph::onnx;
use crate::resource::DigestTable;

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
