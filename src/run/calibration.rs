//! Which samples an engine in int8 is calibrated on: some of the training rows.

use std::collections::{HashMap, HashSet};
use std::thread::available_parallelism;

use super::context::Context;
use super::resolve::{Resolved, resolve_field};
use crate::base::{Digest, Error, KeyWriter, Result};
use crate::data::{Dataset, OnError};
use crate::engine::precision::CalibrationSamples;
use crate::plan::{Plan, ResolvedPlan};
use crate::sample::Tensor;
use crate::sample::pipeline::{Batch, Item, Options, prepare};

/// Raised when the same samples and settings would give another engine.
const CALIBRATION_VERSION: u32 = 1;

/// Training rows with different samples, in the order of their digests, which no order of files and no split's seed
/// decides: at most so many as are measured and held out.
fn rows(plan: &Plan, dataset: &Dataset, digests: &[Digest]) -> Vec<usize> {
    let Some(config) = &plan.engine.calibration else { return Vec::new() };
    let mut seen = HashSet::new();
    let train = dataset.splits.train.iter().map(|&row| row as usize);
    let mut rows: Vec<usize> = train.filter(|&row| seen.insert(digests[row])).collect();
    rows.sort_unstable_by_key(|&row| digests[row]);
    let wanted = config.samples as usize;
    rows.truncate(wanted + held_out(wanted));
    rows
}

/// How many samples judge an engine that was calibrated on so many.
fn held_out(measured: usize) -> usize {
    (measured / 4).max(1)
}

/// The digest of all that decides how an engine is quantised, beside its model and its provider: the settings, the
/// samples, the outputs that are judged. `None` where nothing is calibrated.
pub fn digest(plan: &Plan, dataset: &Dataset, digests: &[Digest]) -> Option<Digest> {
    let config = plan.engine.calibration.as_ref()?;
    let samples: Vec<&Digest> = rows(plan, dataset, digests).into_iter().map(|row| &digests[row]).collect();
    let key = KeyWriter::new("calibration")
        .json("version", &CALIBRATION_VERSION)
        .json("config", config)
        .json("outputs", &plan.model.backbone.outputs)
        .json("preprocess", &plan.model.backbone.preprocess)
        .json("samples", &samples);
    Some(key.finish())
}

/// The samples as network inputs. Of fewer rows than were asked for, a fifth is held out.
///
/// # Errors
/// There are fewer than two; one cannot be read, unless those are skipped.
pub fn samples(resolved: &Resolved, context: &Context<'_>) -> Result<CalibrationSamples> {
    let plan = &resolved.plan.plan;
    let rows = rows(plan, &resolved.dataset, &resolved.digests);
    let mut inputs = inputs(resolved, &rows, context)?;
    if inputs.len() < 2 {
        return Err(Error::bad_input("`int8` is calibrated on training samples, and there are fewer than two"));
    }
    let wanted = plan.engine.calibration.as_ref().map_or(0, |config| config.samples as usize);
    let measured = wanted.min(inputs.len() - held_out(inputs.len() * 4 / 5));
    let held_out = inputs.split_off(measured);
    Ok(CalibrationSamples::new(inputs, held_out))
}

/// The samples of a run once more, for an engine in int8 that is gone; `field` is the tower's, where each has its own.
///
/// # Errors
/// Those of resolving the plan and of [`samples`]; the samples are no longer those of the run.
pub fn again(plan: &ResolvedPlan, field: Option<&str>, context: &Context<'_>) -> Result<CalibrationSamples> {
    let resolved = resolve_field(&plan.plan, field, context)?;
    if resolved.plan.calibration != plan.calibration {
        let what = "the engine of this run is gone, and the samples it was calibrated on have changed";
        return Err(Error::bad_input(what).hint("run the recipe again"));
    }
    samples(&resolved, context)
}

/// The network inputs of some rows' samples, each alone, in their order.
///
/// # Errors
/// One cannot be read, unless those are skipped.
pub fn inputs(resolved: &Resolved, rows: &[usize], context: &Context<'_>) -> Result<Vec<Vec<Tensor>>> {
    let of_row = |&row: &usize| {
        let of_row = &resolved.dataset.rows[row];
        Item { index: row, samples: &of_row.samples, origin: (&of_row.origin).into() }
    };
    let items: Vec<Item<'_>> = rows.iter().map(of_row).collect();
    let options = Options {
        batch_size: 1,
        threads: available_parallelism().map_or(1, usize::from),
        cancel: context.cancel,
        skip_bad: resolved.plan.plan.data.common.on_error == OnError::Skip,
    };
    let mut inputs = Vec::new();
    prepare(&items, &resolved.source.ready, &options, |batch: &Batch| {
        inputs.extend(batch.indices.first().map(|row| (*row, batch.inputs.clone())));
        Ok(())
    })?;
    // Texts come by their lengths.
    let mut in_order: HashMap<usize, Vec<Tensor>> = inputs.into_iter().collect();
    Ok(rows.iter().filter_map(|row| in_order.remove(row)).collect())
}
