//! The folder in which caft keeps what belongs to no project: runtimes, downloads, engines, the cache.

use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::file;

/// The layout below `CAFT_HOME` (default: the platform's cache folder, then `caft`).
///
/// | folder | what is in it |
/// | --- | --- |
/// | `downloads/` | fetched files, by their SHA-256 |
/// | `runtimes/` | ONNX Runtime libraries, by version and platform |
/// | `engines/` | cut models with their manifests |
/// | `compiled/` | engines compiled for this machine |
/// | `cache/` | activations |
/// | `packs/` | packed runs that were taken apart |
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

impl Home {
    /// The home that `CAFT_HOME` names, else the platform's.
    ///
    /// # Errors
    /// Neither `CAFT_HOME` nor the user's home folder is known.
    pub fn from_environment() -> Result<Self> {
        if let Some(path) = std::env::var_os("CAFT_HOME").filter(|p| !p.is_empty()) {
            return Ok(Self(PathBuf::from(path)));
        }
        dirs::cache_dir()
            .map(|folder| Self(folder.join("caft")))
            .ok_or_else(|| Error::bad_input("no folder for caft's files is known").hint("set `CAFT_HOME` to a folder"))
    }

    /// A home at a path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A folder below, created if it is missing; the home is marked as a cache for backup programs
    /// (bford.info/cachedir).
    ///
    /// # Errors
    /// It cannot be created.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let tag = self.0.join("CACHEDIR.TAG");
        if !tag.exists() {
            let text = "Signature: 8a477f597d28d172789f06886806bc55\n# Made by caft; all of it can be made again.\n";
            file::write_bytes(&tag, text.as_bytes())?;
        }
        let folder = self.0.join(name);
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        Ok(folder)
    }
}
