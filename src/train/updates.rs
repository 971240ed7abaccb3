//! What all trainers share besides the loop: the loss of a batch, and the updates of parameters by their gradients.
//! Both are computed in memory, by the same code whichever trainer computed the gradients.

use rayon::prelude::*;

use super::{Batch, StepUpdate, TrainConfig};
use crate::base::{Result, vectors};
use crate::graph::parallel::CHUNK;
use crate::graph::{Graph, Origin, ValueId, Weights};
use crate::loss::{Loss, LossSum, TargetFacts};
use crate::optim::{Factors, MAX_SLOTS, Optimizer, Update, factors};

/// The loss of batches.
pub(super) struct Criterion {
    loss: Box<dyn Loss<f32>>,
    row_losses: Vec<f64>,
    /// The gradient by the rows' own targets, where rows are mixed.
    own: Vec<f32>,
}

impl Criterion {
    /// # Errors
    /// The loss does not fit the targets.
    pub fn new(config: &TrainConfig, facts: &TargetFacts) -> Result<Self> {
        Ok(Self {
            loss: config.recipe.loss().build(facts)?,
            row_losses: vec![0.0; config.batch_size()],
            own: Vec::new(),
        })
    }

    /// Like [`Criterion::compute`], with the same bits, for outputs `[width, rows]`, in whose place the gradient is
    /// put; or `None`, and nothing is done.
    pub fn compute_transposed(&mut self, batch: &Batch, outputs: &mut [f32]) -> Option<LossSum> {
        if batch.mixed().is_some() {
            return None;
        }
        self.loss.compute_transposed(outputs, batch.targets(), &mut self.row_losses[..batch.rows])
    }

    /// The loss of a batch's outputs, and in `grad` the gradient of its mean.
    pub fn compute(&mut self, batch: &Batch, outputs: &[f32], grad: &mut [f32]) -> LossSum {
        let losses = &mut self.row_losses[..batch.rows];
        let loss = self.loss.compute(outputs, batch.targets(), losses, grad);
        let Some((share, others)) = batch.mixed() else { return loss };
        self.own.clear();
        self.own.extend_from_slice(grad);
        let other = self.loss.compute(outputs, others, losses, grad);
        let own = self.own.iter();
        grad.iter_mut().zip(own).for_each(|(grad, own)| *grad = share as f32 * *own + (1.0 - share) as f32 * *grad);
        LossSum { sum: (share * loss.mean() + (1.0 - share) * other.mean()) * loss.weight, weight: loss.weight }
    }
}

/// A trainer's parameters in memory, with their gradients.
pub(super) trait Parameters {
    /// Its elements.
    fn value(&self, id: ValueId) -> &[f32];

    /// Its elements, to be changed, with their gradient.
    fn pair(&mut self, id: ValueId) -> (&mut [f32], &mut [f32]);

    /// Its gradient.
    fn grad(&self, id: ValueId) -> &[f32];
}

/// Updates parameters by their gradients: the optimiser with its state, groups, clipping, sums over batches, and the
/// running average. Memory for sums is taken at their first use.
pub(super) struct Updates {
    parameters: Vec<Parameter>,
    /// `None` where the loop takes the steps (L-BFGS).
    optimizer: Option<Box<dyn Optimizer>>,
    /// Per parameter, one tensor per slot.
    state: Vec<Vec<Vec<f32>>>,
    /// Per parameter, the sum of gradients, with the sum of their weights.
    sums: (Vec<Vec<f32>>, f64),
    /// The running average: how much of it stays, and its tensor per parameter.
    average: Option<(f32, Vec<Vec<f32>>)>,
    clip_norm: Option<f64>,
}

struct Parameter {
    id: ValueId,
    name: String,
    shape: Vec<usize>,
    elements: usize,
    factors: Factors,
}

impl Updates {
    /// For the parameters of a graph.
    ///
    /// # Errors
    /// A group of parameters matches none.
    pub fn new(graph: &Graph, config: &TrainConfig) -> Result<Self> {
        let train = &config.recipe;
        let trained: Vec<_> = graph.parameters().map(|id| (id, &graph.values()[id.index()])).collect();
        let named = trained
            .iter()
            .map(|(_, value)| (value.name.as_str(), matches!(value.origin, Origin::Parameter { decay: true, .. })));
        let factors = factors(&train.parameter_groups, train.layer_decay, &named.collect::<Vec<_>>())?;
        let parameters = trained.into_iter().zip(factors).map(|((id, value), factors)| {
            let elements = value.shape.elements();
            Parameter { id, name: value.name.clone(), shape: value.shape.dims.clone(), elements, factors }
        });
        let parameters: Vec<Parameter> = parameters.collect();
        let optimizer = train.optimizer.build();
        let slots = optimizer.as_ref().map_or(0, |optimizer| optimizer.slots());
        let zeros = |parameter: &Parameter| vec![0.0; parameter.elements];
        let state = parameters.iter().map(|parameter| vec![zeros(parameter); slots]).collect();
        let average = train.ema.map(|ema| (ema.decay as f32, parameters.iter().map(zeros).collect()));
        Ok(Self { parameters, optimizer, state, sums: (Vec::new(), 0.0), average, clip_norm: train.clip_norm })
    }

