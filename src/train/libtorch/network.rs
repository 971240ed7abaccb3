//! A graph's values as tensors on a device.

use tch::{Device, Kind, TchError, Tensor};

use super::operator::{self, Node};
use super::{failed, size};
use crate::base::{Error, Result};
use crate::graph::execution::Pass;
use crate::graph::{Graph, Origin, ValueId};
use crate::train::Batch;

/// A graph on a device.
pub(super) struct Network {
    graph: Graph,
    device: Device,
    /// Parameters, buffers and constants; while a batch runs, all values that are still to be read.
    values: Vec<Option<Tensor>>,
    /// The last node that reads each value.
    last_reader: Vec<usize>,
}

impl Network {
    /// # Errors
    /// The constants do not fit on the device.
    pub fn new(graph: &Graph, device: Device) -> Result<Self> {
        let values = graph.values().iter().map(|_| None).collect();
        let mut last_reader = vec![0; graph.values().len()];
        for (i, node) in graph.nodes().iter().enumerate() {
            node.inputs.iter().for_each(|id| last_reader[id.index()] = i);
        }
        let mut network = Self { graph: graph.clone(), device, values, last_reader };
        for (id, value) in graph.ids() {
            if let Origin::Constant(numbers) = &value.origin {
                network.set(id, numbers).map_err(failed)?;
            }
        }
        Ok(network)
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Replaces a parameter, a buffer or a constant.
    pub fn set(&mut self, id: ValueId, values: &[f32]) -> std::result::Result<(), TchError> {
        let trained = matches!(self.graph.values()[id.index()].origin, Origin::Parameter { .. });
        let tensor = Tensor::f_from_slice(values)?.f_view(&size(self.graph.shape(id), 1)[..])?;
        let tensor = tensor.f_to_device(self.device)?;
        self.values[id.index()] = Some(if trained { tensor.f_set_requires_grad(true)? } else { tensor });
        Ok(())
    }

    /// A value that is there.
    pub fn get(&self, id: ValueId) -> std::result::Result<&Tensor, TchError> {
        let name = || self.graph.values()[id.index()].name.clone();
        self.values[id.index()].as_ref().ok_or_else(|| TchError::Torch(format!("`{}` was not computed", name())))
    }

    /// Computes `wanted` for a batch.
    ///
    /// # Errors
    /// libtorch cannot, as when a GPU's memory is full.
    pub fn forward(&mut self, batch: &Batch, wanted: ValueId, pass: Pass) -> Result<Tensor> {
        for (id, buffer) in self.graph.inputs().to_vec().into_iter().zip(&batch.inputs) {
            let shape = self.graph.shape(id);
            let part = &buffer[..shape.len(batch.rows)];
            let tensor = Tensor::f_from_slice(part).and_then(|t| t.f_view(&size(shape, batch.rows)[..]));
            let tensor = tensor.and_then(|t| t.f_to_device(self.device)).map_err(failed)?;
            self.values[id.index()] = Some(tensor);
        }
        let until = match self.graph.values()[wanted.index()].origin {
            Origin::Node(node) => node + 1,
            _ => 0,
        };
        for index in 0..until {
            let node = &self.graph.nodes()[index];
            let name = || self.graph.values()[node.output.index()].name.clone();
            let output = self
                .node(index, batch.rows, pass)
                .map_err(|e| Error::failed(format!("libtorch cannot compute `{}`", name())).because(failed(e)))?;
            let done: Vec<usize> = node.inputs.iter().map(|id| id.index()).collect();
            self.values[node.output.index()] = Some(output);
            // Autograd holds what it needs itself.
            for id in done.into_iter().filter(|id| self.last_reader[*id] == index && *id != wanted.index()) {
                if matches!(self.graph.values()[id].origin, Origin::Node(_) | Origin::Input) {
                    self.values[id] = None;
                }
            }
        }
        let output = self.get(wanted).map_err(failed)?.shallow_clone();
        for (value, slot) in self.graph.values().iter().zip(&mut self.values) {
            if matches!(value.origin, Origin::Node(_) | Origin::Input) {
                *slot = None;
            }
        }
        Ok(output)
    }

    fn node(&self, index: usize, rows: usize, pass: Pass) -> std::result::Result<Tensor, TchError> {
        let node = &self.graph.nodes()[index];
        let inputs = node.inputs.iter().map(|id| self.get(*id)).collect::<std::result::Result<Vec<_>, _>>()?;
        let shapes = node.inputs.iter().map(|id| self.graph.shape(*id)).collect();
        let output = self.graph.shape(node.output);
        operator::compute(&node.op, &Node { index, rows, pass, inputs, shapes, output })
    }

    /// The gradients of parameters, from that of an output; `None` for one that it does not depend on.
    pub fn backward(
        &self,
        output: &Tensor,
        grad: &[f32],
        parameters: &[ValueId],
    ) -> std::result::Result<Vec<Option<Tensor>>, TchError> {
        if parameters.is_empty() || !output.requires_grad() {
            return Ok(parameters.iter().map(|_| None).collect());
        }
        let grad = Tensor::f_from_slice(grad)?.f_view(&output.size()[..])?.f_to_device(self.device)?;
        let slope = (output * grad).f_sum(Kind::Float)?;
        let parameters = parameters.iter().map(|id| self.get(*id)).collect::<std::result::Result<Vec<_>, _>>()?;
        let grads = Tensor::f_run_backward(&[slope], &parameters, false, false)?;
        Ok(grads.into_iter().map(|grad| grad.defined().then_some(grad)).collect())
    }
}
