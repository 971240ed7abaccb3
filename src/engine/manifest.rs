//! `engine.yaml`: what an engine is made of and what goes in and comes out.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::backbone::Task;
use crate::base::{Digest, Error, KeyWriter, Result, file};
use crate::graph::onnx::Select;
use crate::recipe::CalibrationMethod;
use crate::resource::DigestTable;
use crate::sample::image::ImagePreprocess;
use crate::sample::text::TextInput;

/// The manifest's file name in an engine's folder.
pub const MANIFEST: &str = "engine.yaml";
/// The model's file name in an engine's folder.
pub const MODEL: &str = "model.onnx";
/// The version of the manifest's own format.
pub const FORMAT: u32 = 2;
/// More than any manifest has; see [`Manifest::read`].
const LARGEST: u64 = 4 << 20;

/// What an engine is made of and what goes in and comes out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this format.
    pub format: u32,
    /// The catalogue entry, or the source file's name.
    pub name: String,
    /// The model it was cut from.
    pub source: SourceModel,
    /// Where it was unpacked or pulled from; absent where it was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The licence of the weights, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The family of backbones, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// The tasks its features serve, where they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<Task>,
    /// What goes in.
    pub inputs: Vec<EngineInput>,
    /// What comes out, in the order of the model's outputs.
    pub outputs: Vec<EngineOutput>,
    /// How a picture becomes the input, as the network was trained, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<ImagePreprocess>,
    /// The precision the model computes in, such as `fp32`.
    pub precision: String,
    /// The execution provider that the file is made for; `any` where every one runs it.
    pub provider: String,
    /// How a quantised engine was calibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibrated>,
    /// The version of the standard operator set.
    pub opset: i64,
    /// The number of weights below the cut.
    pub parameters: u64,
    /// Floating-point operations for one sample, of convolutions and matrix products.
    pub flops: u64,
    /// The engine's files with their sizes and digests.
    pub files: BTreeMap<String, EngineFile>,
    /// How it compared with its source when it was last verified, on each runtime that did so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Checks>,
}

/// How a quantised engine was calibrated, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibrated {
    /// The digest of the samples and of how they were used.
    pub digest: Digest,
    /// How ranges were chosen.
    pub method: CalibrationMethod,
    /// How many samples were measured.
    pub samples: usize,
    /// How many others the result was compared with fp32 on.
    pub held_out: usize,
    /// The least cosine that was asked for.
    pub min_cosine: f64,
    /// The least cosine of an output.
    pub cosine: f64,
    /// What it was with every layer quantised.
    pub cosine_in_full: f64,
    /// How many layers have weights that can be quantised.
    pub layers: usize,
    /// The layers that stayed in float, the one that loses most first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub float_layers: Vec<String>,
}

/// How an engine compares with its source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checks {
    /// The inference runtime that ran both, with its version and provider.
    pub runtime: String,
    /// How many samples were compared.
    pub samples: usize,
    /// What the samples were: a folder of pictures, or `random numbers`.
    pub samples_of: String,
    /// The agreement of every output.
    pub parity: Vec<Parity>,
    /// Whether a sample's outputs were the same to the bit alone and in batches.
    pub batch_invariant: bool,
    /// The node at which they begin to differ, where they do and it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_culprit: Option<String>,
}

/// The agreement of an output with its source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parity {
    /// The output.
    pub output: String,
    /// The cosine between all its values and the source's.
    pub cosine: f64,
    /// The largest difference of a value.
    pub max_difference: f32,
}

/// The model an engine was cut from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceModel {
    /// Where it came from, as it was written.
    pub address: String,
    /// The digest of its file.
    pub digest: Digest,
}

/// An input of an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineInput {
    /// The tensor's name.
    pub name: String,
    /// The element type, such as `f32`.
    pub dtype: String,
    /// The shape of one row, without the batch; `null` where it may vary.
    pub shape: Vec<Option<usize>>,
    /// What of a text it takes, where it takes some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes: Option<TextInput>,
}

