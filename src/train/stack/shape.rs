//! Graphs of one shape, and the room that is taken to compute them.

use std::sync::{Mutex, PoisonError};

use super::parts::{Parts, are_alike};
use crate::base::Result;
use crate::graph::{Execution, Graph};

/// A shape of graphs.
pub(super) struct Shape {
    pub parts: Parts,
    graph: Graph,
    /// Computes what each head computes by itself.
    first: Execution<f32>,
    /// Others, as many as were ever in use at once.
    spare: Mutex<Vec<Execution<f32>>>,
}

impl Shape {
    /// The shape of a graph, for batches of so many rows.
    ///
    /// # Errors
    /// The buffers would be absurdly large.
    pub fn new(graph: &Graph, parts: Parts, batch_size: usize) -> Result<Self> {
        let first = Execution::part(graph, batch_size, parts.own.clone())?;
        Ok(Self { parts, graph: graph.clone(), first, spare: Mutex::default() })
    }

    /// Whether a graph has this shape.
    pub fn is_of(&self, graph: &Graph) -> bool {
        are_alike(&self.graph, graph)
    }

    /// The graph by which others differ in settings at most.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Calls `body` with an execution that nobody else uses.
    pub fn with<R>(&self, body: impl FnOnce(&mut Execution<f32>) -> R) -> R {
        let spare = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = spare().pop();
        let mut run = taken.unwrap_or_else(|| self.first.clone());
        let result = body(&mut run);
        spare().push(run);
        result
    }
}
