//! `caft engine build` and `verify`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::Result;
use serde::de::DeserializeOwned;

use super::calibrate;
use super::inspect::show_select;
use super::show::{agreement, quantised};
use super::{Model, Surroundings};
use crate::backbone::{Entry, catalogue};
use crate::base::suggest::one_of;
use crate::base::{Digest, Error};
use crate::cli::{Globals, print, print_json};
use crate::engine::precision::{Calibration, Conversion};
use crate::engine::verify::{Reference, Scratch, verify};
use crate::engine::{
    BuildRequest, Built, Feed, Manifest, OnnxRuntime, Samples, build, culprit, fetch_model, runtime, shelf,
    weights_digest,
};

use crate::graph::onnx::inspect::summarise;
use crate::graph::onnx::{self, OutputSpec, Select};
use crate::recipe::{Precision, Provider};
use crate::resource::Resource;
use crate::sample::image::ImagePreprocess;
use crate::sample::text::{Encoder, TextInput, TextInputs, TextPreprocess};

/// Cut a model, compare it with its source, and keep it as an engine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A catalogue name, an ONNX file, or an address of one.
    model: String,
    /// Your own ONNX file of the catalogue entry, such as `caft engine export` makes.
    #[arg(long, value_name = "FILE")]
    onnx: Option<Resource>,
    /// An output: of a catalogue entry its name (all of them if none is given), of another model
    /// `NAME=TENSOR` or `NAME=TENSOR:SELECT`, where SELECT is `token=0`, `tokens=1`, `mean_tokens=1`, `gap`,
    /// `gap_last` or `flatten`.
    #[arg(long = "output", short, value_name = "OUTPUT")]
    outputs: Vec<String>,
    /// What an input of a text network takes, where its name does not say: `ids`, `mask`, `type_ids` or `positions`, and
    /// the input's name, as in `ids=tokens`.
    #[arg(long = "input", value_name = "WHAT=NAME", value_parser = text_input)]
    inputs: Vec<(TextInput, String)>,
    #[command(flatten)]
    calibrate: calibrate::Calibrate,
    #[command(flatten)]
    check: Check,
}

/// Compare an engine with its source again.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The engine's name, or the beginning of its id.
    engine: String,
    /// The source model, if it is no longer where it was.
    #[arg(long, value_name = "FILE")]
    source: Option<PathBuf>,
    #[command(flatten)]
    check: Check,
}

/// How engines are compared.
#[derive(Debug, clap::Args)]
struct Check {
    /// How many samples are compared.
    #[arg(long, default_value_t = 4)]
    samples: usize,
    /// Pictures to compare on: a folder or a file. Without it, random numbers are the samples.
    #[arg(long, value_name = "PATH")]
    pictures: Option<PathBuf>,
    /// Texts to compare on: a file with one in each line. Without it, random tokens are the samples.
    #[arg(long, value_name = "FILE", conflicts_with = "pictures")]
    texts: Option<PathBuf>,
    /// The `tokenizer.json` that makes tokens of `--texts`, by default the catalogue entry's.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<Resource>,
    /// The precision to run it in: `fp32`, `fp16`, `bf16` or `int8`; by default that of the engine, or `fp32`.
    #[arg(long, value_parser = named::<Precision>)]
    precision: Option<Precision>,
    /// The execution provider to run it on, such as `cpu`.
    #[arg(long, value_parser = named::<Provider>, default_value = "auto")]
    provider: Provider,
    /// Height and width of pictures, where the model leaves them open.
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
}

