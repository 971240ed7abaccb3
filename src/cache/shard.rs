//! One shard, open for reading.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::Mmap;

use super::layout::{self, DAMAGED, DIGEST, Layout, OFFSET, SCALE};
use super::spec::ColumnSpec;
use crate::base::Error;

/// A memory-mapped shard whose head is good.
pub(super) struct Shard {
    pub path: PathBuf,
    pub layout: Layout,
    map: Mmap,
    /// One bit per block that is known to be good.
    good: Vec<AtomicU64>,
    /// For each block the last tick at which it was read, 0 before.
    visited: Vec<AtomicU32>,
    /// When its size was last looked at, see [`Shard::still_whole`].
    looked: AtomicU64,
}

/// Blocks that are read ahead when one of them is visited: as many as a block of the shuffle has.
const AHEAD: usize = 8;

/// Milliseconds between two looks at a shard's size.
const LOOK: u64 = 20;

/// Why a shard could not be opened.
pub(super) enum Unusable {
    /// It is gone: another process replaced it since the folder was listed.
    Gone,
    /// Its contents are wrong, for this reason.
    Damaged(String),
    /// The operating system would not have it.
    Error(Error),
}

impl From<Damage> for Unusable {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage.to_string())
    }
}

/// A block whose checksum fails.
#[derive(Debug, thiserror::Error)]
#[error("block {block} of {blocks} fails its checksum")]
pub(super) struct Damage {
    block: usize,
    blocks: usize,
}

