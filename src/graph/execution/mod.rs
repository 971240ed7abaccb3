//! Running a graph forwards and backwards.
//!
//! All buffers are planned when an [`Execution`] is made, for batches of up to a given number of rows; a
//! step allocates nothing. Values of views share their source's buffer.

mod views;

use std::mem;

use super::{Arithmetic, Graph, Origin, Real, Shape, ValueId, Weights};
use crate::base::{Error, Result};

pub use views::{Backward, Context, Forward};

/// What one pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Whether operators act as in training (dropout drops).
    pub training: bool,
    /// The seed of random operators.
    pub seed: u64,
    /// The step, which random operators draw from.
    pub step: u64,
    /// In what numbers products are computed.
    pub arithmetic: Arithmetic,
}

impl Pass {
    /// An evaluation pass: nothing is random.
    pub const EVALUATION: Self = Self { training: false, seed: 0, step: 0, arithmetic: Arithmetic::Fp32 };
}

/// A graph with its values, ready to run on batches.
#[derive(Clone)]
pub struct Execution<F> {
    graph: Graph,
    max_rows: usize,
    /// The buffer of each value.
    buffer_of: Vec<usize>,
    values: Vec<Vec<F>>,
    /// Gradients, by buffer; empty where none is needed.
    grads: Vec<Vec<F>>,
    needs_grad: Vec<bool>,
    /// The nodes that it computes.
    computes: Vec<bool>,
    started: Vec<bool>,
    /// What each node keeps for backward.
    saved: Vec<Vec<F>>,
    /// Room that nodes use one after the other.
    scratch: Vec<F>,
    parameters: Vec<ValueId>,
    rows: usize,
    pass: Pass,
}

impl<F: Real> Execution<F> {
    /// Plans all buffers for batches of up to `max_rows` rows. Gradients are planned if `train`.
    ///
    /// # Errors
    /// A weight is missing or has another shape, or the buffers would be absurdly large.
    pub fn new(graph: &Graph, weights: &Weights, max_rows: usize, train: bool) -> Result<Self> {
        Self::plan(graph, Some(weights), max_rows, train, vec![true; graph.nodes().len()])
    }

    /// Plans the buffers of some nodes alone, with gradients. What they read of others is to be put into
    /// [`Execution::value_mut`] before a pass, and parameters and buffers, which have no room here, are to be
    /// exchanged in for it by [`Execution::exchange`].
    ///
    /// # Errors
    /// The buffers would be absurdly large.
    pub fn part(graph: &Graph, max_rows: usize, nodes: Vec<bool>) -> Result<Self> {
        Self::plan(graph, None, max_rows, true, nodes)
    }

