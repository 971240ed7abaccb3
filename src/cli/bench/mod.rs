//! `caft bench`: measures parts of caft on this machine, beside what else does the same.

mod cache;
mod data;
mod engine;
mod exact;
mod extract;
mod sweep;
mod tails;
mod train;

use std::process::ExitCode;

use clap::Subcommand;

use super::Globals;

/// Measure parts of caft on this machine.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Cache(cache::Args),
    Data(data::Args),
    Engine(engine::Args),
    Extract(extract::Args),
    Sweep(sweep::Args),
    Train(train::Args),
}

impl Args {
    /// Measures and prints.
    ///
    /// # Errors
    /// Those of what is measured, or standard output is closed.
    pub fn run(&self, globals: &Globals) -> anyhow::Result<ExitCode> {
        match &self.what {
            What::Cache(args) => args.run(globals),
            What::Data(args) => args.run(globals),
            What::Engine(args) => args.run(globals),
            What::Extract(args) => args.run(globals),
            What::Sweep(args) => args.run(globals),
            What::Train(args) => args.run(globals),
        }
    }
}

/// The middle of some rates; 0 of none.
fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(0.0)
}
