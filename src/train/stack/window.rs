//! Batches of features that tiles share, some at a time.

use super::shape::Shape;
use crate::base::{Cancel, Result};
use crate::graph::bf16::{Left, Right};
use crate::graph::execution::Pass;
use crate::graph::{Arithmetic, Execution, Graph, Matrix, Targets, ValueId, Weights};
use crate::train::batch::Reader;

/// Bytes of features of one window.
const BYTES: usize = 128 << 20;

/// One batch: what the layer reads, and the targets.
#[derive(Default)]
pub(super) struct Ready {
    pub rows: usize,
    /// `[rows, width]`; empty where they are packed.
    features: Vec<f32>,
    /// The features as factors of products in bf16, of both kinds.
    packed: (Left, Right),
    pub classes: Vec<u32>,
}

/// The features of a batch.
pub(super) enum Features<'a> {
    Plain(Matrix<'a, f32>),
    Packed(&'a Left, &'a Right),
}

impl Ready {
    pub fn targets(&self) -> Targets<'_> {
        Targets::Classes(&self.classes)
    }

    pub fn features(&self) -> Features<'_> {
        match self.features.len() / self.rows.max(1) {
            0 => Features::Packed(&self.packed.0, &self.packed.1),
            width => Features::Plain(Matrix::new(&self.features, self.rows, width)),
        }
    }

    fn take(&mut self, features: &[f32], rows: usize, arithmetic: Arithmetic) {
        self.rows = rows;
        self.features.clear();
        match arithmetic {
            Arithmetic::Fp32 => self.features.extend_from_slice(features),
            Arithmetic::Bf16 => {
                let features = Matrix::new(features, rows, features.len() / rows.max(1));
                self.packed.0.pack(features);
                self.packed.1.pack(features);
            }
        }
    }
}

/// Makes windows.
pub(super) struct Windows {
    run: Execution<f32>,
    features: ValueId,
    batches: usize,
    /// Batches that were used, whose room is taken again.
    spare: Vec<Ready>,
}

impl Windows {
    pub fn new(graph: &Graph, shape: &Shape, fitted: &Weights, batch_size: usize) -> Result<Self> {
        let run = Execution::new(graph, fitted, batch_size, false)?;
        let batches = (BYTES / (shape.width * batch_size * 4).max(1)).max(1);
        Ok(Self { run, features: shape.features, batches, spare: Vec::new() })
    }

    /// Calls `body` with the batches of `rows`, a window at a time, whose features are for products in `arithmetic`.
    ///
    /// # Errors
    /// Those of reading and of `body`; an interruption.
    pub fn each(
        &mut self,
        reader: &mut Reader<'_>,
        rows: &[u32],
        arithmetic: Arithmetic,
        cancel: &Cancel,
        mut body: impl FnMut(&[Ready]) -> Result<()>,
    ) -> Result<()> {
        let mut window = Vec::new();
        reader.each(rows, |batch| {
            for (i, buffer) in batch.inputs.iter_mut().enumerate() {
                let id = self.run.graph().inputs()[i];
                std::mem::swap(self.run.value_mut(id), buffer);
            }
            self.run.forward_to(self.features, batch.rows, Pass::EVALUATION);
            let mut ready = self.spare.pop().unwrap_or_default();
            ready.take(self.run.value(self.features), batch.rows, arithmetic);
            ready.classes.clear();
            if let Targets::Classes(classes) = batch.targets() {
                ready.classes.extend_from_slice(classes);
            }
            window.push(ready);
            if window.len() >= self.batches {
                cancel.check()?;
                body(&window)?;
                self.spare.append(&mut window);
            }
            Ok(())
        })?;
        cancel.check()?;
        if !window.is_empty() {
            body(&window)?;
            self.spare.append(&mut window);
        }
        Ok(())
    }
}
