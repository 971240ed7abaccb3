//! Adding rows to a column.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::column::Snapshot;
use super::encode::Encoded;
use super::layout::{self, DIGEST, EXTENSION, Sums};
use super::spec::{ColumnFile, ColumnSpec, MAX_ROW_BYTES};
use crate::base::{Digest, Error, Result, file};

/// When a writer closes the shard in hand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// At this many bytes of rows; a single row may be larger.
    pub bytes: usize,
    /// At the first row pushed this long after the shard's first.
    pub age: Duration,
}

impl Default for Limits {
    /// 32 MiB, 20 seconds.
    fn default() -> Self {
        Self { bytes: 32 << 20, age: Duration::from_secs(20) }
    }
}

/// What a writer wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Written {
    /// Rows.
    pub rows: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Shards.
    pub shards: u64,
    /// What the stored dtype lost: the root mean square of the differences, relative to that of the values.
    pub error: f64,
}

/// Collects rows and writes them as shards. Dropped without [`finish`](Writer::finish), it tries to store the
/// rows in hand; a shard is stored whole or not at all.
pub struct Writer {
    spec: Arc<ColumnSpec>,
    folder: PathBuf,
    limits: Limits,
    stored: Arc<Snapshot>,
    digests: Vec<u8>,
    /// Of a ragged column: where each row ends, in items.
    ends: Vec<usize>,
    rows: Encoded,
    opened: Instant,
    failed: bool,
    written: Written,
    /// Rows pushed so far, and how many of them were pushed when no row was in hand last.
    pushed: u64,
    stored_pushes: u64,
}

/// Temporary files older than this belong to no living writer: writing a shard takes seconds.
pub(super) const STALE: Duration = Duration::from_secs(3600);

impl Writer {
    pub(super) fn new(spec: Arc<ColumnSpec>, folder: PathBuf, stored: Arc<Snapshot>, limits: Limits) -> Result<Self> {
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        if ColumnFile::read(&folder).is_err() {
            ColumnFile::new(&spec).write(&folder)?;
        }
        remove_stale(&folder, STALE);
        let (digests, ends, rows, written) = (Vec::new(), Vec::new(), Encoded::default(), Written::default());
        let (opened, failed) = (Instant::now(), false);
        Ok(Self {
            spec,
            folder,
            limits,
            stored,
            digests,
            ends,
            rows,
            opened,
            failed,
            written,
            pushed: 0,
            stored_pushes: 0,
        })
    }

    /// How many of the rows pushed, the first ones, are stored.
    pub fn stored_pushes(&self) -> u64 {
        if self.digests.is_empty() { self.pushed } else { self.stored_pushes }
    }

    /// Adds the row of a sample, of the column's row shape (in a ragged column any number of items of it), and closes the shard if a limit is reached. A row
    /// that the column had when it was opened is passed over.
    ///
    /// # Errors
    /// The row has the wrong length, a value is not finite or overflows the stored dtype (the tensor is
    /// named), or a full shard could not be written (its rows are kept, and the next push tries again).
    pub fn push(&mut self, digest: Digest, row: &[f32]) -> Result<()> {
        let item = self.spec.row_len();
        let fits = match self.spec.ragged {
            true => !row.is_empty() && row.len().is_multiple_of(item) && row.len() <= MAX_ROW_BYTES / 4,
            false => row.len() == item,
        };
        if !fits {
            let (tensor, have, shape) = (self.spec.tensor(), row.len(), &self.spec.row_shape);
            return Err(Error::failed(format!(
                "tensor `{tensor}` gave a row of {have} values, not of shape {shape:?}"
            )));
        }
        if self.stored.find(&digest).is_some() {
            self.pushed += 1;
            return Ok(());
        }
        if self.digests.is_empty() {
            (self.opened, self.stored_pushes) = (Instant::now(), self.pushed);
        }
        self.rows.push(&self.spec, row)?;
        if self.spec.ragged {
            self.ends.push(self.ends.last().copied().unwrap_or(0) + row.len() / item);
        }
        self.digests.extend(digest.0);
        self.pushed += 1;
        if self.rows.values.len() >= self.limits.bytes || self.opened.elapsed() >= self.limits.age {
            self.flush()?;
        }
        Ok(())
    }

    /// Stores the rows in hand now.
    ///
    /// # Errors
    /// The shard could not be written. The rows are kept.
    pub fn flush(&mut self) -> Result<()> {
        if self.digests.is_empty() {
            return Ok(());
        }
        if !self.folder.is_dir() {
            // Made anew it would lie on another disk when a mount has vanished.
            self.failed = true;
            let gone = Error::failed(format!("the folder `{}` is gone", self.folder.display()));
            return Err(gone.hint("was its disk unmounted? run the same command again when it is back"));
        }
        let rows = self.digests.len() / DIGEST;
        let items = self.ends.last().copied().unwrap_or(rows);
        let offsets = if self.spec.ragged { layout::offsets(&self.ends) } else { Vec::new() };
        let body = [&self.digests, &offsets, &self.rows.scales, &self.rows.values];
        let mut sums = Sums::default();
        body.iter().for_each(|part| sums.update(part));
        let (name, head) = layout::head(&self.spec, rows, items, &sums.finish());
        let path = self.folder.join(name).with_extension(EXTENSION);
        let result = file::write_atomic(&path, |out| {
            out.write_all(&head)?;
            body.iter().try_for_each(|part| out.write_all(part))
        });
        self.failed = result.is_err();
        result?;
        sync_folder(&self.folder);
        self.written.rows += rows as u64;
        self.written.bytes += (head.len() + body.map(Vec::len).iter().sum::<usize>()) as u64;
        self.written.shards += 1;
        self.digests.clear();
        self.ends.clear();
        self.rows.clear();
        Ok(())
    }

    /// Stores the rows in hand and says what was written.
    ///
    /// # Errors
    /// The last shard could not be written.
    pub fn finish(mut self) -> Result<Written> {
        self.flush()?;
        super::info::touch(&self.folder);
        let [values, differences] = self.rows.energy;
        self.written.error = if values > 0.0 { (differences / values).sqrt() } else { 0.0 };
        if self.written.rows > 0 {
            // For people; a column without it is as good.
            let told = ColumnFile { error: Some(self.written.error), ..ColumnFile::new(&self.spec) };
            let known = ColumnFile::read(&self.folder).map(|file| ColumnFile { error: told.error, ..file });
            let _ = known.unwrap_or(told).write(&self.folder);
        }
        Ok(self.written)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Whoever drops a writer early has an error at hand already, and a second attempt at a write that
        // failed would fail too.
        if !self.failed {
            let _ = self.flush();
        }
    }
}

/// Makes the new name durable. Where a folder cannot be synced (some platforms), the file system decides.
pub(super) fn sync_folder(folder: &Path) {
    let _ = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
}

/// Removes temporary files that no living writer owns.
pub(super) fn remove_stale(folder: &Path, age: Duration) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let old = |entry: &std::fs::DirEntry| {
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok()?;
        SystemTime::now().duration_since(modified).ok().filter(|since| *since >= age)
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".tmp-") && old(entry).is_some())
        .filter_map(|entry| {
            let size = entry.metadata().ok()?.len();
            std::fs::remove_file(entry.path()).ok().map(|()| size)
        })
        .sum()
}
