//! The reading of a stack: each batch once, for all sources.

use super::source::Source;
use crate::base::{Cancel, Result};
use crate::train::Features;
use crate::train::batch::Reader;

/// Bytes of the batches that wait to be trained on.
pub(super) const BYTES: usize = 128 << 20;

/// Reads rows, gives each source its own of them, and calls `body` whenever enough batches wait. With `epoch` these
/// are training rows, of which the views of that epoch are read.
///
/// # Errors
/// Those of reading and of `body`; an interruption.
pub(super) fn each(
    reader: &mut Reader<'_>,
    features: &dyn Features,
    sources: &mut [Source<'_>],
    rows: &[u32],
    epoch: Option<u32>,
    cancel: &Cancel,
    mut body: impl FnMut(&[Source<'_>]) -> Result<()>,
) -> Result<()> {
    let views: Vec<u32>;
    let read = match epoch {
        Some(epoch) => {
            views = rows.iter().map(|row| features.view(*row, epoch)).collect();
            &views
        }
        None => rows,
    };
    let mut use_up = |sources: &mut [Source<'_>]| {
        cancel.check()?;
        body(sources)?;
        sources.iter_mut().for_each(Source::recycle);
        Ok(())
    };
    let mut done = 0;
    reader.each(read, |batch| {
        let numbers = &rows[done..done + batch.rows];
        done += batch.rows;
        sources.iter_mut().for_each(|source| source.take(batch, numbers, epoch.is_some()));
        if sources.iter().map(Source::bytes).sum::<usize>() >= BYTES { use_up(sources) } else { Ok(()) }
    })?;
    sources.iter_mut().for_each(|source| source.flush(epoch.is_some()));
    use_up(sources)
}
