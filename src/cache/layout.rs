//! The bytes of a shard: its head, its blocks and their checksums.

use std::ops::Range;

use safetensors::tensor::{Dtype, SafeTensors, TensorInfo};
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
/// Bytes of an offset.
pub(super) const OFFSET: usize = 8;
/// Bytes of a row's scale.
pub(super) const SCALE: usize = 4;
/// The head is a multiple of this long, so that blocks are whole memory pages.
const HEAD_ALIGNMENT: usize = 4096;
/// `format` in the metadata.
const NAME: &str = "caft.cache";

/// Where things are in a shard.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    /// Number of rows.
    pub rows: usize,
    /// Number of items of all rows; where the column is not ragged, a row is one item.
    pub items: usize,
    /// Bytes of the checksums, in the file.
    pub sums: Range<usize>,
    /// Bytes before the body.
    pub head: usize,
    /// Bytes of the body.
    pub body: usize,
    item_bytes: usize,
    scaled: bool,
    ragged: bool,
}

impl Layout {
    fn new(spec: &ColumnSpec, rows: usize, items: usize, sums: Range<usize>) -> Self {
        let (item_bytes, scaled, ragged) = (spec.row_bytes(), spec.is_scaled(), spec.ragged);
        Self { rows, items, head: sums.end, sums, body: body_bytes(spec, rows, items), item_bytes, scaled, ragged }
    }

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

    /// Bytes of the offsets, in the file; none if the column is not ragged.
    pub fn offsets(&self) -> Range<usize> {
        let start = self.digests().end;
        start..start + if self.ragged { (self.rows + 1) * OFFSET } else { 0 }
    }

    /// Bytes of the scales, in the file; none if rows have no scale.
    pub fn scales(&self) -> Range<usize> {
        let start = self.offsets().end;
        start..start + if self.scaled { self.rows * SCALE } else { 0 }
    }

    /// Bytes of the scale of a row.
    pub fn scale(&self, row: usize) -> Option<Range<usize>> {
        let start = self.offsets().end + row * SCALE;
        self.scaled.then_some(start..start + SCALE)
    }

    /// Bytes of some items, in the file.
    pub fn values(&self, items: Range<usize>) -> Range<usize> {
        let start = self.scales().end;
        start + items.start * self.item_bytes..start + items.end * self.item_bytes
    }

    /// The blocks that some bytes of the file's body lie in.
    pub fn blocks_of(&self, bytes: &Range<usize>) -> Range<usize> {
        (bytes.start - self.head) / BLOCK..(bytes.end - self.head).div_ceil(BLOCK)
    }
}

/// Bytes of a row of so many items in the body: its digest, its offset and its scale if it has them, its values.
pub(super) fn stored_bytes(spec: &ColumnSpec, items: usize) -> usize {
    let beside = if spec.is_scaled() { SCALE } else { 0 } + if spec.ragged { OFFSET } else { 0 };
    DIGEST + beside + items * spec.row_bytes()
}

/// Bytes of a body.
fn body_bytes(spec: &ColumnSpec, rows: usize, items: usize) -> usize {
    // There is one more offset than rows.
    rows * stored_bytes(spec, 0) + if spec.ragged { OFFSET } else { 0 } + items * spec.row_bytes()
}

/// The offsets of rows that end at these items, as they are stored.
pub(super) fn offsets(ends: &[usize]) -> Vec<u8> {
    std::iter::once(&0).chain(ends).flat_map(|end| (*end as u64).to_le_bytes()).collect()
}

/// The checksum of a block.
pub(super) fn checksum(block: &[u8]) -> u64 {
    truncated(&blake3::hash(block))
}

fn truncated(hash: &blake3::Hash) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// Takes the body piece by piece and makes the checksums of its blocks.
#[derive(Default)]
pub(super) struct Sums {
    done: Vec<u64>,
    hasher: blake3::Hasher,
    filled: usize,
}

