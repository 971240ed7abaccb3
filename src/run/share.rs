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
    /// Parts of this process whose rows are on their way, with the number of rows given out when theirs were.
    in_work: VecDeque<(u64, Digest)>,
    /// Parts of this process, with the number of rows pushed when theirs were.
    done: VecDeque<(u64, Digest)>,
    /// Rows given out, and those of them that are done with.
    given: u64,
    handled: u64,
}

/// What a process is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// To compute these rows.
    Rows(Vec<usize>),
    /// To store what it has, and to [`Share::wait`] for rows that others compute.
    Wait,
    /// Nothing: all is stored or known to be bad.
    Nothing,
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
        let (elsewhere, in_work, done) = Default::default();
        Self { claims, digests, columns, open, elsewhere, in_work, done, given: 0, handled: 0 }
    }

    /// What to do next.
    ///
    /// # Errors
    /// Those of the cache.
    pub fn next(&mut self) -> Result<Next> {
        loop {
            let (mut lot, names) = self.take();
            if self.claims.is_some() && !lot.is_empty() {
                // Whoever held these parts before may have stored them.
                self.columns.iter().try_for_each(|column| column.refresh(&crate::base::progress::Silent))?;
                lot.retain(|row| self.lacks(*row));
            }
            self.given += lot.len() as u64;
            self.in_work.extend(names.into_iter().map(|name| (self.given, name)));
            if !lot.is_empty() {
                return Ok(Next::Rows(lot));
            }
            if self.open.is_empty() {
                return Ok(if self.elsewhere.is_empty() { Next::Nothing } else { Next::Wait });
            }
        }
    }

    /// Some rows were pushed or found to be bad, `pushed` so far: first those given out first.
    pub fn handled(&mut self, rows: usize, pushed: u64) {
        self.handled += rows as u64;
        while self.in_work.front().is_some_and(|(given, _)| *given <= self.handled) {
            self.done.extend(self.in_work.pop_front().map(|(_, part)| (pushed, part)));
        }
    }

    /// Looks whether others have stored what they claimed, once all of this process's is stored; what they left becomes
    /// open again after a pause.
    ///
    /// # Errors
    /// Those of the cache; [`Error::Interrupted`].
    pub fn wait(&mut self, cancel: &Cancel) -> Result<()> {
        self.handled(0, 0);
        self.stored(u64::MAX);
        self.columns.iter().try_for_each(|column| column.refresh(&crate::base::progress::Silent))?;
        for mut part in std::mem::take(&mut self.elsewhere) {
            part.rows.retain(|row| self.lacks(*row));
            if !part.rows.is_empty() {
                self.open.push_back(part);
            }
        }
        if !self.open.is_empty() {
            cancel.check()?;
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn lacks(&self, row: usize) -> bool {
        self.columns.iter().any(|column| !column.contains(&self.digests[row]))
    }

    /// Claims parts, fewer when little is left, so that all processes end at about the same time.
    fn take(&mut self) -> (Vec<usize>, Vec<Digest>) {
        let left: usize = self.open.iter().map(|part| part.rows.len()).sum();
        let most = if self.claims.is_none() { usize::MAX } else { (left / 8).clamp(4 * PART, LOT) };
        let (mut lot, mut names) = (Vec::new(), Vec::new());
        while lot.len() < most
            && let Some(part) = self.open.pop_front()
        {
            if self.claims.as_ref().is_none_or(|claims| claims.take(&part.name)) {
                names.push(part.name);
                lot.extend(part.rows);
            } else {
                self.elsewhere.push(part);
            }
        }
        (lot, names)
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
