//! One head of a stack: all that it does not share.

use std::collections::BTreeMap;

use super::parts::{Layer, Parts};
use crate::base::{Error, Result, vectors};
use crate::graph::execution::Pass;
use crate::graph::parallel::sum_rows;
use crate::graph::{Execution, Graph, Origin, ValueId, Weights};
use crate::loss::{LossSum, TargetFacts};
use crate::metric::Metric;
use crate::optim::Progress;
use crate::train::checkpoint::State;
use crate::train::r#loop::{base_lr, is_best, is_finished, not_finite};
use crate::train::updates::{Criterion, Parameters, Updates};
use crate::train::{Batch, Ended, EpochLog, Member, StepUpdate, TrainConfig, Trained, fit};

/// A parameter or a buffer of a head.
struct Tensor {
    id: ValueId,
    name: String,
    shape: Vec<usize>,
    /// Whether the nodes that the head computes by itself read it.
    is_read: bool,
    /// Empty while a tile holds them.
    values: Vec<f32>,
    /// Empty of a buffer, and of weights that tiles hold.
    grad: Vec<f32>,
    best: Vec<f32>,
}

/// Weights with their gradient.
type Slices<'a> = (&'a mut [f32], &'a mut [f32]);

/// The part of a tile's weights and gradients that is a head's.
pub(super) type Held<'a> = Option<Slices<'a>>;

/// A head with its weights; those of the layer that is computed for all heads at once are elsewhere while a tile
/// holds them.
pub(super) struct Head {
    pub number: usize,
    pub error: Option<Error>,
    /// The settings of its operators, where they are not those of the tile's other heads.
    pub graph: Option<Graph>,
    config: TrainConfig,
    updates: Updates,
    criterion: Criterion,
    tensors: Vec<Tensor>,
    /// By value of the graph.
    place: Vec<usize>,
    layer: Option<Layer>,
    state: State,
    /// What the schedule starts from in this epoch.
    base_lr: f64,
    lr: f64,
    /// Batches of this epoch that were seen, and the loss of those since the last step.
    seen: usize,
    sum: LossSum,
    last_loss: LossSum,
    valid_loss: LossSum,
    measures: Vec<Box<dyn Metric>>,
    width: usize,
}

