//! One column: its shards and the index over them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::index::Index;
use super::layout::{DIGEST, EXTENSION};
use super::reader::RowReader;
use super::rows::{PIECE, Piece, Rows};
use super::shard::{self, Shard, Unusable};
use super::sorted::Sorted;
use super::spec::ColumnSpec;
use super::writer::{Limits, Writer};
use crate::base::{Digest, Error, Event, Progress, Result};

/// A column of the cache, as it was when it was opened or last [refreshed](Column::refresh).
pub struct Column {
    spec: Arc<ColumnSpec>,
    folder: PathBuf,
    snapshot: Mutex<Arc<Snapshot>>,
}

/// The shards at one moment.
pub(super) struct Snapshot {
    pub shards: Vec<Arc<Shard>>,
    /// The number of each shard's first row.
    pub starts: Vec<u32>,
    pub rows: usize,
    /// How many shards, the first ones, are in the sorted index.
    pub indexed: usize,
    index: Index,
}

impl Column {
    /// Opens the shards in a folder, which may be missing.
    pub(super) fn open(folder: PathBuf, spec: &ColumnSpec, progress: &dyn Progress) -> Result<Self> {
        spec.check()?;
        let snapshot = Snapshot::open(&folder, spec, &[], progress)?;
        let column = Self { spec: Arc::new(spec.clone()), folder, snapshot: Mutex::new(Arc::new(snapshot)) };
        super::info::touch(&column.folder);
        Ok(column)
    }

    /// What the column is.
    pub fn spec(&self) -> &ColumnSpec {
        &self.spec
    }

    /// Stored rows, duplicates included.
    pub fn rows(&self) -> usize {
        self.snapshot().rows
    }

    /// What the stored dtype lost when rows were last added: the root mean square of the differences, relative to
    /// that of the values. Unknown where no writer has told.
    pub fn error(&self) -> Option<f64> {
        super::spec::ColumnFile::read(&self.folder).ok()?.error
    }