impl Args {
    /// Builds the engine, or finds it, and compares it with its source.
    ///
    /// # Errors
    /// Those of the cut, the runtime and the comparison.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, self.check.offline)?;
        let model = Model::find(&self.model, self.onnx.as_ref(), &here.fetcher())?;
        let outputs = self.specs(&model)?;
        let asked = self.check.image_size;
        let steps = model.entry.and_then(|entry| entry.preprocess.image());
        let steps = steps.map(|steps| asked.map_or_else(|| steps.clone(), |size| steps.at_size(size as u32)));
        let inputs = self.text_inputs(&model);
        let request = BuildRequest {
            name: &model.name,
            source: &model.file.path,
            address: &model.address,
            digest: model.file.digest,
            outputs: &outputs,
            licence: model.entry.map(|entry| entry.licence.as_str()),
            family: model.entry.map(|entry| entry.family.as_str()),
            tasks: model.entry.map_or(&[], |entry| &entry.tasks),
            preprocess: steps.as_ref(),
            inputs: Some(&inputs),
            image: asked.map(|size| [size, size]),
            conversion: Conversion::of(self.check.precision.unwrap_or_default()),
        };
        let size = self.check.image_size.or(model.entry.and_then(Entry::image_size));
        if self.check.precision == Some(Precision::Int8) {
            return report(&self.quantise(&here, &request, (model.entry, size))?, globals);
        }
        let built = build(&here.home, &request)?;
        let (folder, new) = (built.folder.clone(), !built.reused);
        let compared = self.check.compare(&here, built, &model.file.path, (model.entry, size));
        if compared.is_err() && new {
            // One that cannot be run, or be fed, is none; the error at hand matters more than a folder that stays.
            let _ = std::fs::remove_dir_all(folder);
        }
        report(&compared?, globals)
    }

    /// The names of a text network's inputs.
    fn text_inputs(&self, model: &Model) -> TextInputs {
        let own = model.entry.and_then(|entry| entry.preprocess.text()).map(|steps| steps.inputs.clone());
        let mut inputs = own.unwrap_or_default();
        self.inputs.iter().for_each(|(takes, name)| inputs.set(*takes, name.clone()));
        inputs
    }

    /// Builds the engine in int8; it is compared with fp32 on the way.
    fn quantise(
        &self,
        here: &Surroundings,
        request: &BuildRequest<'_>,
        (entry, size): (Option<&Entry>, Option<usize>),
    ) -> Result<Built> {
        let target = runtime::prepare(&here.fetcher(), self.check.provider, Precision::Int8)?;
        // In fp32 first, which tells what it is fed.
        let plain = build(&here.home, request)?;
        let feed = Feed::of(&plain.manifest, &onnx::read(&plain.model())?, size)?;
        let read = |count| self.check.read(here, &plain.manifest, &feed, entry, count);
        let calibrating = self.calibrate.read(request.outputs, read)?;
        if !plain.reused {
            // Nobody asked for it; the error at hand would matter more than a folder that stays.
            let _ = std::fs::remove_dir_all(&plain.folder);
        }
        let samples = || Ok(calibrating.samples());
        let probe = |seed| feed.probe(seed);
        let calibration = Calibration {
            config: &calibrating.config,
            digest: calibrating.digest,
            samples: &samples,
            probe: &probe,
            target: &target,
            progress: &here.progress,
            cancel: &here.cancel,
        };
        Ok(build(&here.home, &BuildRequest { conversion: Conversion::Int8(&calibration), ..*request })?)
    }

    fn specs(&self, model: &Model) -> Result<Vec<OutputSpec>> {
        match model.entry {
            Some(entry) if self.outputs.is_empty() => {
                Ok(entry.output_names().map(|name| entry.output(name)).collect::<Result<_, _>>()?)
            }
            Some(entry) if self.outputs.iter().all(|output| !output.contains('=')) => {
                Ok(self.outputs.iter().map(|name| entry.output(name)).collect::<Result<_, _>>()?)
            }
            _ if self.outputs.is_empty() => Err(no_outputs(model)?.into()),
            _ => Ok(self.outputs.iter().map(|word| output(word)).collect::<Result<_, _>>()?),
        }
    }
}

impl VerifyArgs {
    /// Compares the engine with its source.
    ///
    /// # Errors
    /// The engine or its source cannot be found; the source is another file; those of the comparison.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, self.check.offline)?;
        let built = shelf::find(&here.home, &self.engine)?;
        built.manifest.check_files(&built.folder, here.fetcher().digests()?)?;
        let source = match &self.source {
            Some(path) => path.clone(),
            None => fetch_model(&here.fetcher(), &built.manifest.source.address.parse()?)?.path,
        };
        if weights_digest(&source, Digest::of_file(&source)?, here.fetcher().digests()?)?
            != built.manifest.source.digest
        {
            let shown = source.display();
            return Err(Error::bad_input(format!("`{shown}` is not the file that the engine was cut from"))
                .hint("name that file with `--source`, or build the engine again")
                .into());
        }
        let entry = catalogue()?.get(&built.manifest.name).ok();
        let built = self.check.compare(&here, built, &source, (entry, self.check.image_size))?;
        report(&built, globals)
    }
}

