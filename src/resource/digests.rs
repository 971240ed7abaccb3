//! The table of path, size, times and inode to digest, so that an unchanged file is not hashed again.
//!
//! # Format
//!
//! `digests` under the home: 16 bytes `caft digests 01\n`, then records of 88 bytes, little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 16 | the first half of the BLAKE3 of the absolute path |
//! | 8 | size in bytes |
//! | 8 | time of the last change of the contents, in nanoseconds since 1970 |
//! | 8 | time of the last change of the inode (0 where the platform has none) |
//! | 8 | inode (0 where the platform has none) |
//! | 32 | the file's BLAKE3 |
//! | 8 | the first 8 bytes of the BLAKE3 of the 80 bytes before |
//!
//! A record whose last field does not fit is skipped, so damage costs a rehash and never a wrong digest.
//! A save merges with what other processes saved and renames the whole file into place.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::lock;
use crate::base::home::Home;
use crate::base::{Cancel, Digest, Error, Result, file};

const MAGIC: &[u8; 16] = b"caft digests 01\n";
const RECORD: usize = 88;
/// With more records than this (185 MB), a save keeps only those that this process used.
const MOST: usize = 1 << 21;
/// A file changed this recently may change again without a visible change of its times.
const SETTLED: Duration = Duration::from_secs(2);

/// Digests of files, remembered under the home. Shared by threads; any number of processes may use one.
pub struct DigestTable {
    path: PathBuf,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    map: HashMap<[u8; 16], Entry>,
    changed: bool,
}

#[derive(Clone, Copy)]
struct Entry {
    stamp: Stamp,
    digest: Digest,
    used: bool,
}

/// What shows that a file is the one that was hashed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: i64,
    changed: i64,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let (changed, inode) = {
            use std::os::unix::fs::MetadataExt;
            (metadata.ctime().wrapping_mul(1_000_000_000).wrapping_add(metadata.ctime_nsec()), metadata.ino())
        };
        #[cfg(not(unix))]
        let (changed, inode) = (0, 0);
        let modified = metadata.modified().map_or(0, nanoseconds);
        Self { size: metadata.len(), modified, changed, inode }
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let latest = self.modified.max(self.changed);
        nanoseconds(now).saturating_sub(latest) > SETTLED.as_nanos() as i64
    }
}

fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
    }
}

impl DigestTable {
    /// Opens the table of a home; a missing or damaged one is empty or shorter, never an error.
    ///
    /// # Errors
    /// The home cannot be created.
    pub fn open(home: &Home) -> Result<Self> {
        let path = home.folder("downloads")?.join("digests");
        let map = read(&path);
        Ok(Self { path, entries: Mutex::new(Entries { map, changed: false }) })
    }

    /// The digest of a file's bytes, from the table if the file is unchanged since, else computed and noted.
    ///
    /// # Errors
    /// The file cannot be read, or is a folder.
    pub fn digest(&self, path: &Path) -> Result<Digest> {
        let absolute = std::path::absolute(path).map_err(Error::io("read", path))?;
        let key = key(&absolute);
        let metadata = fs::metadata(path).map_err(Error::io("read", path))?;
        if metadata.is_dir() {
            return Err(Error::bad_input(format!("`{}` is a folder, not a file", path.display())));
        }
        let stamp = Stamp::of(&metadata);
        if let Some(entry) = self.lock().map.get_mut(&key).filter(|entry| entry.stamp == stamp) {
            entry.used = true;
            return Ok(entry.digest);
        }
        let now = SystemTime::now();
        let digest = Digest::of_file(path)?;
        // Noted only if nobody wrote to it meanwhile.
        let after = fs::metadata(path).map_err(Error::io("read", path))?;
        if Stamp::of(&after) == stamp && stamp.is_settled(now) {
            let mut entries = self.lock();
            entries.map.insert(key, Entry { stamp, digest, used: true });
            entries.changed = true;
        }
        Ok(digest)
    }

    /// Writes what was noted since the last save.
    ///
    /// # Errors
    /// Those of the file system. The digests themselves stay right.
    pub fn save(&self) -> Result<()> {
        if !self.lock().changed {
            return Ok(());
        }
        let _lock = lock::exclusive(&self.path.with_extension("lock"), &Cancel::default(), || ())?;
        let stored = read(&self.path);
        let mut entries = self.lock();
        for (key, entry) in stored {
            entries.map.entry(key).or_insert(entry);
        }
        if entries.map.len() > MOST {
            entries.map.retain(|_, entry| entry.used);
        }
        let mut sorted: Vec<_> = entries.map.iter().collect();
        sorted.sort_unstable_by_key(|(key, _)| **key);
        file::write_atomic(&self.path, |out| {
            out.write_all(MAGIC)?;
            sorted.iter().try_for_each(|(key, entry)| out.write_all(&encode(key, entry)))
        })?;
        entries.changed = false;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // A panic between two statements that only insert leaves the map usable.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DigestTable {
    fn drop(&mut self) {
        // Losing the table costs a rehash; there is nobody to tell here.
        let _ = self.save();
    }
}

fn key(absolute: &Path) -> [u8; 16] {
    let digest = Digest::of(absolute.as_os_str().as_encoded_bytes());
    std::array::from_fn(|i| digest.0[i])
}

fn encode(key: &[u8; 16], entry: &Entry) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..16].copy_from_slice(key);
    record[16..24].copy_from_slice(&entry.stamp.size.to_le_bytes());
    record[24..32].copy_from_slice(&entry.stamp.modified.to_le_bytes());
    record[32..40].copy_from_slice(&entry.stamp.changed.to_le_bytes());
    record[40..48].copy_from_slice(&entry.stamp.inode.to_le_bytes());
    record[48..80].copy_from_slice(&entry.digest.0);
    let check = Digest::of(&record[..80]);
    record[80..].copy_from_slice(&check.0[..8]);
    record
}

