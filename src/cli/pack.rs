//! `caft pack|unpack`: a finished run as one file, for another machine.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use indicatif::HumanBytes;

use super::runs::RunsDir;
use super::surroundings::Surroundings;
use super::{Globals, print, print_json};
use crate::base::Error;
use crate::run::directory;
use crate::run::pack::{ENDING, PackRequest, open, pack};

/// Pack a finished run into one file: recipe, plan, lock, record and checkpoint, and what else another machine is to do
/// without.
#[derive(Debug, clap::Args)]
pub struct PackArgs {
    /// The run: its folder, its id (or its beginning), or its recipe's name for the newest one.
    run: String,
    /// The file to write; the run's name and id in this folder if not given.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Pack the activations of all its rows: another machine trains without backbone and data.
    #[arg(long)]
    with_activations: bool,
    /// Pack the engine: another machine predicts without the backbone's source.
    #[arg(long)]
    with_engine: bool,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    place: RunsDir,
}

/// Unpack a run that was packed elsewhere, after checking all that is in the file.
#[derive(Debug, clap::Args)]
pub struct UnpackArgs {
    /// The packed file.
    file: PathBuf,
    #[command(flatten)]
    place: RunsDir,
}

impl PackArgs {
    /// Writes the file.
    ///
    /// # Errors
    /// There is no such finished run; its activations or its engine cannot be had any more.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, self.offline)?;
        let context = here.context(&self.place.runs_dir);
        let record = directory::find_finished(&self.place.runs_dir, &self.run)?;
        let own = || PathBuf::from(format!("{}-{}.{ENDING}", record.name, record.id.short(8)));
        let out = self.output.clone().unwrap_or_else(own);
        let request = PackRequest { activations: self.with_activations, engines: self.with_engine };
        let manifest = pack(&record, request, &out, &context)?;
        let size = std::fs::metadata(&out).map_err(Error::io("read", &out))?.len();
        if globals.json {
            print_json(&serde_json::json!({"file": out, "size": size, "manifest": manifest}))?;
        } else {
            let (shown, size) = (out.display(), HumanBytes(size));
            let train = if self.with_activations {
                format!("; to train on it: caft run {shown} key=value …")
            } else {
                String::new()
            };
            print(&format!("{shown}: {size}\non another machine: caft unpack {shown}{train}\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl UnpackArgs {
    /// Checks the file and puts what is in it in place.
    ///
    /// # Errors
    /// It is no packed run, is damaged or hostile; nothing is kept then.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, true)?;
        let opened = open(&self.file, &here.context(&self.place.runs_dir))?;
        if globals.json {
            print_json(&serde_json::json!({
                "run": opened.run, "was_there": opened.was_there, "engines": opened.engines, "rows": opened.rows,
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut text =
            format!("{}{}\n", opened.run.display(), if opened.was_there { " (was there before)" } else { "" });
        opened.engines.iter().for_each(|engine| text += &format!("  the engine `{engine}` is kept\n"));
        if opened.rows > 0 {
            let file = self.file.display();
            text += &format!("  activations of {} rows: caft run {file} key=value … trains on them\n", opened.rows);
        }
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}
