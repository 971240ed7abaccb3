//! The pass that runs the engine over every sample whose activations are not stored yet.

use std::collections::HashSet;

use super::pump::{Done, Pump, with_engine};
use super::record::Activations;
use super::share::{Next, Share};
use crate::base::progress::{Event, Unit, work};
use crate::base::{Cancel, Digest, Progress, Result};
use crate::cache::{Claims, Column, LEASE, Store, Writer};
use crate::data::{Dataset, OnError};
use crate::engine::Engine;
use crate::sample::Ready;
use crate::sample::image::augment::view_digest;
use crate::sample::pipeline::{Batch, Buffers, Flow, Item, Options, flow, refuse, scan};

/// What the pass works on.
pub struct Task<'a> {
    /// The rows.
    pub dataset: &'a Dataset,
    /// The digest of each row's sample, or of its view.
    pub digests: &'a [Digest],
    /// Which view of the samples; 0 is the plain one.
    pub view: u32,
    /// The columns, in the order of the engine's outputs.
    pub columns: &'a [Column],
    /// How samples become the network's inputs.
    pub ready: &'a Ready,
    /// The store that the columns are in.
    pub store: &'a Store,
    /// Samples in one pass.
    pub batch_size: usize,
    /// Threads that prepare samples: as many as there are cores, for they wait when they are ahead of the engine and use
    /// what it leaves.
    pub threads: usize,
    /// What happens to a sample that cannot be decoded.
    pub on_error: OnError,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
    /// Checked between batches.
    pub cancel: &'a Cancel,
}

/// What a pass did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Samples computed and reused.
    pub activations: Activations,
    /// Rows left out, with what is wrong with each.
    pub skipped: Vec<(usize, String)>,
}

impl Task<'_> {
    /// Of some rows the first of every distinct sample, in the order of the data set.
    pub fn distinct(&self, rows: &[usize]) -> Vec<usize> {
        let mut seen = HashSet::with_capacity(rows.len());
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        rows.retain(|&row| seen.insert(&self.digests[row]));
        rows
    }

    /// Those of some rows whose samples a column lacks.
    pub fn missing(&self, rows: &[usize]) -> Vec<usize> {
        let lacks = |row: &usize| self.columns.iter().any(|column| !column.contains(&self.digests[*row]));
        rows.iter().copied().filter(lacks).collect()
    }

    /// Computes and stores what of the rows `distinct` is `missing`, together with other processes that do the
    /// same. After an error or an interruption what was computed stays.
    ///
    /// # Errors
    /// A sample that cannot be decoded, unless those are skipped; those of the engine and the cache.
    pub fn fill(&self, distinct: &[usize], missing: &[usize], engine: &mut dyn Engine) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let what = if self.view == 0 { "activations".into() } else { format!("activations, view {}", self.view) };
        work(self.progress, what, Some(missing.len() as u64), Unit::Samples, || {
            self.compute(distinct, missing, engine, &mut outcome)
        })?;
        let (computed, bad) = (outcome.activations.computed, outcome.skipped.len() as u64);
        outcome.activations.reused = (distinct.len() as u64).saturating_sub(computed + bad);
        Ok(outcome)
    }

    fn compute(
        &self,
        distinct: &[usize],
        missing: &[usize],
        engine: &mut dyn Engine,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let writers = self.columns.iter().map(Column::writer).collect::<Result<Vec<_>>>()?;
        if self.on_error == OnError::Fail {
            // Headers take seconds; what they show must not come up after hours.
            let bad = scan(&self.items(missing), self.threads, self.cancel)?;
            refuse(bad, missing.len())?;
        }
        let keys: Vec<Digest> = self.columns.iter().map(|column| column.spec().key).collect();
        // A folder that takes no claims takes no rows either, and the writers say so better.
        let claims = Claims::open(self.store, &keys, LEASE).ok();
        let share = Share::new(claims, (distinct, missing), self.digests, self.columns);
        let detail = Self::share_of_cache(distinct, missing);
        let mut pass = Pass { task: self, share, writers, outcome, pushed: 0, handled: 0, detail };
        let skip_bad = self.on_error == OnError::Skip;
        let options = Options { batch_size: self.batch_size, threads: self.threads, cancel: self.cancel, skip_bad };
        let buffers = Buffers::default();
        let result = with_engine(engine, |pump| {
            self.feed(&mut pass, pump, &options, &buffers).inspect_err(|_| pump.stop(|done| pass.take(done, &buffers)))
        });
        let Pass { share, writers, .. } = pass;
        // What was computed before an error or an interruption is kept; claims are given back after that.
        let stored = writers.into_iter().try_for_each(|writer| writer.finish().map(|_| ()));
        drop(share);
        result.and(stored)
    }

    /// Sends the rows through the engine, as this process comes to compute them.
    fn feed<'a>(
        &'a self,
        pass: &mut Pass<'a, '_>,
        pump: &mut Pump,
        options: &Options<'_>,
        buffers: &Buffers,
    ) -> Result<()> {
        loop {
            let mut claimed = Claimed { task: self, pass, pump, buffers, ended_with: Next::Nothing };
            flow(&mut claimed, self.ready, options, buffers)?;
            let ended_with = claimed.ended_with;
            pump.drain(|done| pass.take(done, buffers))?;
            if ended_with == Next::Nothing {
                return Ok(());
            }
            pass.writers.iter_mut().try_for_each(Writer::flush)?;
            pass.share.wait(self.cancel)?;
        }
    }

    fn items(&self, rows: &[usize]) -> Vec<Item<'_>> {
        let item = |&row: &usize| {
            let of_row = &self.dataset.rows[row];
            Item { index: row, samples: &of_row.samples, origin: (&of_row.origin).into() }
        };
        rows.iter().map(item).collect()
    }

    /// How much came from the cache, for the progress.
    fn share_of_cache(distinct: &[usize], missing: &[usize]) -> String {
        match distinct.len() - missing.len() {
            0 => String::new(),
            reused => format!("{reused} ({:.0} %) from the cache", 100.0 * reused as f64 / distinct.len() as f64),
        }
    }
}

