//! One head of a stack: all that it does not share.

use std::collections::BTreeMap;

use super::shape::Shape;
use crate::base::{Error, Result};
use crate::graph::{Targets, Weights};
use crate::loss::{Loss, LossSum, TargetFacts};
use crate::metric::Metric;
use crate::optim::{Factors, Optimizer, Progress, factors};
use crate::train::checkpoint::State;
use crate::train::r#loop::{base_lr, is_best, is_finished, not_finite};
use crate::train::{Ended, EpochLog, Member, StepUpdate, TrainConfig, Trained, updates};

/// A head with its weights, while no tile holds those.
pub(super) struct Head {
    pub number: usize,
    pub error: Option<Error>,
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    config: TrainConfig,
    factors: Vec<Factors>,
    optimizer: Box<dyn Optimizer>,
    loss: Box<dyn Loss<f32>>,
    /// Of the weight and of the bias.
    slots: [Vec<Vec<f32>>; 2],
    best: (Vec<f32>, Vec<f32>),
    state: State,
    /// What the schedule starts from in this epoch.
    base_lr: f64,
    lr: f64,
    valid_loss: LossSum,
    measures: Vec<Box<dyn Metric>>,
    outputs: usize,
}

impl Head {
    pub fn new(member: &Member, shape: &Shape, facts: &TargetFacts) -> Result<Self> {
        let config = member.config.clone();
        let weights = member.graph.initial_weights(config.seed);
        let weight = weights.get(&shape.weight.0, &[shape.outputs, shape.width])?.to_vec();
        let bias = match &shape.bias {
            Some((name, _)) => weights.get(name, &[shape.outputs])?.to_vec(),
            None => Vec::new(),
        };
        let train = &config.recipe;
        let refuse = || Error::failed("an optimiser that sees all rows at once came into a stack");
        let optimizer = train.optimizer.build().ok_or_else(refuse)?;
        let named: Vec<(&str, bool)> = [Some(&shape.weight), shape.bias.as_ref()]
            .into_iter()
            .flatten()
            .map(|(n, decay)| (n.as_str(), *decay))
            .collect();
        let zeros = |n: usize| vec![vec![0.0; n]; optimizer.slots()];
        Ok(Self {
            number: member.number,
            error: None,
            slots: [zeros(weight.len()), zeros(bias.len())],
            best: (weight.clone(), bias.clone()),
            weight,
            bias,
            factors: factors(&train.parameter_groups, train.layer_decay, &named)?,
            loss: train.loss().build(facts)?,
            optimizer,
            base_lr: base_lr(&State::default(), &config),
            config,
            state: State::default(),
            lr: 0.0,
            valid_loss: LossSum::default(),
            measures: Vec::new(),
            outputs: shape.outputs,
        })
    }

    /// The loss of a step's logits `[rows, outputs]`, and its gradient.
    pub fn loss(&mut self, logits: &[f32], targets: Targets<'_>, row_losses: &mut [f64], grad: &mut [f32]) {
        let loss = self.loss.compute(logits, targets, row_losses, grad);
        if !loss.sum.is_finite() && self.error.is_none() {
            self.error = Some(not_finite(&self.state));
        }
        let mut sum = self.state.loss();
        sum.add(loss);
        self.state.set_loss(sum);
    }

    /// One update of weight and bias, which a tile may hold.
    pub fn update(&mut self, steps_per_epoch: u64, weight: (&mut [f32], &mut [f32]), bias: (&mut [f32], &mut [f32])) {
        let at = Progress { step: self.state.step, steps_per_epoch, epochs: u64::from(self.config.recipe.epochs) };
        self.lr = self.config.recipe.scheduler.lr(self.base_lr, at);
        let update = StepUpdate { lr: self.lr, step: self.state.step + 1 };
        for (i, (factors, (values, grad))) in self.factors.iter().zip([weight, bias]).enumerate() {
            updates::apply(&*self.optimizer, update.of_parameter(*factors), values, grad, &mut self.slots[i]);
        }
        self.state.step += 1;
    }

    pub fn begin_measure(&mut self) {
        self.valid_loss = LossSum::default();
        self.measures = self.config.metrics.iter().map(|name| name.start(self.outputs)).collect();
    }

    /// Takes validation rows' logits; `grad` is room for a gradient that nobody wants.
    pub fn measure(&mut self, logits: &[f32], targets: Targets<'_>, row_losses: &mut [f64], grad: &mut [f32]) {
        self.valid_loss.add(self.loss.compute(logits, targets, row_losses, grad));
        self.measures.iter_mut().for_each(|measure| measure.update(logits, targets));
    }

    pub fn end_epoch(&mut self, step: u64, seconds: f64, validated: bool) {
        if self.error.is_some() {
            return;
        }
        debug_assert_eq!(step, self.state.step);
        let mut metrics = BTreeMap::from([("train/loss".to_string(), self.state.loss().mean())]);
        if validated {
            metrics.insert("valid/loss".into(), self.valid_loss.mean());
            for (name, measure) in self.config.metrics.iter().zip(&self.measures) {
                metrics.insert(format!("valid/{}", name.name()), measure.value());
            }
        }
        self.state.epoch += 1;
        if is_best(&metrics, &self.config, &mut self.state) {
            self.best.0.copy_from_slice(&self.weight);
            self.best.1.copy_from_slice(&self.bias);
        }
        let log = EpochLog { epoch: self.state.epoch, step: self.state.step, lr: self.lr, metrics, seconds };
        self.state.epochs.push(log);
        self.base_lr = base_lr(&self.state, &self.config);
        self.state.set_loss(LossSum::default());
    }

    pub fn last_log(&self) -> Option<&EpochLog> {
        self.state.epochs.last()
    }

    pub fn is_finished(&self) -> bool {
        is_finished(&self.state, &self.config)
    }

    /// What the trainer would give. `fitted` holds the buffers.
    pub fn end(self, shape: &Shape, fitted: &Weights, stopped: bool) -> Result<Ended> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let weights = |weight: Vec<f32>, bias: Vec<f32>| {
            let mut weights = fitted.clone();
            weights.insert(&shape.weight.0, [shape.outputs, shape.width], weight);
            if let Some((name, _)) = &shape.bias {
                weights.insert(name, [shape.outputs], bias);
            }
            weights
        };
        let trained = Trained {
            best: weights(self.best.0, self.best.1),
            last: weights(self.weight, self.bias),
            best_epoch: self.state.best_epoch,
            epochs: self.state.epochs,
        };
        Ok(Ended { trained, stopped })
    }
}
