//! Rows that are computed whenever they are read, for `cache.store: none`.
//!
//! A row has the bits that it would have in the store, rounding to the stored type included, so that what is trained
//! does not depend on whether anything is stored.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::context::Context;
use super::engine::Columns;
use super::fill::open_for;
use super::resolve::Resolved;
use super::rows::Views;
use crate::base::{Cancel, Error, Result};
use crate::cache::ColumnSpec;
use crate::data::Row;
use crate::engine::{Engine, run_on};
use crate::sample::Ready;
use crate::sample::pipeline::{Batch, Item, Options, prepare};
use crate::train::{Features, InputSpec};

/// The rows of some samples, one input per output of the cut.
pub struct LiveRows {
    sides: Vec<Side>,
    specs: Vec<InputSpec>,
    /// For each input its side and its output there.
    inputs: Vec<(usize, usize)>,
    /// Samples.
    plain: usize,
    views: Option<(Views, Vec<u32>)>,
    cancel: Cancel,
}

/// An engine and what it takes of each row.
struct Side {
    rows: Vec<Row>,
    /// The steps of each view; the first one is the plain one.
    ready: Vec<Ready>,
    columns: Vec<ColumnSpec>,
    batch_size: usize,
    state: Mutex<State>,
}

struct State {
    engine: Box<dyn Engine>,
    /// The rows last computed, with the values of every output: other inputs of the same rows are read next.
    last: VecDeque<(Vec<usize>, Vec<Vec<f32>>)>,
}

/// Bytes of values that are kept of what was computed last.
const KEPT: usize = 64 << 20;

impl LiveRows {
    /// Of the rows `kept`, in their order, of every tower.
    ///
    /// # Errors
    /// An output whose rows differ in length; those of the engine.
    pub fn new(resolved: &Resolved, columns: &Columns, kept: &[usize], context: &Context<'_>) -> Result<Self> {
        let (mut sides, mut specs, mut inputs) = (Vec::new(), Vec::new(), Vec::new());
        let others = resolved.others.iter().zip(columns.others());
        for (tower, columns) in std::iter::once((resolved, columns)).chain(others) {
            for (output, (name, column)) in columns.iter().enumerate() {
                let spec = column.spec();
                if spec.ragged {
                    return Err(Error::bad_input(format!(
                        "the rows of output `{name}` differ in length, and with `cache.store: none` nobody knows the longest"
                    ))
                    .hint("cut at an output of one size, such as a mean of tokens, or set `cache.store: activations`"));
                }
                specs.push(InputSpec { name: name.to_string(), shape: spec.row_shape.clone() });
                inputs.push((sides.len(), output));
            }
            let plain = &tower.source.ready;
            let mut ready = vec![plain.clone()];
            if let Some((augment, views)) = tower.plan.plan.augment() {
                ready.extend((1..views).filter_map(|number| plain.view(&augment, number)));
            }
            let (engine, batch_size) = open_for(tower, columns, context)?;
            sides.push(Side {
                rows: kept.iter().map(|row| tower.dataset.rows[*row].clone()).collect(),
                ready,
                columns: columns.iter().map(|(_, column)| column.spec().clone()).collect(),
                batch_size,
                state: Mutex::new(State { engine, last: VecDeque::new() }),
            });
        }
        Ok(Self { sides, specs, inputs, plain: kept.len(), views: None, cancel: context.cancel.clone() })
    }

    /// Adds `count` views of the rows `train`; see [`StoredRows::with_views`](super::rows::StoredRows::with_views).
    #[must_use]
    pub fn with_views(self, (train, count, seed): (&[u32], u32, u64)) -> Self {
        let views = Views::new(self.plain, (train, count, seed));
        Self { views: Some((views, train.to_vec())), ..self }
    }

    /// The inputs, one per output of the cut.
    pub fn specs(&self) -> &[InputSpec] {
        &self.specs
    }

    /// The sample of a row, and its view.
    fn sample(&self, row: usize) -> Result<(usize, usize)> {
        let found = match (row.checked_sub(self.plain), &self.views) {
            (None, _) => Some((row, 0)),
            (Some(behind), Some((_, train))) if !train.is_empty() => {
                train.get(behind % train.len()).map(|sample| (*sample as usize, behind / train.len() + 1))
            }
            _ => None,
        };
        found.ok_or_else(|| Error::failed(format!("row {row} was asked for, of {}", self.len())))
    }

    fn compute(&self, side: &Side, engine: &mut dyn Engine, rows: &[usize]) -> Result<Vec<Vec<f32>>> {
        let widths: Vec<usize> = side.columns.iter().map(ColumnSpec::row_len).collect();
        let mut values: Vec<Vec<f32>> = widths.iter().map(|width| vec![0.0; width * rows.len()]).collect();
        let wanted = rows.iter().map(|row| self.sample(*row)).collect::<Result<Vec<_>>>()?;
        let mut outputs = vec![Vec::new(); values.len()];
        for (view, ready) in side.ready.iter().enumerate() {
            let of_view = wanted.iter().enumerate().filter(|(_, (_, of))| *of == view);
            let item = |(index, (sample, _)): (usize, &(usize, usize))| {
                let row = &side.rows[*sample];
                Item { index, samples: &row.samples, origin: (&row.origin).into() }
            };
            let items: Vec<Item<'_>> = of_view.map(item).collect();
            let options = Options { batch_size: side.batch_size, threads: 1, cancel: &self.cancel, skip_bad: false };
            if items.is_empty() {
                continue;
            }
            prepare(&items, ready, &options, |batch: &Batch| {
                run_on(engine, &batch.inputs, &mut outputs)?;
                for (output, computed) in outputs.iter().enumerate() {
                    let width = widths[output];
                    for (row, index) in computed.chunks_exact(width.max(1)).zip(&batch.indices) {
                        let out = &mut values[output][index * width..(index + 1) * width];
                        side.columns[output].round(row, out)?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(values)
    }
}

impl Features for LiveRows {
    fn len(&self) -> usize {
        self.plain + self.views.as_ref().map_or(0, |(views, _)| views.rows())
    }

    fn inputs(&self) -> &[InputSpec] {
        &self.specs
    }

    fn view(&self, row: u32, epoch: u32) -> u32 {
        self.views.as_ref().map_or(row, |(views, _)| views.draw(row, epoch))
    }

    fn read(&self, input: usize, rows: &[usize], out: &mut [f32]) -> Result<()> {
        let (side, output) = self.inputs[input];
        let side = &self.sides[side];
        let mut state = side.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.last.iter().position(|(last, _)| last == rows);
        let at = match known {
            Some(at) => at,
            None => {
                let values = self.compute(side, &mut *state.engine, rows)?;
                let bytes: usize = side.columns.iter().map(|spec| spec.row_len() * 4).sum::<usize>() * rows.len();
                let most = (KEPT / bytes.max(1)).max(1);
                state.last.truncate(most - 1);
                state.last.push_front((rows.to_vec(), values));
                0
            }
        };
        let values = &state.last[at].1[output];
        if values.len() != out.len() {
            let (want, have) = (values.len(), out.len());
            return Err(Error::failed(format!("a buffer of {have} values was given for {want}")));
        }
        out.copy_from_slice(values);
        Ok(())
    }
}
