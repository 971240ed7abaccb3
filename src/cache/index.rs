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
        let open = || shards[indexed..].iter().zip(&starts[indexed..]);
        let counts = open().map(|(shard, _)| shard).collect::<Vec<_>>().into_par_iter().map(|shard| count(shard));
        let counts = counts.reduce(|| [0; PARTS], |a, b| std::array::from_fn(|part| a[part] + b[part]));
        // Every part is filled from a pass over all digests, which costs less than to sort them by parts first,
        // in time and in memory.
        let parts: Vec<Part> = (0..PARTS)
            .into_par_iter()
            .map(|number| {
                let mut part = Part { slots: vec![0; counts[number] + counts[number] / 3 + 1], duplicates: 0 };
                for (shard, &start) in open() {
                    for (digest, row) in shard.digests().iter().zip(start..) {
                        if part_of(digest) == number {
                            part.insert(Hash::of(digest), row, |other| digest_of(shards, starts, other) == digest);
                        }
                    }
                }
                part
            })
            .collect();
        let apart = match &sorted {
            None => true,
            Some(sorted) => shards[indexed..]
                .par_iter()
                .flat_map_iter(|shard| shard.digests())
                .all(|digest| sorted.find(digest, |other| is_at(shards, starts, other, digest)).is_none()),
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

/// How many digests of a shard belong to each part.
fn count(shard: &Shard) -> [usize; PARTS] {
    let mut counts = [0; PARTS];
    shard.digests().iter().for_each(|digest| counts[part_of(digest)] += 1);
    counts
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

    /// The place among `slots`, from the number's upper end.
    fn slot(self, slots: usize) -> usize {
        ((u128::from(self.0) * slots as u128) >> 64) as usize
    }

    /// From the number's lower end.
    fn tag(self) -> u64 {
        self.0 & 0xffff_ffff
    }
}

impl Part {
    /// The row of a digest, or the empty slot where it belongs.
    fn find(&self, hash: Hash, same: impl Fn(u32) -> bool) -> Result<u32, usize> {
        let mut slot = hash.slot(self.slots.len());
        loop {
            let found = self.slots[slot];
            let row = (found as u32).wrapping_sub(1);
            if found == 0 {
                return Err(slot);
            }
            if found >> 32 == hash.tag() && same(row) {
                return Ok(row);
            }
            slot = if slot + 1 == self.slots.len() { 0 } else { slot + 1 };
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
