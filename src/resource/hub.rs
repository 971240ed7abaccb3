//! `hf:` addresses: files of a Hugging Face hub, by its resolve protocol.
//!
//! `HEAD {endpoint}/{datasets/}{owner}/{repo}/resolve/{revision}/{path}` names the commit (`x-repo-commit`), the size
//! (`x-linked-size`, else `content-length`) and the etag; the etag of a large file is its SHA-256. The file itself is
//! then asked for at that commit, so that a branch which moves meanwhile does no harm.
//!
//! A commit or a pinned digest needs no network once fetched. A branch is asked for each time, and its last answer is
//! remembered for when there is no network.

use super::fetch::Fetcher;
use super::http::{Answer, Ask, Payload, Trouble};
use super::settings::HUB;
use super::sha256::Sha256;
use super::store::{Note, StoredFile};
use super::transfer::Transfer;
use super::url::encode;
use crate::base::{Digest, Error, KeyWriter, Result};

/// A file of a hub.
#[derive(Debug, Clone, Copy)]
pub(super) struct HubFile<'a> {
    pub dataset: bool,
    pub repo: &'a str,
    pub path: &'a str,
    pub revision: &'a str,
}

/// What the hub says of a file.
struct Known {
    commit: String,
    sha256: Option<Sha256>,
    size: Option<u64>,
}

impl HubFile<'_> {
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    pub(super) fn key(&self, endpoint: &str, revision: &str) -> Digest {
        let kind = if self.dataset { "dataset" } else { "model" };
        // A mirror may hold other things under the same names.
        let key = KeyWriter::new("hub file").field("endpoint", if endpoint == HUB { "" } else { endpoint });
        key.field("kind", kind).field("repo", self.repo).field("path", self.path).field("revision", revision).finish()
    }

    fn repo_url(&self, endpoint: &str) -> String {
        format!("{endpoint}/{}{}", if self.dataset { "datasets/" } else { "" }, self.repo)
    }

    pub(super) fn url(&self, endpoint: &str, revision: &str) -> String {
        let (revision, path) = (encode(revision, false), encode(self.path, true));
        format!("{}/resolve/{revision}/{path}", self.repo_url(endpoint))
    }
}

/// Whether a revision can never mean anything else.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