    /// Whether there is a row for a sample.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.snapshot().find(digest).is_some()
    }

    /// The positions in `digests` of the samples that have no row, in order, each digest once.
    pub fn missing(&self, digests: &[Digest]) -> Vec<usize> {
        let snapshot = self.snapshot();
        let rows = snapshot.find_all(digests.len(), &|sample| digests[sample]);
        let mut seen = std::collections::HashSet::new();
        let missing = rows.iter().zip(0..).filter(|(row, i)| *row == NONE && seen.insert(digests[*i]));
        missing.map(|(_, i)| i).collect()
    }

    /// Looks for shards that this or another process wrote since.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn refresh(&self, progress: &dyn Progress) -> Result<()> {
        let old = self.snapshot();
        let mut listed = list(&self.folder)?;
        listed.sort_unstable();
        let mut open: Vec<&Path> = old.shards.iter().map(|shard| shard.path.as_path()).collect();
        open.sort_unstable();
        if listed == open {
            return Ok(());
        }
        let new = Snapshot::open(&self.folder, &self.spec, &old.shards, progress)?;
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(())
    }

    /// A writer that adds rows, with the default [`Limits`].
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn writer(&self) -> Result<Writer> {
        self.writer_with(Limits::default())
    }

    /// A writer with limits of its own.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn writer_with(&self, limits: Limits) -> Result<Writer> {
        Writer::new(self.spec.clone(), self.folder.clone(), self.snapshot(), limits)
    }

    /// The rows of these samples, in this order; digests may repeat.
    ///
    /// # Errors
    /// Rows are missing: how many, and the first of them.
    pub fn reader(&self, digests: &[Digest]) -> Result<RowReader> {
        self.reader_of(digests.len(), &|sample| digests[sample])
    }

    /// The rows of `count` samples, whose digests `digest_of` gives; they are not kept.
    ///
    /// # Errors
    /// As [`reader`](Self::reader).
    pub fn reader_of(&self, count: usize, digest_of: &(dyn Fn(usize) -> Digest + Sync)) -> Result<RowReader> {
        let snapshot = self.snapshot();
        let rows = snapshot.find_all(count, digest_of);
        if let Some(first) = rows.iter().position(|row| row == NONE) {
            let missing = rows.iter().filter(|row| *row == NONE).count();
            let (tensor, digest) = (self.spec.tensor(), digest_of(first));
            return Err(Error::failed(format!(
                "{missing} of {count} rows of tensor `{tensor}` are not in the cache; the first is sample {first}, \
                 `{digest}`"
            )));
        }
        Ok(RowReader::new(self.spec.clone(), &snapshot, rows))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Stands for no row; a column has fewer rows than this.
const NONE: u32 = u32::MAX;

/// How often a folder is listed when shards vanish from it meanwhile.
const LISTINGS: usize = 5;

impl Snapshot {
    /// Opens what is in the folder, taking over the shards that are open already.
    fn open(folder: &Path, spec: &ColumnSpec, open: &[Arc<Shard>], progress: &dyn Progress) -> Result<Self> {
        let open: HashMap<&Path, &Arc<Shard>> = open.iter().map(|s| (s.path.as_path(), s)).collect();
        let (mut shards, mut sorted) = (Vec::new(), None);
        // Compaction may replace shards while they are being opened; what replaced them is there then.
        for attempt in 1..=LISTINGS {
            sorted = Sorted::open(folder, spec);
            let check = |path: &Path| {
                // A digest from an indexed shard is compared with one that is looked for, which checks it.
                let name = path.file_stem().unwrap_or_default();
                !sorted.as_ref().is_some_and(|(_, names)| names.iter().any(|indexed| name == indexed.as_str()))
            };
            let opened: Vec<_> = list(folder)?
                .into_par_iter()
                .map(|path| match open.get(path.as_path()) {
                    Some(shard) => Ok(Arc::clone(shard)),
                    None => {
                        Shard::open(spec, path.clone(), check(&path)).map(Arc::new).map_err(|problem| (path, problem))
                    }
                })
                .collect();
            let gone = opened.iter().any(|shard| matches!(shard, Err((_, Unusable::Gone))));
            if !gone || attempt == LISTINGS {
                shards = keep_usable(opened, progress)?;
                break;
            }
        }
        shards.sort_by(|a, b| a.path.cmp(&b.path));
        let (sorted, indexed) = put_indexed_first(&mut shards, sorted);
        let mut starts = Vec::with_capacity(shards.len());
        let mut rows = 0usize;
        for shard in &shards {
            starts.push(rows as u32);
            rows += shard.layout.rows;
            if rows >= NONE as usize {
                return Err(Error::failed(format!("`{}` has more than 2³² rows", folder.display())));
            }
        }
        let index = Index::new(&shards, &starts, sorted, indexed);
        Ok(Self { shards, starts, rows, indexed, index })
    }

    /// The number of a digest's row.
    pub fn find(&self, digest: &Digest) -> Option<u32> {
        self.index.find(digest, &self.shards, &self.starts)
    }

    /// The numbers of many digests' rows, [`NONE`] for those without.
    fn find_all(&self, count: usize, digest_of: &(dyn Fn(usize) -> Digest + Sync)) -> Rows {
        let piece = |number: usize| {
            let begin = number * PIECE;
            let mut rows = vec![NONE; (count - begin).min(PIECE)];
            // Samples are mostly asked for in the order in which they were stored. Where digests are unique a
            // row that matches is the row; there is no need to look it up.
            let mut run: &[[u8; DIGEST]] = &[];
            let mut next = 0;
            for (row, sample) in rows.iter_mut().zip(begin..) {
                let digest = digest_of(sample);
                if let Some((_, rest)) = run.split_first().filter(|(first, _)| **first == digest.0) {
                    (*row, run) = (next, rest);
                    next += 1;
                    continue;
                }
                let Some(found) = self.find(&digest) else { continue };
                *row = found;
                if self.index.unique {
                    let (shard, at) = self.locate(found);
                    (run, next) = (&shard.digests()[at + 1..], found + 1);
                }
            }
            Piece::of(rows, NONE)
        };
        Rows::new((0..count.div_ceil(PIECE)).into_par_iter().map(piece).collect(), count)
    }

    /// The shard that a row is in, and its place there.
    pub fn locate(&self, row: u32) -> (&Shard, usize) {
        locate(&self.shards, &self.starts, row)
    }
}

/// The shard that a row is in, and its place there; `starts` are the numbers of the shards' first rows.
pub(super) fn locate<'a>(shards: &'a [Arc<Shard>], starts: &[u32], row: u32) -> (&'a Shard, usize) {
    let shard = starts.partition_point(|&start| start <= row) - 1;
    (&shards[shard], (row - starts[shard]) as usize)
}

/// Moves the shards of an index to the front, in its order, and says how many they are. An index that
/// names a shard which is not there, or another number of rows, is dropped.
fn put_indexed_first(shards: &mut [Arc<Shard>], sorted: Option<(Sorted, Vec<String>)>) -> (Option<Sorted>, usize) {
    let Some((sorted, names)) = sorted else { return (None, 0) };
    let places: HashMap<&str, usize> = names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    let place = |shard: &Arc<Shard>| places.get(shard.name()).copied().unwrap_or(usize::MAX);
    let found = shards.iter().filter(|shard| place(shard) != usize::MAX);
    let (count, rows) = found.fold((0, 0), |(count, rows), shard| (count + 1, rows + shard.layout.rows));
    if count != names.len() || rows != sorted.len() {
        return (None, 0);
    }
    shards.sort_by_key(place);
    (Some(sorted), count)
}

/// Drops damaged shards with a warning; anything else that is wrong is an error.
fn keep_usable(
    opened: Vec<Result<Arc<Shard>, (PathBuf, Unusable)>>,
    progress: &dyn Progress,
) -> Result<Vec<Arc<Shard>>> {
    let mut shards = Vec::with_capacity(opened.len());
    for result in opened {
        match result {
            Ok(shard) => shards.push(shard),
            Err((_, Unusable::Gone)) => {}
            Err((_, Unusable::Error(error))) => return Err(error),
            Err((path, Unusable::Damaged(why))) => {
                let done = if shard::set_aside(&path) { "was set aside" } else { "is ignored" };
                progress.event(Event::Warning(format!(
                    "the cache shard `{}` is damaged ({why}) and {done}; its rows are computed again",
                    path.display()
                )));
            }
        }
    }
    Ok(shards)
}

/// The shards in a folder, which may be missing.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("read", folder))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == EXTENSION) {
            paths.push(path);
        }
    }
    Ok(paths)
}