impl Check {
    fn compare(
        &self,
        here: &Surroundings,
        mut built: Built,
        source: &Path,
        (entry, size): (Option<&Entry>, Option<usize>),
    ) -> Result<Built> {
        let feed = Feed::of(&built.manifest, &onnx::read(&built.model())?, size)?;
        let own = named(&built.manifest.precision).map_err(Error::bad_input)?;
        let prepared = runtime::prepare(&here.fetcher(), self.provider, self.precision.unwrap_or(own))?;
        let plain = prepared.on_processor()?;
        let threads = available_parallelism().map_or(1, usize::from);
        let scratch = Scratch::beside(&built.folder)?;
        let read = self.read(here, &built.manifest, &feed, entry, self.samples.max(1))?;
        let samples = read.unwrap_or_else(|| feed.samples(self.samples));
        // By its own name, which an error may show.
        let whole = scratch.path().join(source.file_name().unwrap_or_else(|| "source.onnx".as_ref()));
        let reference = Reference::write(source, &built.manifest, feed.row(), &whole)?;
        // One session at a time: a large model fits in memory once.
        let mut theirs = OnnxRuntime::open(&plain, &here.home, &whole, threads)?;
        let wanted = reference.run(&mut theirs, &samples)?;
        drop(theirs);
        reference.learn(&mut built.manifest, wanted.first().map_or(&[], Vec::as_slice))?;
        let mut ours = OnnxRuntime::open(&prepared, &here.home, &built.model(), threads)?;
        let probe = |seed| feed.probe(seed);
        let runtime = prepared.describe();
        let mut checks = verify(&built.manifest, &mut ours, (&reference, &wanted), &probe, &samples, &runtime)?;
        drop(ours);
        if !checks.batch_invariant {
            checks.batch_culprit = culprit(&built.model(), &prepared, (feed.row(), &probe), scratch.path())?;
        }
        built.manifest.set_checks(checks);
        built.manifest.write(&built.folder)?;
        Ok(built)
    }

    /// The samples that are named, as inputs of the engine of a manifest; `None` where none are.
    fn read(
        &self,
        here: &Surroundings,
        manifest: &Manifest,
        feed: &Feed,
        entry: Option<&Entry>,
        count: usize,
    ) -> Result<Option<Samples>> {
        match (feed, &self.pictures, &self.texts) {
            (Feed::Numbers(row), Some(path), None) => Ok(Some(pictures(path, manifest, row, count)?)),
            (Feed::Text { names, length, .. }, None, Some(path)) => {
                let tokenizer = self.tokenizer.as_ref().or(entry.and_then(|entry| entry.tokenizer.as_ref()));
                let tokenizer = tokenizer.ok_or_else(|| {
                    Error::bad_input("`--texts` needs a tokenizer").hint("name its `tokenizer.json` with `--tokenizer`")
                })?;
                let own = entry.and_then(|entry| entry.preprocess.text()).cloned();
                let mut steps = own.unwrap_or_else(|| TextPreprocess::at_most(MAX_TOKENS));
                steps.inputs = names.clone();
                if let Some(length) = length {
                    (steps.max_tokens, steps.pad_to) = (*length as u32, Some(*length as u32));
                }
                let encoder = Encoder::open(&here.fetcher().fetch(tokenizer)?.path, &steps)?;
                Ok(Some(Samples::texts(path, &encoder, count)?))
            }
            (_, None, None) => Ok(None),
            (Feed::Numbers(_), ..) => {
                Err(Error::bad_input("`--texts` are for networks that take texts, and this one does not").into())
            }
            (Feed::Text { .. }, ..) => {
                let what = "`--pictures` are for networks that take pictures, and this one takes texts";
                Err(Error::bad_input(what).hint("name a file of texts with `--texts`").into())
            }
        }
    }
}

/// The longest text in tokens that a network takes whose entry says nothing else.
const MAX_TOKENS: u32 = 128;

/// Pictures as inputs of rows of the shape `row`.
fn pictures(path: &Path, manifest: &Manifest, row: &[usize], count: usize) -> Result<Samples> {
    let own = manifest.preprocess.clone().filter(|own| own.output_shape() == row);
    let preprocess = match (own, row) {
        (Some(own), _) => own,
        (None, &[3, height, width]) if height == width => ImagePreprocess::plain(height as u32),
        _ => {
            return Err(Error::bad_input(format!("pictures cannot be made inputs of shape {row:?}"))
                .hint("leave `--pictures` out to compare on random numbers")
                .into());
        }
    };
    Ok(Samples::pictures(path, &preprocess, count)?)
}

/// `WHAT=NAME` of an input.
fn text_input(word: &str) -> Result<(TextInput, String), String> {
    let (what, name) = word.split_once('=').filter(|(_, name)| !name.is_empty()).ok_or("write it as `ids=NAME`")?;
    Ok((what.parse().map_err(|error: Error| error.to_string())?, name.into()))
}