/// Rows as they are claimed, on their way to the engine.
struct Claimed<'f, 'a, 'b> {
    task: &'a Task<'a>,
    pass: &'f mut Pass<'a, 'b>,
    pump: &'f mut Pump,
    buffers: &'f Buffers,
    /// Why there are no more.
    ended_with: Next,
}

impl<'a> Flow<'a> for Claimed<'_, 'a, '_> {
    fn items(&mut self) -> Result<Option<Vec<Item<'a>>>> {
        match self.pass.share.next()? {
            Next::Rows(rows) => Ok(Some(self.task.items(&rows))),
            other => {
                self.ended_with = other;
                Ok(None)
            }
        }
    }

    fn take(&mut self, batch: Batch) -> Result<()> {
        self.pump.push(batch, |done| self.pass.take(done, self.buffers))
    }
}

/// A pass under way.
struct Pass<'a, 'b> {
    task: &'a Task<'a>,
    share: Share<'a>,
    writers: Vec<Writer>,
    outcome: &'b mut Outcome,
    /// Rows pushed to each writer, and those with the rows left out.
    pushed: u64,
    handled: u64,
    detail: String,
}

impl Pass<'_, '_> {
    /// Stores what came out of the engine.
    fn take(&mut self, Done { mut batch, outputs }: Done, buffers: &Buffers) -> Result<()> {
        let count = batch.indices.len();
        let failed = std::mem::take(&mut batch.failed);
        let handled = count + failed.len();
        self.outcome.skipped.extend(failed.into_iter().map(|(row, error)| (row, error.to_string())));
        for (writer, values) in self.writers.iter_mut().zip(&outputs).filter(|_| count > 0) {
            // The digest of the very bytes that were decoded, should a file change meanwhile.
            for (digest, row) in batch.digests.iter().zip(values.chunks_exact((values.len() / count).max(1))) {
                writer.push(view_digest(digest, self.task.view), row)?;
            }
        }
        buffers.give(batch);
        self.pushed += count as u64;
        self.outcome.activations.computed += count as u64;
        self.share.handled(handled, self.pushed);
        self.share.stored(self.writers.iter().map(Writer::stored_pushes).min().unwrap_or(0));
        self.handled += handled as u64;
        let (done, detail) = (self.handled, self.detail.clone());
        self.task.progress.event(Event::WorkAdvanced { done, detail });
        Ok(())
    }
}
