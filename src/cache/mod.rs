//! Rank 6: stored activations, format version 1.
//!
//! # Layout
//!
//! ```text
//! CAFT_HOME/cache/1/                    1 is the format version
//!   claims/                             who computes what at this moment; may be deleted when nobody does
//!   <key>/                              one column; the key as 64 hexadecimal digits
//!     column.json                       what the column is, for people, listings and reasons
//!     <name>.safetensors                an immutable shard
//!     <name>.safetensors.damaged        a shard that was set aside; nothing reads it
//!     rows.index                        where rows are, for large columns; may be missing
//!     last_use                          empty; its modification time is the time of last use
//!     .tmp-…                            a file being written; nothing reads it
//! ```
//!
//! A **column** holds one row per sample for one tensor. Its key is the digest of everything that
//! produced the values; the key is made elsewhere, the cache only stores what it was made of.
//! `column.json` is an object with
//!
//! | key | value |
//! | --- | --- |
//! | `format` | `1` |
//! | `key` | the key |
//! | `made_by` | the recipe that first asked for the column |
//! | `created` | seconds since 1970 |
//! | `row_shape` | the shape of one row, such as `[197, 768]`; of one item of a row in a ragged column |
//! | `ragged` | `true` for a ragged column, else absent |
//! | `dtype` | `f32`, `f16`, `bf16` or `i8` |
//! | `ingredients` | an object: what the key was made of |
//! | `error` | what the dtype lost when rows were last added: the root mean square of the differences, relative to that of the values; may be absent |
//!
//! It is written anew when it is missing or unreadable, and reading rows does not need it.
//!
//! # A shard
//!
//! A shard is a [safetensors](https://github.com/huggingface/safetensors) file, little-endian, with n ≥ 1
//! rows and these tensors, in this order and without gaps:
//!
//! | tensor | dtype | shape | content |
//! | --- | --- | --- | --- |
//! | `sums` | U64 | `[b]` | checksum of each block of the body |
//! | `digest` | U8 | `[n, 32]` | the samples' BLAKE3 digests, in the order in which the rows were pushed |
//! | `offsets` | U64 | `[n + 1]` | only in a ragged column: where rows begin and end in `values` |
//! | `scale` | F32 | `[n]` | only with I8: a row's values are its integers times its scale |
//! | `values` | F32, F16, BF16 or I8 | `[n, …row_shape]` | the rows |
//!
//! In a **ragged** column a row is a list of items, such as the tokens of a text, as many as its sample has and at
//! least one. `values` is then `[m, …row_shape]`, the items of all rows behind each other: row i is
//! `values[offsets[i]..offsets[i + 1]]`, with `offsets[0]` = 0 and `offsets[n]` = m.
//!
//! The header's `__metadata__` is `{"format": "caft.cache", "version": "1", "column": <key>}`. Spaces behind
//! the header's JSON make everything before `digest` (the **head**: length, header and `sums`) a multiple of
//! 4096 bytes long. The rest is the **body**. It is cut into blocks of 1 MiB (1 048 576 bytes), the last one
//! shorter; b is their number, and a block's checksum is the first 8 bytes of its BLAKE3 digest, read as a
//! little-endian number. The file's name is the first 32 hexadecimal digits of the BLAKE3 digest of the
//! head, so that the name vouches for the header and the checksums, and those for everything else.
//!
//! Opening a shard checks its length, name, header and the blocks of `digest` and `offsets`; a block of `values` is checked
//! when it is first touched. A shard that fails is renamed to `….damaged` (where the folder can be written),
//! the caller is warned, and its rows count as missing.
//!
//! Values are finite. One that is not, or that overflows the stored dtype, is refused by the writer.
//!
//! # The index, and which of two rows wins
//!
//! The set of shards is the index: a column is opened by reading the `digest` tensors of all of them.
//! Compaction merges shards, drops duplicates, and writes `rows.index` so that they need not be read. It is a
//! safetensors file with the metadata `{"format": "caft.index", "version": "1", "column": <key>, "shards": <names,
//! joined by commas>}` and, with one entry per row of those shards, sorted:
//!
//! | tensor | dtype | content |
//! | --- | --- | --- |
//! | `prefix` | U64 | the first 8 bytes of the digest, read as a big-endian number |
//! | `row` | U32 | the row's number, counted through the shards in the order in which they are named |
//!
//! An index that names a shard which is not there is void, and deleting it loses nothing. Shards are ordered:
//! first those of the index, as it names them, then the others by name. Of rows with the same digest the
//! first wins, in the order of shards and of rows in a shard.
//!
//! # Writing
//!
//! A shard is written under a name that begins with `.tmp-` in the same folder, synced to disk, renamed
//! into place, and the folder synced. A name is a function of the contents, so that any number of
//! processes may fill one column without a lock. A writer closes its shard when [`Limits`] says so, by
//! bytes or by seconds; a killed process loses at most the shard in hand. Temporary files older than an hour
//! belong to no living writer and are removed when a writer opens the column. [`Claims`] spare processes that fill
//! the same columns from computing the same rows; the format does without them.

mod claims;
mod column;
mod compact;
mod decode;
mod encode;
mod export;
mod gc;
mod index;
mod info;
mod layout;
mod reader;
mod rows;
mod shard;
mod sorted;
mod spec;
mod store;
mod verify;
mod writer;

pub use claims::{Claims, LEASE};
pub use column::Column;
pub use compact::{COMPACT_SHARD_BYTES, Compacted};
pub use export::{ExportFormat, npy_header};
pub use gc::{Garbage, GcRules};
pub use info::{Change, ColumnInfo};
pub use reader::RowReader;
pub use spec::ColumnSpec;
pub use store::Store;
pub use verify::Verified;
pub use writer::{Limits, Writer, Written};

#[cfg(test)]
mod tests;
