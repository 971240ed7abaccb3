//! What some heads of a stack read: rows of theirs, changed and computed alike for all of them.

use super::factor::Factors;
use super::parts::Parts;
use crate::base::Result;
use crate::graph::execution::Pass;
use crate::graph::{Arithmetic, Execution, Graph, Matrix, Weights};
use crate::recipe::FeatureAugment;
use crate::train::batch::Batch;
use crate::train::order::{self, Mask};
use crate::train::{Data, InputSpec, Member, augment};

/// A batch as heads read it, with targets.
#[derive(Default)]
pub(super) struct Ready {
    /// With the values of the frontier, where no layer is computed for all heads at once.
    pub batch: Batch,
    /// What that layer reads.
    pub factors: Option<Factors>,
}

impl Ready {
    fn bytes(&self) -> usize {
        let plain: usize = self.batch.inputs.iter().map(|values| values.len() * 4).sum();
        plain + self.factors.as_ref().map_or(0, Factors::bytes)
    }
}

/// How the features of training batches are changed: a function of this alone.
#[derive(Debug, Clone, PartialEq)]
struct Changes {
    ops: Vec<FeatureAugment>,
    seed: u64,
    /// Batches of a step.
    together: u64,
}

/// What some heads read.
pub(super) struct Source<'a> {
    pub data: Data<'a>,
    pub(super) shared: Graph,
    changes: Option<Changes>,
    arithmetic: Arithmetic,
    /// The width of what the layer that is computed for all heads at once reads, if there is one.
    layer_width: Option<usize>,
    pub(super) run: Execution<f32>,
    /// Why its statistics cannot be fitted.
    pub failure: Option<String>,
    /// Numbers of a row of each input.
    pub(super) widths: Vec<usize>,
    /// The rows to train and to validate on, where they are not all that are read.
    masks: [Option<Mask>; 2],
    /// Whether any head still reads it.
    pub is_read: bool,
    /// Rows of this source that make no batch yet.
    pending: Batch,
    pub(super) batch_size: usize,
    /// Rows and batches of an epoch, and those that were made.
    rows: usize,
    made: u64,
    epoch: u64,
    pub ready: Vec<Ready>,
    spare: Vec<Ready>,
}

fn changes_of(member: &Member<'_>) -> Option<Changes> {
    let recipe = &member.config.recipe;
    let changes =
        Changes { ops: recipe.augment.clone(), seed: member.config.seed, together: recipe.accumulate.max(1).into() };
    (!changes.ops.is_empty()).then_some(changes)
}

fn layer_width(parts: &Parts) -> Option<usize> {
    parts.layer.as_ref().map(|layer| layer.width)
}

impl<'a> Source<'a> {
    /// What a member reads; its statistics are to be fitted.
    pub fn new(member: &Member<'a>, parts: &Parts) -> Result<Self> {
        let (data, shared, batch_size) = (member.data, parts.shared.clone(), member.config.batch_size());
        let run = Execution::new(&shared, &shared.initial_weights(0), batch_size, false)?;
        let is_part = order::pool(&data, &member.config).len() != data.train.len();
        let widths: Vec<usize> = shared.inputs().iter().map(|id| shared.shape(*id).elements()).collect();
        Ok(Self {
            data,
            changes: changes_of(member),
            arithmetic: member.config.recipe.precision,
            layer_width: layer_width(parts),
            failure: None,
            run,
            pending: Batch::of(widths.iter().copied(), batch_size),
            widths,
            masks: [is_part.then(|| Mask::new(data.train)), None],
            is_read: true,
            batch_size,
            rows: 0,
            made: 0,
            epoch: 0,
            ready: Vec::new(),
            spare: Vec::new(),
            shared,
        })
    }

    /// The statistics, with all else that its part of the graph holds.
    pub fn fitted(&self) -> Weights {
        self.run.weights()
    }

    /// Whether a member reads just this.
    pub fn is_of(&self, member: &Member<'_>, parts: &Parts) -> bool {
        let same_rows = |a: &[u32], b: &[u32]| std::ptr::eq(a, b) || a == b;
        self.shared == parts.shared
            && self.changes == changes_of(member)
            && self.layer_width == layer_width(parts)
            && same_rows(self.data.train, member.data.train)
            && same_rows(self.data.valid, member.data.valid)
    }