impl Shard {
    /// Maps a shard and checks its head, and its digests if asked to.
    pub fn open(spec: &ColumnSpec, path: PathBuf, check_digests: bool) -> Result<Self, Unusable> {
        let failed = |cause: std::io::Error| match cause.kind() {
            std::io::ErrorKind::NotFound => Unusable::Gone,
            _ => Unusable::Error(Error::io("open", &path)(cause)),
        };
        let file = File::open(&path).map_err(failed)?;
        // SAFETY: shards are immutable by the format: they are renamed into place complete, and only ever
        // removed or renamed as a whole, which leaves a mapping intact. Against others see `still_whole`.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let layout = layout::parse(spec, name, &map).map_err(Unusable::Damaged)?;
        let good = (0..layout.blocks().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let visited = (0..layout.blocks()).map(|_| AtomicU32::new(0)).collect();
        let shard = Self { path, layout, map, good, visited, looked: AtomicU64::new(0) };
        if check_digests {
            shard.ensure(shard.layout.digests())?;
        }
        if spec.ragged {
            shard.check_offsets()?;
        }
        Ok(shard)
    }

    /// Checks, every [`LOOK`] milliseconds, that the file still has all that was mapped of it: reading what it has no
    /// longer would end the process. `now` is in milliseconds from any beginning, and not 0.
    ///
    /// # Errors
    /// Something other than caft cut it short; it can no longer be reached.
    pub fn still_whole(&self, now: u64) -> Result<(), Error> {
        let last = self.looked.load(Ordering::Relaxed);
        if last != 0 && now < last + LOOK {
            return Ok(());
        }
        self.looked.store(now, Ordering::Relaxed);
        let again = "run the same command again, and rows that are gone are computed again";
        match std::fs::metadata(&self.path) {
            Ok(found) if found.len() < self.map.len() as u64 => {
                let (shown, has, had) = (self.path.display(), found.len(), self.map.len());
                let what = format!("the cache shard `{shown}` was cut short while it was in use: {has} bytes of {had}");
                Err(Error::failed(what).hint(again))
            }
            // Removed or replaced as a whole, it stays mapped.
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => {
                let what = format!("the cache shard `{}` can no longer be reached", self.path.display());
                Err(Error::failed(what).because(error).hint(again))
            }
        }
    }

    /// Bytes of the file.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// The name of the file without the extension.
    pub fn name(&self) -> &str {
        self.path.file_stem().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// The rows' digests.
    pub fn digests(&self) -> &[[u8; DIGEST]] {
        bytemuck::cast_slice(&self.map[self.layout.digests()])
    }

    /// Every row has at least one item, and all items are some row's.
    fn check_offsets(&self) -> Result<(), Unusable> {
        self.ensure(self.layout.offsets())?;
        let ends = (self.offset(0), self.offset(self.layout.rows));
        let ascend = (0..self.layout.rows).all(|row| self.offset(row) < self.offset(row + 1));
        if ends == (0, self.layout.items) && ascend {
            return Ok(());
        }
        Err(Unusable::Damaged("its offsets are not those of rows".into()))
    }

    fn offset(&self, at: usize) -> usize {
        let start = self.layout.offsets().start + at * OFFSET;
        let mut offset = [0; OFFSET];
        offset.copy_from_slice(&self.map[start..start + OFFSET]);
        usize::try_from(u64::from_le_bytes(offset)).unwrap_or(usize::MAX)
    }

    /// The items of a row.
    pub fn items(&self, row: usize) -> Range<usize> {
        if self.layout.offsets().is_empty() { row..row + 1 } else { self.offset(row)..self.offset(row + 1) }
    }

    /// The stored bytes of a row and its scale (1 where rows have none), checked.
    pub fn row(&self, row: usize) -> Result<(&[u8], f32), Damage> {
        let bytes = self.layout.values(self.items(row));
        self.ensure(bytes.clone())?;
        let Some(place) = self.layout.scale(row) else { return Ok((&self.map[bytes], 1.0)) };
        self.ensure(place.clone())?;
        let mut scale = [0; SCALE];
        scale.copy_from_slice(&self.map[place]);
        Ok((&self.map[bytes], f32::from_le_bytes(scale)))
    }

    /// Tells the system that a row will be read. A block that was not visited for more than a tick is read
    /// from disk ahead, with those behind it, in one go; row by row it would come in small pieces. Ticks begin
    /// at 1.
    pub fn visit(&self, row: usize, tick: u32) {
        let block = self.layout.blocks_of(&self.layout.values(self.items(row))).start;
        let last = self.visited[block].load(Ordering::Relaxed);
        if last == tick {
            return;
        }
        self.visited[block].store(tick, Ordering::Relaxed);
        if last == 0 || last + 1 < tick {
            let end = (block + AHEAD).min(self.layout.blocks());
            self.visited[block..end].iter().for_each(|ahead| ahead.store(tick, Ordering::Relaxed));
            for bytes in (block..end).map(|block| self.layout.block(block)) {
                // In one call Linux reads no more than the device's largest request. Where the system takes no
                // advice, reading is slower.
                #[cfg(unix)]
                let _ = self.map.advise_range(memmap2::Advice::WillNeed, bytes.start, bytes.len());
                #[cfg(not(unix))]
                let _ = bytes;
            }
        }
    }

    /// Checks the blocks that some bytes lie in, unless they were before.
    pub fn ensure(&self, bytes: std::ops::Range<usize>) -> Result<(), Damage> {
        self.layout.blocks_of(&bytes).try_for_each(|block| self.ensure_block(block))
    }

    /// Two threads that meet here both do the work, which is harmless.
    fn ensure_block(&self, block: usize) -> Result<(), Damage> {
        let (word, bit) = (&self.good[block / 64], 1 << (block % 64));
        // The mapping never changes, so that the bit guards no other memory.
        if word.load(Ordering::Relaxed) & bit != 0 {
            return Ok(());
        }
        let sums: &[u64] = bytemuck::cast_slice(&self.map[self.layout.sums.clone()]);
        if layout::checksum(&self.map[self.layout.block(block)]) != u64::from_le(sums[block]) {
            return Err(Damage { block, blocks: self.layout.blocks() });
        }
        word.fetch_or(bit, Ordering::Relaxed);
        Ok(())
    }
}

/// Renames a damaged shard so that nothing reads it again. Whether that worked.
pub(super) fn set_aside(path: &Path) -> bool {
    let mut name = path.as_os_str().to_owned();
    name.push(DAMAGED);
    std::fs::rename(path, name).is_ok()
}
