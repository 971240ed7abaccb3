//! Statistics of training rows, such as those that features are standardized by: fitted for each source on its own
//! rows, in passes over the rows that all sources share.

use rayon::prelude::*;

use super::source::{Source, with_inputs};
use crate::base::{Cancel, Result};
use crate::graph::execution::Pass;
use crate::graph::{Execution, Graph, Weights};
use crate::train::Data;
use crate::train::batch::{Batch, Reader};
use crate::train::fit::{self, Moments};
use crate::train::order::Mask;

/// One statistic of a source under way.
struct Fitting<'s, 'a> {
    source: &'s mut Source<'a>,
    number: usize,
    mask: Mask,
    pending: Batch,
    moments: Moments,
}

impl<'s, 'a> Fitting<'s, 'a> {
    fn new(source: &'s mut Source<'a>, number: usize) -> Self {
        let pending = Batch::of(source.widths.iter().copied(), source.batch_size);
        let (mask, moments) = (Mask::new(source.data.train), Moments::of(&source.shared, number));
        Self { source, number, mask, pending, moments }
    }

    /// Takes what is the source's own of a batch of rows of these numbers, in batches as it would read them alone.
    fn take(&mut self, batch: &Batch, numbers: &[u32]) {
        for (at, row) in numbers.iter().enumerate() {
            if !self.mask.has(*row) {
                continue;
            }
            self.pending.push(batch, at, &self.source.widths);
            if self.pending.rows == self.source.batch_size {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        if self.pending.rows == 0 {
            return;
        }
        let (value, moments) = (self.source.shared.fits()[self.number].value, &mut self.moments);
        with_inputs(&mut self.source.run, &mut self.pending, |run, rows| {
            run.forward_to(value, rows, Pass::EVALUATION);
            moments.add(run.value(value));
        });
        self.pending.clear();
    }

    fn finish(mut self) -> Result<()> {
        self.flush();
        match self.moments.buffers(&self.source.shared, self.number) {
            Ok(found) => set(&mut self.source.run, found),
            Err(error) => {
                self.source.failure = Some(error.to_string());
                Ok(())
            }
        }
    }
}

fn set(run: &mut Execution<f32>, found: [(String, Vec<f32>); 2]) -> Result<()> {
    let mut weights = run.weights();
    found.into_iter().for_each(|(name, values)| weights.insert(name, [values.len()], values));
    run.set_weights(&weights)
}

/// Fits the statistics of all sources. One that cannot be fitted gets the reason, and the others go on.
///
/// # Errors
/// Those of reading; an interruption.
pub(super) fn all(sources: &mut [Source<'_>], reader: &mut Reader<'_>, cancel: &Cancel) -> Result<()> {
    let most = sources.iter().map(|source| source.shared.fits().len()).max().unwrap_or(0);
    // One after the other: a statistic may be of what an earlier one changes.
    for number in 0..most {
        let wanting = |source: &&mut Source<'_>| source.failure.is_none() && number < source.shared.fits().len();
        let (together, by_themselves): (Vec<_>, Vec<_>) =
            sources.iter_mut().filter(wanting).partition(|source| source.data.train.is_sorted());
        let mut rows: Vec<u32> = together.iter().flat_map(|source| source.data.train).copied().collect();
        rows.sort_unstable();
        rows.dedup();
        pass(together.into_iter().map(|source| Fitting::new(source, number)).collect(), &rows, reader, cancel)?;
        for source in by_themselves {
            let rows = source.data.train;
            pass(vec![Fitting::new(source, number)], rows, reader, cancel)?;
        }
    }
    Ok(())
}

fn pass(mut fittings: Vec<Fitting<'_, '_>>, rows: &[u32], reader: &mut Reader<'_>, cancel: &Cancel) -> Result<()> {
    let mut done = 0;
    reader.each(rows, |batch| {
        cancel.check()?;
        let numbers = &rows[done..done + batch.rows];
        done += batch.rows;
        let batch = &*batch;
        fittings.par_iter_mut().for_each(|fitting| fitting.take(batch, numbers));
        Ok(())
    })?;
    fittings.into_iter().try_for_each(Fitting::finish)
}

/// The statistics of a graph of which some are of what is trained, and so depend on the weights: fitted on the first
/// weights as one pass each.
///
/// # Errors
/// Those of reading; a feature is not finite; an interruption.
pub(super) fn of_weights(
    graph: &Graph,
    weights: &Weights,
    (data, batch_size): (&Data<'_>, usize),
    reader: &mut Reader<'_>,
    cancel: &Cancel,
) -> Result<Weights> {
    let mut run = Execution::new(graph, weights, batch_size, false)?;
    for number in 0..graph.fits().len() {
        let value = graph.fits()[number].value;
        let found = fit::statistic(graph, number, data.train, reader, cancel, |batch, values| {
            with_inputs(&mut run, batch, |run, rows| {
                run.forward_to(value, rows, Pass::EVALUATION);
                values(run.value(value));
            });
            Ok(())
        })?;
        set(&mut run, found)?;
    }
    Ok(run.weights())
}
