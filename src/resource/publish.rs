//! Writing to a hub: one commit with a large file and a small one, by the hub's commit protocol.
//!
//! `POST {endpoint}/api/models/{repo}/preupload/{revision}` says whether a file is kept in Git LFS. If so, its bytes go to
//! where `POST {endpoint}/{repo}.git/info/lfs/objects/batch` says (nowhere if the hub has them), and the commit, lines of
//! JSON sent to `POST {endpoint}/api/models/{repo}/commit/{revision}`, names its SHA-256; a small file stands in the
//! commit itself, in base64.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::fetch::Fetcher;
use super::http::{Answer, Ask, Payload, Trouble};
use super::hub::HubFile;
use super::sha256::Sha256;
use super::url::encode;
use crate::base::{Error, Result};

/// No answer of the hub's interface is longer, and no small file.
const LONGEST: usize = 16 << 20;
/// Files that are kept in the commit itself are read whole.
const LARGEST_REGULAR: u64 = 32 << 20;

/// A small file of a hub as it is now.
pub struct HubText {
    /// Its text; `None` if the repository has no such file.
    pub text: Option<String>,
    /// The commit it is of, for a commit that must follow it.
    pub commit: Option<String>,
}

#[derive(Deserialize)]
struct Modes {
    files: Vec<Mode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mode {
    upload_mode: String,
}

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    actions: std::collections::BTreeMap<String, Action>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: std::collections::BTreeMap<String, Value>,
}

