//! Whether activations are stored, or computed whenever they are read.

use super::activations::Outcome;
use super::context::Context;
use super::engine::Columns;
use super::fill::View;
use super::history::History;
use super::resolve::Resolved;
use super::targets;
use crate::base::Result;
use crate::base::progress::Event;
use crate::cache::{Column, Store};
use crate::data::OnError;
use crate::recipe::StoreMode;
use crate::sample::pipeline::{Item, Options, prepare, refuse, scan};

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
        StoreMode::Auto if targets::of(resolved.plan.target).must_be_stored() => return Ok(false),
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
    let speeds = || -> Result<Option<Speeds>> {
        let Some(computed) = History::open(context.home)?.rate(&resolved.plan) else { return Ok(None) };
        let read = store.read_speed(PROBE).map(|bytes| bytes / row_bytes.max(1) as f64);
        Ok(read.map(|read| Speeds { computed, read }))
    };
    let choice = weigh(missing, store.free_bytes(), speeds)?;
    match &choice {
        Choice::Store => {}
        Choice::StoreAs(speeds) => context.progress.event(Event::Detail(speeds.to_string())),
        Choice::NoRoom { missing, free } => {
            let [missing, free] = [missing, free].map(|bytes| *bytes as f64 / 1e9);
            let what = format!(
                "the activations would take {missing:.1} GB, and {free:.1} GB of disk are free: nothing is stored, and \
                 rows are computed in every epoch (`cache.store: activations` stores them all the same)"
            );
            context.progress.event(Event::Warning(what));
        }
        Choice::Slower(speeds) => context.progress.event(Event::Warning(format!("{speeds}: nothing is stored"))),
    }
    Ok(matches!(choice, Choice::NoRoom { .. } | Choice::Slower(_)))
}

/// Rows that are had in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Speeds {
    /// By running the engine, as was seen on this machine.
    computed: f64,
    /// From the disk.
    read: f64,
}

impl std::fmt::Display for Speeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { computed, read } = self;
        write!(f, "rows are computed at {computed:.0}/s and would be read at {read:.0}/s from this disk")
    }
}

/// What `auto` does.
#[derive(Debug, PartialEq)]
enum Choice {
    /// Stores, with nothing to weigh.
    Store,
    /// Stores, because reading is quicker than computing.
    StoreAs(Speeds),
    /// Stores nothing, because it would fill the disk.
    NoRoom { missing: u64, free: u64 },
    /// Stores nothing, because reading is slower than computing.
    Slower(Speeds),
}

/// Chooses by the bytes that are missing and those that are free, and by the speeds where the bytes are many: what is
/// small is read from memory after the first time. Nothing is measured that is not needed.
fn weigh(missing: u64, free: Option<u64>, speeds: impl FnOnce() -> Result<Option<Speeds>>) -> Result<Choice> {
    if let Some(free) = free.filter(|free| missing as f64 > MOST_OF_DISK * *free as f64) {
        return Ok(Choice::NoRoom { missing, free });
    }
    if missing < LARGE {
        return Ok(Choice::Store);
    }
    Ok(match speeds()? {
        None => Choice::Store,
        Some(speeds) if speeds.computed > speeds.read => Choice::Slower(speeds),
        Some(speeds) => Choice::StoreAs(speeds),
    })
}

/// Looks for bad samples in place of a pass over them: at their headers and ends where one ends the run, and at all of
/// each where they are skipped, because nothing can be left out any more once training has begun.
///
/// # Errors
/// There are some, unless they are skipped.
pub fn look(resolved: &Resolved, context: &Context<'_>) -> Result<(Outcome, String)> {
    let mut outcome = Outcome::default();
    for tower in std::iter::once(resolved).chain(&resolved.others) {
        let rows = tower.dataset.rows.iter().enumerate();
        let items: Vec<Item<'_>> =
            rows.map(|(index, row)| Item { index, samples: &row.samples, origin: (&row.origin).into() }).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        match tower.plan.plan.data.common.on_error {
            OnError::Fail => refuse(scan(&items, threads, context.cancel)?, items.len())?,
            OnError::Skip => {
                let options = Options { batch_size: 16, threads, cancel: context.cancel, skip_bad: true };
                prepare(&items, &tower.source.ready, &options, |batch| {
                    let failed = batch.failed.iter().map(|(row, error)| (*row, error.to_string()));
                    outcome.skipped.extend(failed);
                    Ok(())
                })?;
            }
        }
    }
    outcome.skipped.sort();
    let skipped = match outcome.skipped.len() {
        0 => String::new(),
        count => format!(", {count} skipped"),
    };
    Ok((outcome, format!("nothing is stored: rows are computed whenever they are read{skipped}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Error;

    #[test]
    fn what_is_stored_follows_room_and_speed() {
        let speeds = |computed: f64, read: f64| move || Ok(Some(Speeds { computed, read }));
        let unasked = || -> Result<Option<Speeds>> { Err(Error::failed("measured in vain")) };
        let (small, large) = (1 << 20, 3 << 30);
        assert_eq!(weigh(small, Some(large), unasked).unwrap(), Choice::Store);
        assert_eq!(weigh(small, Some(small), unasked).unwrap(), Choice::NoRoom { missing: small, free: small });
        assert_eq!(weigh(large, Some(large + 1), unasked).unwrap(), Choice::NoRoom { missing: large, free: large + 1 });
        assert_eq!(weigh(large, None, || Ok(None)).unwrap(), Choice::Store, "what was never computed is unknown");
        let quick = Speeds { computed: 100.0, read: 90.0 };
        assert_eq!(weigh(large, None, speeds(100.0, 90.0)).unwrap(), Choice::Slower(quick));
        let slow = Speeds { computed: 80.0, read: 90.0 };
        assert_eq!(weigh(large, Some(large * 2), speeds(80.0, 90.0)).unwrap(), Choice::StoreAs(slow));
        assert_eq!(slow.to_string(), "rows are computed at 80/s and would be read at 90/s from this disk");
    }
}
