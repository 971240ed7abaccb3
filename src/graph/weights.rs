//! Values of a graph's parameters and buffers, by name, and their safetensors form.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::base::{Error, Result, file};

/// A dense f32 tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Row-major elements.
    pub values: Vec<f32>,
}

/// Tensors by name, such as `head.weight`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights(pub BTreeMap<String, Tensor>);

impl Weights {
    /// A tensor of the expected shape.
    ///
    /// # Errors
    /// It is missing or has another shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<&[f32]> {
        let tensor = self.0.get(name).ok_or_else(|| Error::bad_input(format!("weight `{name}` is missing")))?;
        if tensor.shape != shape {
            let found = &tensor.shape;
            return Err(Error::bad_input(format!("weight `{name}` has shape `{found:?}`, not `{shape:?}`")));
        }
        Ok(&tensor.values)
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, shape: impl Into<Vec<usize>>, values: Vec<f32>) {
        self.0.insert(name.into(), Tensor { shape: shape.into(), values });
    }

    /// The safetensors form, with string metadata.
    ///
    /// # Errors
    /// None for tensors whose values fill their shapes.
    pub fn to_bytes(&self, metadata: BTreeMap<String, String>) -> Result<Vec<u8>> {
        let bytes: Vec<(&String, Vec<u8>, &Tensor)> = self
            .0
            .iter()
            .map(|(name, tensor)| (name, tensor.values.iter().flat_map(|x| x.to_le_bytes()).collect(), tensor))
            .collect();
        let views = bytes
            .iter()
            .map(|(name, bytes, tensor)| Ok((name.as_str(), TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?)))
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|e| Error::failed("a weight does not fill its shape").because(e))?;
        safetensors::serialize(views, Some(metadata.into_iter().collect()))
            .map_err(|e| Error::failed("cannot serialise weights").because(e))
    }

    /// Reads the safetensors form; all tensors must be f32.
    ///
    /// # Errors
    /// The bytes are not that.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, BTreeMap<String, String>)> {
        let broken = |e| Error::bad_input("these are not safetensors").because(e);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let tensors = SafeTensors::deserialize(bytes).map_err(broken)?;
        let mut weights = Self::default();
        for (name, view) in tensors.iter() {
            if view.dtype() != Dtype::F32 {
                return Err(Error::bad_input(format!("weight `{name}` is `{:?}`, not F32", view.dtype())));
            }
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            weights.insert(name, view.shape(), values);
        }
        Ok((weights, metadata))
    }

    /// Writes a safetensors file, atomically.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self, path: &Path, metadata: BTreeMap<String, String>) -> Result<()> {
        file::write_bytes(path, &self.to_bytes(metadata)?)
    }

    /// Reads a file that [`Weights::save`] wrote.
    ///
    /// # Errors
    /// It cannot be read or is not safetensors of f32.
    pub fn load(path: &Path) -> Result<(Self, BTreeMap<String, String>)> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        Self::from_bytes(&bytes)
            .map_err(|e| Error::bad_input(format!("`{}` cannot be read as weights", path.display())).because(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_come_back_as_they_were_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let mut weights = Weights::default();
        weights.insert("a", [2, 2], vec![1.0, -0.0, f32::MIN_POSITIVE, 3.5]);
        weights.insert("b.c", [0], vec![]);
        let metadata = BTreeMap::from([("k".to_string(), "v".to_string())]);
        weights.save(&path, metadata.clone()).unwrap();
        assert_eq!(Weights::load(&path).unwrap(), (weights.clone(), metadata));
        assert!(weights.get("a", &[4]).unwrap_err().to_string().contains("not `[4]`"));
        std::fs::write(&path, b"no").unwrap();
        assert_eq!(Weights::load(&path).unwrap_err().exit_code(), 2);
    }
}