impl Fetcher<'_> {
    /// A file of a hub, fetched if it is not here yet.
    pub(super) fn fetch_hub(&self, file: HubFile<'_>, sha256: Option<Sha256>) -> Result<StoredFile> {
        let cached = self.cached_hub(file, sha256);
        if let (Some(found), true) = (&cached, sha256.is_some() || is_commit(file.revision) || self.settings.offline) {
            return Ok(found.clone());
        }
        self.online(&format!("{} of {}", file.path, file.repo))?;
        let endpoint = self.settings.endpoint.as_str();
        let known = match (self.ask_hub(file, cached.is_none()), cached) {
            (Ok(known), _) => known,
            (Err(Trouble::Again(error, _)), Some(found)) => {
                let (name, revision) = (file.name(), file.revision);
                self.warn(format!("{error}; using `{name}` as `{revision}` was when it was last fetched"));
                return Ok(found);
            }
            (Err(Trouble::Final(error) | Trouble::Again(error, _)), _) => return Err(error),
        };
        if let (Some(pinned), Some(announced)) = (sha256, known.sha256.filter(|announced| sha256 != Some(*announced))) {
            let what = format!(
                "`{}` of `{}` is not the file that is pinned: expected sha256 {pinned}, the hub has {announced}",
                file.path, file.repo
            );
            return Err(Error::bad_input(what)
                .hint("name the commit that has it, as in `hf:owner/repo/path@commit`, or pin the new one"));
        }
        let store = self.store()?;
        let key = file.key(endpoint, &known.commit);
        let here = || {
            let sha256 = sha256.or(known.sha256).or_else(|| store.note(key).map(|note| note.sha256))?;
            store.find(sha256, file.name())
        };
        let stored = match here() {
            Some(found) => found,
            None => {
                let _lock = self.lock(&store.partial(key, "lock"), file.name())?;
                match here() {
                    Some(found) => found,
                    None => self.transfer(&Transfer {
                        title: file.name(),
                        name: file.name(),
                        key,
                        url: &file.url(endpoint, &known.commit),
                        token: self.settings.token.as_deref(),
                        sha256: sha256.or(known.sha256),
                        size: known.size,
                        explain: &|answer| self.explain_hub(file, answer),
                    })?,
                }
            }
        };
        for revision in [known.commit.as_str(), file.revision] {
            let address =
                format!("{} of {}{} at {revision}", file.path, if file.dataset { "datasets/" } else { "" }, file.repo);
            store.set_note(file.key(endpoint, revision), &Note { address, sha256: stored.sha256 })?;
        }
        Ok(stored)
    }

    /// The same without the network.
    pub(super) fn cached_hub(&self, file: HubFile<'_>, sha256: Option<Sha256>) -> Option<StoredFile> {
        let store = self.store().ok()?;
        let noted = || store.note(file.key(&self.settings.endpoint, file.revision)).map(|note| note.sha256);
        store.find(sha256.or_else(noted)?, file.name())
    }

    /// Asks the hub what a file is; once only if there is something to fall back to.
    fn ask_hub(&self, file: HubFile<'_>, patient: bool) -> Result<Known, Trouble> {
        let url = file.url(&self.settings.endpoint, file.revision);
        let token = self.settings.token.as_deref();
        let ask = Ask { method: "HEAD", url: &url, headers: Vec::new(), token, stay: true, payload: Payload::Nothing };
        let answer = self.ask_patiently(file, &ask, patient)?;
        let plain = |etag: &str| etag.trim_start_matches("W/").trim_matches('"').to_string();
        let etag = answer.header("x-linked-etag").or_else(|| answer.header("etag")).map(plain);
        let commit = match answer.header("x-repo-commit") {
            Some(commit) if is_commit(commit) => commit.to_string(),
            _ if is_commit(file.revision) => file.revision.to_string(),
            _ => {
                let what = format!("`{}` does not answer like a hub: it names no commit", self.settings.endpoint);
                return Err(Error::failed(what).hint("is `HF_ENDPOINT` right?").into());
            }
        };
        let linked = answer.header("x-linked-size").and_then(|size| size.parse().ok());
        let redirected = (300..400).contains(&answer.status);
        let size = linked.or_else(|| answer.length().filter(|_| !redirected));
        Ok(Known { commit, sha256: etag.and_then(|etag| etag.parse().ok()), size })
    }

    /// Asks the hub, again after a pause where that may help, unless one is not `patient`.
    pub(super) fn ask_patiently(&self, file: HubFile<'_>, ask: &Ask<'_>, patient: bool) -> Result<Answer, Trouble> {
        let mut tries = 0;
        loop {
            let trouble = match self.client().ask(ask, self.cancel) {
                Ok(answer) if answer.status < 400 => return Ok(answer),
                Ok(answer) => match (answer.refused(), self.explain_hub(file, &answer)) {
                    (Trouble::Final(_), Some(error)) => Trouble::Final(error),
                    (refused, _) => refused,
                },
                Err(trouble) => trouble,
            };
            let Trouble::Again(error, after) = trouble else { return Err(trouble) };
            if !patient {
                return Err(Trouble::Again(error, None));
            }
            tries += 1;
            // The last error keeps saying that another time may do.
            match self.pause(file.name(), tries, error, after) {
                Err(Error::Interrupted) => return Err(Error::Interrupted.into()),
                Err(error) => return Err(Trouble::Again(error, None)),
                Ok(()) => (),
            }
        }
    }

    /// What the hub means by a refusal.
    pub(super) fn explain_hub(&self, file: HubFile<'_>, answer: &Answer) -> Option<Error> {
        let HubFile { repo, path, revision, .. } = file;
        let kind = if file.dataset { "dataset" } else { "model" };
        let page = file.repo_url(&self.settings.endpoint);
        let hidden = if self.settings.token.is_some() {
            "the token of `HF_TOKEN` does not open it"
        } else {
            "set `HF_TOKEN` if it is private"
        };
        let error = match (answer.status, answer.header("x-error-code").unwrap_or("")) {
            (401 | 403, "GatedRepo") | (403, _) => Error::bad_input(format!("the {kind} `{repo}` is gated"))
                .hint(format!("accept its conditions at {page}, then set `HF_TOKEN` to a token of yours")),
            (401, _) | (404, "RepoNotFound") => {
                Error::bad_input(format!("there is no {kind} `{repo}`, or it is private")).hint(format!(
                    "is the name right? See {page}; {hidden}{}",
                    if file.dataset { "" } else { "; a dataset is `hf:datasets/owner/repo/…`" }
                ))
            }
            (404, "RevisionNotFound") => Error::bad_input(format!("the {kind} `{repo}` has no revision `{revision}`"))
                .hint(format!("see {page}/branches")),
            (404, "EntryNotFound") => {
                Error::bad_input(format!("the {kind} `{repo}` has no file `{path}` at `{revision}`"))
                    .hint(format!("see {page}/tree/{revision}"))
            }
            (404, _) => {
                Error::bad_input(format!("the {kind} `{repo}` or its file `{path}` at `{revision}` does not exist"))
                    .hint(format!("see {page}"))
            }
            _ => return None,
        };
        Some(match answer.header("x-error-message") {
            Some(said) => error.because(format!("the hub said: {said}")),
            None => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_keys_are_the_hubs() {
        let file =
            HubFile { dataset: true, repo: "uoft-cs/cifar10", path: "plain text/a.parquet", revision: "refs/pr/1" };
        let url = file.url("https://huggingface.co", file.revision);
        assert_eq!(url, "https://huggingface.co/datasets/uoft-cs/cifar10/resolve/refs%2Fpr%2F1/plain%20text/a.parquet");
        assert_eq!(file.name(), "a.parquet");
        assert_ne!(file.key(HUB, "main"), file.key("http://127.0.0.1:1", "main"));
        assert_ne!(file.key(HUB, "main"), HubFile { dataset: false, ..file }.key(HUB, "main"));
        assert!(is_commit("0123456789012345678901234567890123456789") && !is_commit("main"));
    }
}
