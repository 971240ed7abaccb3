//! The trainer on PyTorch's C++ library: the same graph in its operators, on the processor or a GPU, with gradients by
//! its autograd. Behind the cargo feature `libtorch`.
//!
//! Weights begin with the same numbers, rows come in the same order, and dropout drops the same elements as in the
//! embedded trainer; loss and updates are [the same code](super::updates), in memory. So the two differ by rounding alone,
//! and a checkpoint of the one is one of the other. On a GPU each step therefore brings the gradients to memory and the
//! weights back. Unlike the embedded trainer's, results may depend on the number of threads and on the device.

use tch::{Device, Kind, TchError, Tensor};

use super::updates::{Criterion, Parameters, Updates};
use super::{Batch, StepUpdate, TrainConfig, Trainer};
use crate::base::{Error, Result};
use crate::graph::execution::Pass;
use crate::graph::{Arithmetic, Graph, Origin, Shape, ValueId, Weights};
use crate::loss::{LossSum, TargetFacts};
use crate::recipe;

mod network;
mod operator;
#[cfg(test)]
mod tests;
mod version;

use network::Network;
pub use version::version;

/// Trains a graph with libtorch.
pub struct Libtorch {
    network: Network,
    output: ValueId,
    memory: Memory,
    criterion: Criterion,
    updates: Updates,
    seed: u64,
    /// Of steps; what is measured is f32.
    arithmetic: Arithmetic,
}

/// The parameters in memory, with their gradients, by [`ValueId::index`]; empty for all other values.
struct Memory {
    values: Vec<Vec<f32>>,
    grads: Vec<Vec<f32>>,
}

impl Parameters for Memory {
    fn value(&self, id: ValueId) -> &[f32] {
        &self.values[id.index()]
    }

    fn pair(&mut self, id: ValueId) -> (&mut [f32], &mut [f32]) {
        (&mut self.values[id.index()], &mut self.grads[id.index()])
    }

    fn grad(&self, id: ValueId) -> &[f32] {
        &self.grads[id.index()]
    }
}

impl Libtorch {
    /// A trainer of `graph` from given weights.
    ///
    /// # Errors
    /// The graph has no output, a weight is missing, the loss does not fit the targets, a group of parameters matches
    /// none, or the device that is asked for is not there.
    pub fn new(graph: &Graph, weights: &Weights, config: &TrainConfig, facts: &TargetFacts) -> Result<Self> {
        let (_, output) = graph.outputs().first().ok_or_else(|| Error::bad_input("the trained part has no output"))?;
        let empty = || vec![Vec::new(); graph.values().len()];
        let mut trainer = Self {
            network: Network::new(graph, device(config.recipe.device)?)?,
            output: *output,
            memory: Memory { values: empty(), grads: empty() },
            criterion: Criterion::new(config, facts)?,
            updates: Updates::new(graph, config)?,
            seed: config.seed,
            arithmetic: config.recipe.precision,
        };
        for id in graph.parameters() {
            trainer.memory.grads[id.index()] = vec![0.0; graph.shape(id).elements()];
        }
        trainer.set_weights(weights)?;
        Ok(trainer)
    }

    /// The loss of a batch, with its gradient by the output.
    fn loss(&mut self, batch: &Batch, output: &Tensor) -> Result<(LossSum, Vec<f32>, Vec<f32>)> {
        let outputs = to_memory(output)?;
        let mut grad = vec![0.0; outputs.len()];
        let loss = self.criterion.compute(batch, &outputs, &mut grad);
        Ok((loss, outputs, grad))
    }

    /// Forward, loss and backward, to the gradients in memory.
    fn differentiate(&mut self, batch: &Batch, pass: Pass) -> Result<LossSum> {
        let output = self.network.forward(batch, self.output, pass)?;
        let (loss, _, grad) = self.loss(batch, &output)?;
        let parameters: Vec<ValueId> = self.network.graph().parameters().collect();
        let grads = self.network.backward(&output, &grad, &parameters).map_err(failed)?;
        for (id, grad) in parameters.iter().zip(grads) {
            let memory = &mut self.memory.grads[id.index()];
            match grad {
                Some(grad) => {
                    let count = memory.len();
                    grad.f_copy_data(memory, count).map_err(failed)?;
                }
                // No output depends on it.
                None => memory.fill(0.0),
            }
        }
        Ok(loss)
    }

    /// Brings the parameters in memory to the device.
    fn upload(&mut self) -> Result<()> {
        let parameters: Vec<ValueId> = self.network.graph().parameters().collect();
        parameters.into_iter().try_for_each(|id| self.network.set(id, &self.memory.values[id.index()])).map_err(failed)
    }

    fn training(&self, step: u64) -> Pass {
        Pass { training: true, seed: self.seed, step, arithmetic: self.arithmetic }
    }
}

