//! Merging small shards, dropping duplicates, and writing the sorted index.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::column::{Column, Snapshot};
use super::layout::{self, EXTENSION, Sums};
use super::reader::damaged;
use super::shard::{Shard, Unusable};
use super::sorted::Sorted;
use super::spec::ColumnSpec;
use super::writer::sync_folder;
use crate::base::progress::{Unit, work};
use crate::base::{Cancel, Error, Event, Progress, Result, file};

/// What compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Compacted {
    /// Rows of the column now.
    pub rows: u64,
    /// Duplicate rows that were dropped.
    pub dropped: u64,
    /// Shards before and after.
    pub shards: [u64; 2],
    /// Bytes of the shards before and after.
    pub bytes: [u64; 2],
}

/// The default size of merged shards.
pub const COMPACT_SHARD_BYTES: usize = 1 << 30;

impl Column {
    /// Merges shards smaller than half of `shard_bytes`, in the order in which they were written, into
    /// shards of at most that size; drops duplicate rows; and writes the sorted index. Other processes may
    /// read and write meanwhile. Interrupted at any moment it leaves every row in place.
    ///
    /// # Errors
    /// A shard is damaged (it is set aside, and the next compaction goes on without it), a file cannot be
    /// written, or the work was cancelled.
    pub fn compact(&self, shard_bytes: usize, progress: &dyn Progress, cancel: &Cancel) -> Result<Compacted> {
        self.refresh(progress)?;
        let snapshot = self.snapshot();
        let plan = Plan::new(&snapshot, shard_bytes);
        let mut done = Compacted {
            rows: (snapshot.rows - plan.dropped) as u64,
            dropped: plan.dropped as u64,
            shards: [snapshot.shards.len() as u64; 2],
            bytes: [bytes(&snapshot.shards); 2],
        };
        if plan.merge.is_empty() && snapshot.indexed == snapshot.shards.len() {
            return Ok(done);
        }
        let (folder, spec) = (self.folder(), self.spec());
        let total = Some(plan.merge.len() as u64);
        let mut shards = plan.keep;
        let merged: Result<Vec<_>> = work(progress, "compact", total, Unit::Samples, || {
            let mut written = 0;
            let write = |rows: &[u32]| {
                let path = write_shard(folder, spec, &snapshot, rows, cancel)?;
                written += rows.len() as u64;
                progress.event(Event::WorkAdvanced { done: written, detail: String::new() });
                Shard::open(spec, path, true).map(Arc::new).map_err(unusable)
            };
            groups(spec, &snapshot, &plan.merge, shard_bytes).into_iter().map(write).collect()
        });
        shards.extend(merged?);
        Sorted::write(folder, spec, shards.iter().map(Arc::as_ref))?;
        sync_folder(folder);
        // From here on the old shards are duplicates. A merged shard may have the name of an old one.
        for old in snapshot.shards.iter().filter(|old| !shards.iter().any(|new| new.path == old.path)) {
            std::fs::remove_file(&old.path).map_err(Error::io("delete", &old.path))?;
        }
        done.shards[1] = shards.len() as u64;
        done.bytes[1] = bytes(&shards);
        self.refresh(progress)?;
        Ok(done)
    }
}

/// Which shards stay as they are, and which rows are written into new ones.
struct Plan {
    keep: Vec<Arc<Shard>>,
    merge: Vec<u32>,
    dropped: usize,
}

impl Plan {
    fn new(snapshot: &Snapshot, shard_bytes: usize) -> Self {
        let (mut keep, mut small) = (Vec::new(), Vec::new());
        let mut dropped = 0;
        for (shard, &start) in snapshot.shards.iter().zip(&snapshot.starts) {
            let wins = |&(digest, row): &(&[u8; 32], u32)| snapshot.find(&crate::base::Digest(*digest)) == Some(row);
            let rows: Vec<u32> = shard.digests().iter().zip(start..).filter(wins).map(|(_, row)| row).collect();
            dropped += shard.layout.rows - rows.len();
            if rows.len() == shard.layout.rows && shard.len() >= shard_bytes / 2 {
                keep.push(shard.clone());
            } else {
                small.push((shard, rows));
            }
        }
        if let [(shard, rows)] = &small[..]
            && rows.len() == shard.layout.rows
        {
            keep.push(Arc::clone(shard));
            small.clear();
        }
        let written =
            |shard: &Shard| shard.path.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        small.sort_by_cached_key(|(shard, _)| (written(shard), shard.path.clone()));
        Self { keep, merge: small.into_iter().flat_map(|(_, rows)| rows).collect(), dropped }
    }
}

