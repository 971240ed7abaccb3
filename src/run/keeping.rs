//! Whether activations are stored, or computed whenever they are read.

use std::time::Instant;

use super::activations::Outcome;
use super::context::Context;
use super::engine::Columns;
use super::fill::View;
use super::history::History;
use super::resolve::Resolved;
use crate::base::Result;
use crate::base::progress::Event;
use crate::cache::{Column, Store};
use crate::data::OnError;
use crate::recipe::StoreMode;
use crate::sample::pipeline::{Item, refuse, scan};

/// The share of the free disk that `auto` fills at most.
const MOST_OF_DISK: f64 = 0.95;
/// Activations of fewer bytes are read from memory after the first time.
const LARGE: u64 = 2 << 30;
/// Bytes that are written and read to learn how quick the disk is.
const PROBE: usize = 32 << 20;

/// Whether nothing is to be stored: as `cache.store` says, or for `auto` because there is no room for what is missing,
/// or because it would be slower to read than to compute, as far as this machine has seen. The reason is told.
///
/// # Errors
/// The home cannot be used.
pub fn is_live(resolved: &Resolved, columns: &Columns, context: &Context<'_>) -> Result<bool> {
    match resolved.plan.plan.cache.store {
        StoreMode::None => return Ok(true),
        StoreMode::Activations | StoreMode::Inputs => return Ok(false),
        StoreMode::Auto => {}
    }
    let (mut missing, mut row_bytes, mut ragged) = (0, 0, false);
    let others = resolved.others.iter().zip(columns.others());
    for (tower, columns) in std::iter::once((resolved, columns)).chain(others) {
        for number in 0..tower.plan.plan.augment().map_or(1, |(_, views)| views) {
            let view = View::of(tower, columns, number)?;
            for column in view.columns {
                let digests: Vec<_> = view.rows.iter().map(|row| view.digests[*row]).collect();
                missing += (column.missing(&digests).len() * column.spec().row_bytes()) as u64;
                ragged |= column.spec().ragged;
            }
        }
        row_bytes += columns.iter().map(|(_, column)| Column::spec(column).row_bytes() as u64).sum::<u64>();
    }
    // How long texts are is not known before.
    if missing == 0 || ragged {
        return Ok(false);
    }
    let store = Store::open(context.home)?;
    if let Some(free) = store.free_bytes().filter(|free| missing as f64 > MOST_OF_DISK * *free as f64) {
        let [missing, free] = [missing, free].map(|bytes| bytes as f64 / 1e9);
        let what = format!(
            "the activations would take {missing:.1} GB, and {free:.1} GB of disk are free: nothing is stored, and rows are \
             computed in every epoch (`cache.store: activations` stores them all the same)"
        );
        context.progress.event(Event::Warning(what));
        return Ok(true);
    }
    if missing < LARGE {
        return Ok(false);
    }
    let computed = History::open(context.home)?.rate(&resolved.plan);
    let begin = Instant::now();
    let Some((computed, read)) = computed.zip(store.read_speed(PROBE)) else { return Ok(false) };
    let read = read / row_bytes.max(1) as f64;
    let text = format!(
        "rows are computed at {computed:.0}/s and would be read at {read:.0}/s from this disk (measured in {:.1} s)",
        begin.elapsed().as_secs_f64()
    );
    if computed > read {
        context.progress.event(Event::Warning(format!("{text}: nothing is stored")));
        return Ok(true);
    }
    context.progress.event(Event::Detail(text));
    Ok(false)
}

/// Looks for bad samples in place of a pass over them.
///
/// # Errors
/// There are some, unless they are skipped.
pub fn look(resolved: &Resolved, context: &Context<'_>) -> Result<(Outcome, String)> {
    let mut outcome = Outcome::default();
    for tower in std::iter::once(resolved).chain(&resolved.others) {
        let rows = tower.dataset.rows.iter().enumerate();
        let items: Vec<Item<'_>> =
            rows.map(|(index, row)| Item { index, samples: &row.samples, origin: &row.origin }).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let bad = scan(&items, threads, context.cancel)?;
        match tower.plan.plan.data.common.on_error {
            OnError::Fail => refuse(bad, items.len())?,
            OnError::Skip => outcome.skipped.extend(bad.into_iter().map(|(row, error)| (row, error.to_string()))),
        }
    }
    outcome.skipped.sort();
    let skipped = match outcome.skipped.len() {
        0 => String::new(),
        count => format!(", {count} skipped"),
    };
    Ok((outcome, format!("nothing is stored: rows are computed whenever they are read{skipped}")))
}