    /// Says how many rows are read to train on in an epoch, and how many to validate on.
    pub fn begin(&mut self, rows: usize, valid: usize, epoch: u32) {
        if self.masks[1].is_none() && valid != self.data.valid.len() {
            self.masks[1] = Some(Mask::new(self.data.valid));
        }
        self.rows = if self.masks[0].is_some() { self.data.train.len() } else { rows };
        (self.made, self.epoch) = (0, epoch.into());
    }

    /// Whether a row is to be trained on.
    pub fn trains(&self, row: u32) -> bool {
        self.masks[0].as_ref().is_none_or(|mask| mask.has(row))
    }

    /// Takes what is its own of a batch of rows of these numbers.
    pub fn take(&mut self, batch: &mut Batch, numbers: &[u32], training: bool) {
        if !self.is_read {
            return;
        }
        let Some(mask) = &self.masks[usize::from(!training)] else { return self.make(batch, training) };
        let own: Vec<usize> = (0..numbers.len()).filter(|at| mask.has(numbers[*at])).collect();
        for at in own {
            self.pending.push(batch, at, &self.widths);
            if self.pending.rows == self.batch_size {
                self.flush(training);
            }
        }
    }

    /// Makes a batch of the rows that are left.
    pub fn flush(&mut self, training: bool) {
        if self.pending.rows > 0 {
            let mut pending = std::mem::take(&mut self.pending);
            self.make(&mut pending, training);
            pending.clear();
            self.pending = pending;
        }
    }

    fn make(&mut self, batch: &mut Batch, training: bool) {
        let arithmetic = if training { self.arithmetic } else { Arithmetic::Fp32 };
        let mut changed;
        let batch = match &self.changes {
            Some(changes) if training => {
                changed = batch.clone();
                // As the loop counts them, whose steps may have fewer batches at an epoch's end.
                let batches = self.batches() as u64;
                let number = self.epoch * batches.div_ceil(changes.together) * changes.together + self.made;
                let specs: &[InputSpec] = self.data.features.inputs();
                augment::change(&changes.ops, &mut changed, specs, changes.seed, number);
                &mut changed
            }
            _ => batch,
        };
        self.made += 1;
        let mut ready = self.spare.pop().unwrap_or_default();
        ready.batch.take_targets(batch);
        let shared = &self.shared;
        let width = self.layer_width;
        with_inputs(&mut self.run, batch, |run, rows| {
            run.forward(rows, Pass { arithmetic, ..Pass::EVALUATION });
            let mut frontier = shared.outputs().iter().map(|(_, id)| run.value(*id));
            if let Some((width, values)) = width.and_then(|width| Some((width, frontier.next()?))) {
                let features = Matrix::new(values, values.len() / width.max(1), width);
                ready.factors = Some(Factors::of(features, arithmetic, training, ready.factors.take()));
            }
            ready.batch.inputs.resize_with(frontier.len(), Vec::new);
            for (own, values) in ready.batch.inputs.iter_mut().zip(frontier) {
                own.clear();
                own.extend_from_slice(values);
            }
        });
        self.ready.push(ready);
    }

    /// Batches of an epoch.
    pub fn batches(&self) -> usize {
        self.rows.div_ceil(self.batch_size)
    }

    /// Bytes of the batches that wait.
    pub fn bytes(&self) -> usize {
        self.ready.iter().map(Ready::bytes).sum()
    }

    /// Takes back the room of batches that were used.
    pub fn recycle(&mut self) {
        self.spare.append(&mut self.ready);
    }
}

/// Puts a batch's inputs into an execution, and takes them back afterwards for whoever reads them next.
pub(super) fn with_inputs(run: &mut Execution<f32>, batch: &mut Batch, body: impl FnOnce(&mut Execution<f32>, usize)) {
    let exchange = |run: &mut Execution<f32>, batch: &mut Batch| {
        for (i, buffer) in batch.inputs.iter_mut().enumerate() {
            let id = run.graph().inputs()[i];
            std::mem::swap(run.value_mut(id), buffer);
        }
    };
    exchange(run, batch);
    body(run, batch.rows);
    exchange(run, batch);
}
