//! `caft report`: the page of a run, of several side by side, or of a sweep.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use super::runs::RunsDir;
use super::surroundings::Surroundings;
use super::{Globals, print, print_json};
use crate::base::{Error, file};
use crate::report::projection::Method;
use crate::run::directory;
use crate::run::report::{Extent, REPORT, gather, page};
use crate::run::sweep;
use crate::run::sweep::page::is_sweep;

/// Write the report of a run, of several side by side, or of sweeps, as one HTML file that needs no network.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The runs: folders, ids (or their beginnings), or recipes' names for the newest ones; or folders of sweeps.
    #[arg(required = true)]
    runs: Vec<String>,
    /// The file to write; `report.html` in the run's folder, or in the folder of all runs for several.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How features are brought down to two dimensions.
    #[arg(long, value_enum, default_value_t = Projection::Pca)]
    projection: Projection,
    /// Rows in the projection at most.
    #[arg(long, value_name = "N", default_value_t = Extent::default().points, value_parser = bounded(5000))]
    points: usize,
    /// Rows in each gallery at most.
    #[arg(long, value_name = "N", default_value_t = Extent::default().examples, value_parser = bounded(500))]
    examples: usize,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    place: RunsDir,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Projection {
    /// Principal components: quick, and distances mean something.
    Pca,
    /// t-SNE: neighbours stay neighbours.
    Tsne,
}

/// A count up to `most`: the page holds every row that it shows.
fn bounded(most: u64) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| match text.parse::<usize>() {
        Ok(count) if count as u64 <= most => Ok(count),
        _ => Err(format!("not a number from 0 to {most}")),
    }
}

impl Args {
    /// Writes the page and prints where it is.
    ///
    /// # Errors
    /// There is no such run; the file cannot be written.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let runs_dir = &self.place.runs_dir;
        let folders: Vec<&Path> = self.runs.iter().map(Path::new).filter(|folder| is_sweep(folder)).collect();
        if !folders.is_empty() {
            if folders.len() < self.runs.len() {
                return Err(Error::bad_input("sweeps and runs are not on one page").hint("name sweeps alone").into());
            }
            let sweeps = folders.iter().map(|folder| sweep::page::gather(folder)).collect::<Result<Vec<_>, _>>()?;
            let folder = if let [folder] = folders[..] { folder } else { runs_dir };
            return self.write(folder, &sweep::page::page(sweeps)?, globals);
        }
        let records = self.runs.iter().map(|word| directory::find(runs_dir, word)).collect::<Result<Vec<_>, _>>()?;
        let here = Surroundings::new(globals, self.offline)?;
        let context = here.context(runs_dir);
        let method = match self.projection {
            Projection::Pca => Method::Pca,
            Projection::Tsne => Method::Tsne,
        };
        let extent = Extent { method, points: self.points, examples: self.examples };
        let runs = records.iter().map(|record| gather(record, &extent, &context)).collect::<Result<Vec<_>, _>>()?;
        let folder = if let [record] = &records[..] { PathBuf::from(&record.path) } else { runs_dir.clone() };
        self.write(&folder, &page(runs)?, globals)
    }

    fn write(&self, folder: &Path, html: &str, globals: &Globals) -> Result<ExitCode> {
        let path = self.output.clone().unwrap_or_else(|| folder.join(REPORT));
        file::write_bytes(&path, html.as_bytes())?;
        if globals.json {
            print_json(&serde_json::json!({"report": path.display().to_string()}))?;
        } else {
            print(&format!("{}\n", path.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
