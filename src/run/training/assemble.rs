//! How training is put together: rows, their targets, and the graphs on them.

use super::graph::{config, graph, graph_in_use};
use super::rows::{Sets, TrialRows};
use super::{OfWhole, Training};
use crate::base::{Digest, Error, Result};
use crate::data::{self, Row, Splits};
use crate::graph::import::Tail;
use crate::plan::ResolvedPlan;
use crate::run::context::Context;
use crate::run::engine::Columns;
use crate::run::live::LiveRows;
use crate::run::resolve::Resolved;
use crate::run::rows::{Rows, StoredRows};
use crate::run::targets::{self, Kept, Samples, View};

impl Training {
    /// Joins the rows with their targets and builds the graph above the cut. Rows that were skipped are in no
    /// split. With `live` nothing is stored and rows are computed whenever they are read.
    ///
    /// # Errors
    /// A neck or head that does not fit the outputs of the cut; no training rows are left.
    pub fn new(resolved: &Resolved, columns: &Columns, skipped: &[usize], live: Option<&Context<'_>>) -> Result<Self> {
        Self::storing(resolved, columns, (skipped, live), None)
    }

    /// Like [`Self::new`], for weights that keep so many rows already.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn storing(
        resolved: &Resolved,
        columns: &Columns,
        (skipped, live): (&[usize], Option<&Context<'_>>),
        stored_rows: Option<usize>,
    ) -> Result<Self> {
        Self::viewing(resolved, columns, (skipped, live), (stored_rows, None))
    }

