//! `https:` addresses. The pinned digest is the file's name in the store, so one that is here needs no network.

use super::fetch::Fetcher;
use super::sha256::Sha256;
use super::store::StoredFile;
use super::transfer::Transfer;
use crate::base::{Error, KeyWriter, Result};

impl Fetcher<'_> {
    /// A file of a web server.
    pub(super) fn fetch_web(&self, url: &str, name: &str, sha256: Option<Sha256>) -> Result<StoredFile> {
        // Only code can make such a resource; a recipe cannot.
        let sha256 = sha256.ok_or_else(|| Error::bad_input(format!("`{url}` needs a sha256")))?;
        let store = self.store()?;
        if let Some(found) = store.find(sha256, name) {
            return Ok(found);
        }
        self.online(url)?;
        let key = KeyWriter::new("web file").field("url", url).field("sha256", sha256.0).finish();
        let _lock = self.lock(&store.partial(key, "lock"), url)?;
        if let Some(found) = store.find(sha256, name) {
            return Ok(found);
        }
        let explain = |answer: &super::http::Answer| match answer.status {
            404 | 410 => Some(Error::bad_input(format!("`{url}` does not exist")).hint("is the address right?")),
            401 | 403 => Some(Error::bad_input(format!("`{url}` is not open to everyone"))),
            _ => None,
        };
        let (sha256, explain) = (Some(sha256), &explain);
        self.transfer(&Transfer { title: name, name, key, url, token: None, sha256, size: None, explain })
    }
}
