//! `caft predict`: new pictures or texts through a finished run.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::runs::RunsDir;
use super::surroundings::Surroundings;
use super::table::Table;
use super::{Globals, print, print_json};
use crate::base::{Error, file};
use crate::run::Predictor;

/// More than this is not read of a file of lines.
const LARGEST: u64 = 1 << 30;

/// Classify new pictures or texts with a finished run, through the same preprocess and engine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run: its folder, its id (or its beginning), or its recipe's name for the newest one.
    run: String,
    /// Pictures, or texts if the run was trained on texts; the two texts of a pair with a tab between them.
    #[arg(required_unless_present = "lines")]
    inputs: Vec<String>,
    /// A file with one more input in each line, or `-` for the standard input.
    #[arg(long, value_name = "FILE")]
    lines: Option<PathBuf>,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    place: RunsDir,
}

impl Args {
    /// The inputs of the command line, then those of the file.
    fn words(&self) -> Result<Vec<String>> {
        let mut words = self.inputs.clone();
        let text = match &self.lines {
            None => return Ok(words),
            Some(path) if path.as_os_str() == "-" => std::io::read_to_string(std::io::stdin().lock())
                .map_err(|e| Error::bad_input("the standard input is not UTF-8 text").because(e))?,
            Some(path) => file::read_text(path, LARGEST)?,
        };
        words.extend(text.lines().filter(|line| !line.trim().is_empty()).map(String::from));
        Ok(words)
    }

    /// Prints the class of each input with its probability, or its values.
    ///
    /// # Errors
    /// There is no such finished run, or a file is not a picture.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, self.offline)?;
        let context = here.context(&self.place.runs_dir);
        let mut predictor = Predictor::of(&self.run, &context)?;
        let words = self.words()?;
        let predicted = predictor.predict(&predictor.samples(&words)?, &words, &context)?;
        if globals.json {
            print_json(&serde_json::json!({"classes": predictor.classes(), "predictions": predicted}))?;
        } else {
            let first = predictor.what();
            let text = if predicted.iter().any(|one| one.label.is_none()) {
                let mut table = Table::new([first, "values"]);
                for one in predicted {
                    let values: Vec<String> = one.values.iter().map(|value| format!("{value:.4}")).collect();
                    table.row([one.input, values.join(" ")]);
                }
                table.to_string()
            } else {
                let mut table = Table::new([first, "label", "probability"]);
                for one in predicted {
                    let probability = one.probability.map(|p| format!("{p:.4}")).unwrap_or_default();
                    table.row([one.input, one.label.unwrap_or_default(), probability]);
                }
                table.to_string()
            };
            print(&text)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
