//! The embedded trainer: caft's own, in Rust, on the processor.

use std::sync::OnceLock;

use super::updates::{Criterion, Parameters, Updates};
use super::{Batch, StepUpdate, TrainConfig, Trainer};
use crate::base::{Error, Result};
use crate::graph::execution::Pass;
use crate::graph::{Arithmetic, Execution, Graph, ValueId, Weights};
use crate::loss::{LossSum, TargetFacts};

/// Trains a graph in f32. All memory is taken when it is made, but for sums of gradients, which are at their
/// first use.
pub struct Embedded {
    run: Execution<f32>,
    output: ValueId,
    criterion: Criterion,
    updates: Updates,
    seed: u64,
    /// Of steps; what is measured is f32.
    arithmetic: Arithmetic,
}

impl Embedded {
    /// A trainer of `graph` from given weights.
    ///
    /// # Errors
    /// The graph has no output, a weight is missing, the loss does not fit the targets, or a group of
    /// parameters matches none.
    pub fn new(graph: &Graph, weights: &Weights, config: &TrainConfig, facts: &TargetFacts) -> Result<Self> {
        let (_, output) = graph.outputs().first().ok_or_else(|| Error::bad_input("the trained part has no output"))?;
        Ok(Self {
            run: Execution::new(graph, weights, config.batch_size(), true)?,
            output: *output,
            criterion: Criterion::new(config, facts)?,
            updates: Updates::new(graph, config)?,
            seed: config.seed,
            arithmetic: config.recipe.precision,
        })
    }

    fn load(&mut self, batch: &mut Batch) {
        for (i, buffer) in batch.inputs.iter_mut().enumerate() {
            let id = self.run.graph().inputs()[i];
            std::mem::swap(self.run.value_mut(id), buffer);
        }
    }

    fn loss(&mut self, batch: &Batch) -> LossSum {
        let (outputs, grad) = self.run.value_and_grad_mut(self.output);
        // Nothing below the output is trained: of a solved head, or of an exported file.
        let mut unused = vec![0.0; if grad.is_empty() { outputs.len() } else { 0 }];
        self.criterion.compute(batch, outputs, if grad.is_empty() { &mut unused } else { grad })
    }

    /// Forward, loss and backward.
    fn differentiate(&mut self, batch: &mut Batch, pass: Pass) -> LossSum {
        self.load(batch);
        self.run.forward(batch.rows, pass);
        let loss = self.loss(batch);
        self.run.backward(&[self.output]);
        loss
    }

    fn training(&self, step: u64) -> Pass {
        Pass { training: true, seed: self.seed, step, arithmetic: self.arithmetic }
    }
}

impl Parameters for Execution<f32> {
    fn value(&self, id: ValueId) -> &[f32] {
        self.value(id)
    }

    fn pair(&mut self, id: ValueId) -> (&mut [f32], &mut [f32]) {
        self.parameter_and_grad(id)
    }

    fn grad(&self, id: ValueId) -> &[f32] {
        self.grad(id)
    }
}

impl Trainer for Embedded {
    fn step(&mut self, batch: &mut Batch, update: StepUpdate) -> Result<LossSum> {
        let loss = self.differentiate(batch, self.training(update.step));
        self.updates.apply(&mut self.run, update);
        Ok(loss)
    }

    fn accumulate(&mut self, batch: &mut Batch, step: Option<u64>) -> Result<LossSum> {
        let fixed = Pass { arithmetic: self.arithmetic, ..Pass::EVALUATION };
        let loss = self.differentiate(batch, step.map_or(fixed, |step| self.training(step)));
        self.updates.accumulate(&self.run, loss);
        Ok(loss)
    }

    fn update(&mut self, update: StepUpdate) -> Result<()> {
        self.updates.take_sum(&mut self.run);
        self.updates.apply(&mut self.run, update);
        Ok(())
    }

    fn point(&self) -> Vec<f32> {
        self.updates.point(&self.run)
    }

    fn set_point(&mut self, point: &[f32]) -> Result<()> {
        self.updates.set_point(&mut self.run, point);
        Ok(())
    }

    fn take_gradient(&mut self) -> Vec<f32> {
        self.updates.take_gradient(&mut self.run)
    }

    fn swap_average(&mut self) -> Result<()> {
        self.updates.swap_average(&mut self.run);
        Ok(())
    }

    fn infer(&mut self, batch: &mut Batch, outputs: &mut dyn FnMut(&[f32])) -> Result<LossSum> {
        self.load(batch);
        self.run.forward(batch.rows, Pass::EVALUATION);
        let loss = self.loss(batch);
        outputs(self.run.value(self.output));
        Ok(loss)
    }

    fn value(&mut self, fit: usize, batch: &mut Batch, values: &mut dyn FnMut(&[f32])) -> Result<()> {
        let value = self.run.graph().fits()[fit].value;
        self.load(batch);
        self.run.forward_to(value, batch.rows, Pass::EVALUATION);
        values(self.run.value(value));
        Ok(())
    }

    fn weights(&self) -> Result<Weights> {
        Ok(self.run.weights())
    }

    fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        self.run.set_weights(weights)
    }

    fn optimizer_state(&mut self) -> Weights {
        self.updates.state()
    }

    fn set_optimizer_state(&mut self, state: &Weights) -> Result<()> {
        self.updates.set_state(state)
    }
}

/// Runs on rayon's workers, so that no step has to hand work to another thread and wait for it. Uses the
/// pool it is called in, if any.
pub(super) fn on_workers<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    if rayon::current_thread_index().is_some() {
        return body();
    }
    static POOL: OnceLock<Option<rayon::ThreadPool>> = OnceLock::new();
    match POOL.get_or_init(|| rayon::ThreadPoolBuilder::new().build().ok()) {
        Some(pool) => pool.install(body),
        None => body(),
    }
}
