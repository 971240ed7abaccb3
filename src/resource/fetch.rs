//! The fetcher: makes every address a local file, once.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::address::{Address, Resource};
use super::digests::DigestTable;
use super::path;
use crate::base::home::Home;
use crate::base::{Cancel, Digest, Error, Progress, Result};

/// Makes resources local. What it fetches is kept under the home's `downloads/`, by SHA-256.
pub struct Fetcher<'a> {
    home: &'a Home,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    offline: bool,
    digests: OnceLock<DigestTable>,
}

/// A resource that is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The file, or folder.
    pub path: PathBuf,
    /// BLAKE3 of the file, or of the archive a folder came from. For a folder of this machine, which has no
    /// archive, of its absolute path only: it does not change with what is inside.
    pub digest: Digest,
}

impl<'a> Fetcher<'a> {
    /// A fetcher that keeps what it fetches under `home`.
    pub fn new(home: &'a Home, progress: &'a dyn Progress, cancel: &'a Cancel, offline: bool) -> Self {
        Self { home, progress, cancel, offline, digests: OnceLock::new() }
    }

    /// The local file or folder of a resource, fetched if it is not here yet.
    ///
    /// # Errors
    /// It does not exist, cannot be fetched, or is not what its digest says; [`Error::Interrupted`] if the user
    /// asks to stop, and what was fetched so far is kept.
    pub fn fetch(&self, resource: &Resource) -> Result<Fetched> {
        match &resource.address {
            Address::Path(path) => path::fetch(path, resource.sha256, self.digests()?),
            other => Err(Error::failed(format!("`{other}` cannot be fetched"))),
        }
    }

    /// The same without the network: `None` if it is not here.
    pub fn cached(&self, resource: &Resource) -> Option<Fetched> {
        self.fetch(resource).ok()
    }

    fn digests(&self) -> Result<&DigestTable> {
        if let Some(table) = self.digests.get() {
            return Ok(table);
        }
        let table = DigestTable::open(self.home)?;
        Ok(self.digests.get_or_init(|| table))
    }
}
