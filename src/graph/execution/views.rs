//! What a kernel sees of an execution: its inputs to read, and what it fills.

use std::mem;

use super::Pass;
use crate::graph::op::Op;
use crate::graph::{Graph, Node, Real, Shape, ValueId};

/// What a kernel may read.
pub struct Context<'a, F> {
    pub(super) graph: &'a Graph,
    pub(super) node: &'a Node,
    /// The node's number, which keeps the random streams of nodes apart.
    pub index: usize,
    /// Rows of the batch.
    pub rows: usize,
    /// What the pass is for.
    pub pass: Pass,
    pub(super) buffer_of: &'a [usize],
    pub(super) values: &'a [Vec<F>],
}

impl<'a, F: Real> Context<'a, F> {
    /// How many inputs the node has.
    pub fn inputs(&self) -> usize {
        self.node.inputs.len()
    }

    /// An input's elements.
    pub fn input(&self, i: usize) -> &'a [F] {
        self.value(self.node.inputs[i])
    }

    /// An input's shape.
    pub fn input_shape(&self, i: usize) -> &'a Shape {
        self.graph.shape(self.node.inputs[i])
    }

    /// The output's shape.
    pub fn output_shape(&self) -> &'a Shape {
        self.graph.shape(self.node.output)
    }

    /// The operator, for its settings.
    pub fn op(&self) -> &'a Op {
        &self.node.op
    }

    fn value(&self, id: ValueId) -> &'a [F] {
        &self.values[self.buffer_of[id.0]][..self.graph.shape(id).len(self.rows)]
    }
}

/// A node's forward computation: inputs to read, an output to fill.
pub struct Forward<'a, F> {
    pub(super) context: Context<'a, F>,
    /// To be filled; what it holds before is of no meaning.
    pub output: &'a mut [F],
    /// To be kept for backward.
    pub saved: &'a mut [F],
    /// Room for the kernel's own use; what it holds before is of no meaning.
    pub scratch: &'a mut [F],
}

impl<'a, F> std::ops::Deref for Forward<'a, F> {
    type Target = Context<'a, F>;

    fn deref(&self) -> &Self::Target {
        &self.context
    }
}

/// A node's backward computation.
pub struct Backward<'a, F> {
    pub(super) context: Context<'a, F>,
    pub(super) grads: &'a mut [Vec<F>],
    pub(super) started: &'a mut [bool],
    /// What forward kept.
    pub saved: &'a [F],
    /// Room for the kernel's own use, to be taken with [`std::mem::take`].
    pub scratch: &'a mut [F],
}

impl<'a, F> std::ops::Deref for Backward<'a, F> {
    type Target = Context<'a, F>;

    fn deref(&self) -> &Self::Target {
        &self.context
    }
}

impl<F: Real> Backward<'_, F> {
    /// The output's elements.
    pub fn output(&self) -> &[F] {
        self.context.value(self.context.node.output)
    }

    /// The output's gradient.
    pub fn output_grad(&self) -> &[F] {
        let output = self.context.node.output;
        &self.grads[self.context.buffer_of[output.0]][..self.context.output_shape().len(self.context.rows)]
    }

    /// Calls `body(gradient, accumulate, self)` for an input that needs a gradient: to be added to if
    /// `accumulate`, else to be overwritten.
    pub fn grad(&mut self, i: usize, body: impl FnOnce(&mut [F], bool, &Self)) {
        let buffer = self.context.buffer_of[self.context.node.inputs[i].0];
        let len = self.context.input_shape(i).len(self.context.rows);
        if self.grads[buffer].is_empty() {
            return;
        }
        let mut grad = mem::take(&mut self.grads[buffer]);
        let accumulate = mem::replace(&mut self.started[buffer], true);
        body(&mut grad[..len], accumulate, self);
        self.grads[buffer] = grad;
    }
}
