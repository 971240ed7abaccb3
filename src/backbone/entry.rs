//! What the catalogue says about one backbone.

use std::fmt;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::suggest::{did_you_mean, one_of};
use crate::base::{Error, Result};
use crate::graph::onnx::{OutputSpec, Select};
use crate::resource::Resource;
use crate::sample::Transform;

/// A backbone of the catalogue: where its weights are, what it takes and what it gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The name that recipes use, such as `vit_base_patch16_224`.
    pub name: String,
    /// The family, such as `ViT`.
    pub family: String,
    /// What it is and what it is good for, in a sentence or two.
    pub description: String,
    /// The kind of network, in a few words.
    pub architecture: String,
    /// The tasks its features serve.
    #[schemars(length(min = 1))]
    pub tasks: Vec<Task>,
    /// The licence of the weights.
    pub licence: String,
    /// Where the weights come from.
    pub weights: Weights,
    /// Whether an engine has been built from the real graph and compared with the framework's own.
    #[serde(default)]
    pub proof: Proof,
    /// The network's input, if it takes pictures. Those of texts are named by `preprocess`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    /// How a sample becomes that input, as the network was trained.
    pub preprocess: Transform,
    /// The `tokenizer.json` of a network that takes text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Resource>,
    /// The tensors at which the network may be cut, by the names that recipes use. The first is taken
    /// when a recipe names none.
    #[schemars(length(min = 1))]
    pub outputs: IndexMap<String, Output>,
    /// The blocks from which on the network may be trained, the first one first. Each names the tensor
    /// that enters it, or nothing while that is not known.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub blocks: IndexMap<String, Option<String>>,
}

/// Where weights come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// A published ONNX file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnx: Option<Resource>,
    /// How to make the ONNX file, where none is published or another is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,
    /// The file from which all of the network can be trained, with its BatchNorm and initialisers intact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_source: Option<TrainSource>,
}

/// Where the file is from which all of a network can be trained. The usual exporters fold a BatchNorm into the convolution
/// before it, and what is left is another network to train: its statistics never see a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TrainSource {
    /// The published file itself: its norms are such that no exporter folds them.
    Published,
    /// An export that you make: `caft engine export NAME --train` keeps every BatchNorm, Dropout and weight as it is.
    Export,
    /// Another published file.
    Onnx {
        /// The file.
        file: Resource,
    },
}

/// How an ONNX file is made from a framework's weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// The model in its framework, such as `torchvision:resnet50`, `timm:vit_small_patch16_224` or
    /// `hf:owner/repo`.
    pub model: String,
    /// The name of the weights in the framework, where it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// The submodule that is exported in place of the whole model, such as a detector's `backbone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// What the exported file names after modules of the framework: tensor name to module path. The tensor
    /// is the module's output, or with `:input` behind the path what enters the module. Where versions of the
    /// framework differ, ` | ` parts several paths, of which the first that exists counts.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub modules: IndexMap<String, String>,
}

/// Whether an entry is known to work as it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Written from the model's documentation; no engine has been built from it yet.
    #[default]
    Unproven,
    /// The architecture was exported at full size with random weights; every output has the shape given
    /// here, and ONNX Runtime gives the framework's values.
    Exported,
    /// Built from the published file; its outputs have the shapes given here, and a head was trained on them.
    Built,
}

/// The input of a network: pictures `[batch, 3, size, size]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The tensor's name in the ONNX file.
    pub name: String,
    /// Height and width in pixels.
    #[schemars(range(min = 1, max = 4096))]
    pub size: u32,
}

