//! A packed run measured on the rows that are packed with it.

use super::open::Opened;
use crate::base::Result;
use crate::graph::Weights;
use crate::metric::MetricName;
use crate::run::context::Context;
use crate::run::eval::{self, Evaluated};
use crate::run::training::{BEST, CHECKPOINT};

/// Measures a packed run on the packed test rows; where there are none on the validation rows, or else on those that it
/// was trained on. Neither backbone nor data are needed. `asked` are the metrics, the run's own where there is none.
///
/// # Errors
/// The pack has no activations; a metric is of something else than the run's outputs.
pub fn evaluate(opened: &Opened, asked: Vec<MetricName>, context: &Context<'_>) -> Result<Evaluated> {
    let mut resolved = opened.plan()?;
    resolved.plan.metrics = eval::metrics(&resolved, asked)?;
    let rows = opened.packed_rows()?;
    let counts = [("test", rows.test.len()), ("valid", rows.valid.len()), ("train", rows.train.len())];
    let (split, count) = counts.into_iter().find(|(_, count)| *count > 0).unwrap_or(counts[2]);
    let (weights, _) = Weights::load(&opened.folder.join("run").join(CHECKPOINT).join(BEST))?;
    let (metrics, _) = opened.training(&resolved, context)?.evaluate(&weights)?;
    let of_split =
        |(name, value): (String, f64)| Some((name.strip_prefix(split)?.strip_prefix('/')?.to_string(), value));
    let metrics = metrics.into_iter().filter_map(of_split).collect();
    Ok(Evaluated { model: opened.run.display().to_string(), rows: count, skipped: 0, metrics })
}
