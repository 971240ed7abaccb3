//! What can be said about a column without opening it, and why a column is not there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::column::list;
use super::shard::Shard;
use super::spec::{ColumnFile, ColumnSpec};
use crate::base::{Error, Result};

/// A column of the store, for listings.
#[derive(Debug, Clone)]
pub struct ColumnInfo {
    /// What it is.
    pub spec: ColumnSpec,
    /// Its folder.
    pub folder: PathBuf,
    /// Shards.
    pub shards: u64,
    /// Rows, duplicates included.
    pub rows: u64,
    /// Bytes of the shards.
    pub bytes: u64,
    /// Bytes of everything else in the folder: set aside, left behind, indexes.
    pub waste: u64,
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
        let spec = file.spec();
        let (mut shards, mut rows, mut bytes) = (0, 0, 0);
        // What is gone by now or damaged is not counted; opening the column tells of damage.
        for shard in list(&folder)?.into_iter().filter_map(|path| Shard::open(&spec, path, false).ok()) {
            shards += 1;
            rows += shard.layout.rows as u64;
            bytes += shard.len() as u64;
        }
        let files = std::fs::read_dir(&folder).map_err(Error::io("read", &folder))?.flatten();
        let all: u64 = files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
        let last_use = folder.join(LAST_USE).metadata().and_then(|m| m.modified()).unwrap_or(created);
        Ok(Self { spec, folder, shards, rows, bytes, waste: all.saturating_sub(bytes), created, last_use })
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
