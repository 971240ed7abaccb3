//! The embedded trainer: caft's own, in Rust, on the processor.

use std::sync::OnceLock;

use rayon::prelude::*;

use super::{Batch, StepUpdate, TrainConfig, Trainer};
use crate::base::{Error, Result};
use crate::graph::execution::Pass;
use crate::graph::parallel::CHUNK;
use crate::graph::{Execution, Graph, Origin, ValueId, Weights};
use crate::loss::{Loss, LossSum, TargetFacts};
use crate::optim::{MAX_SLOTS, Optimizer};

/// Trains a graph in f32. All memory is taken when it is made.
pub struct Embedded {
    run: Execution<f32>,
    output: ValueId,
    loss: Box<dyn Loss<f32>>,
    optimizer: Box<dyn Optimizer>,
    /// Per parameter, one tensor per slot.
    state: Vec<Vec<Vec<f32>>>,
    decays: Vec<bool>,
    row_losses: Vec<f64>,
    clip_norm: Option<f64>,
    seed: u64,
}

impl Embedded {
    /// A trainer of `graph` from given weights.
    ///
    /// # Errors
    /// The graph has no output, a weight is missing, or the loss does not fit the targets.
    pub fn new(graph: &Graph, weights: &Weights, config: &TrainConfig, facts: &TargetFacts) -> Result<Self> {
        let (_, output) = graph.outputs().first().ok_or_else(|| Error::bad_input("the trained part has no output"))?;
        let run = Execution::new(graph, weights, config.batch_size(), true)?;
        let optimizer = config.recipe.optimizer.build();
        let value = |id: &ValueId| &graph.values()[id.index()];
        let zeros = |id| vec![vec![0.0; value(id).shape.elements()]; optimizer.slots()];
        let state = run.parameters().iter().map(zeros).collect();
        let decays = |id| matches!(value(id).origin, Origin::Parameter { decay: true, .. });
        let decays = run.parameters().iter().map(decays).collect();
        let row_losses = vec![0.0; config.batch_size()];
        let loss = config.recipe.loss.build(facts)?;
        Ok(Self {
            output: *output,
            run,
            loss,
            optimizer,
            state,
            decays,
            row_losses,
            clip_norm: config.recipe.clip_norm,
            seed: config.seed,
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
        self.loss.compute(outputs, batch.targets(), &mut self.row_losses[..batch.rows], grad)
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

    fn state_names(&self) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
        let slots = self.optimizer.slots();
        self.run.parameters().iter().flat_map(move |id| {
            let value = &self.run.graph().values()[id.index()];
            (0..slots).map(|slot| (format!("{}.{slot}", value.name), value.shape.dims.clone()))
        })
    }
}

impl Trainer for Embedded {
    fn step(&mut self, batch: &mut Batch, update: StepUpdate) -> Result<LossSum> {
        self.load(batch);
        self.run.forward(batch.rows, Pass { training: true, seed: self.seed, step: update.step });
        let loss = self.loss(batch);
        self.run.backward(&[self.output]);
        if let Some(longest) = self.clip_norm {
            self.clip(longest);
        }
        for (i, state) in self.state.iter_mut().enumerate() {
            let (weights, grad) = self.run.parameter_and_grad(self.run.parameters()[i]);
            apply(&*self.optimizer, update.of_parameter(self.decays[i]), weights, grad, state);
        }
        Ok(loss)
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

    fn optimizer_state(&self) -> Weights {
        let mut all = Weights::default();
        for ((name, shape), values) in self.state_names().zip(self.state.iter().flatten()) {
            all.insert(name, shape, values.clone());
        }
        all
    }

    fn set_optimizer_state(&mut self, state: &Weights) -> Result<()> {
        let names: Vec<_> = self.state_names().collect();
        for ((name, shape), values) in names.iter().zip(self.state.iter_mut().flatten()) {
            values.copy_from_slice(state.get(name, shape)?);
        }
        Ok(())
    }
}

/// Updates one parameter, in chunks.
fn apply(
    optimizer: &dyn Optimizer,
    update: crate::optim::Update,
    weights: &mut [f32],
    grad: &[f32],
    state: &mut [Vec<f32>],
) {
    const { assert!(MAX_SLOTS == 2) };
    let chunks = weights.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK));
    match state {
        [] => chunks.for_each(|(w, g)| optimizer.update(&update, w, g, &mut [])),
        [a] => chunks.zip(a.par_chunks_mut(CHUNK)).for_each(|((w, g), a)| optimizer.update(&update, w, g, &mut [a])),
        [a, b, ..] => chunks
            .zip(a.par_chunks_mut(CHUNK).zip(b.par_chunks_mut(CHUNK)))
            .for_each(|((w, g), (a, b))| optimizer.update(&update, w, g, &mut [a, b])),
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
