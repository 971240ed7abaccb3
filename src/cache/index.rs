//! From a sample's digest to its row: an open-addressing table over the digests of all shards.

use std::sync::Arc;

use rayon::prelude::*;

use super::layout::DIGEST;
use super::shard::Shard;
use super::sorted::Sorted;
use crate::base::Digest;

/// Parts of the table, each filled by one thread; a digest belongs to the part of its first byte.
const PARTS: usize = 4;

/// Finds rows by digest. A row is numbered by its place in the column: shards in order, then rows.
pub(super) struct Index {
    /// The index of the first shards, on disk.
    sorted: Option<Sorted>,
    /// The others.
    parts: Vec<Part>,
    /// Whether no two rows have the same digest.
    pub unique: bool,
}

/// Slots of (tag of the digest, row + 1); 0 is empty. At most three quarters of them are full.
struct Part {
    slots: Vec<u64>,
    duplicates: usize,
}

/// What the table needs of a digest: its slot and its tag, which are independent parts of it.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Index {
    /// The index of some shards; `starts` are the numbers of their first rows. The first `indexed` are those of
    /// `sorted`, and their digests are not read.
    pub fn new(shards: &[Arc<Shard>], starts: &[u32], sorted: Option<Sorted>, indexed: usize) -> Self {
        let by_shard: Vec<[Vec<(Hash, u32)>; PARTS]> = shards[indexed..]
            .par_iter()
            .zip(&starts[indexed..])
            .map(|(shard, &start)| {
                let expected = shard.layout.rows / PARTS + shard.layout.rows / 16;
                let mut entries: [Vec<_>; PARTS] = std::array::from_fn(|_| Vec::with_capacity(expected));
                for (digest, row) in shard.digests().iter().zip(start..) {
                    entries[part_of(digest)].push((Hash::of(digest), row));
                }
                entries
            })
            .collect();
        let parts: Vec<Part> = (0..PARTS)
            .into_par_iter()
            .map(|number| {
                let count: usize = by_shard.iter().map(|entries| entries[number].len()).sum();
                let mut part = Part { slots: vec![0; (count + count / 3 + 1).next_power_of_two()], duplicates: 0 };
                for &(hash, row) in by_shard.iter().flat_map(|entries| &entries[number]) {
                    let same = |other| digest_of(shards, starts, other) == digest_of(shards, starts, row);
                    part.insert(hash, row, same);
                }
                part
            })
            .collect();
        let apart = match &sorted {
            None => true,
            Some(sorted) => by_shard.par_iter().flatten().flatten().all(|&(_, row)| {
                let digest = digest_of(shards, starts, row);
                sorted.find(digest, |other| is_at(shards, starts, other, digest)).is_none()
            }),
        };
        let unique = apart && parts.iter().all(|part| part.duplicates == 0);
        Self { sorted, parts, unique }
    }

    /// The row of a digest.
    pub fn find(&self, digest: &Digest, shards: &[Arc<Shard>], starts: &[u32]) -> Option<u32> {
        let same = |row| is_at(shards, starts, row, &digest.0);
        if let Some(row) = self.sorted.as_ref().and_then(|sorted| sorted.find(&digest.0, same)) {
            return Some(row);
        }
        self.parts[part_of(&digest.0)].find(Hash::of(&digest.0), same).ok()
    }
}

fn digest_of<'a>(shards: &'a [Arc<Shard>], starts: &[u32], row: u32) -> &'a [u8; DIGEST] {
    let shard = starts.partition_point(|&start| start <= row) - 1;
    &shards[shard].digests()[(row - starts[shard]) as usize]
}

/// Whether a row, which a file named, is there and has this digest.
fn is_at(shards: &[Arc<Shard>], starts: &[u32], row: u32, digest: &[u8; DIGEST]) -> bool {
    let shard = starts.partition_point(|&start| start <= row) - 1;
    shards[shard].digests().get((row - starts[shard]) as usize) == Some(digest)
}

fn part_of(digest: &[u8; DIGEST]) -> usize {
    usize::from(digest[0]) % PARTS
}

impl Hash {
    /// A digest is uniform already.
    fn of(digest: &[u8; DIGEST]) -> Self {
        Self(u64::from_le_bytes(std::array::from_fn(|i| digest[8 + i])))
    }

    fn slot(self, mask: usize) -> usize {
        self.0 as usize & mask
    }

    fn tag(self) -> u64 {
        self.0 >> 32
    }
}

impl Part {
    /// The row of a digest, or the empty slot where it belongs.
    fn find(&self, hash: Hash, same: impl Fn(u32) -> bool) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut slot = hash.slot(mask);
        loop {
            let found = self.slots[slot];
            let row = (found as u32).wrapping_sub(1);
            if found == 0 {
                return Err(slot);
            }
            if found >> 32 == hash.tag() && same(row) {
                return Ok(row);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Adds a row unless its digest is there: the first one wins.
    fn insert(&mut self, hash: Hash, row: u32, same: impl Fn(u32) -> bool) {
        match self.find(hash, same) {
            Err(slot) => self.slots[slot] = hash.tag() << 32 | u64::from(row + 1),
            Ok(_) => self.duplicates += 1,
        }
    }
}