impl Head {
    /// A head of a member, with the statistics that were fitted.
    pub fn new(member: &Member<'_>, parts: &Parts, fitted: &Weights, facts: &TargetFacts) -> Result<Self> {
        let (config, graph) = (member.config.clone(), &member.graph);
        let mut weights = graph.initial_weights(config.seed);
        weights.0.extend(fitted.0.iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
        fit::target_statistics(graph, facts, &mut weights)?;
        let (mut tensors, mut place) = (Vec::new(), vec![usize::MAX; graph.values().len()]);
        for (id, value) in graph.ids() {
            let is_parameter = matches!(value.origin, Origin::Parameter { .. });
            if !is_parameter && !matches!(value.origin, Origin::Buffer { .. }) {
                continue;
            }
            let values = weights.get(&value.name, &value.shape.dims)?.to_vec();
            let of_tile = parts.layer.as_ref().is_some_and(|layer| layer.weight == id);
            let own = graph.nodes().iter().zip(&parts.own).filter(|(_, own)| **own);
            place[id.index()] = tensors.len();
            tensors.push(Tensor {
                id,
                name: value.name.clone(),
                shape: value.shape.dims.clone(),
                is_read: own.into_iter().any(|(node, _)| node.inputs.contains(&id)),
                grad: vec![0.0; if is_parameter && !of_tile { values.len() } else { 0 }],
                best: values.clone(),
                values,
            });
        }
        Ok(Self {
            number: member.number,
            error: None,
            graph: None,
            updates: Updates::new(graph, &config)?,
            criterion: Criterion::new(&config, facts)?,
            tensors,
            place,
            layer: parts.layer.clone(),
            base_lr: base_lr(&State::default(), &config),
            config,
            state: State::default(),
            lr: 0.0,
            seen: 0,
            sum: LossSum::default(),
            last_loss: LossSum::default(),
            valid_loss: LossSum::default(),
            measures: Vec::new(),
            width: facts.width,
        })
    }

    /// The weights of the layer, taken out or put back.
    pub fn layer_weights(&mut self) -> Option<&mut Vec<f32>> {
        let place = self.place[self.layer.as_ref()?.weight.index()];
        Some(&mut self.tensors[place].values)
    }

    /// The layer's bias.
    pub fn bias(&self) -> &[f32] {
        let bias = self.layer.as_ref().and_then(|layer| layer.bias);
        bias.map_or(&[], |id| &self.tensors[self.place[id.index()]].values)
    }

    /// The loss of a training batch of which the layer, which is all that the head has, gave `[outputs, rows]`; leaves
    /// the gradient in its place. Says whether it can.
    pub fn differentiate_given(&mut self, given: &mut [f32], batch: &Batch) -> bool {
        let Some(loss) = self.criterion.compute_transposed(batch, given) else { return false };
        self.last_loss = loss;
        if let Some(Layer { bias: Some(bias), .. }) = &self.layer {
            let grad = &mut self.tensors[self.place[bias.index()]].grad;
            sum_columns(given, batch.rows, grad);
        }
        true
    }

    /// The loss of a training batch, of which `run` has what the head reads, and all gradients but those of the
    /// layer's weights.
    pub fn differentiate(&mut self, run: &mut Execution<f32>, parts: &Parts, batch: &Batch) {
        let pass = Pass {
            training: true,
            seed: self.config.seed,
            step: self.state.step + 1,
            arithmetic: self.config.recipe.precision,
        };
        self.exchange(run);
        run.forward(batch.rows, pass);
        let (outputs, grad) = run.value_and_grad_mut(parts.output);
        self.last_loss = self.criterion.compute(batch, outputs, grad);
        run.backward(&[parts.output]);
        self.exchange(run);
        if let Some(Layer { bias: Some(bias), output, outputs, .. }) = &self.layer {
            let grad = &mut self.tensors[self.place[bias.index()]].grad;
            sum_rows(run.grad(*output), *outputs, grad, false);
        }
    }

    /// Takes the step that [`Head::differentiate`] prepared, or waits with it for more batches. `batches` is how many
    /// an epoch has.
    pub fn step(&mut self, batches: usize, held: Held<'_>) {
        if !self.last_loss.sum.is_finite() && self.error.is_none() {
            self.error = Some(not_finite(&self.state));
        }
        let together = self.config.recipe.accumulate.max(1) as usize;
        let steps_per_epoch = batches.div_ceil(together) as u64;
        let at = Progress { step: self.state.step, steps_per_epoch, epochs: u64::from(self.config.recipe.epochs) };
        self.lr = self.config.recipe.scheduler.lr(self.base_lr, at);
        let update = StepUpdate { lr: self.lr, step: self.state.step + 1 };
        self.seen += 1;
        self.sum.add(self.last_loss);
        let last_loss = self.last_loss;
        let ends = self.seen.is_multiple_of(together) || self.seen == batches;
        self.with_updates(held, |updates, parameters| {
            if together > 1 {
                updates.accumulate(parameters, last_loss);
            }
            if ends && together > 1 {
                updates.take_sum(parameters);
            }
            if ends {
                updates.apply(parameters, update);
            }
        });
        if ends {
            let mut total = self.state.loss();
            total.add(std::mem::take(&mut self.sum));
            self.state.set_loss(total);
            self.state.step += 1;
        }
    }

    /// Exchanges the weights for their running average, if there is one.
    pub fn swap_average(&mut self, held: Held<'_>) {
        self.with_updates(held, |updates, parameters| {
            updates.swap_average(parameters);
        });
    }

    fn with_updates(&mut self, held: Held<'_>, body: impl FnOnce(&mut Updates, &mut dyn Parameters)) {
        let held = self.layer.as_ref().map(|layer| layer.weight).zip(held);
        body(&mut self.updates, &mut OfHead { tensors: &mut self.tensors, place: &self.place, held });
    }

    /// Puts its weights into an execution, or takes them back.
    fn exchange(&mut self, run: &mut Execution<f32>) {
        for tensor in self.tensors.iter_mut().filter(|tensor| tensor.is_read) {
            run.exchange(tensor.id, &mut tensor.values, &mut tensor.grad);
        }
        if let Some(graph) = &mut self.graph {
            run.exchange_graph(graph);
        }
    }

    pub fn begin_measure(&mut self, held: Held<'_>) {
        self.swap_average(held);
        self.valid_loss = LossSum::default();
        self.measures = self.config.metrics.iter().map(|name| name.start(self.width)).collect();
    }

    /// Takes validation rows, of which `run` has what the head reads.
    pub fn measure(&mut self, run: &mut Execution<f32>, parts: &Parts, batch: &Batch) {
        self.exchange(run);
        run.forward(batch.rows, Pass::EVALUATION);
        let (outputs, grad) = run.value_and_grad_mut(parts.output);
        self.valid_loss.add(self.criterion.compute(batch, outputs, grad));
        self.measures.iter_mut().for_each(|measure| measure.update(outputs, batch.targets()));
        self.exchange(run);
    }

    /// Ends an epoch, with the running average in the weights' place.
    pub fn end_epoch(&mut self, seconds: f64, validated: bool) {
        if self.error.is_some() {
            return;
        }
        let mut metrics = BTreeMap::from([("train/loss".to_string(), self.state.loss().mean())]);
        if validated {
            metrics.insert("valid/loss".into(), self.valid_loss.mean());
            for (name, measure) in self.config.metrics.iter().zip(&self.measures) {
                metrics.insert(format!("valid/{}", name.name()), measure.value());
            }
        }
        self.state.epoch += 1;
        if is_best(&metrics, &self.config, &mut self.state) {
            self.tensors.iter_mut().for_each(|tensor| tensor.best.copy_from_slice(&tensor.values));
        }
        self.swap_average(None);
        let log = EpochLog { epoch: self.state.epoch, step: self.state.step, lr: self.lr, metrics, seconds };
        self.state.epochs.push(log);
        self.base_lr = base_lr(&self.state, &self.config);
        self.state.set_loss(LossSum::default());
        self.seen = 0;
    }

    pub fn last_log(&self) -> Option<&EpochLog> {
        self.state.epochs.last()
    }

    pub fn is_finished(&self) -> bool {
        is_finished(&self.state, &self.config)
    }

    /// What the trainer would give.
    pub fn end(mut self, stopped: bool) -> Result<Ended> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.swap_average(None);
        let (mut best, mut last) = (Weights::default(), Weights::default());
        for Tensor { name, shape, values, best: own, .. } in self.tensors {
            best.insert(&name, shape.clone(), own);
            last.insert(name, shape, values);
        }
        let trained = Trained { best, last, best_epoch: self.state.best_epoch, epochs: self.state.epochs };
        Ok(Ended { trained, stopped })
    }
}