    fn plan(
        graph: &Graph,
        weights: Option<&Weights>,
        max_rows: usize,
        train: bool,
        computes: Vec<bool>,
    ) -> Result<Self> {
        let count = graph.values().len();
        let mut buffer_of: Vec<usize> = (0..count).collect();
        let mut needs_grad = vec![false; count];
        let mut values = Vec::with_capacity(count);
        let mut saved = Vec::new();
        let mut scratch = 0;
        // Values that no node at hand has to do with need no room.
        let mut used = vec![weights.is_some(); count];
        for (node, _) in graph.nodes().iter().zip(&computes).filter(|(_, computes)| **computes) {
            node.inputs.iter().chain([&node.output]).for_each(|id| used[id.0] = true);
        }
        graph.outputs().iter().for_each(|(_, id)| used[id.0] = true);
        for node in graph.nodes().iter().rev().filter(|node| node.op.is_view()) {
            used[node.inputs[0].0] |= used[node.output.0];
        }
        for (i, value) in graph.values().iter().enumerate() {
            let mut len = checked_len(&value.shape, max_rows)?;
            match &value.origin {
                Origin::Parameter { .. } => needs_grad[i] = train,
                Origin::Node(n) => {
                    let node = &graph.nodes()[*n];
                    needs_grad[i] = node.inputs.iter().any(|id| needs_grad[id.0]);
                    if node.op.is_view() {
                        buffer_of[i] = buffer_of[node.inputs[0].0];
                        len = 0;
                    }
                    let shapes: Vec<&Shape> = node.inputs.iter().map(|id| graph.shape(*id)).collect();
                    let kernel = node.op.kernel::<F>();
                    let (mut keeps, mut room) = (0, 0);
                    if computes[*n] {
                        (keeps, room) = (kernel.saved_len(&shapes, max_rows), kernel.scratch_len(&shapes, max_rows));
                    }
                    saved.push(vec![F::ZERO; keeps]);
                    scratch = room.max(scratch);
                }
                Origin::Input | Origin::Buffer { .. } | Origin::Constant(_) => {}
            }
            values.push(match &value.origin {
                Origin::Parameter { .. } | Origin::Buffer { .. } => match weights {
                    Some(weights) => convert(weights.get(&value.name, &value.shape.dims)?),
                    None => Vec::new(),
                },
                _ if !used[i] => Vec::new(),
                Origin::Constant(numbers) => convert(numbers),
                Origin::Input | Origin::Node(_) => vec![F::ZERO; len],
            });
        }
        let grads =
            (0..count).map(|i| if needs_grad[i] { vec![F::ZERO; values[i].len()] } else { Vec::new() }).collect();
        Ok(Self {
            graph: graph.clone(),
            max_rows,
            buffer_of,
            values,
            grads,
            needs_grad,
            computes,
            started: vec![false; count],
            saved,
            scratch: vec![F::ZERO; scratch],
            parameters: graph.parameters().collect(),
            rows: 0,
            pass: Pass::EVALUATION,
        })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The most rows of a batch.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// Bytes of all its buffers: values, their gradients, what nodes keep for backward, and their room.
    pub fn bytes(&self) -> usize {
        let buffers = [&self.values, &self.grads, &self.saved];
        let numbers = buffers.into_iter().flatten().map(Vec::len).sum::<usize>() + self.scratch.len();
        numbers * mem::size_of::<F>()
    }

    /// The parameters, in the order in which they were added to the graph.
    pub fn parameters(&self) -> &[ValueId] {
        &self.parameters
    }

    /// Room for the rows of an input, `[max_rows, …]`; of a parameter or a buffer, its values. To be filled,
    /// swapped or changed between passes; its length stays.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Vec<F> {
        &mut self.values[self.buffer_of[id.0]]
    }

    /// A value after a pass: its rows, or all of a fixed value.
    pub fn value(&self, id: ValueId) -> &[F] {
        &self.values[self.buffer_of[id.0]][..self.graph.shape(id).len(self.rows)]
    }

    /// The gradient of a value after a backward pass; empty if it has none.
    pub fn grad(&self, id: ValueId) -> &[F] {
        let buffer = self.buffer_of[id.0];
        let len = if self.grads[buffer].is_empty() { 0 } else { self.graph.shape(id).len(self.rows) };
        &self.grads[buffer][..len]
    }

    /// A parameter's values with its gradient, for the optimiser.
    pub fn parameter_and_grad(&mut self, id: ValueId) -> (&mut [F], &mut [F]) {
        (&mut self.values[id.0], &mut self.grads[id.0])
    }

    /// Exchanges a parameter or a buffer, with its gradient if it has one, for others of its size.
    pub fn exchange(&mut self, id: ValueId, values: &mut Vec<F>, grad: &mut Vec<F>) {
        mem::swap(&mut self.values[id.0], values);
        mem::swap(&mut self.grads[id.0], grad);
    }

    /// Exchanges the graph for one that differs in settings of its operators alone.
    pub fn exchange_graph(&mut self, graph: &mut Graph) {
        mem::swap(&mut self.graph, graph);
    }

    /// A computed value together with room for the loss's gradient of it.
    pub fn value_and_grad_mut(&mut self, id: ValueId) -> (&[F], &mut [F]) {
        let (buffer, len) = (self.buffer_of[id.0], self.graph.shape(id).len(self.rows));
        let grad = &mut self.grads[buffer];
        let grad = if grad.is_empty() { &mut [] } else { &mut grad[..len] };
        (&self.values[buffer][..len], grad)
    }

    /// Computes all values from the first `rows` rows of the inputs.
    ///
    /// # Panics
    /// There are more rows than were planned for.
    pub fn forward(&mut self, rows: usize, pass: Pass) {
        self.forward_until(rows, pass, self.graph.nodes().len());
    }

