//! The embedded trainer: caft's own, in Rust, on the processor.

use std::sync::OnceLock;

use rayon::prelude::*;

use super::{Batch, StepUpdate, TrainConfig, Trainer};
use crate::base::{Error, Result};
use crate::graph::execution::Pass;
use crate::graph::parallel::CHUNK;
use crate::graph::{Arithmetic, Execution, Graph, Origin, ValueId, Weights};
use crate::loss::{Loss, LossSum, TargetFacts};
use crate::optim::{Factors, MAX_SLOTS, Optimizer, Update, factors};

/// Trains a graph in f32. All memory is taken when it is made, but for sums of gradients, which are at their
/// first use.
pub struct Embedded {
    run: Execution<f32>,
    output: ValueId,
    loss: Box<dyn Loss<f32>>,
    /// `None` where the loop takes the steps (L-BFGS).
    optimizer: Option<Box<dyn Optimizer>>,
    /// Per parameter, one tensor per slot.
    state: Vec<Vec<Vec<f32>>>,
    factors: Vec<Factors>,
    /// Per parameter, the sum of gradients, with the sum of their weights.
    sums: (Vec<Vec<f32>>, f64),
    /// The running average: how much of it stays, and its tensor per parameter.
    average: Option<(f32, Vec<Vec<f32>>)>,
    row_losses: Vec<f64>,
    clip_norm: Option<f64>,
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
        let run = Execution::new(graph, weights, config.batch_size(), true)?;
        let train = &config.recipe;
        let optimizer = train.optimizer.build();
        let slots = optimizer.as_ref().map_or(0, |optimizer| optimizer.slots());
        let value = |id: &ValueId| &graph.values()[id.index()];
        let zeros = |id: &ValueId| vec![0.0; value(id).shape.elements()];
        let state = run.parameters().iter().map(|id| vec![zeros(id); slots]).collect();
        let named = |id| (value(id).name.as_str(), matches!(value(id).origin, Origin::Parameter { decay: true, .. }));
        let named: Vec<(&str, bool)> = run.parameters().iter().map(named).collect();
        let factors = factors(&train.parameter_groups, train.layer_decay, &named)?;
        let average = train.ema.map(|ema| (ema.decay as f32, run.parameters().iter().map(zeros).collect()));
        Ok(Self {
            output: *output,
            optimizer,
            state,
            factors,
            sums: (Vec::new(), 0.0),
            average,
            row_losses: vec![0.0; config.batch_size()],
            loss: train.loss().build(facts)?,
            clip_norm: train.clip_norm,
            seed: config.seed,
            arithmetic: train.precision,
            run,
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
        let grad = if grad.is_empty() { &mut unused[..] } else { grad };
        let losses = &mut self.row_losses[..batch.rows];
        let loss = self.loss.compute(outputs, batch.targets(), losses, grad);
        let Some((share, others)) = batch.mixed() else { return loss };
        let own = grad.to_vec();
        let other = self.loss.compute(outputs, others, losses, grad);
        grad.iter_mut().zip(own).for_each(|(grad, own)| *grad = share as f32 * own + (1.0 - share) as f32 * *grad);
        LossSum { sum: (share * loss.mean() + (1.0 - share) * other.mean()) * loss.weight, weight: loss.weight }
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

    /// Updates all parameters by their gradients.
    fn apply(&mut self, update: StepUpdate) {
        if let Some(longest) = self.clip_norm {
            self.clip(longest);
        }
        let Some(optimizer) = &self.optimizer else { return };
        for (i, state) in self.state.iter_mut().enumerate() {
            let (weights, grad) = self.run.parameter_and_grad(self.run.parameters()[i]);
            apply(&**optimizer, update.of_parameter(self.factors[i]), weights, grad, state);
        }
        let Some((keep, averages)) = &mut self.average else { return };
        // The average begins with the weights after the first step.
        let gain = if update.step == 1 { 1.0 } else { 1.0 - *keep };
        for (i, average) in averages.iter_mut().enumerate() {
            let (weights, _) = self.run.parameter_and_grad(self.run.parameters()[i]);
            let parts = average.par_chunks_mut(CHUNK).zip(weights.par_chunks(CHUNK));
            parts.for_each(|(average, w)| average.iter_mut().zip(w).for_each(|(a, w)| *a += (*w - *a) * gain));
        }
    }

    /// Puts the mean of the summed gradients in the gradients' place, and empties the sum.
    fn take_sum(&mut self) {
        let (sums, weight) = &mut self.sums;
        let scale = if *weight > 0.0 { (1.0 / *weight) as f32 } else { 0.0 };
        for (i, sum) in sums.iter_mut().enumerate() {
            let (_, grad) = self.run.parameter_and_grad(self.run.parameters()[i]);
            for (g, s) in grad.iter_mut().zip(sum.iter_mut()) {
                *g = std::mem::take(s) * scale;
            }
        }
        *weight = 0.0;
    }

    /// Scales all gradients so that their common Euclidean length is at most `longest` (PyTorch's
    /// `clip_grad_norm_`).
    fn clip(&mut self, longest: f64) {
        let squares = |id: &ValueId| self.run.grad(*id).iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
        let length = self.run.parameters().iter().map(squares).sum::<f64>().sqrt();
        let scale = longest / (length + 1e-6);
        if scale < 1.0 {
            for i in 0..self.state.len() {
                let (_, grad) = self.run.parameter_and_grad(self.run.parameters()[i]);
                grad.par_chunks_mut(CHUNK).for_each(|part| part.iter_mut().for_each(|g| *g *= scale as f32));
            }
        }
    }

    /// The name, shape and place of every tensor of the optimiser's state.
    fn state_tensors(&mut self) -> impl Iterator<Item = (String, Vec<usize>, &mut Vec<f32>)> {
        let Self { run, state, average, .. } = self;
        let values = run.parameters().iter().map(|id| &run.graph().values()[id.index()]);
        let slots = values.clone().zip(state).flat_map(|(value, slots)| {
            let named = |(slot, tensor)| (format!("{}.{slot}", value.name), value.shape.dims.clone(), tensor);
            slots.iter_mut().enumerate().map(named)
        });
        let averages = average.iter_mut().flat_map(|(_, averages)| averages);
        let averages = values
            .zip(averages)
            .map(|(value, tensor)| (format!("{}.average", value.name), value.shape.dims.clone(), tensor));
        slots.chain(averages)
    }
}

impl Trainer for Embedded {
    fn step(&mut self, batch: &mut Batch, update: StepUpdate) -> Result<LossSum> {
        let loss = self.differentiate(batch, self.training(update.step));
        self.apply(update);
        Ok(loss)
    }

    fn accumulate(&mut self, batch: &mut Batch, step: Option<u64>) -> Result<LossSum> {
        let fixed = Pass { arithmetic: self.arithmetic, ..Pass::EVALUATION };
        let loss = self.differentiate(batch, step.map_or(fixed, |step| self.training(step)));
        let (sums, weight) = &mut self.sums;
        if sums.is_empty() {
            *sums = self.run.parameters().iter().map(|id| vec![0.0; self.run.grad(*id).len()]).collect();
        }
        for (sum, id) in sums.iter_mut().zip(self.run.parameters()) {
            let parts = sum.par_chunks_mut(CHUNK).zip(self.run.grad(*id).par_chunks(CHUNK));
            let factor = loss.weight as f32;
            parts.for_each(|(sum, grad)| sum.iter_mut().zip(grad).for_each(|(s, g)| *s += factor * *g));
        }
        *weight += loss.weight;
        Ok(loss)
    }

    fn update(&mut self, update: StepUpdate) -> Result<()> {
        self.take_sum();
        self.apply(update);
        Ok(())
    }

    fn point(&self) -> Vec<f32> {
        self.run.parameters().iter().flat_map(|id| self.run.value(*id)).copied().collect()
    }

    fn set_point(&mut self, point: &[f32]) {
        let mut rest = point;
        for i in 0..self.state.len() {
            let (weights, _) = self.run.parameter_and_grad(self.run.parameters()[i]);
            let (values, after) = rest.split_at(weights.len());
            weights.copy_from_slice(values);
            rest = after;
        }
    }

    fn take_gradient(&mut self) -> Vec<f32> {
        self.take_sum();
        self.run.parameters().iter().flat_map(|id| self.run.grad(*id)).copied().collect()
    }

    fn swap_average(&mut self) {
        let Some((_, averages)) = &mut self.average else { return };
        for (i, average) in averages.iter_mut().enumerate() {
            let id = self.run.parameters()[i];
            std::mem::swap(self.run.value_mut(id), average);
        }
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

    fn weights(&self) -> Weights {
        self.run.weights()
    }

    fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        self.run.set_weights(weights)
    }

    fn optimizer_state(&mut self) -> Weights {
        let mut all = Weights::default();
        self.state_tensors().for_each(|(name, shape, tensor)| all.insert(name, shape, tensor.clone()));
        all
    }

    fn set_optimizer_state(&mut self, state: &Weights) -> Result<()> {
        self.state_tensors().try_for_each(|(name, shape, tensor)| {
            tensor.copy_from_slice(state.get(&name, &shape)?);
            Ok(())
        })
    }
}

/// Updates one parameter, in chunks.
pub(super) fn apply(
    optimizer: &dyn Optimizer,
    update: Update,
    weights: &mut [f32],
    grad: &mut [f32],
    state: &mut [Vec<f32>],
) {
    const { assert!(MAX_SLOTS == 2) };
    let chunks = weights.par_chunks_mut(CHUNK).zip(grad.par_chunks_mut(CHUNK));
    match state {
        [] => chunks.for_each(|(w, g)| optimizer.update(&update, w, g, &mut [])),
        [a] => chunks.zip(a.par_chunks_mut(CHUNK)).for_each(|((w, g), a)| optimizer.update(&update, w, g, &mut [a])),
        [a, b, ..] => chunks
            .zip(a.par_chunks_mut(CHUNK).zip(b.par_chunks_mut(CHUNK)))
            .for_each(|((w, g), (a, b))| optimizer.update(&update, w, g, &mut [a, b])),
    }
    let length = |values: &[f32]| values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if let Some(trust) = optimizer.trust(length(weights), length(grad)) {
        let rate = (update.lr * trust) as f32;
        weights.iter_mut().zip(grad).for_each(|(w, g)| *w -= rate * *g);
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