/// The sum of each of some columns of `rows` numbers, in their order.
fn sum_columns(columns: &[f32], rows: usize, sums: &mut [f32]) {
    // Several at a time: one sum alone waits for itself.
    const SIDE: usize = 16;
    vectors!({
        for (columns, sums) in columns.chunks(rows * SIDE).zip(sums.chunks_mut(SIDE)) {
            let mut own = [0.0; SIDE];
            for from in (0..rows).step_by(SIDE) {
                let mut turned = [[0.0; SIDE]; SIDE];
                let count = SIDE.min(rows - from);
                for (column, values) in columns.chunks_exact(rows).enumerate() {
                    values[from..][..count].iter().enumerate().for_each(|(row, x)| turned[row][column] = *x);
                }
                for row in &turned[..count] {
                    own.iter_mut().zip(row).for_each(|(sum, x)| *sum += *x);
                }
            }
            sums.copy_from_slice(&own[..sums.len()]);
        }
    });
}

/// The parameters of a head, of which a tile may hold the layer's weights.
struct OfHead<'a> {
    tensors: &'a mut [Tensor],
    place: &'a [usize],
    held: Option<(ValueId, Slices<'a>)>,
}

impl Parameters for OfHead<'_> {
    fn value(&self, id: ValueId) -> &[f32] {
        match &self.held {
            Some((weight, (values, _))) if *weight == id => values,
            _ => &self.tensors[self.place[id.index()]].values,
        }
    }

    fn pair(&mut self, id: ValueId) -> (&mut [f32], &mut [f32]) {
        match &mut self.held {
            Some((weight, (values, grad))) if *weight == id => (values, grad),
            _ => {
                let Tensor { values, grad, .. } = &mut self.tensors[self.place[id.index()]];
                (values, grad)
            }
        }
    }

    fn grad(&self, id: ValueId) -> &[f32] {
        match &self.held {
            Some((weight, (_, grad))) if *weight == id => grad,
            _ => &self.tensors[self.place[id.index()]].grad,
        }
    }
}
