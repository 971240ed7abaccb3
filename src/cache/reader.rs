//! Reading rows in dataset order.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use rayon::prelude::*;

use super::column::{Snapshot, locate};
use super::decode::decode;
use super::rows::Rows;
use super::shard::{self, Damage, Shard};
use super::spec::ColumnSpec;
use crate::base::{Error, Result};

/// Rows of a column, by position in the list of samples it was opened for. Reading is from memory maps:
/// nothing is loaded whole, and any number of threads may read at once.
pub struct RowReader {
    spec: Arc<ColumnSpec>,
    shards: Vec<Arc<Shard>>,
    /// The number of each shard's first row.
    starts: Vec<u32>,
    rows: Rows,
    /// Of a ragged column: the number of items of each row.
    lengths: Vec<u32>,
    /// Bytes of rows announced so far.
    announced: AtomicU64,
}

/// What times are counted from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Rows that one task reads.
const TASK: usize = 64;

/// Bytes of a tick of [`Shard::visit`]: less than training reads between two visits of a block that the system
/// may have dropped meanwhile, more than between its first and last visit of a window.
const TICK: u64 = 512 << 20;

impl RowReader {
    /// Of the snapshot only the shards are kept, and not the index, which may be large.
    pub(super) fn new(spec: Arc<ColumnSpec>, snapshot: &Snapshot, rows: Rows) -> Self {
        let length = |row: u32| {
            let (shard, at) = snapshot.locate(row);
            shard.items(at).len() as u32
        };
        let lengths = if spec.ragged { rows.iter().map(length).collect() } else { Vec::new() };
        let (shards, starts) = (snapshot.shards.clone(), snapshot.starts.clone());
        Self { spec, shards, starts, rows, lengths, announced: AtomicU64::new(0) }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 0
    }

    /// The shape of one row, or of one item of a ragged column.
    pub fn row_shape(&self) -> &[usize] {
        &self.spec.row_shape
    }

    /// The number of items of each row, if the column is ragged.
    pub fn lengths(&self) -> Option<&[u32]> {
        self.spec.ragged.then_some(&self.lengths)
    }

    /// Stored bytes of one row; in a ragged column their mean.
    pub fn row_bytes(&self) -> usize {
        let items: usize = self.lengths.iter().map(|length| *length as usize).sum();
        if self.spec.ragged { items * self.spec.row_bytes() / self.len().max(1) } else { self.spec.row_bytes() }
    }

    /// Reads rows into `out`, of shape `[rows, …row_shape]`, as f32. Rows of a ragged column have `[items,
    /// …row_shape]` each, as many items as `out` has room for, the last ones zeros where a row has fewer.
    ///
    /// # Errors
    /// A block of a shard fails its checksum; it is named, and the shard is set aside. A shard was cut short since it
    /// was opened. A row number is
    /// not below [`len`](Self::len), or `out` has the wrong length.
    pub fn read(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        let item = self.spec.row_len();
        let row_len = if self.spec.ragged { out.len() / rows.len().max(1) / item * item } else { item };
        if out.len() != rows.len() * row_len {
            let (want, have) = (rows.len() * row_len, out.len());
            return Err(Error::failed(format!("a buffer of {have} values was given for {want}")));
        }
        if rows.is_empty() || row_len == 0 {
            return Ok(());
        }
        let mut tasks: Vec<_> = rows.chunks(TASK).zip(out.chunks_mut(TASK * row_len)).collect();
        match &mut tasks[..] {
            [(rows, out)] => self.read_some(rows, row_len, out),
            tasks => tasks.par_iter_mut().try_for_each(|(rows, out)| self.read_some(rows, row_len, out)),
        }
    }

    /// Reads of one row, by the place of their first value and the distance to the next, as many values as `out` has
    /// room for. Of a ragged column they are counted through all of a row's items.
    ///
    /// # Errors
    /// Those of [`Self::read`]; the row has fewer values.
    pub fn read_part(&self, row: usize, (first, step): (usize, usize), out: &mut [f32]) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let (bytes, scale) = self.bytes(row, START.elapsed().as_millis() as u64 + 1)?;
        let size = self.spec.dtype.size();
        let last = (out.len() - 1).checked_mul(step).and_then(|last| last.checked_add(first));
        if last.is_none_or(|last| last >= bytes.len() / size) {
            return Err(Error::failed(format!("values were asked for that a row of {} has not", bytes.len() / size)));
        }
        if step == 1 {
            decode(self.spec.dtype, &bytes[first * size..][..out.len() * size], scale, out);
            return Ok(());
        }
        for (value, out) in bytes[first * size..].chunks(step * size).zip(out.chunks_exact_mut(1)) {
            decode(self.spec.dtype, &value[..size], scale, out);
        }
        Ok(())
    }

    /// What is stored of a row, and what its values are multiplied with; `now` is in milliseconds.
    fn bytes(&self, row: usize, now: u64) -> Result<(&[u8], f32)> {
        let number = self.rows.get(row);
        let number = number.ok_or_else(|| Error::failed(format!("row {row} was asked for, of {}", self.len())))?;
        let (shard, at) = locate(&self.shards, &self.starts, number);
        shard.still_whole(now)?;
        shard.row(at).map_err(|damage| damaged(shard, damage))
    }

    /// Tells the system that these rows will be read soon, so that they come from disk in large pieces and while
    /// others are worked on. Rows that do not exist are passed over.
    pub fn announce(&self, rows: &[u32]) {
        let bytes = (rows.len() * self.row_bytes()) as u64;
        let tick = (self.announced.fetch_add(bytes, Ordering::Relaxed) / TICK) as u32 + 1;
        for number in rows.iter().filter_map(|row| self.rows.get(*row as usize)) {
            let (shard, at) = locate(&self.shards, &self.starts, number);
            shard.visit(at, tick);
        }
    }

    fn read_some(&self, rows: &[usize], row_len: usize, out: &mut [f32]) -> Result<()> {
        let now = START.elapsed().as_millis() as u64 + 1;
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(row_len)) {
            let (bytes, scale) = self.bytes(row, now)?;
            let values = bytes.len() / self.spec.dtype.size();
            if values > out.len() {
                return Err(Error::failed(format!("a row of {values} values was asked for as {}", out.len())));
            }
            let (real, padding) = out.split_at_mut(values);
            decode(self.spec.dtype, bytes, scale, real);
            padding.fill(0.0);
        }
        Ok(())
    }
}

/// Sets a shard aside whose values turned out to be damaged, and says so.
pub(super) fn damaged(shard: &Shard, damage: Damage) -> Error {
    let done = if shard::set_aside(&shard.path) { "it was set aside" } else { "delete it" };
    Error::failed(format!("the cache shard `{}` is damaged", shard.path.display()))
        .because(damage)
        .hint(format!("{done}; run the same command again and its rows are computed again"))
}
