//! From a sample's digest to its row: an open-addressing table over the digests of all shards.

use rayon::prelude::*;

use super::layout::DIGEST;
use super::shard::Shard;
use crate::base::Digest;

/// Parts of the table, each filled by one thread; a digest belongs to the part of its first byte.
const PARTS: usize = 4;

/// Finds rows by digest. A row is numbered by its place in the column: shards in order, then rows.
pub(super) struct Index {
    parts: Vec<Part>,
}

/// Slots of (tag of the digest, row + 1); 0 is empty.
struct Part(Vec<u64>);

impl Index {
    /// The index of some shards; `starts` are the numbers of their first rows.
    pub fn new(shards: &[std::sync::Arc<Shard>], starts: &[u32]) -> Self {
        let parts = (0..PARTS)
            .into_par_iter()
            .map(|part| {
                let mine = |digest: &[u8; DIGEST]| usize::from(digest[0]) % PARTS == part;
                let count = shards.iter().flat_map(|s| s.digests()).filter(|d| mine(d)).count();
                let mut slots = Part(vec![0; (count * 2).next_power_of_two()]);
                for (shard, &start) in shards.iter().zip(starts) {
                    for (digest, row) in shard.digests().iter().zip(start..).filter(|(d, _)| mine(d)) {
                        slots.insert(digest, row, |other| digest_of(shards, starts, other));
                    }
                }
                slots
            })
            .collect();
        Self { parts }
    }

    /// The row of a digest.
    pub fn find(&self, digest: &Digest, shards: &[std::sync::Arc<Shard>], starts: &[u32]) -> Option<u32> {
        let part = &self.parts[usize::from(digest.0[0]) % PARTS];
        part.find(&digest.0, |row| digest_of(shards, starts, row)).ok()
    }
}

fn digest_of<'a>(shards: &'a [std::sync::Arc<Shard>], starts: &[u32], row: u32) -> &'a [u8; DIGEST] {
    let shard = starts.partition_point(|&start| start <= row) - 1;
    &shards[shard].digests()[(row - starts[shard]) as usize]
}

impl Part {
    /// The row of a digest, or the empty slot where it belongs. At most half of the slots are full.
    fn find<'a>(&self, digest: &[u8; DIGEST], digest_of: impl Fn(u32) -> &'a [u8; DIGEST]) -> Result<u32, usize> {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| digest[at + i]));
        let (mask, tag) = (self.0.len() - 1, word(8) >> 32);
        let mut slot = word(16) as usize & mask;
        loop {
            let found = self.0[slot];
            if found == 0 {
                return Err(slot);
            }
            let row = found as u32 - 1;
            if found >> 32 == tag && digest_of(row) == digest {
                return Ok(row);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Adds a row unless its digest is there: the first one wins.
    fn insert<'a>(&mut self, digest: &[u8; DIGEST], row: u32, digest_of: impl Fn(u32) -> &'a [u8; DIGEST]) {
        if let Err(slot) = self.find(digest, digest_of) {
            let tag = u64::from_le_bytes(std::array::from_fn(|i| digest[8 + i])) >> 32;
            self.0[slot] = tag << 32 | u64::from(row + 1);
        }
    }
}
