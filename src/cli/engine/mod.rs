//! `caft engine`: look into models, and build, verify and keep engines.

mod build;
mod calibrate;
mod export;
mod inspect;
mod keep;
mod share;
mod show;
mod svg;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

pub use build::named;

use super::Globals;
use super::surroundings::Surroundings;
use crate::backbone::{Entry, catalogue};
use crate::base::Error;
use crate::engine::fetch_model;
use crate::resource::{Fetched, Fetcher, Resource};

/// Look into models; build, verify and keep the engines that are cut from them.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show what is in a model: inputs, outputs, blocks, and where it may be cut.
    Inspect(inspect::Args),
    /// Export a model of torchvision, timm, transformers and others to ONNX, in your own Python environment.
    Export(export::Args),
    /// Cut a model, compare it with its source, and keep it as an engine.
    Build(build::Args),
    /// Compare an engine with its source again.
    Verify(build::VerifyArgs),
    /// List the engines that are kept.
    Ls,
    /// Show the manifest of an engine.
    Show(keep::Name),
    /// Remove engines.
    Rm(keep::Names),
    /// Pack an engine into one file that another machine can use without the source.
    Pack(share::PackArgs),
    /// Keep the engine of a packed file.
    Unpack(share::UnpackArgs),
    /// Put an engine where others find it: a folder, a git repository, a hub.
    Push(share::PushArgs),
    /// Keep an engine that others put somewhere.
    Pull(share::PullArgs),
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// Those of the command.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        match &self.action {
            Action::Inspect(args) => args.run(globals),
            Action::Export(args) => args.run(globals),
            Action::Build(args) => args.run(globals),
            Action::Verify(args) => args.run(globals),
            Action::Ls => keep::ls(globals),
            Action::Show(args) => args.show(globals),
            Action::Rm(args) => args.remove(),
            Action::Pack(args) => args.run(globals),
            Action::Unpack(args) => args.run(globals),
            Action::Push(args) => args.run(globals),
            Action::Pull(args) => args.run(globals),
        }
    }
}

/// A model that a command was given: an entry of the catalogue, or a file or address.
struct Model {
    name: String,
    address: String,
    file: Fetched,
    entry: Option<&'static Entry>,
}

impl Model {
    /// Finds and fetches a model. An existing file wins over an entry of the same name. `export` is the user's own
    /// ONNX file of an entry.
    ///
    /// # Errors
    /// There is none; the entry publishes no ONNX file; those of the fetcher.
    fn find(word: &str, export: Option<&Resource>, fetcher: &Fetcher<'_>) -> Result<Self> {
        let catalogue = catalogue()?;
        let looks_like_a_name = !word.contains(['/', '\\', ':', '.']) && !Path::new(word).exists();
        if !looks_like_a_name && export.is_none() {
            let resource: Resource = word.parse()?;
            let file = fetch_model(fetcher, &resource)?;
            let name = Path::new(word).file_stem().map_or_else(|| word.into(), |s| s.to_string_lossy().into_owned());
            return Ok(Self { name, address: word.into(), file, entry: None });
        }
        let entry = catalogue.get(word)?;
        let Some(resource) = export.or(entry.weights.onnx.as_ref()) else {
            return Err(Error::bad_input(format!("no ONNX file of `{word}` is published"))
                .hint(format!(
                    "`caft engine export {word}` makes one; then name it: `caft engine build {word} --onnx FILE`"
                ))
                .into());
        };
        let file = fetch_model(fetcher, resource)?;
        Ok(Self { name: entry.name.clone(), address: resource.to_string(), file, entry: Some(entry) })
    }
}

/// `1234567` as `1.23 M`.
fn short(count: u64) -> String {
    let value = count as f64;
    let (scaled, unit) = match count {
        0..=999 => return count.to_string(),
        1_000..=999_999 => (value / 1e3, "k"),
        1_000_000..=999_999_999 => (value / 1e6, "M"),
        _ => (value / 1e9, "G"),
    };
    format!("{scaled:.2} {unit}")
}
