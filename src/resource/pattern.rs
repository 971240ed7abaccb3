//! Addresses whose last part has stars: one name for several files, such as `data/train-*.parquet`.
//!
//! A star stands for any letters but `/`. The `sha256` of such an address is that of the lines that `sha256sum`
//! prints of the files in the order of their names: `sha256sum train-*.parquet | sha256sum`.

use std::path::{Path, PathBuf};

use super::address::Address;
use super::fetch::{Fetched, Fetcher};
use super::hub::HubFile;
use super::named::Resource;
use super::path;
use super::sha256::Sha256;
use crate::base::{Error, Result};

/// More files than this are not taken.
const MOST_FILES: usize = 100_000;

impl Fetcher<'_> {
    /// The local files of a resource in the order of their names: one, or where the last part of its path or of its
    /// `hf:` address has stars, all that match.
    ///
    /// # Errors
    /// Those of [`fetch`](Self::fetch); nothing matches; the files are not those that the digest says.
    pub fn fetch_all(&self, resource: &Resource) -> Result<Vec<Fetched>> {
        let (files, sums): (Vec<Fetched>, Vec<(Sha256, String)>) = match &resource.address {
            Address::Path(path) if has_star(path) && !path.exists() => {
                let paths = matching(path)?;
                let fetched = paths.iter().map(|path| path::fetch(path, None, self.digests()?));
                let fetched = fetched.collect::<Result<Vec<_>>>()?;
                let sum = |path: &PathBuf| Ok((Sha256::of_file(path)?, file_name(path)));
                let pinned = paths.iter().filter(|_| resource.sha256.is_some());
                (fetched, pinned.map(sum).collect::<Result<Vec<_>>>()?)
            }
            Address::Hf { dataset, repo, path, revision } if path.contains('*') => {
                let file = HubFile { dataset: *dataset, repo, path, revision };
                let stored = self.fetch_hub_files(file)?;
                let sums = stored.iter().map(|(name, file)| (file.sha256, name.clone())).collect();
                (stored.into_iter().map(|(_, file)| file.into()).collect(), sums)
            }
            _ => return Ok(vec![self.fetch(resource)?]),
        };
        if let Some(expected) = resource.sha256 {
            let lines: String = sums.iter().map(|(sha256, name)| format!("{sha256}  {name}\n")).collect();
            let got = Sha256::of(lines.as_bytes());
            if got != expected {
                let (count, address) = (files.len(), &resource.address);
                return Err(Error::bad_input(format!(
                    "the {count} files of `{address}` are not those that are pinned: expected sha256 {expected}, got {got}"
                ))
                .hint("it is the sha256 of what `sha256sum FILES` prints"));
            }
        }
        Ok(files)
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn has_star(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains('*'))
}

/// The files of this machine that a path with stars in its last part names, in the order of their names.
fn matching(path: &Path) -> Result<Vec<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let pattern = file_name(path);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let name = entry.map_err(Error::io("read", folder))?.file_name();
        if name.to_str().is_some_and(|name| !name.starts_with('.') && matches(&pattern, name)) {
            found.push(folder.join(name));
        }
    }
    found.sort_unstable();
    check_count(found.len(), &path.display().to_string())?;
    Ok(found)
}

/// Refuses no files and too many.
pub(super) fn check_count(found: usize, shown: &str) -> Result<()> {
    match found {
        0 => Err(Error::bad_input(format!("no file is named like `{shown}`"))),
        1..=MOST_FILES => Ok(()),
        _ => Err(Error::bad_input(format!("{found} files are named like `{shown}`; at most {MOST_FILES} are taken"))),
    }
}

/// Whether a name is a pattern with its stars filled in.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(begin) else { return false };
    let parts: Vec<&str> = rest.split('*').collect();
    let Some((last, middle)) = parts.split_last() else { return true };
    for part in middle {
        // The first place is as good as any: what follows may begin anywhere behind it.
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::progress::Silent;
    use crate::base::{Cancel, Home};

    #[test]
    fn stars_stand_for_any_letters() {
        assert!(matches("a*b*c", "abxbc") && !matches("a*b*c", "acb") && matches("*", "x") && !matches("ab*ba", "aba"));
    }

    #[test]
    fn local_files_are_found_in_order_and_pinned_together() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let cancel = Cancel::default();
        let fetcher = Fetcher::new(&home, &Silent, &cancel, true);
        for name in ["b-2", "b-1", "c-1", ".b-3"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let fetch = |name: &str, sha256| {
            let resource = Resource { address: Address::Path(folder.path().join(name)), sha256 };
            fetcher.fetch_all(&resource)
        };
        let names = |found: Vec<Fetched>| found.iter().map(|file| file_name(&file.path)).collect::<Vec<_>>();
        assert_eq!(names(fetch("b-*", None).unwrap()), ["b-1", "b-2"]);
        assert_eq!(names(fetch("c-1", None).unwrap()), ["c-1"]);
        let lines = format!("{}  b-1\n{}  b-2\n", Sha256::of(b"b-1"), Sha256::of(b"b-2"));
        assert_eq!(fetch("b-*", Some(Sha256::of(lines.as_bytes()))).unwrap().len(), 2);
        assert!(fetch("b-*", Some(Sha256::of(b""))).unwrap_err().to_string().contains("are not those that are pinned"));
        assert!(fetch("d-*", None).unwrap_err().to_string().contains("no file is named like"));
    }
}
