//! `caft predict`: new pictures through a finished run.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::runs::RunsDir;
use super::surroundings::Surroundings;
use super::table::Table;
use super::{Globals, print, print_json};
use crate::base::Error;
use crate::run::record::Status;
use crate::run::{Predictor, directory};

/// Classify new pictures with a finished run, through the same preprocess and engine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run: its folder, its id (or its beginning), or its recipe's name for the newest one.
    run: String,
    /// Pictures.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    place: RunsDir,
}

impl Args {
    /// Prints the class of each file with its probability.
    ///
    /// # Errors
    /// There is no such finished run, or a file is not a picture.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let record = directory::find(&self.place.runs_dir, &self.run)?;
        if record.status != Status::Finished {
            let what = format!("run `{}` is not finished", record.path);
            return Err(Error::bad_input(what).hint("run its recipe again; it goes on from where it stopped").into());
        }
        let here = Surroundings::new(globals, self.offline)?;
        let context = here.context(&self.place.runs_dir);
        let mut predictor = Predictor::open(record.path.as_ref(), &context)?;
        let predicted = predictor.predict(&self.files, &context)?;
        if globals.json {
            print_json(&serde_json::json!({"classes": predictor.classes(), "predictions": predicted}))?;
        } else {
            let mut table = Table::new(["file", "label", "probability"]);
            for one in predicted {
                table.row([one.file, one.label, format!("{:.4}", one.probability)]);
            }
            print(&table.to_string())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
