//! Where engines are shared: a folder, a git repository, or a repository of a hub. There, packed engines lie beside
//! an [`Index`] that says what they are.

mod index;

pub use index::{INDEX, Index, Listed, ListedOutput};

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Built;
use super::pack::{self, ENDING};
use super::verify::Scratch;
use crate::base::{Cancel, Digest, Error, Result, file};
use crate::resource::git::Repository;
use crate::resource::{Address, Fetcher, Resource};

/// A place where engines are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine, or of a file system that several share.
    Folder(PathBuf),
    /// A git repository: `git+https://host/repo.git@branch`.
    Git(Repository),
    /// A repository of a hub: `hf:owner/repo@revision`.
    Hub {
        /// `owner/repo`.
        repo: String,
        /// A branch, tag or commit.
        revision: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Git(Repository { url, revision: None }) => write!(f, "git+{url}"),
            Self::Git(Repository { url, revision: Some(revision) }) => write!(f, "git+{url}@{revision}"),
            Self::Hub { repo, revision } if revision == "main" => write!(f, "hf:{repo}"),
            Self::Hub { repo, revision } => write!(f, "hf:{repo}@{revision}"),
        }
    }
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::with_name(text)? {
            (place, None) => Ok(place),
            (place, Some(name)) => {
                Err(Error::bad_input(format!("`{text}` names `{name}` of `{place}`, where the place alone is meant")))
            }
        }
    }
}

/// Gives the text of an index to be, from its text now if there is one.
pub type ChangeIndex<'a> = &'a dyn Fn(Option<&str>) -> Result<String>;

impl Place {
    /// `ADDRESS` or `ADDRESS/NAME`: the place, and the engine that is named behind it. A folder is taken whole where
    /// it has an index.
    ///
    /// # Errors
    /// It is no address, or an address where no engines can be.
    pub fn with_name(text: &str) -> Result<(Self, Option<String>)> {
        if let Some(rest) = text.strip_prefix("hf:") {
            let (path, revision) = rest.rsplit_once('@').unwrap_or((rest, "main"));
            // The name of an engine stands where a file would.
            let parts: Vec<&str> = path.trim_end_matches('/').splitn(3, '/').collect();
            let name = parts.get(2).map(|name| (*name).to_string());
            let (repo, file) = (parts[..parts.len().min(2)].join("/"), name.as_deref().unwrap_or(INDEX));
            return match format!("hf:{repo}/{file}@{revision}").parse()? {
                Address::Hf { dataset: false, repo, revision, .. } => Ok((Self::Hub { repo, revision }, name)),
                _ => Err(Error::bad_input(format!("`{text}` is not a repository of models"))
                    .hint("engines lie in `hf:owner/repo`")),
            };
        }
        // A name may also stand behind the repository's ending, as behind a folder.
        let plain = match text.rsplit_once(".git/").filter(|(before, _)| before.starts_with("git+")) {
            Some((repository, name)) => format!("{repository}.git#{name}"),
            None => text.to_string(),
        };
        match plain.parse()? {
            Address::Git { repository, inside } => Ok((Self::Git(repository), inside)),
            Address::Path(path) => {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                match (path.parent(), name) {
                    (Some(parent), Some(name)) if !path.is_dir() && parent.join(INDEX).is_file() => {
                        Ok((Self::Folder(parent.into()), Some(name)))
                    }
                    _ => Ok((Self::Folder(path), None)),
                }
            }
            _ => Err(Error::bad_input(format!("engines are not shared at `{text}`"))
                .hint("they are in a folder, a git repository (`git+https://…`), or a hub's (`hf:owner/repo`)")),
        }
    }

    /// What engines there are.
    ///
    /// # Errors
    /// The place cannot be reached, or has no index.
    pub fn index(&self, fetcher: &Fetcher<'_>) -> Result<Index> {
        let path = self.file(INDEX, fetcher)?;
        Index::parse(&file::read_text(&path, index::LARGEST)?, &self.to_string())
    }

    /// Fetches a packed engine and puts it on the shelf of the fetcher's home.
    ///
    /// # Errors
    /// It cannot be fetched, is not what the index says, or is no engine; nothing is kept then.
    pub fn pull(&self, listed: &Listed, fetcher: &Fetcher<'_>, cancel: &Cancel) -> Result<Built> {
        let path = self.file(&listed.file, fetcher)?;
        let size = std::fs::metadata(&path).map_err(Error::io("read", &path))?.len();
        if size != listed.size || Digest::of_file(&path)? != listed.digest {
            let file = &listed.file;
            return Err(Error::bad_input(format!("`{file}` of `{self}` is not the file that its index describes"))
                .hint("it is damaged, being replaced, or a pointer of Git LFS (`git lfs install`); nothing was kept"));
        }
        pack::unpack(fetcher.home(), &path, &self.to_string(), cancel)
    }