/// A named output: a tensor and what is taken from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The tensor's name in the ONNX file.
    pub tensor: String,
    /// What is taken from it.
    #[serde(default)]
    pub select: Select,
    /// The shape of one row, without the batch; of one token's row where `per_token`.
    pub shape: Vec<usize>,
    /// Whether a row is a list of tokens, as many as the sample has: `[tokens, …shape]`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub per_token: bool,
    /// What it is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What a backbone's features serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One label for a picture.
    ImageClassification,
    /// A label for every pixel.
    Segmentation,
    /// Boxes around objects.
    Detection,
    /// Likeness of pictures, or of pictures and text.
    Retrieval,
    /// A picture from a picture.
    ImageToImage,
    /// Text from text.
    TextToText,
    /// A picture from text.
    TextToImage,
    /// One label for a text.
    TextClassification,
    /// A label for every word.
    TokenClassification,
    /// One label for a sound.
    AudioClassification,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 10] = [
        Self::ImageClassification,
        Self::Segmentation,
        Self::Detection,
        Self::Retrieval,
        Self::ImageToImage,
        Self::TextToText,
        Self::TextToImage,
        Self::TextClassification,
        Self::TokenClassification,
        Self::AudioClassification,
    ];

    /// The name used in entries and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ImageClassification => "image_classification",
            Self::Segmentation => "segmentation",
            Self::Detection => "detection",
            Self::Retrieval => "retrieval",
            Self::ImageToImage => "image_to_image",
            Self::TextToText => "text_to_text",
            Self::TextToImage => "text_to_image",
            Self::TextClassification => "text_classification",
            Self::TokenClassification => "token_classification",
            Self::AudioClassification => "audio_classification",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Weights {
    /// The file from which all of the network can be trained, where one is published.
    pub fn to_train(&self) -> Option<&Resource> {
        match self.train_source.as_ref()? {
            TrainSource::Published => self.onnx.as_ref(),
            TrainSource::Onnx { file } => Some(file),
            TrainSource::Export => None,
        }
    }
}

impl Entry {
    /// The names of the outputs, the default first.
    pub fn output_names(&self) -> impl Iterator<Item = &str> {
        self.outputs.keys().map(String::as_str)
    }

    /// Height and width of the network's input in pixels, if it takes pictures.
    pub fn image_size(&self) -> Option<usize> {
        self.input.as_ref().map(|input| input.size as usize)
    }

    /// What a cut at one of the named outputs takes.
    ///
    /// # Errors
    /// The entry has no output of that name; the error lists those it has.
    pub fn output(&self, name: &str) -> Result<OutputSpec> {
        let output = self.outputs.get(name).ok_or_else(|| {
            let near = did_you_mean(name, self.output_names());
            Error::bad_input(format!("backbone `{}` has no output `{name}`{near}", self.name))
                .hint(format!("its outputs are {}", one_of(self.output_names())))
        })?;
        Ok(OutputSpec { name: name.into(), tensor: output.tensor.clone(), select: output.select })
    }

    /// What serde and the schema cannot see.
    ///
    /// # Errors
    /// The preprocess is impossible or does not give the input's size, an output has no shape, there is
    /// no way to the weights, or a name has other characters than lower-case letters, digits and `_`.
    pub fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::bad_input(format!("backbone `{}`: {what}", self.name)));
        self.preprocess.check()?;
        match (&self.preprocess, &self.input) {
            (Transform::Image(steps), Some(input)) => {
                let (made, wanted) = (steps.output_shape(), [3, input.size as usize, input.size as usize]);
                if made != wanted {
                    return bad(format!("the preprocess gives {made:?}, but the input is {wanted:?}"));
                }
            }
            (Transform::Image(_), None) => return bad("a network that takes pictures has an `input`".into()),
            (Transform::Text(_), Some(_)) => return bad("`input` is for pictures, and this takes text".into()),
            (Transform::Text(_), None) => {}
        }
        if self.tokenizer.is_some() && self.preprocess.image().is_some() {
            return bad("`tokenizer` is for text, and this takes pictures".into());
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        for name in self.output_names().chain([self.name.as_str()]) {
            if name.is_empty() || !name.chars().all(plain) {
                return bad(format!("`{name}` has other characters than lower-case letters, digits and `_`"));
            }
        }
        if let Some((name, _)) = self.outputs.iter().find(|(_, o)| o.shape.is_empty() || o.shape.contains(&0)) {
            return bad(format!("output `{name}` has no shape"));
        }
        if self.weights.onnx.is_none() && self.weights.export.is_none() {
            return bad("there is neither a published ONNX file nor a way to export one".into());
        }
        match &self.weights.train_source {
            Some(TrainSource::Published) if self.weights.onnx.is_none() => {
                return bad("`train_source` is the published file, and there is none".into());
            }
            Some(TrainSource::Export) if self.weights.export.is_none() => {
                return bad("`train_source` is an export, and there is no way to make one".into());
            }
            _ => {}
        }
        Ok(())
    }
}