/// A value of a recipe by its name.
///
/// # Errors
/// There is none of this name; the message lists those there are.
pub fn named<T: DeserializeOwned>(word: &str) -> Result<T, String> {
    serde_json::from_value(word.into()).map_err(|error| error.to_string())
}

/// `NAME=TENSOR` or `NAME=TENSOR:SELECT`. Tensors may have `:` in their names, so only a known kind counts.
fn output(word: &str) -> Result<OutputSpec, Error> {
    let bad =
        || Error::bad_input(format!("`{word}` is not an output")).hint("write `NAME=TENSOR` or `NAME=TENSOR:SELECT`");
    let (name, rest) = word.split_once('=').ok_or_else(bad)?;
    let (tensor, select) = match rest.rsplit_once(':').map(|(tensor, text)| (tensor, select(text))) {
        Some((tensor, Some(select))) => (tensor, select),
        _ => (rest, Select::All),
    };
    if name.is_empty() || tensor.is_empty() {
        return Err(bad());
    }
    Ok(OutputSpec { name: name.into(), tensor: tensor.into(), select })
}

fn select(text: &str) -> Option<Select> {
    let (kind, value) = text.split_once('=').map_or((text, None), |(kind, value)| (kind, Some(value)));
    Some(match (kind, value) {
        ("all", None) => Select::All,
        ("gap", None) => Select::Gap,
        ("gap_last", None) => Select::GapLast,
        ("flatten", None) => Select::Flatten,
        ("token", Some(index)) => Select::Token { index: index.parse().ok()? },
        ("tokens", Some(from)) => Select::Tokens { from: from.parse().ok()? },
        ("mean_tokens", None) => Select::MeanTokens { from: 0, to: None },
        ("mean_tokens", Some(range)) => match range.split_once("..") {
            Some((from, to)) => Select::MeanTokens { from: from.parse().ok()?, to: Some(to.parse().ok()?) },
            None => Select::MeanTokens { from: range.parse().ok()?, to: None },
        },
        _ => return None,
    })
}

/// Says where the model may be cut.
fn no_outputs(model: &Model) -> Result<Error> {
    let cuts = summarise(&onnx::read(&model.file.path)?, None)?.cuts;
    let words: Vec<String> = cuts
        .iter()
        .map(|cut| match cut.select {
            Select::All => format!("--output {}={}", cut.name, cut.tensor),
            select => format!("--output {}={}:{}", cut.name, cut.tensor, show_select(select)),
        })
        .collect();
    let error = Error::bad_input("which tensors to cut at is not said");
    Ok(match words.is_empty() {
        true => error.hint("`caft engine inspect MODEL` shows the tensors of a model"),
        false => error.hint(format!("likely are {}", one_of(words.iter().map(String::as_str)))),
    })
}

fn report(built: &Built, globals: &Globals) -> Result<ExitCode> {
    if globals.json {
        print_json(&built.manifest)?;
        return Ok(ExitCode::SUCCESS);
    }
    let how = if built.reused { "was built before" } else { "built" };
    let mut text = format!("{} {how}: {}\n", built.manifest.name, built.folder.display());
    if let Some(calibrated) = &built.manifest.calibration {
        text += &format!("{}\n", quantised(calibrated));
    }
    if let Some(checks) = built.manifest.checks.last() {
        text += &agreement(&built.manifest, checks);
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_from_words() {
        let spec = |name: &str, tensor: &str, select| OutputSpec { name: name.into(), tensor: tensor.into(), select };
        let read = |word: &str| output(word).map_err(|error| error.to_string());
        assert_eq!(read("c5=/layer4/Relu_output_0"), Ok(spec("c5", "/layer4/Relu_output_0", Select::All)));
        assert_eq!(read("cls=x:token=0"), Ok(spec("cls", "x", Select::Token { index: 0 })));
        assert_eq!(read("m=x:mean_tokens=1..9"), Ok(spec("m", "x", Select::MeanTokens { from: 1, to: Some(9) })));
        assert_eq!(read("y=Identity:0"), Ok(spec("y", "Identity:0", Select::All)));
        assert_eq!(read("y=Identity:0:gap"), Ok(spec("y", "Identity:0", Select::Gap)));
        assert_eq!(read("cls").unwrap_err(), "`cls` is not an output");
        assert!(read("=x").is_err() && read("x=").is_err());
    }
}
