//! Rank 7: the training loop and the trainers.
//!
//! ```no_run
//! use caft::base::Cancel;
//! use caft::train::*;
//! # fn example(features: &dyn Features, classes: &[u32], rows: [&[u32]; 3], config: &TrainConfig) -> caft::base::Result<()> {
//! let inputs = features.inputs().to_vec(); // one per output of the cut, in order
//! let graph = build_graph(&Default::default(), &Default::default(), &inputs, 10)?; // neck, head, 10 classes
//! let data = Data::new(features, caft::graph::Targets::Classes(classes), rows[0], rows[1]);
//! let cancel = Cancel::default();
//! let trained = train(&graph, &data, config, Session {
//!     cancel: &cancel,
//!     checkpoint: Some("run/checkpoint".as_ref()), // resumed from, exactly, when it fits
//!     on_epoch: &mut |log: &EpochLog| Ok(println!("{} {:?}", log.epoch, log.metrics)),
//! })?;
//! trained.best.save("run/best.safetensors".as_ref(), Default::default())?;
//! let test = evaluate(&graph, &trained.best, &data, rows[2], config, "test")?; // "test/accuracy" → f64
//! let probabilities = predict(&graph, &trained.best, features, rows[2], Prediction::Softmax)?; // [rows, 10]
//! # Ok(()) }
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::{Cancel, Result};
use crate::graph::import::{Start, Tail};
use crate::graph::{Graph, Targets, Task, Weights};
use crate::head::HeadConfig;
use crate::loss::{LossSum, TargetFacts};
use crate::metric::MetricName;
use crate::neck::NeckChain;
use crate::optim::{Factors, Update};
use crate::recipe::{self, Backend};

mod augment;
mod awake;
mod batch;
mod checkpoint;
mod embedded;
mod evaluate;
pub mod exact;
mod features;
mod fit;
mod full_batch;
#[cfg(feature = "libtorch")]
mod libtorch;
mod r#loop;
mod order;
mod pairs;
mod stack;
mod trials;
mod updates;

pub use batch::{Batch, read_batches};
pub use embedded::Embedded;
pub use evaluate::{Prediction, evaluate, predict};
pub use features::{Features, InMemory, InputSpec};
#[cfg(feature = "libtorch")]
pub use libtorch::Libtorch;
pub use order::shuffled;
pub use pairs::build_graph_of_pairs;
pub use trials::{Ended, Member, TrialLog, Watch, train_trials};

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainConfig {
    /// The recipe's `train` section. Its seeds are not read; those below are.
    pub recipe: recipe::TrainConfig,
    /// What is measured on the validation rows after each epoch. The first chooses the best epoch.
    pub metrics: Vec<MetricName>,
    /// The seed of the order of rows: an epoch's order is a function of this and the epoch alone.
    pub order_seed: u64,
    /// The seed of initial weights and dropout.
    pub seed: u64,
}

impl TrainConfig {
    /// Rows per step. The last step of an epoch takes what is left.
    pub fn batch_size(&self) -> usize {
        self.recipe.batch_size as usize
    }
}

/// What is trained on: features and targets of a dataset, and which of its rows are for what.
#[derive(Clone, Copy)]
pub struct Data<'a> {
    /// The features of all rows.
    pub features: &'a dyn Features,
    /// The targets of all rows.
    pub targets: Targets<'a>,
    /// The rows to train on.
    pub train: &'a [u32],
    /// The rows to choose the best epoch with; may be empty.
    pub valid: &'a [u32],
    /// The rows whose shuffled order the training rows follow: themselves, or more of which the others are left out,
    /// so that folds and shares of the same rows visit theirs in one order.
    pub pool: &'a [u32],
    /// How likely each row is to be drawn by the sampler `weighted`, where the data say so.
    pub weights: Option<&'a [f32]>,
}

impl<'a> Data<'a> {
    /// Rows to train on, in an order of their own, and rows to choose the best epoch with.
    pub fn new(features: &'a dyn Features, targets: Targets<'a>, train: &'a [u32], valid: &'a [u32]) -> Self {
        Self { features, targets, train, valid, pool: train, weights: None }
    }
}

/// The surroundings of a training run.
pub struct Session<'a> {
    /// Checked before every step; then a checkpoint is written and training ends.
    pub cancel: &'a Cancel,
    /// A folder for checkpoints. A checkpoint of the same graph, data and config found there is resumed: the
    /// rest gives the same numbers, bit for bit, as without the interruption.
    pub checkpoint: Option<&'a Path>,
    /// Called after each epoch; after a resume, first for each epoch done before.
    pub on_epoch: &'a mut (dyn FnMut(&EpochLog) -> Result<()> + Send),
}

