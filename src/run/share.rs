//! How processes that fill the same columns share the samples: in parts that are the same for all of them, claimed
//! before they are computed.

use std::collections::VecDeque;
use std::str::FromStr;
use std::time::Duration;

use crate::base::{Cancel, Digest, Error, KeyWriter, Result};
use crate::cache::{Claims, Column};

/// Distinct samples of a part.
const PART: usize = 64;
/// The most samples that are taken at once: many, so that decoding seldom waits for the next lot.
const LOT: usize = 4096;
/// How often is looked whether others are done.
const PAUSE: Duration = Duration::from_millis(200);

/// One of several parts of the samples, for machines that compute a part each: `1/4` is the first of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 1.
    pub index: u32,
    /// Of how many.
    pub of: u32,
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((index, of)) if (1..=of).contains(&index) => Ok(Self { index, of }),
            _ => Err(Error::bad_input(format!("`{text}` is not a shard; the second of three is `2/3`"))),
        }
    }
}

impl Shard {
    /// The range of `count` things that is this shard's.
    pub fn range(self, count: usize) -> std::ops::Range<usize> {
        let at = |index: u32| (count as u64 * u64::from(index) / u64::from(self.of)) as usize;
        at(self.index - 1)..at(self.index)
    }
}

/// Some neighbouring samples, by a name that every process gives them.
struct Part {
    name: Digest,
    rows: Vec<usize>,
}

/// The samples of a pass that are not stored yet, as this process comes to compute them.
pub struct Share<'a> {
    claims: Option<Claims>,
    digests: &'a [Digest],
    columns: &'a [Column],
    open: VecDeque<Part>,
    /// Parts that others have claimed.
    elsewhere: Vec<Part>,
    /// Parts of this process, with the number of rows pushed when they were done.
    done: VecDeque<(u64, Digest)>,
    in_work: Vec<Digest>,
}

impl<'a> Share<'a> {
    /// Shares the rows `missing` among `distinct`, the first row of every distinct sample. Without claims all of
    /// them are this process's.
    pub fn new(
        claims: Option<Claims>,
        (distinct, missing): (&[usize], &[usize]),
        digests: &'a [Digest],
        columns: &'a [Column],
    ) -> Self {
        let mut missing = missing.iter().copied().peekable();
        let part = |rows: &[usize]| {
            let name = rows.iter().fold(KeyWriter::new("part"), |key, &row| key.field("sample", digests[row].0));
            let last = rows.last().copied().unwrap_or(0);
            let rows: Vec<usize> = std::iter::from_fn(|| missing.next_if(|row| *row <= last)).collect();
            Part { name: name.finish(), rows }
        };
        let parts: Vec<Part> = distinct.chunks(PART).map(part).collect();
        let open = parts.into_iter().filter(|part| !part.rows.is_empty()).collect();
        let (elsewhere, done, in_work) = Default::default();
        Self { claims, digests, columns, open, elsewhere, done, in_work }
    }

    /// The next rows to compute; none when all are stored or known to be bad. `pushed` is how many rows were pushed
    /// so far. Where only rows are left that others compute, `flush` is called, and they are waited for.
    ///
    /// # Errors
    /// Those of the cache and of `flush`; [`Error::Interrupted`].
    pub fn next(&mut self, pushed: u64, cancel: &Cancel, mut flush: impl FnMut() -> Result<()>) -> Result<Vec<usize>> {
        self.done.extend(self.in_work.drain(..).map(|part| (pushed, part)));
        loop {
            let lot = self.take();
            if self.claims.is_none() || (lot.is_empty() && self.elsewhere.is_empty()) {
                return Ok(lot);
            }
            // Whoever held these parts before may have stored them.
            self.columns.iter().try_for_each(|column| column.refresh(&crate::base::progress::Silent))?;
            let lacks = |row: &usize| self.columns.iter().any(|column| !column.contains(&self.digests[*row]));
            let lot: Vec<usize> = lot.into_iter().filter(lacks).collect();
            if !lot.is_empty() {
                return Ok(lot);
            }
            if self.open.is_empty() && !self.elsewhere.is_empty() {
                flush()?;
                self.stored(u64::MAX);
                for mut part in std::mem::take(&mut self.elsewhere) {
                    let lacks = |row: &usize| self.columns.iter().any(|column| !column.contains(&self.digests[*row]));
                    part.rows.retain(lacks);
                    if !part.rows.is_empty() {
                        self.open.push_back(part);
                    }
                }
                if !self.open.is_empty() {
                    cancel.check()?;
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Claims parts, fewer when little is left, so that all processes end at about the same time.
    fn take(&mut self) -> Vec<usize> {
        let left: usize = self.open.iter().map(|part| part.rows.len()).sum();
        let most = if self.claims.is_none() { usize::MAX } else { (left / 8).clamp(4 * PART, LOT) };
        let mut lot = Vec::new();
        while lot.len() < most
            && let Some(part) = self.open.pop_front()
        {
            if self.claims.as_ref().is_none_or(|claims| claims.take(&part.name)) {
                self.in_work.push(part.name);
                lot.extend(part.rows);
            } else {
                self.elsewhere.push(part);
            }
        }
        lot
    }

    /// Gives back the parts of which all is stored: those done before the `pushes`th row was pushed.
    pub fn stored(&mut self, pushes: u64) {
        while self.done.front().is_some_and(|(pushed, _)| *pushed <= pushes)
            && let Some((_, part)) = self.done.pop_front()
            && let Some(claims) = &self.claims
        {
            claims.release(&part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_a_partition() {
        for (count, of) in [(10, 3), (2, 5), (0, 1), (1000, 7)] {
            let ranges: Vec<_> = (1..=of).map(|index| Shard { index, of }.range(count)).collect();
            assert_eq!(ranges.iter().map(|range| range.len()).sum::<usize>(), count);
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
        assert_eq!("2/3".parse::<Shard>().unwrap(), Shard { index: 2, of: 3 });
        for wrong in ["0/3", "4/3", "1", "a/b", "1/0", "-1/2", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