    /// Computes what a value needs.
    pub fn forward_to(&mut self, value: ValueId, rows: usize, pass: Pass) {
        let nodes = match self.graph.values()[value.0].origin {
            Origin::Node(n) => n + 1,
            _ => 0,
        };
        self.forward_until(rows, pass, nodes);
    }

    fn forward_until(&mut self, rows: usize, pass: Pass, nodes: usize) {
        assert!(rows <= self.max_rows, "{rows} rows, planned for {}", self.max_rows);
        self.rows = rows;
        self.pass = pass;
        for (i, node) in self.graph.nodes()[..nodes].iter().enumerate() {
            if node.op.is_view() || !self.computes[i] {
                continue;
            }
            let out = self.buffer_of[node.output.0];
            let mut output = mem::take(&mut self.values[out]);
            let len = self.graph.shape(node.output).len(rows);
            let context = Context {
                graph: &self.graph,
                node,
                index: i,
                rows,
                pass,
                buffer_of: &self.buffer_of,
                values: &self.values,
            };
            let saved = &mut self.saved[i];
            let kernel = node.op.kernel::<F>();
            kernel.forward(&mut Forward { context, output: &mut output[..len], saved, scratch: &mut self.scratch });
            self.values[out] = output;
            if pass.training {
                for input in kernel.tracked() {
                    let buffer = &mut self.values[self.buffer_of[node.inputs[*input].0]];
                    kernel.track(*input, &self.saved[i], buffer);
                }
            }
        }
    }

    /// Computes the gradients of all parameters from that of `output`, which the loss has put into
    /// [`Execution::value_and_grad_mut`] after a forward pass.
    pub fn backward(&mut self, outputs: &[ValueId]) {
        self.started.fill(false);
        for id in outputs {
            self.started[self.buffer_of[id.0]] = true;
        }
        for (i, node) in self.graph.nodes().iter().enumerate().rev() {
            let out = self.buffer_of[node.output.0];
            let skipped = node.op.is_view() || !self.computes[i];
            if skipped || !self.needs_grad[node.output.0] || !self.started[out] {
                continue;
            }
            let context = Context {
                graph: &self.graph,
                node,
                index: i,
                rows: self.rows,
                pass: self.pass,
                buffer_of: &self.buffer_of,
                values: &self.values,
            };
            let kernel = node.op.kernel::<F>();
            kernel.backward(&mut Backward {
                context,
                grads: &mut self.grads,
                started: &mut self.started,
                saved: &self.saved[i],
                scratch: &mut self.scratch,
            });
        }
        // A parameter that no output depends on.
        for id in &self.parameters {
            if !self.started[id.0] {
                self.grads[id.0].fill(F::ZERO);
            }
        }
    }

    /// Parameters and buffers as they are now.
    pub fn weights(&self) -> Weights {
        let mut weights = Weights::default();
        for (value, numbers) in self.graph.values().iter().zip(&self.values) {
            if matches!(value.origin, Origin::Parameter { .. } | Origin::Buffer { .. }) {
                let numbers = numbers.iter().map(|x| x.wide() as f32).collect();
                weights.insert(&value.name, value.shape.dims.clone(), numbers);
            }
        }
        weights
    }

    /// Replaces parameters and buffers.
    ///
    /// # Errors
    /// One is missing or has another shape.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        for (value, numbers) in self.graph.values().iter().zip(&mut self.values) {
            if matches!(value.origin, Origin::Parameter { .. } | Origin::Buffer { .. }) {
                *numbers = convert(weights.get(&value.name, &value.shape.dims)?);
            }
        }
        Ok(())
    }
}

fn convert<F: Real>(numbers: &[f32]) -> Vec<F> {
    numbers.iter().map(|x| F::of(f64::from(*x))).collect()
}

fn checked_len(shape: &Shape, rows: usize) -> Result<usize> {
    shape
        .elements()
        .checked_mul(if shape.batched { rows } else { 1 })
        .filter(|n| *n <= 1 << 34)
        .ok_or_else(|| Error::bad_input(format!("a batch of {rows} rows of shape `{shape}` does not fit into memory")))
}