impl Trainer for Libtorch {
    fn step(&mut self, batch: &mut Batch, update: StepUpdate) -> Result<LossSum> {
        let loss = self.differentiate(batch, self.training(update.step))?;
        self.updates.apply(&mut self.memory, update);
        self.upload()?;
        Ok(loss)
    }

    fn accumulate(&mut self, batch: &mut Batch, step: Option<u64>) -> Result<LossSum> {
        let fixed = Pass { arithmetic: self.arithmetic, ..Pass::EVALUATION };
        let loss = self.differentiate(batch, step.map_or(fixed, |step| self.training(step)))?;
        self.updates.accumulate(&self.memory, loss);
        Ok(loss)
    }

    fn update(&mut self, update: StepUpdate) -> Result<()> {
        self.updates.take_sum(&mut self.memory);
        self.updates.apply(&mut self.memory, update);
        self.upload()
    }

    fn point(&self) -> Vec<f32> {
        self.updates.point(&self.memory)
    }

    fn set_point(&mut self, point: &[f32]) -> Result<()> {
        self.updates.set_point(&mut self.memory, point);
        self.upload()
    }

    fn take_gradient(&mut self) -> Vec<f32> {
        self.updates.take_gradient(&mut self.memory)
    }

    fn swap_average(&mut self) -> Result<()> {
        if self.updates.swap_average(&mut self.memory) { self.upload() } else { Ok(()) }
    }

    fn infer(&mut self, batch: &mut Batch, outputs: &mut dyn FnMut(&[f32])) -> Result<LossSum> {
        let output = tch::no_grad(|| self.network.forward(batch, self.output, Pass::EVALUATION))?;
        let (loss, values, _) = self.loss(batch, &output)?;
        outputs(&values);
        Ok(loss)
    }

    fn value(&mut self, fit: usize, batch: &mut Batch, values: &mut dyn FnMut(&[f32])) -> Result<()> {
        let value = self.network.graph().fits()[fit].value;
        let output = tch::no_grad(|| self.network.forward(batch, value, Pass::EVALUATION))?;
        values(&to_memory(&output)?);
        Ok(())
    }

    fn weights(&self) -> Result<Weights> {
        let mut weights = Weights::default();
        for (id, value) in self.network.graph().ids() {
            let values = match value.origin {
                Origin::Parameter { .. } => self.memory.values[id.index()].clone(),
                Origin::Buffer { .. } => to_memory(self.network.get(id).map_err(failed)?)?,
                Origin::Input | Origin::Constant(_) | Origin::Node(_) => continue,
            };
            weights.insert(&value.name, value.shape.dims.clone(), values);
        }
        Ok(weights)
    }

    fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        let graph = self.network.graph().clone();
        for (id, value) in graph.ids() {
            if matches!(value.origin, Origin::Parameter { .. } | Origin::Buffer { .. }) {
                let values = weights.get(&value.name, &value.shape.dims)?;
                self.network.set(id, values).map_err(failed)?;
                if matches!(value.origin, Origin::Parameter { .. }) {
                    self.memory.values[id.index()] = values.to_vec();
                }
            }
        }
        Ok(())
    }

    fn optimizer_state(&mut self) -> Weights {
        self.updates.state()
    }

    fn set_optimizer_state(&mut self, state: &Weights) -> Result<()> {
        self.updates.set_state(state)
    }
}

/// Where to compute.
fn device(asked: recipe::Device) -> Result<Device> {
    match asked {
        recipe::Device::Auto => Ok(Device::cuda_if_available()),
        recipe::Device::Cpu => Ok(Device::Cpu),
        recipe::Device::Cuda if tch::Cuda::is_available() => Ok(Device::Cuda(0)),
        recipe::Device::Cuda => {
            let error = Error::bad_input("`train.device: cuda` finds no GPU that this build's libtorch can use");
            Err(error.hint("build with a libtorch for CUDA (`LIBTORCH`), or take `device: cpu`"))
        }
    }
}

/// A tensor's elements.
fn to_memory(tensor: &Tensor) -> Result<Vec<f32>> {
    let mut values = vec![0.0; tensor.numel()];
    let count = values.len();
    tensor.f_to_kind(Kind::Float).and_then(|tensor| tensor.f_copy_data(&mut values, count)).map_err(failed)?;
    Ok(values)
}

/// The size of a value of this shape when the batch has `rows` rows.
fn size(shape: &Shape, rows: usize) -> Vec<i64> {
    let batch = shape.batched.then_some(rows as i64);
    batch.into_iter().chain(shape.dims.iter().map(|d| *d as i64)).collect()
}

fn failed(error: TchError) -> Error {
    let said = error.to_string();
    let error = Error::failed("libtorch failed").because(error);
    match said.contains("out of memory") {
        true => error.hint("lower `train.batch_size`; `train.accumulate` keeps the steps what they are"),
        false => error,
    }
}
