//! `caft runs`: the runs below a folder with their main metric.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::table::Table;
use super::{Globals, print, print_json};
use crate::run::directory;
use crate::run::record::{RunRecord, Status};

/// List runs with their main metric, the newest first.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: RunsDir,
}

/// Where runs are kept.
#[derive(Debug, clap::Args)]
pub struct RunsDir {
    /// The folder that holds the runs
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub runs_dir: PathBuf,
}

impl Args {
    /// Prints the runs.
    ///
    /// # Errors
    /// The folder cannot be read, or standard output is closed.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let runs = &self.place.runs_dir;
        let records = directory::list(runs)?;
        if globals.json {
            print_json(&records)?;
        } else if records.is_empty() {
            print(&format!("no runs in `{}`; `caft run configs/quickstart.yaml` makes one\n", runs.display()))?;
        } else {
            print(&table(&records).to_string())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(records: &[RunRecord]) -> Table<8> {
    let mut table = Table::new(["name", "id", "status", "metric", "computed", "reused", "time", "path"]);
    for record in records {
        table.row([
            record.name.clone(),
            record.id.short(8),
            status(record.status).into(),
            main_metric(record).unwrap_or_default(),
            record.activations.computed.to_string(),
            record.activations.reused.to_string(),
            format!("{:.1} s", record.stages.values().sum::<f64>()),
            record.path.clone(),
        ]);
    }
    table
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::Interrupted => "interrupted",
        Status::Failed => "failed",
        Status::Finished => "finished",
    }
}

/// `test/accuracy 0.8520`, if the run has its main metric.
pub fn main_metric(record: &RunRecord) -> Option<String> {
    let name = record.main_metric.as_ref()?;
    record.metrics.get(name).map(|value| format!("{name} {value:.4}"))
}