/// The rows of each new shard: as many as fit, at least one.
fn groups<'a>(spec: &ColumnSpec, snapshot: &Snapshot, rows: &'a [u32], shard_bytes: usize) -> Vec<&'a [u32]> {
    let (mut groups, mut begin, mut size) = (Vec::new(), 0, 0);
    for (at, row) in rows.iter().enumerate() {
        let (shard, row) = snapshot.locate(*row);
        let bytes = layout::stored_bytes(spec, shard.items(row).len());
        if at > begin && size + bytes > shard_bytes {
            groups.push(&rows[begin..at]);
            (begin, size) = (at, 0);
        }
        size += bytes;
    }
    if begin < rows.len() {
        groups.push(&rows[begin..]);
    }
    groups
}

/// Copies rows into a new shard, without holding it in memory.
fn write_shard(
    folder: &Path,
    spec: &ColumnSpec,
    snapshot: &Snapshot,
    rows: &[u32],
    cancel: &Cancel,
) -> Result<PathBuf> {
    let temporary = file::temporary_beside(&folder.join("shard"));
    let attempt = || -> Result<PathBuf> {
        let failed = |cause| Error::io("write", &temporary)(cause);
        let mut out = BufWriter::with_capacity(1 << 20, File::create_new(&temporary).map_err(failed)?);
        let mut items = 0;
        let ends = rows.iter().map(|&row| {
            let (shard, at) = snapshot.locate(row);
            items += shard.items(at).len();
            items
        });
        let ends: Vec<usize> = ends.collect();
        out.seek(SeekFrom::Start(layout::head_len(spec, rows.len(), items) as u64)).map_err(failed)?;
        let mut sums = Sums::default();
        let mut put = |bytes: &[u8]| {
            sums.update(bytes);
            out.write_all(bytes).map_err(failed)
        };
        let each = |part: &mut dyn FnMut(&Shard, usize) -> Result<()>| {
            rows.iter().try_for_each(|&row| {
                let (shard, at) = snapshot.locate(row);
                if at % 1024 == 0 {
                    cancel.check()?;
                }
                part(shard, at)
            })
        };
        each(&mut |shard, at| put(&shard.digests()[at]))?;
        if spec.ragged {
            put(&layout::offsets(&ends))?;
        }
        if spec.is_scaled() {
            each(&mut |shard, at| put(&shard.row(at).map_err(|damage| damaged(shard, damage))?.1.to_le_bytes()))?;
        }
        each(&mut |shard, at| put(shard.row(at).map_err(|damage| damaged(shard, damage))?.0))?;
        let (name, head) = layout::head(spec, rows.len(), items, &sums.finish());
        out.rewind().map_err(failed)?;
        out.write_all(&head).map_err(failed)?;
        let out = out.into_inner().map_err(|error| failed(error.into_error()))?;
        out.sync_all().map_err(failed)?;
        let path = folder.join(name).with_extension(EXTENSION);
        std::fs::rename(&temporary, &path).map_err(Error::io("write", &path))?;
        Ok(path)
    };
    attempt().inspect_err(|_| {
        // The error at hand matters more than a temporary file that stays.
        let _ = std::fs::remove_file(&temporary);
    })
}

fn unusable(problem: Unusable) -> Error {
    match problem {
        Unusable::Error(error) => error,
        Unusable::Gone => Error::failed("a shard vanished while it was compacted").hint("run the same command again"),
        Unusable::Damaged(why) => Error::failed(format!("a shard was damaged while it was written: {why}")),
    }
}

fn bytes(shards: &[Arc<Shard>]) -> u64 {
    shards.iter().map(|shard| shard.len() as u64).sum()
}
