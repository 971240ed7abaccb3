//! `git+…` addresses: files of a git repository, by the user's own `git`, so that its keys, helpers and proxies work.
//!
//! What is fetched is one commit without history, checked out below the home's `git/`. No hook runs, links become
//! plain files, and only the protocols of an address are spoken.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::fetch::{Fetched, Fetcher};
use crate::base::{Error, KeyWriter, Result};

/// A repository, and what of its history is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Repository {
    /// The URL that `git` is given: `https://…`, `ssh://…` or `file:///…`.
    pub url: String,
    /// A branch, tag or commit; `None` is the repository's own branch.
    pub revision: Option<String>,
}

impl Repository {
    fn folder(&self, fetcher: &Fetcher<'_>) -> Result<PathBuf> {
        let revision = self.revision.as_deref().unwrap_or("");
        let key = KeyWriter::new("git repository").field("url", &self.url).field("revision", revision).finish();
        Ok(fetcher.home().folder("git")?.join(key.short(32)))
    }
}

impl Fetcher<'_> {
    /// A file or folder of a repository; nothing `inside` is all of it. The newest commit is asked for each time;
    /// offline, what was fetched last counts.
    pub(super) fn fetch_git(&self, repository: &Repository, inside: Option<&str>) -> Result<Fetched> {
        let folder = self.checkout(repository)?;
        found(self, repository, &folder, inside)
    }

    /// The same without the network.
    pub(super) fn cached_git(&self, repository: &Repository, inside: Option<&str>) -> Option<Fetched> {
        let folder = repository.folder(self).ok().filter(|folder| folder.join(".git").is_dir())?;
        found(self, repository, &folder, inside).ok()
    }

    /// The newest commit of a repository as a folder.
    ///
    /// # Errors
    /// There is no `git`, or it cannot fetch; offline, nothing was fetched before.
    pub fn checkout(&self, repository: &Repository) -> Result<PathBuf> {
        let folder = repository.folder(self)?;
        if self.settings.offline && folder.join(".git").is_dir() {
            return Ok(folder);
        }
        self.online(&repository.url)?;
        let _lock = self.lock(&folder.with_extension("lock"), &repository.url)?;
        self.work(&repository.url, None, || update(repository, &folder))?;
        Ok(folder)
    }

    /// Changes a repository: checks it out anew below `scratch`, lets `change` work in the folder, commits and pushes
    /// what it did. A repository without commits gets its first one.
    ///
    /// # Errors
    /// There is no `git`, it may not push, or another commit came between; those of `change`.
    pub fn change_git(
        &self,
        repository: &Repository,
        scratch: &Path,
        message: &str,
        change: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        self.online(&repository.url)?;
        let url = repository.url.as_str();
        let heads = text(&git(None, ["ls-remote", "--symref", "--", url])?);
        let own = heads.lines().find_map(|line| line.strip_prefix("ref: refs/heads/")?.strip_suffix("\tHEAD"));
        let branch = repository.revision.as_deref().or(own).unwrap_or("main");
        if heads.trim().is_empty() {
            git(None, [OsStr::new("init"), "-q".as_ref(), "--".as_ref(), scratch.as_os_str()])?;
        } else {
            update(repository, scratch)?;
        }
        change(scratch)?;
        git(Some(scratch), ["add", "--all"])?;
        if text(&git(Some(scratch), ["status", "--porcelain"])?).is_empty() {
            return Ok(());
        }
        git(Some(scratch), ["commit", "-q", "-m", message])?;
        self.work(url, None, || git(Some(scratch), ["push", "-q", "--", url, &format!("HEAD:refs/heads/{branch}")]))?;
        Ok(())
    }
}

fn update(repository: &Repository, folder: &Path) -> Result<()> {
    if !folder.join(".git").is_dir() {
        git(None, [OsStr::new("init"), "-q".as_ref(), "--".as_ref(), folder.as_os_str()])?;
    }
    let revision = repository.revision.as_deref().unwrap_or("HEAD");
    git(Some(folder), ["fetch", "-q", "--depth=1", "--no-tags", "--", &repository.url, revision])?;
    git(Some(folder), ["checkout", "-q", "--force", "--detach", "FETCH_HEAD"])?;
    git(Some(folder), ["clean", "-q", "-fdx"])?;
    Ok(())
}

fn found(fetcher: &Fetcher<'_>, repository: &Repository, folder: &Path, inside: Option<&str>) -> Result<Fetched> {
    let path = inside.map_or_else(|| folder.to_path_buf(), |inside| folder.join(inside));
    let metadata = fs::symlink_metadata(&path).map_err(|error| {
        let (inside, url) = (inside.unwrap_or_default(), &repository.url);
        Error::bad_input(format!("`{url}` has no `{inside}`")).because(error)
    })?;
    let digest = if metadata.is_file() {
        fetcher.digests()?.digest(&path)?
    } else {
        let commit = text(&git(Some(folder), ["rev-parse", "HEAD"])?);
        KeyWriter::new("git folder").field("commit", commit.trim()).field("inside", inside.unwrap_or("")).finish()
    };
    Ok(Fetched { path, digest })
}

/// Runs the user's `git`. Its arguments never pass a shell; what could be an option stands behind `--`.
fn git<A: AsRef<OsStr>>(folder: Option<&Path>, arguments: impl IntoIterator<Item = A>) -> Result<Output> {
    let arguments: Vec<A> = arguments.into_iter().collect();
    let mut command = Command::new("git");
    if let Some(folder) = folder {
        command.arg("-C").arg(folder);
    }
    for setting in ["core.hooksPath=/dev/null", "core.symlinks=false", "core.autocrlf=false", "gc.auto=0"] {
        command.args(["-c", setting]);
    }
    command.args(&arguments);
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ALLOW_PROTOCOL", "https:ssh:file:http");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        Error::failed("`git` cannot be run").hint("install git; `git+` addresses use it").because(error)
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let word = arguments.first().map(|word| word.as_ref().to_string_lossy().into_owned()).unwrap_or_default();
    let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
    Err(Error::failed(format!("`git {word}` failed")).because(said))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
