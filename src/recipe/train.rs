//! The `train` section: how what is above the cut is trained. It is also the plan's and the trainer's, so a
//! key is added here alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FeatureAugment;
use crate::data::TargetKind;
use crate::graph::{Arithmetic, Task};
use crate::loss::{LossConfig, MultipleNegativesRanking};
use crate::optim::{EarlyStopping, Ema, OptimizerConfig, ParameterGroup, SchedulerConfig};
use crate::sampler::SamplerConfig;

/// How what is above the cut is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Passes over the training rows.
    #[schemars(range(min = 1))]
    pub epochs: u32,
    /// Rows in one step.
    #[schemars(range(min = 1))]
    pub batch_size: u32,
    /// Batches whose gradients are averaged for one step: as if batches were so many times as large, in the
    /// memory of one.
    #[schemars(range(min = 1))]
    pub accumulate: u32,
    /// Which rows an epoch visits, and in what order.
    pub sampler: SamplerConfig,
    /// Changes to the features of every training batch, in order; by default there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub augment: Vec<FeatureAugment>,
    /// How parameters follow their gradients.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes over the run.
    pub scheduler: SchedulerConfig,
    /// What training makes small; by default what the targets call for: `cross_entropy` for classes,
    /// `binary_cross_entropy` for several labels, `mse` for values, `supervised_contrastive` for embeddings,
    /// `multiple_negatives_ranking` for pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<LossConfig>,
    /// Scales the gradient of a step down to this Euclidean length if it is longer; by default it is left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.0e-12))]
    pub clip_norm: Option<f64>,
    /// Factors on the learning rate and the weight decay of some parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameter_groups: Vec<ParameterGroup>,
    /// What the learning rate is multiplied by from layer to layer, from the last backwards; 1 for none. A layer
    /// is what has a name in common up to its first number, such as `tail.blocks.11`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub layer_decay: f64,
    /// Keeps a running average of the weights and uses it in their place; by default there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<Ema>,
    /// Ends training once validation no longer improves; by default it goes on to the last epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
    /// Trains on this share of the training rows alone, for learning curves: smaller shares are parts of larger ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "maximum" = 1.0))]
    pub fraction: Option<f64>,
    /// What trains.
    pub backend: Backend,
    /// Where `libtorch` computes.
    #[serde(skip_serializing_if = "Device::is_default")]
    pub device: Device,
    /// In what numbers the matrix products of its steps are computed. Weights, losses and all that is measured are f32.
    pub precision: Arithmetic,
    /// Seed of weights and dropout; the recipe's top `seed` if it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Seed of the order of rows; the recipe's top `seed` if it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_seed: Option<u64>,
}

/// The loss where a recipe names none, for such targets and outputs.
pub fn loss_of(targets: TargetKind, outputs: Task) -> LossConfig {
    match targets {
        TargetKind::Pairs => LossConfig::MultipleNegativesRanking(MultipleNegativesRanking::default()),
        _ => LossConfig::of_task(outputs),
    }
}

impl TrainConfig {
    /// The loss; a plan always has one.
    pub fn loss(&self) -> LossConfig {
        self.loss.clone().unwrap_or_default()
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 50,
            batch_size: 256,
            accumulate: 1,
            sampler: SamplerConfig::default(),
            augment: Vec::new(),
            optimizer: OptimizerConfig::default(),
            scheduler: SchedulerConfig::default(),
            loss: None,
            clip_norm: None,
            parameter_groups: Vec::new(),
            layer_decay: 1.0,
            ema: None,
            early_stopping: None,
            fraction: None,
            backend: Backend::default(),
            device: Device::default(),
            precision: Arithmetic::default(),
            seed: None,
            order_seed: None,
        }
    }
}

/// What trains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The trainer inside caft, in pure Rust.
    #[default]
    Embedded,
    /// PyTorch's C++ library, in builds with the cargo feature `libtorch`: the same losses within rounding.
    Libtorch,
}

/// Where a trainer computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// On the first GPU if there is one, else on the processor.
    #[default]
    Auto,
    /// On the processor.
    Cpu,
    /// On the first GPU of CUDA.
    Cuda,
}

impl Device {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
