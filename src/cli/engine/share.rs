//! `caft engine pack|unpack|push|pull`: engines for other machines and other people.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use indicatif::HumanBytes;

use super::Surroundings;
use crate::base::Error;
use crate::cli::{Globals, print, print_json};
use crate::engine::exchange::{Listed, Place};
use crate::engine::pack::{ENDING, pack, unpack};
use crate::engine::{Built, shelf};

/// Pack an engine.
#[derive(Debug, clap::Args)]
pub struct PackArgs {
    /// The engine's name, or the beginning of its id.
    engine: String,
    /// The file to write; the engine's name, precision and digest in this folder if not given.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Unpack an engine.
#[derive(Debug, clap::Args)]
pub struct UnpackArgs {
    /// The packed file.
    file: PathBuf,
}

/// Push an engine.
#[derive(Debug, clap::Args)]
pub struct PushArgs {
    /// The engine's name, or the beginning of its id.
    engine: String,
    /// A folder, `git+https://host/repo.git@branch` (also `git+ssh://…`, `git+file:///…`), or `hf:owner/repo`.
    address: Place,
}

/// Pull an engine.
#[derive(Debug, clap::Args)]
pub struct PullArgs {
    /// Where it is: an address as of `push`; the engine's name may stand behind it, after a `/`.
    address: String,
    /// The engine's name there, or its file without ending; not needed where there is one alone.
    name: Option<String>,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
}

impl PackArgs {
    /// Writes the packed file.
    ///
    /// # Errors
    /// There is no such engine, or it is damaged; the file cannot be written.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, true)?;
        let built = shelf::find(&here.home, &self.engine)?;
        let name = || PathBuf::from(Listed::new(&built.manifest, 0, built.manifest.digest()).file);
        let out = self.out.clone().unwrap_or_else(name);
        pack(&built, here.fetcher().digests()?, &out)?;
        let size = std::fs::metadata(&out).map_err(Error::io("read", &out))?.len();
        if globals.json {
            print_json(&serde_json::json!({"file": out, "size": size, "manifest": built.manifest}))?;
        } else {
            let (shown, licence) = (out.display(), built.manifest.licence.as_deref().unwrap_or("not known"));
            let size = HumanBytes(size);
            print(&format!(
                "{shown}: {size}, licence: {licence}\non another machine: caft engine unpack FILE.{ENDING}\n"
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl UnpackArgs {
    /// Checks the file and keeps its engine.
    ///
    /// # Errors
    /// It is no packed engine, is damaged or hostile.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, true)?;
        let built = unpack(&here.home, &self.file, &self.file.display().to_string(), &here.cancel)?;
        kept(&built, globals)
    }
}

impl PushArgs {
    /// Packs the engine and puts it there.
    ///
    /// # Errors
    /// There is no such engine; the address cannot be written.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, false)?;
        let built = shelf::find(&here.home, &self.engine)?;
        let listed = self.address.push(&built, &here.fetcher())?;
        if globals.json {
            print_json(&listed)?;
        } else {
            let (place, file, size) = (&self.address, &listed.file, HumanBytes(listed.size));
            let name = &listed.name;
            print(&format!("{place}: {file}, {size}\non another machine: caft engine pull {place} {name}\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl PullArgs {
    /// Fetches the engine, checks it, and keeps it.
    ///
    /// # Errors
    /// It is not there, or not what the index says; nothing is kept then.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, self.offline)?;
        let (place, name) = Place::with_name(&self.address)?;
        if name.is_some() && self.name.is_some() {
            return Err(Error::bad_input("the engine is named twice: behind the address and by itself").into());
        }
        let fetcher = here.fetcher();
        let index = place.index(&fetcher)?;
        let listed = index.find(name.as_deref().or(self.name.as_deref()), &place.to_string())?;
        kept(&place.pull(listed, &fetcher, &here.cancel)?, globals)
    }
}

fn kept(built: &Built, globals: &Globals) -> Result<ExitCode> {
    let manifest = &built.manifest;
    if globals.json {
        print_json(manifest)?;
        return Ok(ExitCode::SUCCESS);
    }
    let outputs: Vec<&str> = manifest.outputs.iter().map(|output| output.name.as_str()).collect();
    print(&format!(
        "{} {} ({}): kept in {}\nlicence: {}\nin a recipe: backbone: {{name: {0}}}, or {{onnx: \"engine:{0}\"}}; \
         `caft engine show {}` tells all\n",
        manifest.name,
        manifest.precision,
        outputs.join(", "),
        built.folder.display(),
        manifest.licence.as_deref().unwrap_or("not known"),
        &shelf::id(built)[..8],
    ))?;
    Ok(ExitCode::SUCCESS)
}