    /// Like [`Self::new`], for trials that share it: each of the rows `seen`, by position among those that are kept, has
    /// views if any have.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn of_trials(resolved: &Resolved, columns: &Columns, skipped: &[usize], seen: &[u32]) -> Result<Self> {
        Self::viewing(resolved, columns, (skipped, None), (None, Some(seen)))
    }

    fn viewing(
        resolved: &Resolved,
        columns: &Columns,
        (skipped, live): (&[usize], Option<&Context<'_>>),
        (stored_rows, seen): (Option<usize>, Option<&[u32]>),
    ) -> Result<Self> {
        let plan = &resolved.plan;
        let Sets { mut kept, train, valid, test, pool } = Sets::of(resolved, skipped)?;
        let views = plan.plan.augment().map(|(augment, views)| (views, augment.seed));
        let seen: Vec<u32> = seen.map_or_else(|| train.clone(), <[u32]>::to_vec);
        let rows = match live {
            Some(context) => {
                let rows = LiveRows::new(resolved, columns, &kept, context)?;
                Rows::Live(views.iter().fold(rows, |rows, (views, seed)| rows.with_views((&seen, *views, *seed))))
            }
            None => {
                let mut rows = StoredRows::new(resolved, columns, &kept)?;
                if let Some((views, seed)) = views {
                    let digest_of = |row: usize| resolved.digests[kept[row]];
                    rows = rows.with_views(columns.views(), (&seen, views, seed), &digest_of)?;
                }
                Rows::Stored(rows)
            }
        };
        // A view has the target of its sample.
        let plain = kept.len();
        for _ in 1..views.map_or(1, |(views, _)| views) {
            kept.extend(seen.iter().map(|row| kept[*row as usize]).collect::<Vec<_>>());
        }
        let digest_of = |row: usize| resolved.digests[row];
        let plain_rows = || StoredRows::new(resolved, columns, &kept[..plain]);
        Self::assembled(
            plan,
            (resolved.tail.clone(), &resolved.dataset.rows),
            (&resolved.dataset.targets, resolved.dataset.weights.as_deref()),
            Ordered { rows, kept: &kept, plain, seen: seen.len(), digest_of: &digest_of, plain_rows: &plain_rows },
            (Splits { train, valid, test }, pool, stored_rows),
        )
    }

    /// With the targets of rows that were found, which may be parts of samples.
    fn assembled(
        plan: &ResolvedPlan,
        (tail, data): (Option<Tail>, &[Row]),
        (labels, weights): (&data::Targets, Option<&[f32]>),
        ordered: Ordered<'_>,
        (Splits { mut train, mut valid, mut test }, mut pool, stored_rows): (Splits, Vec<u32>, Option<usize>),
    ) -> Result<Self> {
        let Ordered { mut rows, kept, plain, seen, digest_of, plain_rows } = ordered;
        let view = |(at, row): (usize, &usize)| View {
            row: *row,
            digest: digest_of(*row),
            number: at.checked_sub(plain).map_or(0, |behind| (behind / seen) as u32 + 1),
        };
        let of_samples: Vec<View> = kept.iter().enumerate().map(view).collect();
        let mut kept = kept.to_vec();
        let kind = targets::of(plan.target);
        let samples = Samples { plan, data, targets: labels, views: &of_samples };
        let mut whole = None;
        let targets = match kind.whole(&samples)? {
            None => kind.kept(labels, &kept)?,
            Some(of_whole) => {
                let Rows::Stored(stored) = rows else {
                    return Err(Error::bad_input("parts of samples are trained from what is stored")
                        .hint("store it with `cache.store: activations`"));
                };
                let parts = of_whole.parts(stored.specs())?;
                for rows in [&mut train, &mut valid, &mut test, &mut pool] {
                    *rows = parts.rows(rows);
                }
                if train.is_empty() {
                    return Err(no_part());
                }
                let graph = graph_in_use(plan, tail.as_ref(), stored.specs(), stored_rows.unwrap_or(train.len()))?;
                let samples = plain_rows()?;
                rows = Rows::Stored(stored.by_parts(&parts));
                kept = kept.iter().flat_map(|row| std::iter::repeat_n(*row, parts.grid.places())).collect();
                let targets = Kept::Classes(parts.targets.clone());
                whole = Some(OfWhole { targets: of_whole, parts, graph, samples });
                targets
            }
        };
        Ok(Self {
            graph: graph(plan, tail.as_ref(), rows.specs(), stored_rows.unwrap_or(train.len()))?,
            tail,
            model: plan.plan.model.clone(),
            targets,
            weights: weights.map(|all| kept.iter().map(|&row| all[row]).collect()),
            whole,
            task: plan.plan.train.loss().task(),
            rows,
            kept,
            train,
            valid,
            test,
            pool,
            config: config(&plan.plan),
        })
    }

    /// Of rows that stand for themselves, with what of the backbone is trained: row i has target i, and the splits name
    /// them. If the plan has views, the first of `rows` has those of the training rows behind them; the second gives the
    /// rows without.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn alone(
        plan: &ResolvedPlan,
        (digests, tail): (&[Digest], Option<Tail>),
        (targets, weights): (&data::Targets, Option<&[f32]>),
        rows: (StoredRows, &dyn Fn() -> Result<StoredRows>),
        splits: Splits,
    ) -> Result<Self> {
        let TrialRows { train, valid, pool } = TrialRows::among(&plan.plan, &splits)?;
        let (plain, seen) = (targets.len(), splits.train.len());
        let mut kept: Vec<usize> = (0..plain).collect();
        for _ in 1..plan.plan.augment().map_or(1, |(_, views)| views) {
            kept.extend(splits.train.iter().map(|row| *row as usize));
        }
        let (rows, plain_rows) = rows;
        let digest_of = |row: usize| digests[row];
        let rows = Rows::Stored(rows);
        Self::assembled(
            plan,
            (tail, &[]),
            (targets, weights),
            Ordered { rows, kept: &kept, plain, seen, digest_of: &digest_of, plain_rows },
            (Splits { train, valid, test: splits.test }, pool, None),
        )
    }
}

/// Rows in their order: samples, then the views of those that have some.
struct Ordered<'a> {
    rows: Rows,
    /// The row of the data that each of them is.
    kept: &'a [usize],
    /// Samples without further views.
    plain: usize,
    /// Samples that have them.
    seen: usize,
    digest_of: &'a dyn Fn(usize) -> Digest,
    /// The samples once more, without their views.
    plain_rows: &'a dyn Fn() -> Result<StoredRows>,
}

/// There is nothing to train on.
pub(super) fn no_part() -> Error {
    Error::bad_input("no place of the training masks has a class")
}