/// What came out of one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochLog {
    /// The epoch, from 1.
    pub epoch: u32,
    /// Steps taken since the beginning.
    pub step: u64,
    /// The learning rate of the last step.
    pub lr: f64,
    /// `train/loss` (the mean over the epoch, while training), `valid/loss`, and `valid/…` for each metric.
    pub metrics: BTreeMap<String, f64>,
    /// Wall-clock seconds of the epoch.
    pub seconds: f64,
}

/// What training gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The weights after the best epoch by the first metric on the validation rows (of equals the first);
    /// without validation rows, those after the last epoch.
    pub best: Weights,
    /// The weights after the last epoch.
    pub last: Weights,
    /// The epoch of `best`, from 1.
    pub best_epoch: u32,
    /// All epochs.
    pub epochs: Vec<EpochLog>,
}

/// A trainer: a graph with weights and optimiser state that takes steps. The loop around it is shared. An
/// implementation must not draw random numbers of its own, keep hidden state, or let results depend on
/// time or on the number of threads.
pub trait Trainer: Send {
    /// One step on a batch: forward in training mode, loss, backward, update. The batch's input buffers may
    /// be swapped for others of the same sizes. Returns the loss before the update.
    ///
    /// # Errors
    /// The backend failed.
    fn step(&mut self, batch: &mut Batch, update: StepUpdate) -> Result<LossSum>;

    /// Forward, loss and backward, of which the gradient, weighted as the loss is, is added to those of earlier
    /// calls. Random operators draw for the step of this number; `None` is evaluation mode.
    ///
    /// # Errors
    /// The backend failed.
    fn accumulate(&mut self, batch: &mut Batch, step: Option<u64>) -> Result<LossSum>;

    /// An update by the mean of all gradients since the last one.
    ///
    /// # Errors
    /// The backend failed.
    fn update(&mut self, update: StepUpdate) -> Result<()>;

    /// All parameters, one after the other, in the order of the graph.
    fn point(&self) -> Vec<f32>;

    /// Replaces all parameters.
    ///
    /// # Errors
    /// The backend failed.
    fn set_point(&mut self, point: &[f32]) -> Result<()>;

    /// The mean of all gradients since the last update, laid out as [`Trainer::point`].
    fn take_gradient(&mut self) -> Vec<f32>;

    /// Exchanges the parameters for their running average, if there is one: called before and after whatever
    /// is to see the average.
    ///
    /// # Errors
    /// The backend failed.
    fn swap_average(&mut self) -> Result<()>;

    /// Forward in evaluation mode, with the loss; `outputs` is called with the first output, `[rows, …]`.
    ///
    /// # Errors
    /// The backend failed.
    fn infer(&mut self, batch: &mut Batch, outputs: &mut dyn FnMut(&[f32])) -> Result<LossSum>;

    /// The values, in evaluation mode, of the `fit`th statistic's value: `[rows, …]`.
    ///
    /// # Errors
    /// The backend failed.
    fn value(&mut self, fit: usize, batch: &mut Batch, values: &mut dyn FnMut(&[f32])) -> Result<()>;

    /// Parameters and buffers.
    ///
    /// # Errors
    /// The backend failed.
    fn weights(&self) -> Result<Weights>;

    /// Replaces parameters and buffers.
    ///
    /// # Errors
    /// One is missing or has another shape.
    fn set_weights(&mut self, weights: &Weights) -> Result<()>;

    /// The optimiser's state, by names that only this trainer reads.
    fn optimizer_state(&mut self) -> Weights;

    /// Replaces the optimiser's state.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    fn set_optimizer_state(&mut self, state: &Weights) -> Result<()>;
}

/// What a step needs to know besides the batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepUpdate {
    /// The learning rate.
    pub lr: f64,
    /// The step's number, from 1.
    pub step: u64,
}

impl StepUpdate {
    fn of_parameter(self, factors: Factors) -> Update {
        Update { lr: self.lr * factors.lr, step: self.step, decay: factors.decay }
    }
}

/// Builds neck and head into one graph: an input per output of the cut, and one output, `logits`
/// `[batch, outputs]`.
///
/// # Errors
/// A neck or the head cannot take these shapes.
pub fn build_graph(neck: &NeckChain, head: &HeadConfig, inputs: &[InputSpec], outputs: usize) -> Result<Graph> {
    build_graph_above(None, neck, head, inputs, outputs, 0)
}

