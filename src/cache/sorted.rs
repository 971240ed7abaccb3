//! The sorted index that compaction writes: digests are found in it without reading the shards.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::json;

use super::layout::DIGEST;
use super::shard::Shard;
use super::spec::ColumnSpec;
use crate::base::{Result, file};

/// The file's name in a column's folder.
pub(super) const NAME: &str = "rows.index";

const FORMAT: &str = "caft.index";
const VERSION: &str = "1";

/// A memory-mapped list of (first 8 bytes of a digest, row number), sorted.
pub(super) struct Sorted {
    map: Mmap,
    prefixes: Range<usize>,
    rows: Range<usize>,
}

/// The first 8 bytes of a digest, so that the order of numbers is the order of digests.
fn prefix(digest: &[u8; DIGEST]) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| digest[i]))
}

impl Sorted {
    /// Opens the index of a folder, with the names of its shards in order. None if there is none, or if it is
    /// not what it should be: it holds nothing that the shards do not.
    pub fn open(folder: &Path, spec: &ColumnSpec) -> Option<(Self, Vec<String>)> {
        let file = File::open(folder.join(NAME)).ok()?;
        // SAFETY: the index is only ever replaced as a whole, which leaves a mapping intact.
        let map = unsafe { Mmap::map(&file) }.ok()?;
        let (header, metadata) = SafeTensors::read_metadata(&map).ok()?;
        let tags = metadata.metadata().as_ref()?;
        let tag = |key: &str| tags.get(key).map(String::as_str);
        let ours = tag("format") == Some(FORMAT) && tag("version") == Some(VERSION);
        let (prefix, row) = (metadata.info("prefix")?, metadata.info("row")?);
        let sound = prefix.dtype == Dtype::U64 && row.dtype == Dtype::U32 && prefix.shape == row.shape;
        let data = 8 + header;
        if !ours || tag("column") != Some(&spec.key.to_string()) || !sound || !data.is_multiple_of(8) {
            return None;
        }
        let place = |(start, end): (usize, usize)| data + start..data + end;
        let (prefixes, rows) = (place(prefix.data_offsets), place(row.data_offsets));
        let names = tag("shards")?.split(',').map(str::to_owned).collect();
        // The tensors' own alignment, which a header may lie about.
        bytemuck::try_cast_slice::<u8, u64>(&map[prefixes.clone()]).ok()?;
        bytemuck::try_cast_slice::<u8, u32>(&map[rows.clone()]).ok()?;
        Some((Self { map, prefixes, rows }, names))
    }

    /// Writes the index of some shards, numbered in this order.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write<'a>(folder: &Path, spec: &ColumnSpec, shards: impl Iterator<Item = &'a Shard> + Clone) -> Result<()> {
        let digests = shards.clone().flat_map(Shard::digests);
        let mut entries: Vec<(u64, u32)> = digests.zip(0..).map(|(digest, row)| (prefix(digest), row)).collect();
        entries.par_sort_unstable();
        let names: Vec<&str> = shards.map(Shard::name).collect();
        let (split, end) = (entries.len() * 8, entries.len() * 12);
        let mut header = json!({
            "__metadata__": {"format": FORMAT, "version": VERSION, "column": spec.key, "shards": names.join(",")},
            "prefix": {"dtype": Dtype::U64, "shape": [entries.len()], "data_offsets": [0, split]},
            "row": {"dtype": Dtype::U32, "shape": [entries.len()], "data_offsets": [split, end]},
        })
        .to_string();
        header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
        file::write_atomic(&folder.join(NAME), |out| {
            out.write_all(&(header.len() as u64).to_le_bytes())?;
            out.write_all(header.as_bytes())?;
            entries.iter().try_for_each(|(prefix, _)| out.write_all(&prefix.to_le_bytes()))?;
            entries.iter().try_for_each(|(_, row)| out.write_all(&row.to_le_bytes()))
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len() / 4
    }

    /// The row of a digest, told by `same`. Digests are uniform, so that the place is near where its value
    /// says. Nothing is trusted: a row that is not there, or a wrong one, is not found.
    pub fn find(&self, digest: &[u8; DIGEST], same: impl Fn(u32) -> bool) -> Option<u32> {
        let prefixes: &[u64] = bytemuck::cast_slice(&self.map[self.prefixes.clone()]);
        let rows: &[u32] = bytemuck::cast_slice(&self.map[self.rows.clone()]);
        let (wanted, count) = (prefix(digest), prefixes.len());
        let guess = ((u128::from(wanted) * count as u128) >> 64) as usize;
        let (mut low, mut high, mut step) = (guess, guess, 64);
        while low > 0 && u64::from_le(prefixes[low]) >= wanted {
            low = low.saturating_sub(step);
            step *= 2;
        }
        while high < count && u64::from_le(prefixes[high]) < wanted {
            high = (high + step).min(count);
            step *= 2;
        }
        let first = low + prefixes[low..high].partition_point(|&prefix| u64::from_le(prefix) < wanted);
        let equal = prefixes[first..].iter().take_while(|&&prefix| u64::from_le(prefix) == wanted);
        equal.zip(&rows[first..]).map(|(_, row)| u32::from_le(*row)).filter(|&row| same(row)).min()
    }
}
