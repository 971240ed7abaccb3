//! The pass that runs the engine over every sample whose activations are not stored yet.

use std::collections::HashSet;
use std::thread::available_parallelism;

use super::record::Activations;
use crate::base::progress::{Event, Unit, work};
use crate::base::{Cancel, Digest, Progress, Result};
use crate::cache::Column;
use crate::data::{Dataset, OnError};
use crate::engine::{Engine, run_on};
use crate::sample::Ready;
use crate::sample::pipeline::{Batch, Item, Options, prepare, refuse, scan};

/// What the pass works on.
pub struct Task<'a> {
    /// The rows.
    pub dataset: &'a Dataset,
    /// The digest of each row's sample.
    pub digests: &'a [Digest],
    /// The columns, in the order of the engine's outputs.
    pub columns: &'a [Column],
    /// How samples become the network's inputs.
    pub ready: &'a Ready,
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
    /// The first row of every distinct sample that a column lacks.
    pub fn missing(&self) -> Vec<usize> {
        let mut seen = HashSet::new();
        let lacks = |digest: &Digest| self.columns.iter().any(|column| !column.contains(digest));
        (0..self.digests.len()).filter(|&row| seen.insert(self.digests[row]) && lacks(&self.digests[row])).collect()
    }

    /// How many distinct samples there are.
    pub fn distinct(&self) -> u64 {
        self.digests.iter().collect::<HashSet<&Digest>>().len() as u64
    }

    /// Computes and stores what is missing. After an error or an interruption what was computed stays.
    ///
    /// # Errors
    /// A sample that cannot be decoded, unless those are skipped; those of the engine and the cache.
    pub fn fill(&self, missing: &[usize], engine: &mut dyn Engine) -> Result<Outcome> {
        let reused = self.distinct() - missing.len() as u64;
        let mut outcome = Outcome::default();
        work(self.progress, "activations", Some(missing.len() as u64), Unit::Samples, || {
            self.compute(missing, reused, engine, &mut outcome)
        })?;
        let computed = (missing.len() - outcome.skipped.len()) as u64;
        outcome.activations = Activations { computed, reused };
        Ok(outcome)
    }

    fn compute(&self, missing: &[usize], reused: u64, engine: &mut dyn Engine, outcome: &mut Outcome) -> Result<()> {
        let mut writers = self.columns.iter().map(Column::writer).collect::<Result<Vec<_>>>()?;
        let mut outputs = vec![Vec::new(); writers.len()];
        let items: Vec<Item<'_>> = missing
            .iter()
            .map(|&row| {
                let of_row = &self.dataset.rows[row];
                Item { index: row, samples: &of_row.samples, origin: &of_row.origin }
            })
            .collect();
        if self.on_error == OnError::Fail {
            // Headers take seconds; what they show must not come up after hours.
            refuse(scan(&items, available_parallelism().map_or(1, usize::from), self.cancel)?, items.len())?;
        }
        let detail = if reused > 0 { format!("{reused} reused") } else { String::new() };
        let mut done = 0;
        let step = |batch: &Batch| -> Result<()> {
            let count = batch.indices.len();
            outcome.skipped.extend(batch.failed.iter().map(|(row, error)| (*row, error.to_string())));
            done += count as u64;
            if count > 0 {
                run_on(engine, &batch.inputs, &mut outputs)?;
                for (writer, values) in writers.iter_mut().zip(&outputs) {
                    // The digest of the very bytes that were decoded, should a file change meanwhile.
                    for (digest, row) in batch.digests.iter().zip(values.chunks_exact(values.len() / count)) {
                        writer.push(*digest, row)?;
                    }
                }
            }
            self.progress.event(Event::WorkAdvanced { done, detail: detail.clone() });
            Ok(())
        };
        let options = Options {
            batch_size: self.batch_size,
            // The engine keeps the cores busy; one thread stays ahead of it with decoding.
            threads: 1,
            cancel: self.cancel,
            skip_bad: self.on_error == OnError::Skip,
        };
        let result = prepare(&items, self.ready, &options, step);
        // What was computed before an error or an interruption is kept.
        let stored = writers.into_iter().zip(self.columns.iter()).try_for_each(|(writer, column)| {
            let (written, spec) = (writer.finish()?, column.spec());
            let (tensor, dtype) = (spec.tensor(), spec.dtype.name());
            let text =
                format!("tensor `{tensor}` is stored as {dtype}, with a relative error of {:.1e}", written.error);
            self.progress.event(Event::Detail(text));
            Ok(())
        });
        result.and(stored)
    }
}
