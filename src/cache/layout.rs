//! The bytes of a shard: its head, its blocks and their checksums.

use std::ops::Range;

use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::json;

use super::spec::ColumnSpec;
use crate::base::{DType, Digest};

/// The version of the format, and the name of its folder.
pub(super) const FORMAT: u32 = 1;
/// The extension of shards.
pub(super) const EXTENSION: &str = "safetensors";
/// What is added to the name of a shard that was set aside.
pub(super) const DAMAGED: &str = ".damaged";
/// Bytes of a block of the body.
pub(super) const BLOCK: usize = 1 << 20;
/// Bytes of a digest.
pub(super) const DIGEST: usize = 32;
/// The head is a multiple of this long, so that blocks are whole memory pages.
const HEAD_ALIGNMENT: usize = 4096;

/// Where things are in a shard.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    /// Number of rows.
    pub rows: usize,
    /// Bytes of the checksums, in the file.
    pub sums: Range<usize>,
    /// Bytes before the body.
    pub head: usize,
    /// Bytes of the body.
    pub body: usize,
}

impl Layout {
    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.body.div_ceil(BLOCK)
    }

    /// Bytes of a block, in the file.
    pub fn block(&self, block: usize) -> Range<usize> {
        let start = block * BLOCK;
        self.head + start..self.head + (start + BLOCK).min(self.body)
    }

    /// Bytes of the digests, in the file.
    pub fn digests(&self) -> Range<usize> {
        self.head..self.head + self.rows * DIGEST
    }

    /// Bytes of a row, in the file.
    pub fn row(&self, row: usize, row_bytes: usize) -> Range<usize> {
        let start = self.digests().end + row * row_bytes;
        start..start + row_bytes
    }

    /// The blocks that some bytes of the file's body lie in.
    pub fn blocks_of(&self, bytes: &Range<usize>) -> Range<usize> {
        (bytes.start - self.head) / BLOCK..(bytes.end - self.head).div_ceil(BLOCK)
    }
}

/// The checksum of a block.
pub(super) fn checksum(parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// The checksums of all blocks of a body that is made of `parts`.
fn checksums(parts: [&[u8]; 2]) -> Vec<u64> {
    let total = parts[0].len() + parts[1].len();
    let split = parts[0].len();
    (0..total.div_ceil(BLOCK))
        .into_par_iter()
        .map(|block| {
            let (start, end) = (block * BLOCK, (block * BLOCK + BLOCK).min(total));
            let first = &parts[0][start.min(split)..end.min(split)];
            let second = &parts[1][start.max(split) - split..end.max(split) - split];
            checksum(&[first, second])
        })
        .collect()
}

fn stored(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
    }
}

/// The head of a shard with these digests and values, and the name it gives.
pub(super) fn head(spec: &ColumnSpec, digests: &[u8], values: &[u8]) -> (String, Vec<u8>) {
    let rows = digests.len() / DIGEST;
    let sums = checksums([digests, values]);
    let bounds = [0, sums.len() * 8, sums.len() * 8 + digests.len(), sums.len() * 8 + digests.len() + values.len()];
    let shape: Vec<usize> = std::iter::once(rows).chain(spec.row_shape.iter().copied()).collect();
    let header = json!({
        "__metadata__": {"format": NAME, "version": FORMAT.to_string(), "column": spec.key},
        "sums": {"dtype": Dtype::U64, "shape": [sums.len()], "data_offsets": [bounds[0], bounds[1]]},
        "digest": {"dtype": Dtype::U8, "shape": [rows, DIGEST], "data_offsets": [bounds[1], bounds[2]]},
        "values": {"dtype": stored(spec.dtype), "shape": shape, "data_offsets": [bounds[2], bounds[3]]},
    })
    .to_string();
    let size = (8 + header.len() + sums.len() * 8).next_multiple_of(HEAD_ALIGNMENT);
    let mut head = Vec::with_capacity(size);
    head.extend(((size - 8 - sums.len() * 8) as u64).to_le_bytes());
    head.extend(header.as_bytes());
    head.resize(size - sums.len() * 8, b' ');
    head.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
    (name(&head), head)
}

const NAME: &str = "caft.cache";

/// The name of a shard with this head, without the extension.
fn name(head: &[u8]) -> String {
    Digest::of(head).short(32)
}

/// Reads and checks everything about a shard but its body.
///
/// # Errors
/// What is wrong with it, in a few words.
pub(super) fn parse(spec: &ColumnSpec, file_name: &str, bytes: &[u8]) -> Result<Layout, String> {
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let tag = |key: &str| metadata.metadata().as_ref().and_then(|map| map.get(key)).map_or("", String::as_str);
    if tag("format") != NAME {
        return Err(format!("it is not of format `{NAME}`"));
    }
    if tag("version") != FORMAT.to_string() {
        return Err(format!("its version is `{}`, not `{FORMAT}`", tag("version")));
    }
    if tag("column") != spec.key.to_string() {
        return Err("it belongs to another column".into());
    }
    let info = |name: &str| metadata.info(name).ok_or_else(|| format!("it has no tensor `{name}`"));
    let (sums, digests, values) = (info("sums")?, info("digest")?, info("values")?);
    let rows = digests.shape.first().copied().unwrap_or(0);
    let shape: Vec<usize> = std::iter::once(rows).chain(spec.row_shape.iter().copied()).collect();
    if rows == 0 || digests.dtype != Dtype::U8 || digests.shape != [rows, DIGEST] {
        return Err("its digests have the wrong shape or dtype".into());
    }
    if values.dtype != stored(spec.dtype) || values.shape != shape {
        return Err(format!("its values are {} {:?}, not {} {shape:?}", values.dtype, values.shape, spec.dtype.name()));
    }
    let start = 8 + header;
    let head = start + sums.data_offsets.1;
    let layout = Layout { rows, sums: start..head, head, body: bytes.len() - head };
    let ordered = sums.data_offsets.0 == 0
        && digests.data_offsets.0 == sums.data_offsets.1
        && values.data_offsets.0 == digests.data_offsets.1
        && values.data_offsets.1 == bytes.len() - start
        && head.is_multiple_of(HEAD_ALIGNMENT);
    if !ordered || sums.dtype != Dtype::U64 || sums.shape != [layout.blocks()] {
        return Err("its tensors are not laid out as they should be".into());
    }
    if name(&bytes[..head]) != file_name {
        return Err("its header does not match its name".into());
    }
    Ok(layout)
}
