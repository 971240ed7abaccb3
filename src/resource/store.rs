//! What was fetched, on disk, by its SHA-256.
//!
//! ```text
//! downloads/
//!   files/<sha256>/entry.json      {sha256, blake3, size, name}; written last, so it marks a whole file
//!   files/<sha256>/<name>          the file
//!   files/<sha256>/unpacked/<key>/ parts of a wheel, by the path inside; <key>.json marks a whole part
//!   names/<key>.json               what an address without a digest was last found to be
//!   listings/<key>.json            which files an address with a star was last found to name
//!   partial/<key>.part             a transfer under way or broken off, with <key>.json and <key>.lock beside it
//!   digests                        the table of local files' digests
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::sha256::Sha256;
use crate::base::home::Home;
use crate::base::{Digest, Error, Result, file};

/// No record is longer.
const RECORD_LIMIT: u64 = 1 << 16;
/// No listing is longer.
const LISTING_LIMIT: u64 = 64 << 20;

/// The folder of fetched files.
#[derive(Debug, Clone)]
pub(super) struct Store(PathBuf);

/// A fetched file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: Sha256,
    /// Its BLAKE3.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    sha256: Sha256,
    blake3: Digest,
    size: u64,
    name: String,
}

/// What an address without a digest of its own was last found to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The address, for people who look.
    pub address: String,
    /// The file's digest.
    pub sha256: Sha256,
}

impl Store {
    pub fn open(home: &Home) -> Result<Self> {
        home.folder("downloads").map(Self)
    }

    /// A whole fetched file. `name` is what the address calls it; a file stored under another name gets it as
    /// a second one, because what reads it may go by its extension.
    pub fn find(&self, sha256: Sha256, name: &str) -> Option<StoredFile> {
        let folder = self.folder(sha256);
        let entry: Entry = read_record(&folder.join("entry.json"))?;
        let first = folder.join(plain_name(&entry.name));
        let path = folder.join(plain_name(name));
        if entry.sha256 != sha256 || fs::metadata(&first).ok()?.len() != entry.size {
            return None;
        }
        if !path.exists() && fs::hard_link(&first, &path).is_err() {
            let temporary = file::temporary_beside(&path);
            fs::copy(&first, &temporary).and_then(|_| fs::rename(&temporary, &path)).ok()?;
        }
        Some(StoredFile { path, sha256, digest: entry.blake3, size: entry.size })
    }

    /// Moves a checked file into the store.
    pub fn admit(&self, file: &Path, name: &str, sha256: Sha256, blake3: Digest, size: u64) -> Result<StoredFile> {
        let folder = self.folder(sha256);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let name = plain_name(name);
        let path = folder.join(&name);
        // The bytes must be on the disk before the record that vouches for them.
        fs::File::open(file).and_then(|f| f.sync_all()).map_err(Error::io("write", file))?;
        fs::rename(file, &path).map_err(Error::io("write", &path))?;
        write_record(&folder.join("entry.json"), &Entry { sha256, blake3, size, name })?;
        Ok(StoredFile { path, sha256, digest: blake3, size })
    }

    /// Removes a fetched file and what was unpacked from it.
    pub fn remove(&self, sha256: Sha256) -> Result<()> {
        let folder = self.folder(sha256);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &folder)(error)),
            _ => Ok(()),
        }
    }

    pub fn note(&self, key: Digest) -> Option<Note> {
        read_record(&self.record("names", key))
    }

    pub fn set_note(&self, key: Digest, note: &Note) -> Result<()> {
        write_record(&self.record("names", key), note)
    }

    pub fn listing<T: DeserializeOwned>(&self, key: Digest) -> Option<T> {
        read_json(&self.record("listings", key), LISTING_LIMIT)
    }

    pub fn set_listing(&self, key: Digest, listing: &impl Serialize) -> Result<()> {
        write_record(&self.record("listings", key), listing)
    }

    /// The folder of a file's own things.
    pub fn folder(&self, sha256: Sha256) -> PathBuf {
        self.0.join("files").join(sha256.to_string())
    }

    /// The path of a partial transfer, with an extension.
    pub fn partial(&self, key: Digest, extension: &str) -> PathBuf {
        self.0.join("partial").join(format!("{}.{extension}", key.short(32)))
    }

    /// A new folder for temporary files, removed when the guard is dropped.
    pub fn scratch(&self) -> Result<Scratch> {
        let parent = self.0.join("scratch");
        fs::create_dir_all(&parent).map_err(Error::io("create", &parent))?;
        sweep(&parent);
        let folder = file::temporary_beside(&parent.join("x"));
        fs::create_dir(&folder).map_err(Error::io("create", &folder))?;
        Ok(Scratch(folder))
    }

    fn record(&self, kind: &str, key: Digest) -> PathBuf {
        self.0.join(kind).join(format!("{}.json", key.short(32)))
    }
}

/// A temporary folder.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is swept a day later.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what processes that were killed left behind more than a day ago.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age.as_secs() > 24 * 3600) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

pub(super) fn read_record<T: DeserializeOwned>(path: &Path) -> Option<T> {
    read_json(path, RECORD_LIMIT)
}

fn read_json<T: DeserializeOwned>(path: &Path, limit: u64) -> Option<T> {
    serde_json::from_str(&file::read_text(path, limit).ok()?).ok()
}

pub(super) fn write_record(path: &Path, record: &impl Serialize) -> Result<()> {
    file::write_atomic(path, |out| Ok(serde_json::to_writer(out, record)?))
}

/// A name that is safe on every file system and cannot be mistaken for one of the store's own.
fn plain_name(name: &str) -> String {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    let mut plain: String = name.chars().map(|c| if fine(c) { c } else { '_' }).collect();
    if plain.len() > 120 {
        // The end, for the extension.
        plain = plain.split_off(plain.len() - 120);
    }
    if plain.is_empty() || plain.starts_with('.') || ["entry.json", "unpacked"].contains(&plain.as_str()) {
        plain.insert(0, '_');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_its_digest_under_any_name() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&Home::at(home.path())).unwrap();
        let sha256 = Sha256::of(b"abc");
        assert!(store.find(sha256, "a.onnx").is_none());
        let scratch = store.scratch().unwrap();
        let file = scratch.path().join("x");
        fs::write(&file, b"abc").unwrap();
        let stored = store.admit(&file, "a.onnx", sha256, Digest::of(b"abc"), 3).unwrap();
        assert_eq!(store.find(sha256, "a.onnx").unwrap(), stored);
        let other = store.find(sha256, "../b.csv").unwrap();
        assert_eq!(other.path.file_name().unwrap(), "_.._b.csv");
        assert_eq!(fs::read(&other.path).unwrap(), b"abc");
        fs::write(&stored.path, b"abcd").unwrap();
        assert!(store.find(sha256, "a.onnx").is_none(), "a file of another size is not taken");
        let folder = scratch.path().to_path_buf();
        drop(scratch);
        assert!(!folder.exists());
        store.remove(sha256).unwrap();
        store.remove(sha256).unwrap();
    }

    #[test]
    fn names_are_made_plain() {
        assert_eq!(plain_name("model (1).onnx"), "model__1_.onnx");
        assert_eq!(plain_name(".."), "_..");
        assert_eq!(plain_name("entry.json"), "_entry.json");
        assert_eq!(plain_name(&format!("{}.onnx", "a".repeat(300))).len(), 120);
    }
}
