//! Computes stored activations of a few samples again and compares.

use super::context::Context;
use super::engine::{self, Columns};
use super::fill::View;
use super::resolve::{Resolved, resolve};
use crate::base::random::Stream;
use crate::base::{DType, Digest, Error, Result};
use crate::cache::Column;
use crate::engine::run_on;
use crate::plan::Plan;
use crate::sample::image::augment::view_digest;
use crate::sample::pipeline::{Batch, Item, Options, prepare};

/// How far stored rows are from rows computed now.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Rechecked {
    /// The output of the cut; with several towers behind the field and a dot.
    pub output: String,
    /// The view of the samples; 0 is the plain one.
    pub view: u32,
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

/// Computes `count` stored samples of a plan again, of every tower and view, chosen evenly at random but always the
/// same, and compares them with what is stored.
///
/// # Errors
/// Nothing of the plan is stored; those of the stages that a run has.
pub fn recheck(plan: &Plan, context: &Context<'_>, count: usize) -> Result<Vec<Rechecked>> {
    let resolved = resolve(plan, context)?;
    let (columns, _) = engine::columns(&resolved, context)?;
    let mut results = Vec::new();
    let others = resolved.others.iter().zip(columns.others());
    for (tower, columns) in std::iter::once((&resolved, &columns)).chain(others) {
        results.extend(of_tower(tower, columns, count, context)?);
    }
    if results.is_empty() {
        let text = format!("none of the activations of `{}` are stored", plan.name);
        return Err(Error::bad_input(text).hint("`caft run` computes them"));
    }
    Ok(results)
}

fn of_tower(resolved: &Resolved, columns: &Columns, count: usize, context: &Context<'_>) -> Result<Vec<Rechecked>> {
    let plan = &resolved.plan.plan;
    let mut results = Vec::new();
    let mut engine = None;
    for number in 0..plan.augment().map_or(1, |(_, views)| views) {
        let view = View::of(resolved, columns, number)?;
        let is_stored = |row: &usize| view.columns.iter().all(|column| column.contains(&view.digests[*row]));
        let order = Stream::named(0, "recheck").permutation(view.rows.len());
        let mut chosen: Vec<usize> = order.into_iter().map(|at| view.rows[at]).filter(is_stored).take(count).collect();
        chosen.sort_unstable();
        if chosen.is_empty() {
            continue;
        }
        let engine = match &mut engine {
            Some(engine) => engine,
            none => none.insert(columns.open(&resolved.source)?),
        };
        let names = columns.iter().map(|(name, _)| name);
        let mut of_view: Vec<Rechecked> =
            names.zip(view.columns).map(|(name, column)| Rechecked::none(name, number, column)).collect();
        let of_row = |&row: &usize| {
            let of_row = &resolved.dataset.rows[row];
            Item { index: row, samples: &of_row.samples, origin: (&of_row.origin).into() }
        };
        let items: Vec<Item<'_>> = chosen.iter().map(of_row).collect();
        let mut outputs = vec![Vec::new(); of_view.len()];
        let batch_size = plan.engine.batch_size;
        let options = Options { batch_size, threads: 1, cancel: context.cancel, skip_bad: false };
        prepare(&items, &view.ready, &options, |batch: &Batch| {
            run_on(&mut **engine, &batch.inputs, &mut outputs)?;
            let digests: Vec<Digest> = batch.digests.iter().map(|digest| view_digest(digest, number)).collect();
            let rows: Vec<usize> = (0..digests.len()).collect();
            for ((result, column), computed) in of_view.iter_mut().zip(view.columns).zip(&outputs) {
                // Samples of one batch have one size.
                let mut stored = vec![0.0; computed.len()];
                column.reader(&digests)?.read(&rows, &mut stored)?;
                result.compare(&stored, computed, rows.len());
            }
            Ok(())
        })?;
        results.extend(of_view);
    }
    Ok(results)
}

impl Rechecked {
    /// Nothing compared yet.
    fn none(output: &str, view: u32, column: &Column) -> Self {
        // A few times what rounding a normal number to the dtype loses; two passes of one engine differ by less
        // than the least of them.
        let tolerance = match column.spec().dtype {
            DType::F32 | DType::F16 => 1e-3,
            DType::Bf16 => 1e-2,
            DType::I8 => 5e-2,
        };
        Self {
            output: output.into(),
            view,
            key: column.spec().key,
            rows: 0,
            largest_difference: 0.0,
            relative_error: 0.0,
            tolerance,
            energy: [0.0; 2],
        }
    }

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
