//! Several files of a hub by one address: the names in a folder of a repository.
//!
//! `GET {endpoint}/api/{models|datasets}/{owner}/{repo}/revision/{revision}` names the commit (`sha`), and
//! `GET …/tree/{commit}/{folder}` the entries, page by page (the next one in the header `link`). Every file is then
//! fetched at that commit. What a commit holds never changes, so that its list is asked for once; a branch is asked
//! for each time, and its last list is remembered for when there is no network.

use serde::{Deserialize, Serialize};

use super::fetch::Fetcher;
use super::http::{Answer, Ask, Payload, Trouble};
use super::hub::{HubFile, is_commit};
use super::pattern::{check_count, matches};
use super::store::StoredFile;
use super::url::{encode, join, origin};
use crate::base::{Error, Result};

/// A folder with more pages is not listed.
const MOST_PAGES: usize = 1000;

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

/// What an address with stars was last found to be.
#[derive(Serialize, Deserialize)]
struct Listing {
    commit: String,
    /// Paths in the repository.
    files: Vec<String>,
}

impl Fetcher<'_> {
    /// The files of a hub that a path with stars in its last part names, with their names, in that order.
    pub(super) fn fetch_hub_files(&self, file: HubFile<'_>) -> Result<Vec<(String, StoredFile)>> {
        let Listing { commit, files } = self.list_hub(file)?;
        let fetch = |path: &String| {
            let one = HubFile { path, revision: &commit, ..file };
            Ok((one.name().to_string(), self.fetch_hub(one, None)?))
        };
        files.iter().map(fetch).collect()
    }

    fn list_hub(&self, file: HubFile<'_>) -> Result<Listing> {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if folder.contains('*') {
            let path = file.path;
            return Err(Error::bad_input(format!("`{path}`: a star stands in the name of a file, not of a folder")));
        }
        let store = self.store()?;
        let key = file.key(&self.settings.endpoint, file.revision);
        let remembered: Option<Listing> = store.listing(key);
        if let Some(listing) = remembered.as_ref().filter(|_| is_commit(file.revision) || self.settings.offline) {
            return Ok(Listing { commit: listing.commit.clone(), files: listing.files.clone() });
        }
        self.online(&format!("the list of {} of {}", file.path, file.repo))?;
        match (self.ask_list(file, folder, remembered.is_none()), remembered) {
            (Ok(listing), _) => {
                check_count(listing.files.len(), &format!("{} of {} at {}", file.path, file.repo, file.revision))?;
                store.set_listing(key, &listing)?;
                Ok(listing)
            }
            (Err(Trouble::Again(error, _)), Some(listing)) => {
                let (path, revision) = (file.path, file.revision);
                self.warn(format!("{error}; using `{path}` as `{revision}` was when it was last fetched"));
                Ok(listing)
            }
            (Err(Trouble::Final(error) | Trouble::Again(error, _)), _) => Err(error),
        }
    }

    fn ask_list(&self, file: HubFile<'_>, folder: &str, patient: bool) -> Result<Listing, Trouble> {
        let endpoint = &self.settings.endpoint;
        let api = format!("{endpoint}/api/{}/{}", if file.dataset { "datasets" } else { "models" }, file.repo);
        let commit = if is_commit(file.revision) {
            file.revision.to_string()
        } else {
            let url = format!("{api}/revision/{}", encode(file.revision, false));
            self.read_json::<Revision>(file, &self.ask_json(file, &url, patient)?)?.sha
        };
        if !is_commit(&commit) {
            return Err(Error::failed(format!("`{endpoint}` does not answer like a hub: it names no commit")).into());
        }
        let below = if folder.is_empty() { String::new() } else { format!("/{}", encode(folder, true)) };
        let mut url = format!("{api}/tree/{commit}{below}");
        let mut files = Vec::new();
        for _ in 0..MOST_PAGES {
            let answer = self.ask_json(file, &url, patient)?;
            let entries: Vec<Entry> = self.read_json(file, &answer)?;
            let wanted = |entry: &Entry| entry.kind == "file" && is_wanted(file.path, &entry.path);
            files.extend(entries.into_iter().filter(wanted).map(|entry| entry.path));
            // The token goes nowhere else.
            match answer.header("link").and_then(next_page).map(|next| join(&url, next)) {
                Some(next) if origin(&next) == origin(&url) => url = next,
                _ => {
                    files.sort_unstable();
                    return Ok(Listing { commit, files });
                }
            }
        }
        Err(Error::bad_input(format!("a folder of `{}` has more than {MOST_PAGES} pages of files", file.repo)).into())
    }

    fn ask_json(&self, file: HubFile<'_>, url: &str, patient: bool) -> Result<Answer, Trouble> {
        let token = self.settings.token.as_deref();
        let ask = Ask { method: "GET", url, headers: Vec::new(), token, stay: true, payload: Payload::Nothing };
        self.ask_patiently(file, &ask, patient)
    }

    fn read_json<T: serde::de::DeserializeOwned>(&self, file: HubFile<'_>, answer: &Answer) -> Result<T, Trouble> {
        let odd = |error| Error::failed(format!("the hub's list of `{}` cannot be read", file.repo)).because(error);
        Ok(serde_json::from_slice(&self.body(answer)?).map_err(odd)?)
    }
}

/// Whether a path of a repository is in the pattern's folder, and named as it says.
fn is_wanted(pattern: &str, path: &str) -> bool {
    let split =
        |path: &str| path.rsplit_once('/').map_or((String::new(), path.to_string()), |(a, b)| (a.into(), b.into()));
    let ((folder, pattern), (of, name)) = (split(pattern), split(path));
    folder == of && !name.starts_with('.') && matches(&pattern, &name)
}

/// The address of the next page in a header such as `<https://…>; rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    next.trim().strip_prefix('<')?.split_once('>').map(|(url, _)| url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_folder_match() {
        assert!(is_wanted("data/train-*.parquet", "data/train-0.parquet") && is_wanted("*.tar", "a.tar"));
        for other in ["train-0.parquet", "data/x/train-0.parquet", "data/train-0.tar", "other/train-0.parquet"] {
            assert!(!is_wanted("data/train-*.parquet", other), "{other}");
        }
    }

    #[test]
    fn the_next_page_is_named_by_a_header() {
        assert_eq!(next_page("<https://h/b?cursor=x>; rel=\"next\""), Some("https://h/b?cursor=x"));
        assert_eq!(next_page("<https://h/a>; rel=\"prev\", <https://h/b>; rel=\"next\""), Some("https://h/b"));
        assert_eq!(next_page("<https://h/a>; rel=\"prev\""), None);
    }
}