    /// Puts an engine there, packed, and lists it in the index.
    ///
    /// # Errors
    /// The engine is damaged; the place cannot be written.
    pub fn push(&self, built: &Built, fetcher: &Fetcher<'_>) -> Result<Listed> {
        let home = fetcher.home();
        let scratch = Scratch::beside(&home.folder("engines")?.join("push"))?;
        let packed = scratch.file(&format!("engine.{ENDING}"));
        pack::pack(built, fetcher.digests()?, &packed)?;
        let size = std::fs::metadata(&packed).map_err(Error::io("read", &packed))?.len();
        let listed = Listed::new(&built.manifest, size, Digest::of_file(&packed)?);
        let message = format!("Add the engine {}", listed.file.trim_end_matches(ENDING).trim_end_matches('.'));
        let index = |text: Option<&str>| {
            let mut index = text.map_or(Ok(Index::default()), |text| Index::parse(text, &self.to_string()))?;
            index.put(listed.clone());
            index.text()
        };
        self.put((&listed.file, &packed), (INDEX, &index), &message, fetcher)?;
        Ok(listed)
    }

    /// Puts a file there, and changes the index beside it that lists it: `change` gets the index's text as it is now, or
    /// none, and gives the one to be. Of a git repository and a hub both are one commit.
    ///
    /// # Errors
    /// The place cannot be written; those of `change`.
    pub fn put(
        &self,
        (name, path): (&str, &Path),
        (index, change): (&str, ChangeIndex<'_>),
        message: &str,
        fetcher: &Fetcher<'_>,
    ) -> Result<()> {
        let put_into = |folder: &Path| {
            let place = folder.join(index);
            let text = place.exists().then(|| file::read_text(&place, index::LARGEST)).transpose()?;
            let text = change(text.as_deref())?;
            file::write_atomic(&folder.join(name), |out| {
                std::io::copy(&mut std::fs::File::open(path)?, out)?;
                Ok(())
            })?;
            // The index comes last.
            file::write_bytes(&place, text.as_bytes())
        };
        match self {
            Self::Folder(folder) => {
                std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
                let _lock = fetcher.lock(&folder.join(".index.lock"), "the index")?;
                put_into(folder)
            }
            Self::Git(repository) => {
                let scratch = Scratch::beside(&fetcher.home().folder("git")?.join("push"))?;
                fetcher.change_git(repository, &scratch.file("repository"), message, put_into)
            }
            Self::Hub { repo, revision } => {
                let now = fetcher.hub_text(repo, revision, index)?;
                let text = change(now.text.as_deref())?;
                let message = (message, now.commit.as_deref());
                fetcher.commit_to_hub((repo, revision), message, (name, path), (index, &*text))
            }
        }
    }

    /// A file there, fetched.
    ///
    /// # Errors
    /// The place cannot be reached, or has no such file.
    pub fn file(&self, name: &str, fetcher: &Fetcher<'_>) -> Result<PathBuf> {
        let resource = |address| Resource { address, sha256: None };
        let fetched = match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                if name == INDEX && !path.is_file() {
                    let shown = folder.display();
                    return Err(Error::bad_input(format!("there is no `{INDEX}` of engines in `{shown}`"))
                        .hint(format!("`caft engine push NAME {shown}` puts the first engine there")));
                }
                return Ok(path);
            }
            Self::Git(repository) => {
                let inside = Some(name.to_string());
                fetcher.fetch(&resource(Address::Git { repository: repository.clone(), inside }))?
            }
            Self::Hub { repo, revision } => fetcher.fetch(&resource(Address::Hf {
                dataset: false,
                repo: repo.clone(),
                path: name.into(),
                revision: revision.clone(),
            }))?,
        };
        Ok(fetched.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_behind_its_address() {
        let read = |text: &str| Place::with_name(text).map(|(place, name)| (place.to_string(), name)).unwrap();
        let name = Some("resnet50".to_string());
        assert_eq!(read("hf:me/engines"), ("hf:me/engines".into(), None));
        assert_eq!(read("hf:me/engines/resnet50"), ("hf:me/engines".into(), name.clone()));
        assert_eq!(read("hf:me/engines/resnet50@v1"), ("hf:me/engines@v1".into(), name.clone()));
        let git = "git+https://host/me/engines.git";
        assert_eq!(read(git), (git.into(), None));
        assert_eq!(read(&format!("{git}/resnet50")), (git.into(), name.clone()));
        assert_eq!(read(&format!("{git}@main#resnet50")), (format!("{git}@main"), name.clone()));
        assert!(Place::with_name("https://host/x").is_err() && Place::with_name("hf:me").is_err());
        assert!("hf:me/engines/resnet50".parse::<Place>().is_err());

        let folder = tempfile::tempdir().unwrap();
        let shown = folder.path().display().to_string();
        assert_eq!(read(&format!("{shown}/resnet50")).1, None, "without an index it is a folder to come");
        std::fs::write(folder.path().join(INDEX), Index::default().text().unwrap()).unwrap();
        assert_eq!(read(&format!("{shown}/resnet50")), (shown.clone(), name));
        assert_eq!(read(&shown), (shown, None));
    }
}
