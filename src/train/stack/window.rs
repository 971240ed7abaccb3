//! Batches of features that tiles share, some at a time.

use super::shape::Shape;
use crate::base::{Cancel, Result};
use crate::graph::execution::Pass;
use crate::graph::{Execution, Graph, Targets, ValueId, Weights};
use crate::train::batch::Reader;

/// Bytes of features of one window.
const BYTES: usize = 128 << 20;

/// One batch: what the layer reads, and the targets.
pub(super) struct Ready {
    pub rows: usize,
    /// `[rows, width]`.
    pub features: Vec<f32>,
    pub classes: Vec<u32>,
}

impl Ready {
    pub fn targets(&self) -> Targets<'_> {
        Targets::Classes(&self.classes)
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

    /// Calls `body` with the batches of `rows`, a window at a time.
    ///
    /// # Errors
    /// Those of reading and of `body`; an interruption.
    pub fn each(
        &mut self,
        reader: &mut Reader<'_>,
        rows: &[u32],
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
            let mut ready =
                self.spare.pop().unwrap_or_else(|| Ready { rows: 0, features: Vec::new(), classes: Vec::new() });
            ready.rows = batch.rows;
            ready.features.clear();
            ready.features.extend_from_slice(self.run.value(self.features));
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