/// [`build_graph`] above a part of the backbone that is trained too: the inputs are then what crosses the cut
/// below it. A head that keeps training rows keeps `stored_rows`; see [`HeadConfig::stored_rows`].
///
/// # Errors
/// A node of the backbone cannot be trained; those of [`build_graph`].
pub fn build_graph_above(
    tail: Option<(&Tail, Start)>,
    neck: &NeckChain,
    head: &HeadConfig,
    inputs: &[InputSpec],
    outputs: usize,
    stored_rows: usize,
) -> Result<Graph> {
    let mut graph = Graph::new();
    let mut inputs = inputs.iter().map(|input| graph.input(&input.name, &input.shape)).collect::<Result<Vec<_>>>()?;
    if let Some((tail, start)) = tail {
        inputs = tail.build(&mut graph, &inputs, start)?;
    }
    let features = neck.build(&mut graph, &inputs)?;
    let logits = head.build(&mut graph, features, outputs, stored_rows)?;
    graph.output("logits", logits);
    Ok(graph)
}

/// Trains a graph, by the trainer that the config names.
///
/// # Errors
/// The data do not fit the graph; a feature or the loss is not finite; [`Error::Interrupted`](crate::base::Error)
/// after a checkpoint when cancelled; those of features, checkpoint files and the observer.
pub fn train(graph: &Graph, data: &Data<'_>, config: &TrainConfig, session: Session<'_>) -> Result<Trained> {
    let facts = data.facts(graph, config)?;
    let weights = graph.initial_weights(config.seed);
    let mut trainer = trainer(graph, &weights, config, &facts)?;
    embedded::on_workers(|| r#loop::run(&mut *trainer, graph, data, &facts, config, session))
}

/// The trainer that a config names, with a graph's weights.
///
/// # Errors
/// This build does not have it; the graph, the loss or the device is not one for it.
fn trainer(graph: &Graph, weights: &Weights, config: &TrainConfig, facts: &TargetFacts) -> Result<Box<dyn Trainer>> {
    match config.recipe.backend {
        Backend::Embedded => Ok(Box::new(Embedded::new(graph, weights, config, facts)?)),
        #[cfg(feature = "libtorch")]
        Backend::Libtorch => Ok(Box::new(Libtorch::new(graph, weights, config, facts)?)),
        #[cfg(not(feature = "libtorch"))]
        Backend::Libtorch => {
            let error = crate::base::Error::bad_input("this build has no libtorch trainer");
            Err(error.hint("use `train.backend: embedded`, or build caft with the cargo feature `libtorch`"))
        }
    }
}

/// The library that trains in caft's place, with its version: that of the libtorch that is loaded.
pub fn library(backend: Backend) -> Option<String> {
    match backend {
        Backend::Embedded => None,
        #[cfg(feature = "libtorch")]
        Backend::Libtorch => {
            Some(format!("libtorch {}", libtorch::version().as_deref().unwrap_or("of unknown version")))
        }
        #[cfg(not(feature = "libtorch"))]
        Backend::Libtorch => None,
    }
}

impl Data<'_> {
    /// What a loss needs to know, after checking that targets and rows fit the graph's output.
    fn facts(&self, graph: &Graph, config: &TrainConfig) -> Result<TargetFacts> {
        let width = graph.outputs().first().map_or(0, |(_, id)| graph.shape(*id).last());
        // The outputs of an embedding are not its classes.
        let bound = if config.recipe.loss().task() == Task::Embedding { usize::MAX } else { width };
        batch::check_rows(self.features, self.targets, bound, &[self.train, self.valid])?;
        let mut facts = TargetFacts { width, rows: self.train.len(), ..TargetFacts::default() };
        match self.targets {
            Targets::Classes(_) if bound > width => {}
            Targets::Classes(classes) => {
                facts.class_counts = vec![0; width];
                self.train.iter().for_each(|row| facts.class_counts[classes[*row as usize] as usize] += 1);
            }
            Targets::MultiLabel { values, .. } => {
                facts.class_counts = vec![0; width];
                for row in self.train {
                    let labels = &values[*row as usize * width..][..width];
                    facts.class_counts.iter_mut().zip(labels).for_each(|(n, y)| *n += usize::from(*y > 0.5));
                }
            }
            Targets::Pairs { .. } => {}
            Targets::Values { values, .. } => {
                let rows = self.train.iter().flat_map(|row| &values[*row as usize * width..][..width]).copied();
                facts.moments = fit::moments(&rows.collect::<Vec<f32>>(), width)?;
            }
        }
        Ok(facts)
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
