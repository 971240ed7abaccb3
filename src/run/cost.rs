//! What a precision cost: the trained head on activations of the engine in fp32, beside those it was trained on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::context::Context;
use super::engine::{self, Columns};
use super::fill;
use super::resolve::Resolved;
use super::rows::StoredRows;
use super::targets;
use super::training::Training;
use crate::base::Result;
use crate::graph::Weights;
use crate::recipe::Precision;

/// What a precision cost on some of the rows that a run is judged by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrecisionCost {
    /// The precision of the run.
    pub precision: String,
    /// The rows' split.
    pub split: String,
    /// How many rows were compared.
    pub rows: usize,
    /// The metrics of these rows as the run computes them, by `split/metric`.
    pub metrics: BTreeMap<String, f64>,
    /// The same, with the backbone in fp32.
    pub in_fp32: BTreeMap<String, f64>,
}

impl PrecisionCost {
    /// `test/accuracy 0.8520, 0.8560 in fp32 (on 128 rows)`.
    pub fn in_words(&self, metric: &str) -> Option<String> {
        let (ours, plain) = (self.metrics.get(metric)?, self.in_fp32.get(metric)?);
        let Self { precision, rows, .. } = self;
        Some(format!("{precision} costs: {metric} {ours:.4}, in fp32 {plain:.4} (on {rows} of its rows)"))
    }
}

/// More rows than this are not computed in fp32.
const MOST: usize = 128;

/// Computes some rows in fp32 on the processor, or finds them stored, and judges the head on both. `None` for a run in
/// fp32 or on masks, and where the model is not there in fp32.
///
/// # Errors
/// Those of the engine, the cache and the trainer.
pub fn measure(
    resolved: &Resolved,
    training: &Training,
    weights: &Weights,
    context: &Context<'_>,
) -> Result<Option<PrecisionCost>> {
    let nothing = resolved.plan.plan.engine.precision == Precision::Fp32 || training.is_of_parts();
    if nothing || !resolved.source.has_fp32() {
        return Ok(None);
    }
    let judged = training.splits().into_iter().rev().find(|(_, rows)| !rows.is_empty());
    let Some((split, all)) = judged else { return Ok(None) };
    let count = all.len().min(MOST);
    let positions: Vec<u32> = (0..count).map(|at| all[at * all.len() / count]).collect();
    let rows: Vec<usize> = positions.iter().map(|&at| training.kept[at as usize]).collect();
    let plain = resolved.in_fp32()?;
    let columns: Columns = engine::columns(&plain, context)?.0;
    fill::fill_some(&plain, &columns, &rows, context)?;
    let stored = StoredRows::new(&plain, &columns, &rows)?;
    Ok(Some(PrecisionCost {
        precision: resolved.plan.plan.engine.precision.name().into(),
        split: split.into(),
        rows: count,
        metrics: training.judge(weights, None, &positions, split)?,
        in_fp32: training.judge(
            weights,
            Some((&stored, &targets::of(plain.plan.target).kept(&resolved.dataset.targets, &rows)?)),
            &positions,
            split,
        )?,
    }))
}
