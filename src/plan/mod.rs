//! Rank 4: the plan: a recipe with every default filled in, the rules that span several keys, and the
//! cache key.
//!
//! A [`Plan`] is made offline. Once its references are fetched and the data is read it becomes a
//! [`ResolvedPlan`], whose digest names the run.

mod build;
pub mod key;
mod resolved;
mod rules;
mod whole;

pub use build::metrics;
pub use resolved::{Manifest, PLAN, ResolvedPlan};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::backbone::Task;
use crate::base::DType;
use crate::data::DataConfig;
use crate::graph::onnx::OutputSpec;
use crate::head::HeadConfig;
use crate::metric::MetricName;
use crate::neck::NeckChain;
use crate::postprocess::PostprocessConfig;
use crate::recipe::{CalibrationConfig, Mode, Precision, Provider, StoreMode, TrainConfig};
use crate::resource::Resource;
use crate::sample::Transform;
use crate::sample::image::augment::{Augment, AugmentConfig};

/// What will be done, without a default left open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The run's name; its directory is `runs/<name>/<id>/`.
    pub name: String,
    /// The seeds.
    pub seeds: Seeds,
    /// The network, below and above the cut.
    pub model: ModelPlan,
    /// How the frozen part is run.
    pub engine: EnginePlan,
    /// The data.
    pub data: DataConfig,
    /// How activations are stored.
    pub cache: CachePlan,
    /// How the part above the cut is trained. Its seeds are in `seeds`.
    pub train: TrainConfig,
    /// What is measured on each split that has targets.
    pub metrics: Vec<MetricName>,
}

/// Every seed that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seeds {
    /// Subsets and splits.
    pub data: u64,
    /// The order of rows in each epoch.
    pub order: u64,
    /// Initial weights, dropout.
    pub train: u64,
    /// Views of samples, and which of them an epoch draws.
    #[serde(default)]
    pub augment: u64,
}

/// The paths of what a recipe says of the steps of training, if its head is solved without any: a sweep of heads leaves
/// these out for such a head.
pub fn needless_steps(recipe: &crate::recipe::Recipe) -> Vec<String> {
    rules::needless_steps(recipe)
}

impl Plan {
    /// What views are made with, and how many of each training sample there are with the plain one, where there
    /// are several.
    pub fn augment(&self) -> Option<(Augment, u32)> {
        let AugmentConfig { views, ops, .. } = &self.data.common.augment;
        (*views > 1).then(|| (Augment { ops: ops.clone(), seed: self.seeds.augment }, *views))
    }
}

/// The network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPlan {
    /// The frozen part; where there are towers, that of the first.
    pub backbone: BackbonePlan,
    /// The frozen part for each field of a row, where each has its own.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub towers: IndexMap<String, BackbonePlan>,
    /// Between the cut and the head.
    pub neck: NeckChain,
    /// The head.
    pub head: HeadConfig,
    /// What is made of its outputs in use, where something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postprocess: Option<PostprocessConfig>,
}

/// The frozen part of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackbonePlan {
    /// The catalogue's name, or the file's.
    pub name: String,
    /// The family of backbones, if it is in the catalogue.
    pub family: Option<String>,
    /// The tasks its features serve, if it is in the catalogue.
    #[serde(default)]
    pub tasks: Vec<Task>,
    /// The licence of the weights, where it is known.
    pub licence: Option<String>,
    /// Where the ONNX file is.
    pub source: Resource,
    /// The cut: what is stored of each sample. Several outputs are joined along their last axis. Of a whole model whose
    /// output is not named there is none before it has been read.
    pub outputs: Vec<OutputSpec>,
    /// How samples become the network's input.
    pub preprocess: Transform,
    /// The tokenizer's file, for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Resource>,
    /// What of the backbone is trained; nothing in mode `frozen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<TailPlan>,
}

/// The part of a backbone that is trained, below the outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TailPlan {
    /// Where the cut is: `frozen` for a whole model only, whose last layer is trained.
    pub mode: Mode,
    /// The tensor or block from which on it is trained; nothing means the model's input, and in mode `frozen` what
    /// enters the last layer.
    pub from: Option<String>,
}

impl Plan {
    /// The plan of one tower alone: with its backbone, and nothing of the others.
    pub fn tower(&self, backbone: &BackbonePlan) -> Self {
        let model = ModelPlan { backbone: backbone.clone(), towers: IndexMap::new(), ..self.model.clone() };
        Self { model, ..self.clone() }
    }
}

/// How the frozen part is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnginePlan {
    /// The precision of weights and activations.
    pub precision: Precision,
    /// The execution provider; `auto` is decided on the machine that runs it.
    pub provider: Provider,
    /// Samples in one pass. No value depends on it.
    pub batch_size: usize,
    /// How an engine in `int8` is calibrated; none in another precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationConfig>,
}

/// How activations are stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CachePlan {
    /// The stored element type.
    pub dtype: DType,
    /// What is stored. No result depends on it, and so it is not part of a run's id.
    #[serde(default)]
    pub store: StoreMode,
}
