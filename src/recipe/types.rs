//! The types of a recipe as merged. They are the one source of the JSON schemas: their doc comments are
//! its descriptions, their defaults its defaults.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TrainConfig;
use super::calibration::CalibrationConfig;
use crate::base::DType;
use crate::data::DataConfig;
use crate::head::HeadConfig;
use crate::metric::MetricName;
use crate::neck::NeckChain;
use crate::postprocess::PostprocessConfig;
use crate::resource::Resource;
use crate::sweep::SweepConfig;

/// A caft recipe: a backbone, what is trained on top of it, and the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The name of the experiment and of its folder under `runs/`; by default the file's name without
    /// its extension.
    #[serde(default)]
    #[schemars(regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"))]
    pub name: String,
    /// Sets the seeds of data, augmentation, order and weights that are not given.
    #[serde(default)]
    pub seed: u64,
    /// Recipes that this one builds on: names of shipped recipes, or paths relative to this file. This
    /// file wins over them, later ones over earlier ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extends: Vec<String>,
    /// The network: what is frozen and what is trained.
    pub model: Model,
    /// How the frozen part runs.
    #[serde(default)]
    pub engine: EngineConfig,
    /// What the rows are, what they are labelled with, and how they are split.
    pub data: DataConfig,
    /// How activations are stored.
    #[serde(default)]
    pub cache: CacheConfig,
    /// How what is above the cut is trained.
    #[serde(default)]
    pub train: TrainConfig,
    /// What is measured on each split; the first is the main one. By default what the targets call for, such as
    /// `accuracy` and `macro_f1` for classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub metrics: Option<Vec<MetricName>>,
    /// A search over values of this recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepConfig>,
}

/// The network: a frozen backbone, an optional neck and a head; or a whole model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// The pretrained part and where it is cut. Of rows that are pairs each field goes through it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backbone: Option<BackboneConfig>,
    /// In place of `backbone` one for each field of a row, by the field's name: `image`, `text`, `text_b`. Their
    /// features are joined for the head; of rows that are pairs each is embedded by itself.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub towers: IndexMap<String, BackboneConfig>,
    /// What stands between the cut and the head: nothing, one neck, or a list of necks.
    pub neck: NeckChain,
    /// What maps features to the task's outputs, whose number comes from the data. By default what the targets
    /// call for: `linear` for classes, `multi_label` for several labels, `regression` for values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadConfig>,
    /// What is made of the head's outputs when the model is used; an exported file has it inside. By default what the
    /// targets call for: `argmax` for masks, and nothing for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postprocess: Option<PostprocessConfig>,
    /// A whole model in place of backbone, neck and head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<FullConfig>,
}

/// The pretrained part of the network: a catalogue entry by `name`, or a file by `onnx`. Both together
/// are your own export of that entry: its outputs and preprocess, the file's weights.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BackboneConfig {
    /// A catalogue entry; `caft models` lists them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// An ONNX file, in place of a catalogue entry or as the entry's weights; `engine:NAME` is an engine that was
    /// pulled or unpacked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnx: Option<Resource>,
    /// The `tokenizer.json` of a network that takes text, in place of the entry's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Resource>,
    /// Which outputs are the cut: names of the catalogue entry's outputs, or tensors of the `onnx` file.
    /// By default the entry's first output, or the file's only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub outputs: Option<Vec<String>>,
    /// Height and width of pictures, in place of the entry's: convolutions take any size, and a transformer's
    /// position embedding is resampled. The preprocess follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub image_size: Option<u32>,
    /// Where the cut is.
    pub mode: Mode,
    /// For `last_block`: a block of the catalogue entry, or a tensor, from which on the network is trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_from: Option<String>,
}

/// Where the cut between the frozen and the trained part is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// At the outputs of the backbone; neck and head are trained.
    #[default]
    Frozen,
    /// Before the backbone's last stage or block, which is trained too.
    LastBlock,
    /// At the input; all of the network is trained.
    Full,
    /// At the input, with weights drawn anew.
    Scratch,
}

/// A whole model, which ends with its own classifier (or what else gives one output for each class, label or value
/// of the data): a catalogue entry by `name`, or a file by `onnx`. Both together are your own export of that entry.
/// Neck and head are its own. A softmax at its end is left out of training, whose loss takes logits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FullConfig {
    /// A catalogue entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// An ONNX file in place of a catalogue entry, or as the entry's weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnx: Option<Resource>,
    /// The `tokenizer.json` of a network that takes text, in place of the entry's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Resource>,
    /// The output of the model that is trained and used; by default the file's only one, or the one called `logits`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Height and width of pictures, in place of the entry's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub image_size: Option<u32>,
    /// Where the cut is: `frozen` trains the model's last layer alone, `last_block` what is above `train_from`, `full`
    /// and `scratch` all of it. By default what an extended recipe says as `model.backbone.mode`, or `frozen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// For `last_block`: a block of the catalogue entry, or a tensor, from which on the model is trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_from: Option<String>,
}

/// How the frozen part runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// The precision of weights and activations in the engine.
    pub precision: Precision,
    /// The execution provider that runs the engine.
    pub provider: Provider,
    /// Samples in one pass of the engine. It changes speed and memory, never a stored value.
    #[schemars(range(min = 1, max = 4096))]
    pub batch_size: u32,
    /// For `precision: int8`: how its engine is calibrated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationConfig>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { precision: Precision::default(), provider: Provider::default(), batch_size: 32, calibration: None }
    }
}

/// The precision of an engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    Fp32,
    /// 16-bit floats.
    Fp16,
    /// 16-bit floats with the range of 32-bit ones.
    Bf16,
    /// 8-bit integers, calibrated on the training rows.
    Int8,
}

/// An execution provider of ONNX Runtime.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// The best one that is present for the precision.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// Intel OpenVINO.
    Openvino,
    /// NVIDIA CUDA.
    Cuda,
    /// NVIDIA TensorRT.
    Tensorrt,
    /// NVIDIA TensorRT for RTX.
    TensorrtRtx,
    /// WebGPU.
    Webgpu,
    /// Apple Core ML.
    Coreml,
    /// Microsoft DirectML.
    Directml,
}

impl Precision {
    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

impl Provider {
    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Openvino => "openvino",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
            Self::TensorrtRtx => "tensorrt_rtx",
            Self::Webgpu => "webgpu",
            Self::Coreml => "coreml",
            Self::Directml => "directml",
        }
    }
}

/// How activations are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// The element type in the store. A value that does not fit it is an error that names the tensor. Where a part of a
    /// network of texts is trained it is always `f32`, for ids of tokens and masks of attention.
    pub dtype: DType,
    /// What is stored. The numbers of a run do not depend on it.
    pub store: StoreMode,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { dtype: DType::F16, store: StoreMode::Auto }
    }
}

/// What is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreMode {
    /// The activations, unless the disk has no room for them, or large ones are slower to read from it than to
    /// compute again; then nothing, and the run says why.
    #[default]
    Auto,
    /// The activations at the cut.
    Activations,
    /// The decoded inputs: the activations of the modes `full` and `scratch`, whose cut is there.
    Inputs,
    /// Nothing: rows are computed whenever they are read, in every epoch, to the same bits.
    None,
}
