//! `caft diff`: what two runs do not have in common.

use std::process::ExitCode;

use anyhow::Result;

use super::runs::RunsDir;
use super::table::Table;
use super::{Globals, print, print_json};
use crate::run::diff::{RunDiff, diff};
use crate::run::directory;

/// Show how two runs differ: recipe, data, engine, versions, machine, and metrics.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The first run: its folder, its id (or its beginning), or its recipe's name for the newest one.
    first: String,
    /// The second run.
    second: String,
    #[command(flatten)]
    place: RunsDir,
}

impl Args {
    /// Prints the differences.
    ///
    /// # Errors
    /// There is no such run, or its files are damaged.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let find = |word: &str| directory::find(&self.place.runs_dir, word);
        let found = diff(&find(&self.first)?, &find(&self.second)?)?;
        if globals.json {
            print_json(&found)?
        } else {
            print(&shown(&found))?
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn shown(diff: &RunDiff) -> String {
    let [first, second] = &diff.runs;
    let mut text = format!("first   {first}\nsecond  {second}\n");
    let none = || "—".to_string();
    if !diff.recipe.is_empty() {
        let mut table = Table::new(["recipe", "first", "second"]);
        for key in &diff.recipe {
            let [a, b] = key.values.clone().map(|value| value.unwrap_or_else(none));
            table.row([key.name.clone(), a, b]);
        }
        text += &format!("\n{table}");
    }
    if !diff.made_of.is_empty() {
        let mut table = Table::new(["made of", "", "first", "second"]);
        for difference in &diff.made_of {
            let [a, b] = difference.values.clone();
            table.row([difference.origin.name().into(), difference.what.into(), a, b]);
        }
        text += &format!("\n{table}");
    }
    if diff.recipe.is_empty() && diff.made_of.is_empty() {
        text += "\nrecipe, data, engine, versions and machine are the same\n";
    }
    if !diff.metrics.is_empty() {
        let mut table = Table::new(["metric", "first", "second", "difference"]);
        for metric in &diff.metrics {
            let [a, b] = metric.values;
            let number = |value: Option<f64>| value.map_or_else(none, |value| format!("{value:.4}"));
            let change = a.zip(b).map_or_else(none, |(a, b)| {
                if a.to_bits() == b.to_bits() { "same".into() } else { format!("{:+.4}", b - a) }
            });
            table.row([metric.name.clone(), number(a), number(b), change]);
        }
        text += &format!("\n{table}");
    }
    text
}
