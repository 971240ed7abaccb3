//! Which samples an engine in int8 is calibrated on: some of the training rows.

use std::collections::HashSet;
use std::thread::available_parallelism;

use super::context::Context;
use super::resolve::{Resolved, resolve};
use crate::base::{Digest, Error, KeyWriter, Result};
use crate::data::{Dataset, OnError};
use crate::engine::precision::CalibrationSamples;
use crate::plan::{Plan, ResolvedPlan};
use crate::sample::pipeline::{Batch, Item, Options, prepare};
use crate::sample::{Tensor, Values};

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
/// They are no pictures; there are fewer than two; one cannot be decoded, unless those are skipped.
pub fn samples(resolved: &Resolved, context: &Context<'_>) -> Result<CalibrationSamples> {
    let plan = &resolved.plan.plan;
    let Some(steps) = plan.model.backbone.preprocess.image() else {
        return Err(Error::bad_input("`int8` is calibrated on pictures, and these samples are texts")
            .hint("use `precision: bf16` or `fp32`"));
    };
    if !plan.model.towers.is_empty() {
        return Err(Error::bad_input("`int8` is for one backbone, and this recipe has towers")
            .hint("use `precision: bf16` or `fp32`"));
    }
    let rows = rows(plan, &resolved.dataset, &resolved.digests);
    let pixels = |inputs: Vec<Tensor>| match inputs.into_iter().next().map(|tensor| tensor.data) {
        Some(Values::F32(values)) => Some(values),
        _ => None,
    };
    let mut inputs: Vec<Vec<f32>> = inputs(resolved, &rows, context)?.into_iter().filter_map(pixels).collect();
    if inputs.len() < 2 {
        return Err(Error::bad_input("`int8` is calibrated on training samples, and there are fewer than two"));
    }
    let wanted = plan.engine.calibration.as_ref().map_or(0, |config| config.samples as usize);
    let measured = wanted.min(inputs.len() - held_out(inputs.len() * 4 / 5));
    let held_out = inputs.split_off(measured);
    Ok(CalibrationSamples { row: steps.output_shape().to_vec(), measured: inputs, held_out })
}

/// The samples of a run once more, for an engine in int8 that is gone.
///
/// # Errors
/// Those of resolving the plan and of [`samples`]; the samples are no longer those of the run.
pub fn again(plan: &ResolvedPlan, context: &Context<'_>) -> Result<CalibrationSamples> {
    let resolved = resolve(&plan.plan, context)?;
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
        Item { index: row, samples: &of_row.samples, origin: &of_row.origin }
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
        if !batch.indices.is_empty() {
            inputs.push(batch.inputs.clone());
        }
        Ok(())
    })?;
    Ok(inputs)
}