    /// Adds the present gradients, weighted as the loss is, to the sums.
    pub fn accumulate(&mut self, parameters: &dyn Parameters, loss: LossSum) {
        let (sums, weight) = &mut self.sums;
        if sums.is_empty() {
            *sums = self.parameters.iter().map(|parameter| vec![0.0; parameter.elements]).collect();
        }
        for (sum, parameter) in sums.iter_mut().zip(&self.parameters) {
            let parts = sum.par_chunks_mut(CHUNK).zip(parameters.grad(parameter.id).par_chunks(CHUNK));
            let factor = loss.weight as f32;
            let add = |(s, g): (&mut f32, &f32)| *s += factor * *g;
            parts.for_each(|(sum, grad)| vectors!(sum.iter_mut().zip(grad).for_each(add)));
        }
        *weight += loss.weight;
    }

    /// Puts the mean of the summed gradients in the gradients' place, and empties the sum.
    pub fn take_sum(&mut self, parameters: &mut dyn Parameters) {
        let (sums, weight) = &mut self.sums;
        let scale = if *weight > 0.0 { (1.0 / *weight) as f32 } else { 0.0 };
        for (sum, parameter) in sums.iter_mut().zip(&self.parameters) {
            let (_, grad) = parameters.pair(parameter.id);
            for (g, s) in grad.iter_mut().zip(sum.iter_mut()) {
                *g = std::mem::take(s) * scale;
            }
        }
        *weight = 0.0;
    }

    /// Updates all parameters by their gradients.
    pub fn apply(&mut self, parameters: &mut dyn Parameters, update: StepUpdate) {
        if let Some(longest) = self.clip_norm {
            self.clip(parameters, longest);
        }
        let Some(optimizer) = &self.optimizer else { return };
        for (parameter, state) in self.parameters.iter().zip(&mut self.state) {
            let (weights, grad) = parameters.pair(parameter.id);
            apply(&**optimizer, update.of_parameter(parameter.factors), weights, grad, state);
        }
        let Some((keep, averages)) = &mut self.average else { return };
        // The average begins with the weights after the first step.
        let gain = if update.step == 1 { 1.0 } else { 1.0 - *keep };
        for (parameter, average) in self.parameters.iter().zip(averages) {
            let parts = average.par_chunks_mut(CHUNK).zip(parameters.value(parameter.id).par_chunks(CHUNK));
            let follow = |(a, w): (&mut f32, &f32)| *a += (*w - *a) * gain;
            parts.for_each(|(average, w)| vectors!(average.iter_mut().zip(w).for_each(follow)));
        }
    }

    /// Scales all gradients so that their common Euclidean length is at most `longest` (PyTorch's
    /// `clip_grad_norm_`).
    fn clip(&self, parameters: &mut dyn Parameters, longest: f64) {
        let squares = |p: &Parameter| parameters.grad(p.id).iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
        let length = self.parameters.iter().map(squares).sum::<f64>().sqrt();
        let scale = longest / (length + 1e-6);
        if scale < 1.0 {
            for parameter in &self.parameters {
                let (_, grad) = parameters.pair(parameter.id);
                grad.par_chunks_mut(CHUNK).for_each(|part| part.iter_mut().for_each(|g| *g *= scale as f32));
            }
        }
    }

    /// Exchanges the parameters for their running average, if there is one; says whether there is.
    pub fn swap_average(&mut self, parameters: &mut dyn Parameters) -> bool {
        let Some((_, averages)) = &mut self.average else { return false };
        for (parameter, average) in self.parameters.iter().zip(averages) {
            parameters.pair(parameter.id).0.swap_with_slice(average);
        }
        true
    }

    /// All parameters, one after the other.
    pub fn point(&self, parameters: &dyn Parameters) -> Vec<f32> {
        self.parameters.iter().flat_map(|parameter| parameters.value(parameter.id)).copied().collect()
    }

    /// Replaces all parameters.
    pub fn set_point(&self, parameters: &mut dyn Parameters, point: &[f32]) {
        let mut rest = point;
        for parameter in &self.parameters {
            let (values, after) = rest.split_at(parameter.elements);
            parameters.pair(parameter.id).0.copy_from_slice(values);
            rest = after;
        }
    }

    /// The mean of the summed gradients, laid out as [`Updates::point`]; empties the sum.
    pub fn take_gradient(&mut self, parameters: &mut dyn Parameters) -> Vec<f32> {
        self.take_sum(parameters);
        self.parameters.iter().flat_map(|parameter| parameters.grad(parameter.id)).copied().collect()
    }

    /// The optimiser's state and the running average.
    pub fn state(&mut self) -> Weights {
        let mut all = Weights::default();
        self.tensors().for_each(|(name, shape, tensor)| all.insert(name, shape, tensor.clone()));
        all
    }

    /// Replaces them.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn set_state(&mut self, state: &Weights) -> Result<()> {
        self.tensors().try_for_each(|(name, shape, tensor)| {
            tensor.copy_from_slice(state.get(&name, &shape)?);
            Ok(())
        })
    }

    /// The name, shape and place of every tensor of the state.
    fn tensors(&mut self) -> impl Iterator<Item = (String, Vec<usize>, &mut Vec<f32>)> {
        let Self { parameters, state, average, .. } = self;
        let slots = parameters.iter().zip(state).flat_map(|(parameter, slots)| {
            let named = |(slot, tensor)| (format!("{}.{slot}", parameter.name), parameter.shape.clone(), tensor);
            slots.iter_mut().enumerate().map(named)
        });
        let averages = average.iter_mut().flat_map(|(_, averages)| averages);
        let averages = parameters
            .iter()
            .zip(averages)
            .map(|(parameter, tensor)| (format!("{}.average", parameter.name), parameter.shape.clone(), tensor));
        slots.chain(averages)
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
    if let Some(trust) = optimizer.trust(&|| (length(weights), length(grad))) {
        let rate = (update.lr * trust) as f32;
        weights.iter_mut().zip(grad).for_each(|(w, g)| *w -= rate * *g);
    }
}
