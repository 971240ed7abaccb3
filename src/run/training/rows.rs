//! Which rows are trained and judged on, by position among those that are kept.

use std::collections::HashSet;

use crate::base::random::Stream;
use crate::base::{Error, Result};
use crate::data::Splits;
use crate::plan::Plan;
use crate::run::resolve::Resolved;

/// The rows that a trial is trained on, by position among those that are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialRows {
    /// The rows to train on.
    pub train: Vec<u32>,
    /// The rows to validate on.
    pub valid: Vec<u32>,
    /// See [`Data::pool`](crate::train::Data::pool).
    pub pool: Vec<u32>,
}

impl TrialRows {
    /// Those of a plan, of which some rows were skipped.
    ///
    /// # Errors
    /// No training rows are left.
    pub fn of(resolved: &Resolved, skipped: &[usize]) -> Result<Self> {
        let Sets { train, valid, pool, .. } = Sets::of(resolved, skipped)?;
        Ok(Self { train, valid, pool })
    }

    /// Those of a plan among rows that stand for themselves.
    ///
    /// # Errors
    /// No training rows are left.
    pub fn among(plan: &Plan, splits: &Splits) -> Result<Self> {
        let (mut train, valid) = (splits.train.clone(), splits.valid.clone());
        let pool = narrow(plan, &mut train, &valid)?;
        Ok(Self { train, valid, pool })
    }
}

/// The rows that are kept, and by position among them those of each set.
pub(super) struct Sets {
    pub kept: Vec<usize>,
    pub train: Vec<u32>,
    pub valid: Vec<u32>,
    pub test: Vec<u32>,
    pub pool: Vec<u32>,
}

impl Sets {
    pub fn of(resolved: &Resolved, skipped: &[usize]) -> Result<Self> {
        let bad: HashSet<usize> = skipped.iter().copied().collect();
        let kept: Vec<usize> = (0..resolved.digests.len()).filter(|row| !bad.contains(row)).collect();
        let mut position = vec![None; resolved.digests.len()];
        kept.iter().enumerate().for_each(|(at, &row)| position[row] = u32::try_from(at).ok());
        let split = |rows: &[u32]| rows.iter().filter_map(|&row| position[row as usize]).collect::<Vec<u32>>();
        let splits = &resolved.dataset.splits;
        let (mut train, valid, test) = (split(&splits.train), split(&splits.valid), split(&splits.test));
        let pool = narrow(&resolved.plan.plan, &mut train, &valid)?;
        Ok(Self { kept, train, valid, test, pool })
    }
}

/// Leaves of the training rows what the plan asks for, and gives the rows whose order these follow: all that any fold
/// or share of the same rows trains on.
fn narrow(plan: &Plan, train: &mut Vec<u32>, valid: &[u32]) -> Result<Vec<u32>> {
    let mut pool = train.clone();
    if plan.data.valid_fold().is_some() {
        pool.extend_from_slice(valid);
        pool.sort_unstable();
    }
    if let Some(fraction) = plan.train.fraction {
        *train = share(train, fraction, plan.seeds.data);
    }
    if train.is_empty() {
        return Err(Error::bad_input("no training rows are left"));
    }
    Ok(pool)
}

/// A share of some rows, at least one, in their order; smaller shares are parts of larger ones.
fn share(rows: &[u32], fraction: f64, seed: u64) -> Vec<u32> {
    let count = (rows.len() as f64 * fraction).round().max(1.0) as usize;
    let mut order = Stream::named(seed, "fraction").permutation(rows.len());
    order.truncate(count);
    order.sort_unstable();
    order.into_iter().map(|at| rows[at]).collect()
}
