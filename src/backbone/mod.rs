//! Rank 2: the catalogue of backbones: data in `configs/backbones/*.yaml`, one file a family, and no
//! Rust for an entry.
//!
//! A [`Family`] is what a file says: what its variants share, and the [`Variant`]s. An [`Entry`] is one
//! variant with everything filled in.

mod catalogue;

pub use catalogue::{Catalogue, Entry};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::graph::onnx::Select;
use crate::resource::Resource;
use crate::sample::image::ImagePreprocess;

/// A family of backbones: what its variants share, and the variants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Family of caft backbones")]
pub struct Family {
    /// The family's name, such as `vit`.
    pub family: String,
    /// What it is, in a sentence.
    pub description: String,
    /// The architecture, in the field's words, such as `vision transformer`.
    pub architecture: String,
    /// What its features are used for.
    #[schemars(length(min = 1))]
    pub tasks: Vec<Task>,
    /// The licence of the weights, as an SPDX expression where there is one.
    pub licence: String,
    /// What the network expects of a picture; a variant may have its own.
    #[serde(default)]
    pub preprocess: Option<ImagePreprocess>,
    /// The frozen outputs by name, the usual one first; a variant may have its own.
    #[serde(default)]
    pub outputs: IndexMap<String, Output>,
    /// Names of blocks from which on the network can be trained, with the tensor that enters each, from
    /// the input to the output; a variant may have its own.
    #[serde(default)]
    pub blocks: IndexMap<String, String>,
    /// The members of the family.
    #[schemars(length(min = 1))]
    pub variants: Vec<Variant>,
}

/// One backbone of a family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// The name that recipes use, such as `vit_base_patch16_224`.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9_]{0,99}$"))]
    pub name: String,
    /// What sets it apart from its family.
    #[serde(default)]
    pub description: Option<String>,
    /// Where its ONNX file is, if one is published.
    #[serde(default)]
    pub source: Option<Resource>,
    /// How to export it where none is published, such as `torchvision:resnet50`.
    #[serde(default)]
    pub export: Option<String>,
    /// The licence, if it is not the family's.
    #[serde(default)]
    pub licence: Option<String>,
    /// The feature size of outputs that do not say theirs.
    #[schemars(range(min = 1))]
    pub size: usize,
    /// The preprocess, if it is not the family's.
    #[serde(default)]
    pub preprocess: Option<ImagePreprocess>,
    /// The outputs, if they are not the family's.
    #[serde(default)]
    pub outputs: IndexMap<String, Output>,
    /// The blocks, if they are not the family's.
    #[serde(default)]
    pub blocks: IndexMap<String, String>,
    /// Whether an engine was built from this source, compared with the framework's own forward pass, and
    /// a head trained on it.
    #[serde(default)]
    pub proven: bool,
}

/// A named output at which a backbone can be cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The tensor in the ONNX file.
    pub tensor: String,
    /// What is taken from it.
    #[serde(default)]
    pub select: Select,
    /// The size of the last axis (of the channels, for feature maps), if it is not the variant's.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub size: Option<usize>,
}

/// What a backbone's features are used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the field's own")]
pub enum Task {
    ImageClassification,
    Segmentation,
    Detection,
    ImageToImage,
    TextClassification,
    TokenClassification,
    TextToText,
    TextToImage,
    AudioClassification,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 9] = [
        Self::ImageClassification,
        Self::Segmentation,
        Self::Detection,
        Self::ImageToImage,
        Self::TextClassification,
        Self::TokenClassification,
        Self::TextToText,
        Self::TextToImage,
        Self::AudioClassification,
    ];

    /// The name in files, such as `image_classification`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ImageClassification => "image_classification",
            Self::Segmentation => "segmentation",
            Self::Detection => "detection",
            Self::ImageToImage => "image_to_image",
            Self::TextClassification => "text_classification",
            Self::TokenClassification => "token_classification",
            Self::TextToText => "text_to_text",
            Self::TextToImage => "text_to_image",
            Self::AudioClassification => "audio_classification",
        }
    }
}
