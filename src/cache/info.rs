//! What can be said about a column without opening it, and why a column is not there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::column::list;
use super::spec::{ColumnFile, ColumnSpec};
use crate::base::Result;

/// A column of the store, for listings.
#[derive(Debug, Clone)]
pub struct ColumnInfo {
    /// What it is.
    pub spec: ColumnSpec,
    /// Its folder.
    pub folder: PathBuf,
    /// Shards.
    pub shards: u64,
    /// Bytes of the shards.
    pub bytes: u64,
    /// When it was made.
    pub created: SystemTime,
    /// When a row was last read or written, to within an hour.
    pub last_use: SystemTime,
}

/// An ingredient that differs between a stored column and the wanted one.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The ingredient's name.
    pub ingredient: String,
    /// Its value in the stored column, if it is there.
    pub stored: Option<Value>,
    /// Its value in the wanted column, if it is there.
    pub wanted: Option<Value>,
}

impl ColumnInfo {
    /// Reads what a folder says of itself.
    ///
    /// # Errors
    /// `column.json` is missing or damaged, or the folder cannot be read.
    pub(super) fn read(folder: PathBuf) -> Result<Self> {
        let file = ColumnFile::read(&folder)?;
        let created = SystemTime::UNIX_EPOCH + Duration::from_secs(file.created);
        let (mut shards, mut bytes) = (0, 0);
        for path in list(&folder)? {
            // A shard that is gone by now is not counted.
            if let Ok(metadata) = path.metadata() {
                shards += 1;
                bytes += metadata.len();
            }
        }
        let last_use = folder.join(LAST_USE).metadata().and_then(|m| m.modified()).unwrap_or(created);
        Ok(Self { spec: file.spec(), folder, shards, bytes, created, last_use })
    }
}

/// The ingredients that differ, in the order of the wanted ones, then those only the stored one has.
pub(super) fn changes(stored: &Map<String, Value>, wanted: &Map<String, Value>) -> Vec<Change> {
    let names = wanted.keys().chain(stored.keys().filter(|name| !wanted.contains_key(*name)));
    names
        .map(|name| Change {
            ingredient: name.clone(),
            stored: stored.get(name).cloned(),
            wanted: wanted.get(name).cloned(),
        })
        .filter(|change| change.stored != change.wanted)
        .collect()
}

const LAST_USE: &str = "last_use";

/// Last use is recorded this coarsely, so that it costs next to nothing.
const USE_GRAIN: Duration = Duration::from_secs(3600);

/// Records that a column is in use. Where it cannot be recorded (a read-only cache) nothing is.
pub(super) fn touch(folder: &Path) {
    let path = folder.join(LAST_USE);
    let recorded = path.metadata().and_then(|metadata| metadata.modified());
    let fresh = recorded.is_ok_and(|at| at.elapsed().is_ok_and(|since| since < USE_GRAIN));
    if !fresh && folder.is_dir() {
        let file = File::options().create(true).append(true).open(path);
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }
}