fn decode(record: &[u8; RECORD]) -> Option<([u8; 16], Entry)> {
    if Digest::of(&record[..80]).0[..8] != record[80..] {
        return None;
    }
    let number = |at: usize| std::array::from_fn(|i| record[at + i]);
    let stamp = Stamp {
        size: u64::from_le_bytes(number(16)),
        modified: i64::from_le_bytes(number(24)),
        changed: i64::from_le_bytes(number(32)),
        inode: u64::from_le_bytes(number(40)),
    };
    let digest = Digest(std::array::from_fn(|i| record[48 + i]));
    Some((std::array::from_fn(|i| record[i]), Entry { stamp, digest, used: false }))
}

/// The good records of a table; none of one that is missing or of another format.
fn read(path: &Path) -> HashMap<[u8; 16], Entry> {
    let mut map = HashMap::new();
    let Ok(file) = File::open(path) else { return map };
    let mut reader = std::io::BufReader::with_capacity(1 << 20, file);
    let mut magic = [0; MAGIC.len()];
    if reader.read_exact(&mut magic).is_err() || &magic != MAGIC {
        return map;
    }
    let mut record = [0; RECORD];
    while map.len() < 2 * MOST && reader.read_exact(&mut record).is_ok() {
        map.extend(decode(&record));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that was last written an hour ago.
    fn old_file(path: &Path, bytes: &[u8]) {
        fs::write(path, bytes).unwrap();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        File::options().write(true).open(path).unwrap().set_modified(hour_ago).unwrap();
    }

    /// Puts a wrong digest into the table, to see whether it is used.
    fn plant(home: &Home, path: &Path) {
        let table = DigestTable::open(home).unwrap();
        let stamp = Stamp::of(&fs::metadata(path).unwrap());
        let entry = Entry { stamp, digest: Digest([7; 32]), used: true };
        let mut entries = table.lock();
        entries.map.insert(key(&std::path::absolute(path).unwrap()), entry);
        entries.changed = true;
    }

    #[test]
    fn an_unchanged_file_is_not_read_again_and_a_changed_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let path = folder.path().join("a");
        old_file(&path, b"one");
        plant(&home, &path);
        assert_eq!(DigestTable::open(&home).unwrap().digest(&path).unwrap(), Digest([7; 32]));
        fs::write(&path, b"two").unwrap();
        assert_eq!(DigestTable::open(&home).unwrap().digest(&path).unwrap(), Digest::of(b"two"));
        assert_eq!(DigestTable::open(&home).unwrap().digest(folder.path()).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_file_written_just_now_is_not_noted() {
        let folder = tempfile::tempdir().unwrap();
        let table = DigestTable::open(&Home::at(folder.path())).unwrap();
        let path = folder.path().join("a");
        fs::write(&path, b"one").unwrap();
        assert_eq!(table.digest(&path).unwrap(), Digest::of(b"one"));
        assert!(!table.lock().changed);
    }

    #[test]
    fn damage_costs_a_rehash_and_two_processes_keep_both_their_records() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        old_file(&a, b"a");
        old_file(&b, b"b");
        let (one, two) = (DigestTable::open(&home).unwrap(), DigestTable::open(&home).unwrap());
        let insert = |table: &DigestTable, path: &Path| {
            let stamp = Stamp::of(&fs::metadata(path).unwrap());
            let mut entries = table.lock();
            entries.map.insert(key(path), Entry { stamp, digest: Digest([7; 32]), used: true });
            entries.changed = true;
        };
        insert(&one, &a);
        insert(&two, &b);
        one.save().unwrap();
        two.save().unwrap();
        let file = home.path().join("downloads/digests");
        assert_eq!(read(&file).len(), 2);
        let mut bytes = fs::read(&file).unwrap();
        assert_eq!(bytes.len(), 16 + 2 * RECORD);
        bytes[16 + 50] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert_eq!(read(&file).len(), 1);
        fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(read(&file).len(), 0);
        fs::write(&file, b"something else").unwrap();
        let table = DigestTable::open(&home).unwrap();
        assert_eq!(table.digest(&a).unwrap(), Digest::of(b"a"));
    }
}
