//! The pass that runs the engine over every sample whose activations are not stored yet.

use std::collections::HashSet;
use std::thread::available_parallelism;

use super::record::Activations;
use super::share::Share;
use crate::base::progress::{Event, Unit, work};
use crate::base::{Cancel, Digest, Progress, Result};
use crate::cache::{Claims, Column, LEASE, Store, Writer};
use crate::data::{Dataset, OnError};
use crate::engine::{Engine, run_on};
use crate::sample::Ready;
use crate::sample::image::augment::view_digest;
use crate::sample::pipeline::{Batch, Item, Options, prepare, refuse, scan};

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
        let mut writers = self.columns.iter().map(Column::writer).collect::<Result<Vec<_>>>()?;
        let mut outputs = vec![Vec::new(); writers.len()];
        if self.on_error == OnError::Fail {
            // Headers take seconds; what they show must not come up after hours.
            let bad = scan(&self.items(missing), available_parallelism().map_or(1, usize::from), self.cancel)?;
            refuse(bad, missing.len())?;
        }
        let keys: Vec<Digest> = self.columns.iter().map(|column| column.spec().key).collect();
        // A folder that takes no claims takes no rows either, and the writers say so better.
        let claims = Claims::open(self.store, &keys, LEASE).ok();
        let mut share = Share::new(claims, (distinct, missing), self.digests, self.columns);
        let (mut done, mut pushed) = (0, 0);
        let result = loop {
            let flush = || writers.iter_mut().try_for_each(Writer::flush);
            let rows = match share.next(pushed, self.cancel, flush) {
                Ok(rows) if rows.is_empty() => break Ok(()),
                Ok(rows) => rows,
                Err(error) => break Err(error),
            };
            let step = |batch: &Batch| -> Result<()> {
                let count = batch.indices.len();
                outcome.skipped.extend(batch.failed.iter().map(|(row, error)| (*row, error.to_string())));
                done += (count + batch.failed.len()) as u64;
                if count > 0 {
                    run_on(engine, &batch.inputs, &mut outputs)?;
                    for (writer, values) in writers.iter_mut().zip(&outputs) {
                        // The digest of the very bytes that were decoded, should a file change meanwhile.
                        for (digest, row) in batch.digests.iter().zip(values.chunks_exact(values.len() / count.max(1)))
                        {
                            writer.push(view_digest(digest, self.view), row)?;
                        }
                    }
                    pushed += count as u64;
                    outcome.activations.computed += count as u64;
                    share.stored(writers.iter().map(Writer::stored_pushes).min().unwrap_or(0));
                }
                self.progress.event(Event::WorkAdvanced { done, detail: Self::share_of_cache(distinct, missing) });
                Ok(())
            };
            let options = Options {
                batch_size: self.batch_size,
                // The engine keeps the cores busy; one thread stays ahead of it with decoding.
                threads: 1,
                cancel: self.cancel,
                skip_bad: self.on_error == OnError::Skip,
            };
            if let Err(error) = prepare(&self.items(&rows), self.ready, &options, step) {
                break Err(error);
            }
        };
        // What was computed before an error or an interruption is kept; claims are given back after that.
        let stored = writers.into_iter().zip(self.columns.iter()).try_for_each(|(writer, column)| {
            let (written, spec) = (writer.finish()?, column.spec());
            let (tensor, dtype) = (spec.tensor(), spec.dtype.name());
            let text =
                format!("tensor `{tensor}` is stored as {dtype}, with a relative error of {:.1e}", written.error);
            self.progress.event(Event::Detail(text));
            Ok(())
        });
        drop(share);
        result.and(stored)
    }

    fn items(&self, rows: &[usize]) -> Vec<Item<'_>> {
        let item = |&row: &usize| {
            let of_row = &self.dataset.rows[row];
            Item { index: row, samples: &of_row.samples, origin: &of_row.origin }
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
