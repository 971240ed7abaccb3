//! `caft runs`: the runs below a folder with their main metric.

use std::path::Path;

use anyhow::Result;

use super::table::Table;
use crate::run::directory;
use crate::run::record::{RunRecord, Status};

/// Options of `caft runs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print an array of objects: name, id, path, status, metrics, activations, stages (seconds)
    #[arg(long)]
    json: bool,
}

/// Prints the runs, the newest first.
#[expect(clippy::print_stdout, reason = "this is the command's result")]
pub fn main(args: &Args, runs: &Path) -> Result<()> {
    let records = directory::list(runs)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&records)?);
        return Ok(());
    }
    if records.is_empty() {
        println!("no runs in `{}`; `caft run configs/quickstart.yaml` makes one", runs.display());
        return Ok(());
    }
    let mut table = Table::new(["name", "id", "status", "metric", "computed", "reused", "time", "path"]);
    for record in &records {
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
    print!("{table}");
    Ok(())
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
