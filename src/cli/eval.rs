//! `caft eval`: a finished run, or an exported file, measured on labelled data.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use super::runs::RunsDir;
use super::surroundings::Surroundings;
use super::{Globals, load, print, print_json};
use crate::base::Error;
use crate::base::suggest::did_you_mean;
use crate::data::DataConfig;
use crate::metric::MetricName;
use crate::recipe::Overrides;
use crate::run::pack::{self, is_pack};
use crate::run::{EvalRequest, directory, evaluate};

/// Measure a finished run, or an exported file, on labelled data: the run's own test rows, other data, or a folder
/// of classes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run (its folder, its id, or its recipe's name), a file that `caft export` wrote, or one that `caft pack
    /// --with-activations` wrote, to measure on the rows inside.
    run: String,
    /// A folder with one folder per class; or changes to the run's recipe, such as `data.test.path=DIR`.
    #[arg(value_name = "FOLDER|KEY=VALUE")]
    data: Vec<String>,
    /// Measure on the data of this recipe: its test rows, or all of them where it sets none apart.
    #[arg(long, value_name = "RECIPE", conflicts_with = "data")]
    data_of: Option<PathBuf>,
    /// The metrics, with commas between them, in place of the run's own.
    #[arg(long, value_delimiter = ',', value_parser = metric, value_name = "NAME,…")]
    metrics: Vec<MetricName>,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    place: RunsDir,
}

impl Args {
    /// Prints the run's metrics on the data.
    ///
    /// # Errors
    /// There is no such run or data, or the data have other classes.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, self.offline)?;
        let context = here.context(&self.place.runs_dir);
        let evaluated = if is_pack(Path::new(&self.run)) && self.data.is_empty() && self.data_of.is_none() {
            let opened = pack::open(Path::new(&self.run), &context)?;
            pack::evaluate(&opened, self.metrics.clone(), &context)?
        } else {
            let request = EvalRequest { data: self.config()?, metrics: self.metrics.clone() };
            evaluate(&self.run, request, &context)?
        };
        if globals.json {
            print_json(&evaluated)?;
        } else {
            let skipped =
                if evaluated.skipped > 0 { format!(", {} skipped", evaluated.skipped) } else { String::new() };
            let mut text = format!("{}: {} rows{skipped}\n", evaluated.model, evaluated.rows);
            for (name, value) in &evaluated.metrics {
                text += &format!("  {name} {value:.4}\n");
            }
            print(&text)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The data, if they are not the run's own.
    fn config(&self) -> Result<Option<DataConfig>> {
        if let Some(recipe) = &self.data_of {
            return Ok(Some(load::data(recipe)?));
        }
        let (words, folders): (Vec<String>, Vec<String>) =
            self.data.iter().cloned().partition(|w| Overrides::is_word(w));
        match (&words[..], &folders[..]) {
            ([], []) => Ok(None),
            ([], [folder]) => {
                let folder = Path::new(folder);
                if !folder.is_dir() {
                    let what = format!("`{}` is not a folder", folder.display());
                    let hint = "name a folder with one folder per class, or a change such as `data.test.path=DIR`";
                    return Err(Error::bad_input(what).hint(hint).into());
                }
                let config =
                    serde_json::json!({"kind": "image_folder", "train": {"path": folder.display().to_string()}});
                let config: DataConfig = serde_json::from_value(config)?;
                Ok(Some(config.relative_to(&std::env::current_dir()?)))
            }
            (_, []) => {
                let record = directory::find_finished(&self.place.runs_dir, &self.run)?;
                let planned = load::load(&Path::new(&record.path).join("recipe.yaml"), &words)?;
                Ok(Some(planned.plan.data))
            }
            _ => Err(Error::bad_input("give one folder, or changes to the recipe, but not both").into()),
        }
    }
}

fn metric(word: &str) -> Result<MetricName, String> {
    let found = MetricName::ALL.iter().find(|metric| metric.name() == word).copied();
    let guess = || did_you_mean(word, MetricName::ALL.iter().map(|metric| metric.name()));
    found.ok_or_else(|| format!("there is no metric `{word}`{}", guess()))
}
