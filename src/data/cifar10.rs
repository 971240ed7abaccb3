//! `kind: cifar10`: Krizhevsky's ten classes, in the binary files of the original or in parquet.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::{Found, Read, Set, SetPlace};
use crate::base::{Error, Result};

/// CIFAR-10: 32×32 pictures of ten classes. A set is a folder or file of the original's binary version
/// (`data_batch_1.bin` …, `test_batch.bin`), or a parquet file as published on the Hugging Face hub
/// (columns `img` and `label`). With a `root` alone both sets are found in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cifar10 {}

impl Read for Cifar10 {
    fn find(&self, root: &Path) -> Result<Found> {
        Err(Error::failed(format!("`{}` is not searched yet", root.display())))
    }

    fn read(&self, _: &[PathBuf], _: &SetPlace<'_>) -> Result<Set> {
        Err(Error::failed("not read yet"))
    }
}