impl Sums {
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
            self.hasher.update(now);
            self.filled += now.len();
            if self.filled == BLOCK {
                self.close();
            }
            bytes = rest;
        }
    }

    pub fn finish(mut self) -> Vec<u64> {
        if self.filled > 0 {
            self.close();
        }
        self.done
    }

    fn close(&mut self) {
        self.done.push(truncated(&self.hasher.finalize()));
        self.hasher.reset();
        self.filled = 0;
    }
}

fn stored(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::Bf16 => Dtype::BF16,
        DType::I8 => Dtype::I8,
    }
}

/// The tensors of a shard behind `sums`, in order: name, dtype, shape, bytes.
fn tensors(spec: &ColumnSpec, rows: usize, items: usize) -> Vec<(&'static str, Dtype, Vec<usize>, usize)> {
    let shape = std::iter::once(items).chain(spec.row_shape.iter().copied()).collect();
    let mut tensors = vec![("digest", Dtype::U8, vec![rows, DIGEST], rows * DIGEST)];
    if spec.ragged {
        tensors.push(("offsets", Dtype::U64, vec![rows + 1], (rows + 1) * OFFSET));
    }
    if spec.is_scaled() {
        tensors.push(("scale", Dtype::F32, vec![rows], rows * SCALE));
    }
    tensors.push(("values", stored(spec.dtype), shape, items * spec.row_bytes()));
    tensors
}

/// The length of the head of a shard of so many rows and items.
pub(super) fn head_len(spec: &ColumnSpec, rows: usize, items: usize) -> usize {
    head(spec, rows, items, &vec![0; body_bytes(spec, rows, items).div_ceil(BLOCK)]).1.len()
}

/// The head of a shard whose body has these checksums, and the name it gives.
pub(super) fn head(spec: &ColumnSpec, rows: usize, items: usize, sums: &[u64]) -> (String, Vec<u8>) {
    let mut at = sums.len() * 8;
    let mut header = json!({
        "__metadata__": {"format": NAME, "version": FORMAT.to_string(), "column": spec.key},
        "sums": {"dtype": Dtype::U64, "shape": [sums.len()], "data_offsets": [0, at]},
    });
    for (name, dtype, shape, bytes) in tensors(spec, rows, items) {
        header[name] = json!({"dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes]});
        at += bytes;
    }
    let header = header.to_string();
    let size = (8 + header.len() + sums.len() * 8).next_multiple_of(HEAD_ALIGNMENT);
    let mut head = Vec::with_capacity(size);
    head.extend(((size - 8 - sums.len() * 8) as u64).to_le_bytes());
    head.extend(header.as_bytes());
    head.resize(size - sums.len() * 8, b' ');
    head.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
    (name(&head), head)
}

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
    let (sums, rows) = (info("sums")?, info("digest")?.shape.first().copied().unwrap_or(0));
    if rows == 0 {
        return Err("it has no rows".into());
    }
    let items = if spec.ragged { info("values")?.shape.first().copied().unwrap_or(0) } else { rows };
    let mut at = sums.data_offsets.1;
    let mut placed = sums.data_offsets.0 == 0 && sums.dtype == Dtype::U64;
    for (name, dtype, shape, _) in tensors(spec, rows, items) {
        let found: &TensorInfo = info(name)?;
        if found.dtype != dtype || found.shape != shape {
            let (have, is) = (found.dtype, &found.shape);
            return Err(format!("its tensor `{name}` is {have} {is:?}, not {dtype} {shape:?}"));
        }
        placed &= found.data_offsets.0 == at;
        at = found.data_offsets.1;
    }
    let start = 8 + header;
    let layout = Layout::new(spec, rows, items, start..start + sums.data_offsets.1);
    let whole = start + at == bytes.len() && layout.head.is_multiple_of(HEAD_ALIGNMENT);
    if !placed || !whole || sums.shape != [layout.blocks()] {
        return Err("its tensors are not laid out as they should be".into());
    }
    if name(&bytes[..layout.head]) != file_name {
        return Err("its header does not match its name".into());
    }
    Ok(layout)
}