/// An output of an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineOutput {
    /// The output's name.
    pub name: String,
    /// The tensor of the source it was taken from.
    pub tensor: String,
    /// What was taken.
    pub select: Select,
    /// The element type: `f32`, also where the engine computes in another.
    pub dtype: String,
    /// The shape of one row, without the batch; `null` where it varies or is only known by running,
    /// absent where not even the rank is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<Option<usize>>>,
}

/// A file of an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineFile {
    /// Its size in bytes.
    pub bytes: u64,
    /// The digest of its bytes.
    pub digest: Digest,
}

impl Checks {
    /// The lowest cosine of an output, where any was compared.
    pub fn worst_cosine(&self) -> Option<f64> {
        self.parity.iter().map(|parity| parity.cosine).min_by(f64::total_cmp)
    }
}

impl Manifest {
    /// Reads the manifest of an engine's folder.
    ///
    /// # Errors
    /// It is missing, longer than any manifest, not YAML of this form, or of another version.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let text = file::read_text(&path, LARGEST)?;
        let manifest: Self = serde_yaml::from_str(&text)
            .map_err(|e| Error::bad_input(format!("`{}` is not a manifest of an engine", path.display())).because(e))?;
        if manifest.format != FORMAT {
            let (shown, format) = (path.display(), manifest.format);
            return Err(Error::bad_input(format!("`{shown}` has format {format}; this caft reads format {FORMAT}"))
                .hint("build the engine again, or use the caft that built it"));
        }
        Ok(manifest)
    }

    /// Writes the manifest into a folder.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_yaml::to_string(self)
            .map_err(|e| Error::failed("the manifest of the engine cannot be written as YAML").because(e))?;
        file::write_bytes(&folder.join(MANIFEST), text.as_bytes())
    }

    /// Checks that the files of an engine's folder are those of the manifest.
    ///
    /// # Errors
    /// One is missing, or has another size or digest; the error names it.
    pub fn check_files(&self, folder: &Path, digests: &DigestTable) -> Result<()> {
        for (name, wanted) in &self.files {
            let plain = Path::new(name).file_name().is_some_and(|file| file == name.as_str());
            if !plain || name.contains('\\') {
                return Err(Error::bad_input(format!(
                    "the engine names the file `{name}`, which is not in its folder"
                )));
            }
            let path = folder.join(name);
            let size = std::fs::metadata(&path).map_err(Error::io("read", &path))?.len();
            if size != wanted.bytes || digests.digest(&path)? != wanted.digest {
                let shown = path.display();
                return Err(Error::bad_input(format!("`{shown}` is not the file that the engine was built with"))
                    .hint("it was changed or damaged; build the engine again"));
            }
        }
        if self.files.contains_key(MODEL) {
            return Ok(());
        }
        Err(Error::bad_input(format!("the engine in `{}` has no `{MODEL}`", folder.display())))
    }

    /// The checks of a runtime.
    pub fn checked_by(&self, runtime: &str) -> Option<&Checks> {
        self.checks.iter().find(|checks| checks.runtime == runtime)
    }

    /// Puts checks in place of older ones of the same runtime; the latest stand last.
    pub fn set_checks(&mut self, checks: Checks) {
        self.checks.retain(|old| old.runtime != checks.runtime);
        self.checks.push(checks);
    }

    /// The lowest cosine to its source that any output had, where it was compared.
    pub fn worst_cosine(&self) -> Option<f64> {
        let parity = self.checks.iter().flat_map(|checks| &checks.parity);
        parity.map(|parity| parity.cosine).min_by(f64::total_cmp)
    }

    /// The bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }

    /// What the engine is made of, whatever was found out about it: the digest of its files' digests.
    pub fn digest(&self) -> Digest {
        KeyWriter::new("engine files").json("files", &self.files).finish()
    }

    /// The only input.
    ///
    /// # Errors
    /// There are several; the error names them.
    pub fn only_input(&self) -> Result<&EngineInput> {
        match &self.inputs[..] {
            [input] => Ok(input),
            several => {
                let names: Vec<String> = several.iter().map(|input| format!("`{}`", input.name)).collect();
                let name = &self.name;
                Err(Error::bad_input(format!(
                    "the part of `{name}` below the cut has {} inputs ({}), and only one is fed",
                    several.len(),
                    names.join(", ")
                ))
                .hint("cut at tensors that depend on one input"))
            }
        }
    }
}
