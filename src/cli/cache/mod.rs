//! `caft cache`: filling, looking at, checking, cleaning and copying out stored activations.

mod export;
mod fill;
mod list;
mod upkeep;

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Result;
use clap::Subcommand;

use super::Globals;
use super::progress::Terminal;
use crate::base::{Cancel, Home};
use crate::cache::{Column, ColumnInfo, Store};

/// Fill, look at, check, clean and copy out stored activations.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Fill(fill::Fill),
    Ls(list::Ls),
    Show(list::Show),
    Verify(upkeep::Verify),
    Gc(upkeep::Gc),
    Compact(upkeep::Compact),
    Export(export::Export),
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// Those of the store and of standard output.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        match &self.command {
            Command::Fill(args) => args.run(globals),
            Command::Ls(args) => args.run(globals),
            Command::Show(args) => args.run(globals),
            Command::Verify(args) => args.run(globals),
            Command::Gc(args) => args.run(globals),
            Command::Compact(args) => args.run(globals),
            Command::Export(args) => args.run(globals),
        }
    }
}

/// What the commands that do work have at hand.
struct Work {
    store: Store,
    progress: Terminal,
    cancel: Cancel,
}

impl Work {
    fn new(globals: &Globals) -> Result<Self> {
        let cancel = Cancel::default();
        super::interrupt::handle(&cancel)?;
        let store = Store::open(&Home::from_environment()?)?;
        Ok(Self { store, progress: Terminal::new(globals.verbosity()), cancel })
    }

    /// The columns whose keys begin with the given digits, or all of them when none are given.
    fn columns(&self, keys: &[String]) -> Result<Vec<ColumnInfo>> {
        if keys.is_empty() {
            return Ok(self.store.columns()?);
        }
        Ok(keys.iter().map(|key| self.store.find(key)).collect::<Result<_, _>>()?)
    }

    fn open(&self, info: &ColumnInfo) -> Result<Column> {
        Ok(self.store.column(&info.spec, &self.progress)?)
    }
}

/// `3 hours ago`.
fn ago(time: SystemTime) -> String {
    let seconds = time.elapsed().unwrap_or_default().as_secs();
    match seconds {
        0..120 => "now".into(),
        120..7200 => format!("{} minutes ago", seconds / 60),
        7200..172_800 => format!("{} hours ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86400),
    }
}

fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

/// Enough digits of a key to tell columns apart.
fn short(info: &ColumnInfo) -> String {
    info.spec.key.short(12)
}
