//! `caft runs`: the runs below a folder with their main metric.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use super::filter::{self, Condition, Named};
use super::surroundings::Surroundings;
use super::table::TextTable;
use super::{Globals, print, print_json, say};
use crate::report::evaluation::Evaluation;
use crate::run::record::{RunRecord, Status};
use crate::run::settings::plain;
use crate::run::{directory, report};

/// List runs with their main metric, the newest first; or show one.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Only runs for which this holds: a metric, a field of `--json`, or a key of the recipe, compared by `=`, `!=`, `<`,
    /// `<=`, `>` or `>=`. May be given several times.
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// The least first by a metric, a field of `--json`, or a key of the recipe.
    #[arg(long, value_name = "NAME")]
    sort: Option<String>,
    /// With `--sort` the greatest first.
    #[arg(long, requires = "sort")]
    descending: bool,
    #[command(flatten)]
    place: RunsDir,
}

#[derive(Debug, Subcommand)]
enum What {
    Show(Show),
}

/// Show one run: its state, metrics, cost and confusion matrix.
#[derive(Debug, clap::Args)]
struct Show {
    /// The run: its folder, its id (or its beginning), or its recipe's name for the newest one.
    run: String,
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
        if let Some(What::Show(show)) = &self.what {
            return show.run(globals);
        }
        let runs = &self.place.runs_dir;
        let conditions: Vec<Condition> =
            self.conditions.iter().map(|text| text.parse()).collect::<crate::base::Result<_>>()?;
        let (records, damaged) = directory::list_all(runs)?;
        let all = records.len();
        if !globals.quiet {
            damaged.iter().for_each(|error| say(&format!("warning: {error}; this run is left out\n")));
        }
        let mut records = filter::chosen(records.into_iter().map(Named::new).collect(), &conditions)?;
        if let Some(name) = self.sort.as_ref().filter(|_| !records.is_empty()) {
            filter::sort(&mut records, name, self.descending)?;
        }
        let shown: Vec<&str> = conditions.iter().map(Condition::name).chain(self.sort.as_deref()).collect();
        if globals.json {
            print_json(&records.iter().map(|run| &run.record).collect::<Vec<_>>())?;
        } else if records.is_empty() && all > 0 {
            print(&format!("none of {all} runs in `{}` is so\n", runs.display()))?;
        } else if records.is_empty() {
            print(&format!("no runs in `{}`; `caft run configs/quickstart.yaml` makes one\n", runs.display()))?;
        } else {
            print(&table(&records, &shown).to_string())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    /// Prints the run. What it predicted is computed again from stored activations, without the network.
    fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let record = directory::find(&self.place.runs_dir, &self.run)?;
        let here = Surroundings::new(globals, true)?;
        let evaluations = match record.status {
            Status::Finished => report::evaluations(&record, &here.context(&self.place.runs_dir)),
            _ => Ok(Vec::new()),
        };
        if globals.json {
            let evaluations = evaluations.as_ref().ok();
            print_json(&serde_json::json!({"record": record, "evaluations": evaluations}))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut text =
            format!("{} {} ({})\n  {}\n", record.name, record.id.short(16), status(record.status), record.path);
        if let Some(error) = &record.error {
            text += &format!("  {error}\n");
        }
        for (name, value) in &record.metrics {
            let main = if record.main_metric.as_ref() == Some(name) { "  (main)" } else { "" };
            text += &format!("  {name} {value:.4}{main}\n");
        }
        if let Some(line) = record.precision_cost_in_words() {
            text += &format!("  {line}\n");
        }
        let stages: Vec<String> = record.stages.iter().map(|(stage, secs)| format!("{stage} {secs:.1} s")).collect();
        let (computed, reused) = (record.activations.computed, record.activations.reused);
        text += &format!("  activations: {computed} computed, {reused} reused; {}\n", stages.join(", "));
        match evaluations {
            Ok(evaluations) => evaluations.iter().for_each(|of_split| text += &confusion(of_split)),
            Err(error) => text += &format!("  no confusion matrix: {error}\n"),
        }
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The confusion matrix of a split: a line per true class, a column per predicted one.
fn confusion(evaluation: &Evaluation) -> String {
    let Some(counts) = &evaluation.confusion else { return String::new() };
    let names: Vec<&str> = evaluation.classes.iter().map(|class| class.name.as_str()).collect();
    let width = |column: usize| counts.iter().map(|row| row[column].to_string().len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(|i| width(i).max(names[i].chars().count())).collect();
    let first = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = format!("{}: true class by line, predicted class by column\n  {:first$}", evaluation.split, "");
    names.iter().zip(&widths).for_each(|(name, width)| text += &format!("  {name:>width$}"));
    text.push('\n');
    for (name, row) in names.iter().zip(counts) {
        text += &format!("  {name:first$}");
        row.iter().zip(&widths).for_each(|(count, width)| text += &format!("  {count:>width$}"));
        text.push('\n');
    }
    text
}

/// The runs, with what they say by the names that were asked for.
fn table(runs: &[Named], asked: &[&str]) -> TextTable {
    let own = ["name", "id", "status", "metric"];
    let mut names: Vec<&str> = Vec::new();
    asked.iter().for_each(|name| {
        if !own.contains(name) && !names.contains(name) {
            names.push(name)
        }
    });
    let of_cost = ["computed", "reused", "time", "path"];
    let headings = own.iter().chain(&names).chain(&of_cost).map(|heading| (*heading).to_string());
    let mut table = TextTable::new(headings.collect());
    for run in runs {
        let record = &run.record;
        let mut row = vec![
            record.name.clone(),
            record.id.short(8),
            status(record.status).into(),
            main_metric(record).unwrap_or_default(),
        ];
        row.extend(names.iter().map(|name| run.value(name).map(|value| in_short(&value)).unwrap_or_default()));
        row.extend([
            record.activations.computed.to_string(),
            record.activations.reused.to_string(),
            format!("{:.1} s", record.stages.values().sum::<f64>()),
            record.path.clone(),
        ]);
        table.row(row);
    }
    table
}

/// A value in few digits.
fn in_short(value: &serde_json::Value) -> String {
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(number) if number == 0.0 || (1e-3..1e5).contains(&number.abs()) => format!("{number:.4}"),
        Some(number) => format!("{number:.3e}"),
        None => plain(value),
    }
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
