//! Computes stored activations of a few samples again and compares.

use super::context::Context;
use super::engine::{self, Columns};
use super::resolve::resolve;
use crate::base::random::Stream;
use crate::base::{Digest, Error, Result};
use crate::engine::run_on;
use crate::plan::Plan;
use crate::sample::pipeline::{Batch, Item, Options, prepare};

/// How far stored rows are from rows computed now.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Rechecked {
    /// The output of the cut.
    pub output: String,
    /// The column's key.
    pub key: Digest,
    /// Rows compared.
    pub rows: usize,
    /// The largest difference of two values.
    pub largest_difference: f64,
    /// The root mean square of the differences, relative to that of the values.
    pub relative_error: f64,
    /// The largest relative error that rounding to the stored dtype and the noise of an engine explain.
    pub tolerance: f64,
    #[serde(skip)]
    energy: [f64; 2],
}

impl Rechecked {
    /// Whether the stored rows are what the plan gives.
    pub fn is_good(&self) -> bool {
        self.relative_error <= self.tolerance
    }
}

/// Computes `count` stored samples of a plan again, chosen evenly at random but always the same, and
/// compares them with what is stored.
///
/// # Errors
/// Nothing of the plan is stored; those of the stages that a run has.
pub fn recheck(plan: &Plan, context: &Context<'_>, count: usize) -> Result<Vec<Rechecked>> {
    let resolved = resolve(plan, context)?;
    let (columns, _) = engine::columns(&resolved, context)?;
    let is_stored = |row: &usize| columns.iter().all(|(_, column)| column.contains(&resolved.digests[*row]));
    let order = Stream::named(0, "recheck").permutation(resolved.digests.len());
    let mut chosen: Vec<usize> = order.into_iter().filter(is_stored).take(count).collect();
    chosen.sort_unstable();
    if chosen.is_empty() {
        let text = format!("none of the activations of `{}` are stored", plan.name);
        return Err(Error::bad_input(text).hint("`caft run` computes them"));
    }
    let mut results = start(&columns, plan);
    let of_row = |&row: &usize| {
        let of_row = &resolved.dataset.rows[row];
        Item { index: row, samples: &of_row.samples, origin: &of_row.origin }
    };
    let items: Vec<Item<'_>> = chosen.iter().map(of_row).collect();
    let mut engine = columns.open(&resolved.source)?;
    let mut outputs = vec![Vec::new(); results.len()];
    let options = Options { batch_size: plan.engine.batch_size, threads: 1, cancel: context.cancel, skip_bad: false };
    prepare(&items, &resolved.source.ready, &options, |batch: &Batch| {
        run_on(&mut *engine, &batch.inputs, &mut outputs)?;
        for ((result, (_, column)), computed) in results.iter_mut().zip(columns.iter()).zip(&outputs) {
            // Samples of one batch have one size.
            let mut stored = vec![0.0; computed.len()];
            let rows: Vec<usize> = (0..batch.digests.len()).collect();
            column.reader(&batch.digests)?.read(&rows, &mut stored)?;
            result.compare(&stored, computed, rows.len());
        }
        Ok(())
    })?;
    Ok(results)
}

fn start(columns: &Columns, plan: &Plan) -> Vec<Rechecked> {
    // A few times what rounding a normal number to the dtype loses; two passes of one engine differ by less
    // than the least of them.
    let tolerance = match plan.cache.dtype.name() {
        "f32" | "f16" => 1e-3,
        "bf16" => 1e-2,
        _ => 5e-2,
    };
    let empty = |(output, column): (&str, &crate::cache::Column)| Rechecked {
        output: output.into(),
        key: column.spec().key,
        rows: 0,
        largest_difference: 0.0,
        relative_error: 0.0,
        tolerance,
        energy: [0.0; 2],
    };
    columns.iter().map(empty).collect()
}

impl Rechecked {
    fn compare(&mut self, stored: &[f32], computed: &[f32], rows: usize) {
        self.rows += rows;
        for (stored, computed) in stored.iter().zip(computed) {
            let (difference, computed) = (f64::from(stored - computed).abs(), f64::from(*computed));
            self.largest_difference = self.largest_difference.max(difference);
            self.energy[0] += computed * computed;
            self.energy[1] += difference * difference;
        }
        self.relative_error = (self.energy[1] / self.energy[0].max(f64::MIN_POSITIVE)).sqrt();
    }
}