impl Fetcher<'_> {
    /// A small text file of a hub's repository as it is now, past all that is kept here.
    ///
    /// # Errors
    /// The repository does not exist or is not open to the token; the network.
    pub fn hub_text(&self, repo: &str, revision: &str, path: &str) -> Result<HubText> {
        self.online(repo)?;
        let file = HubFile { dataset: false, repo, path, revision };
        let url = file.url(&self.settings.endpoint, revision);
        let token = self.settings.token.as_deref();
        let ask = Ask { method: "GET", url: &url, headers: Vec::new(), token, stay: false, payload: Payload::Nothing };
        let answer = self.client().ask(&ask, self.cancel).map_err(last)?;
        let commit = answer.header("x-repo-commit").map(str::to_string);
        if answer.status == 404 && answer.header("x-error-code") == Some("EntryNotFound") {
            return Ok(HubText { text: None, commit });
        }
        if answer.status != 200 {
            return Err(self.explain_hub(file, &answer).unwrap_or_else(|| last(answer.refused())));
        }
        let bytes = self.body(&answer)?;
        let text =
            String::from_utf8(bytes).map_err(|_| Error::bad_input(format!("`{path}` of `{repo}` is no text")))?;
        Ok(HubText { text: Some(text), commit })
    }

    /// Commits a packed file and a small text to a hub's repository of models. `parent` is the commit that this one
    /// must follow.
    ///
    /// # Errors
    /// There is no token, it may not write, the repository does not exist or has changed since; the network.
    pub fn commit_to_hub(
        &self,
        (repo, revision): (&str, &str),
        (message, parent): (&str, Option<&str>),
        (large_name, large): (&str, &Path),
        (small_name, small): (&str, &str),
    ) -> Result<()> {
        self.online(repo)?;
        if self.settings.token.is_none() {
            return Err(Error::bad_input(format!("writing to `{repo}` needs a token"))
                .hint("set `HF_TOKEN` to a token of yours with the right to write"));
        }
        let size = std::fs::metadata(large).map_err(Error::io("read", large))?.len();
        let api =
            |what: &str| format!("{}/api/models/{repo}/{what}/{}", self.settings.endpoint, encode(revision, false));
        let sample = base64(&head(large)?);
        let modes: Modes = self.post_json(
            &api("preupload"),
            "application/json",
            json!({"files": [{"path": large_name, "size": size, "sample": sample}]}).to_string().into_bytes(),
            repo,
        )?;
        let entry = if modes.files.first().is_some_and(|mode| mode.upload_mode == "lfs") {
            let oid = Sha256::of_file(large)?;
            self.work(large_name, Some(size), || self.upload(repo, large, oid, size))?;
            let oid = oid.to_string();
            json!({"key": "lfsFile", "value": {"path": large_name, "algo": "sha256", "oid": oid, "size": size}})
        } else if size <= LARGEST_REGULAR {
            let bytes = std::fs::read(large).map_err(Error::io("read", large))?;
            json!({"key": "file", "value": {"path": large_name, "encoding": "base64", "content": base64(&bytes)}})
        } else {
            return Err(Error::failed(format!("`{repo}` wants {size} bytes in the commit itself, which is too much")));
        };
        let header = json!({"key": "header", "value": {"summary": message, "parentCommit": parent}});
        let small = json!({"key": "file",
            "value": {"path": small_name, "encoding": "base64", "content": base64(small.as_bytes())}});
        let lines = format!("{header}\n{entry}\n{small}\n");
        let _: Value = self.post_json(&api("commit"), "application/x-ndjson", lines.into_bytes(), repo)?;
        Ok(())
    }

    /// Sends a file to Git LFS, unless it is there.
    fn upload(&self, repo: &str, file: &Path, oid: Sha256, size: u64) -> Result<()> {
        let url = format!("{}/{repo}.git/info/lfs/objects/batch", self.settings.endpoint);
        let object = json!({"oid": oid.to_string(), "size": size});
        let wanted = json!({"operation": "upload", "transfers": ["basic"], "hash_algo": "sha256", "objects": [object]});
        let kind = "application/vnd.git-lfs+json";
        let batch: Batch = self.post_json(&url, kind, wanted.to_string().into_bytes(), repo)?;
        let odd = |what: &str| Error::failed(format!("the hub's answer to an upload to `{repo}` {what}"));
        let object = batch.objects.first().ok_or_else(|| odd("names no object"))?;
        if let Some(error) = &object.error {
            return Err(odd("is an error").because(error.to_string()));
        }
        let Some(action) = object.actions.get("upload") else { return Ok(()) };
        if action.header.contains_key("chunk_size") {
            return Err(odd("wants the file in parts, which is for more than 5 GB"));
        }
        let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_string()));
        let headers: Vec<(String, String)> = action.header.iter().filter_map(text).collect();
        // The link itself is the key: the token is for the hub alone.
        let ask = Ask {
            method: "PUT",
            url: &action.href,
            headers,
            token: None,
            stay: true,
            payload: Payload::File(file.to_path_buf(), size),
        };
        let answer = self.client().ask(&ask, self.cancel).map_err(last)?;
        if !(200..300).contains(&answer.status) {
            return Err(last(answer.refused()));
        }
        if let Some(verify) = object.actions.get("verify") {
            let body = json!({"oid": oid.to_string(), "size": size}).to_string().into_bytes();
            self.post(&verify.href, kind, body, repo)?;
        }
        Ok(())
    }

    fn post_json<T: serde::de::DeserializeOwned>(&self, url: &str, kind: &str, body: Vec<u8>, repo: &str) -> Result<T> {
        let answer = self.post(url, kind, body, repo)?;
        let bytes = self.body(&answer)?;
        let odd =
            |error| Error::failed(format!("`{}` does not answer like a hub", self.settings.endpoint)).because(error);
        serde_json::from_slice(&bytes).map_err(odd)
    }

    fn post(&self, url: &str, kind: &str, body: Vec<u8>, repo: &str) -> Result<Answer> {
        let headers = vec![("content-type".to_string(), kind.to_string()), ("accept".into(), kind.replace("x-nd", ""))];
        let token = self.settings.token.as_deref();
        let ask = Ask { method: "POST", url, headers, token, stay: true, payload: Payload::Bytes(body) };
        let answer = self.client().ask(&ask, self.cancel).map_err(last)?;
        match answer.status {
            200..300 => Ok(answer),
            401 | 403 => Err(Error::bad_input(format!("the token of `HF_TOKEN` may not write to `{repo}`"))
                .hint("it needs the right to write, and the repository must be yours or your organisation's")),
            404 => Err(Error::bad_input(format!("there is no repository `{repo}` on the hub"))
                .hint("make it on the hub's site first; its name is `owner/repo`")),
            412 => Err(Error::failed(format!("`{repo}` was changed by another commit meanwhile")).hint("try again")),
            _ => {
                let said = String::from_utf8_lossy(&self.body(&answer).unwrap_or_default()).into_owned();
                Err(last(answer.refused()).because(said.chars().take(500).collect::<String>()))
            }
        }
    }

    /// A short body, whole.
    pub(super) fn body(&self, answer: &Answer) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk(self.cancel).map_err(last)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LONGEST {
                return Err(Error::failed(format!("`{}` answers with too much", answer.url)));
            }
        }
        Ok(bytes)
    }
}

fn last(trouble: Trouble) -> Error {
    match trouble {
        Trouble::Again(error, _) | Trouble::Final(error) => error,
    }
}

/// The first bytes of a file, by which a hub tells text from binary.
fn head(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    file.take(512).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// Base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0u32, |bits, (i, &byte)| bits | u32::from(byte) << (16 - 8 * i));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (text, encoded) in cases {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }
}
