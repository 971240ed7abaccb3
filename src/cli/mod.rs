//! Rank 10: the command line, one file per command; the only place that prints.
//!
//! A command is a file with a clap `Args` struct whose `run` takes the [`Globals`], one variant of
//! `Command` and one arm of `Command::run`. What a command computes goes to standard output, through
//! [`print()`] or [`print_json`]; what it says about its work goes to standard error.

pub mod bench;
pub mod cache;
pub mod check;
mod completions;
mod diff;
mod embed;
pub mod engine;
mod eval;
mod export;
#[cfg(target_os = "linux")]
mod fault;
mod filter;
mod interrupt;
mod load;
pub mod models;
mod pack;
pub mod plan;
mod predict;
pub mod progress;
pub mod recipe;
mod report;
mod reproduce;
mod run;
pub mod runs;
pub mod runtime;
pub mod schema;
mod search;
mod surroundings;
mod sweep;
pub mod table;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{ArgAction, CommandFactory as _, Parser, Subcommand};

use crate::base::{Error, visible};

/// Fine-tune pretrained models from a YAML recipe, on stored activations.
#[derive(Debug, Parser)]
#[command(name = "caft", version, propagate_version = false, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Globals {
    /// Print results and errors only.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more about the work; twice for all there is to say.
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Print results as JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Globals {
    /// How much progress is drawn.
    pub fn verbosity(&self) -> progress::Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => progress::Verbosity::Quiet,
            (false, 0) => progress::Verbosity::Normal,
            (false, _) => progress::Verbosity::Verbose,
        }
    }
}

/// The commands, in the order in which `caft help` lists them.
#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Run(run::Args),
    Sweep(sweep::Args),
    Plan(plan::Args),
    Runs(runs::Args),
    Predict(predict::Args),
    Eval(eval::Args),
    Embed(embed::Args),
    Search(search::Args),
    Export(export::Args),
    Report(report::Args),
    Diff(diff::Args),
    Reproduce(reproduce::Args),
    Pack(pack::PackArgs),
    Unpack(pack::UnpackArgs),
    Models(models::Args),
    Recipe(recipe::Args),
    Engine(engine::Args),
    Runtime(runtime::Args),
    Schema(schema::Args),
    Cache(cache::Args),
    Bench(bench::Args),
    Completions(completions::Args),
}

impl Command {
    fn run(&self, globals: &Globals) -> anyhow::Result<ExitCode> {
        match self {
            Self::Run(args) => args.run(globals),
            Self::Sweep(args) => args.run(globals),
            Self::Runs(args) => args.run(globals),
            Self::Predict(args) => args.run(globals),
            Self::Eval(args) => args.run(globals),
            Self::Embed(args) => args.run(globals),
            Self::Search(args) => args.run(globals),
            Self::Export(args) => args.run(globals),
            Self::Report(args) => args.run(globals),
            Self::Diff(args) => args.run(globals),
            Self::Reproduce(args) => args.run(globals),
            Self::Pack(args) => args.run(globals),
            Self::Unpack(args) => args.run(globals),
            Self::Check(args) => args.run(globals),
            Self::Plan(args) => args.run(globals),
            Self::Models(args) => args.run(globals),
            Self::Recipe(args) => args.run(globals),
            Self::Engine(args) => args.run(globals),
            Self::Runtime(args) => args.run(globals),
            Self::Schema(args) => args.run(globals),
            Self::Cache(args) => args.run(globals),
            Self::Bench(args) => args.run(globals),
            Self::Completions(args) => args.run(globals),
        }
    }
}

/// Runs the program and returns its exit code: 0, 2 for bad input, 130 after an interrupt, 1 otherwise.
pub fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    fault::handle();
    let cli = Cli::parse();
    match cli.command.run(&cli.globals) {
        Ok(code) => code,
        // The reader of our output has gone, as `head` does; there is nobody to tell.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            draw_error(&error);
            ExitCode::from(error.downcast_ref::<Error>().map_or(1, Error::exit_code))
        }
    }
}

/// The whole command tree, for shell completions and documentation.
pub fn command() -> clap::Command {
    Cli::command()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Writes to standard error what failed, the chain of causes, and what would help.
pub fn draw_error(error: &anyhow::Error) {
    let mut text = format!("error: {error}\n");
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // An error that shows its source in its own words is not repeated.
        if !said.contains(&cause) {
            text += &format!("  because: {}\n", cause.replace('\n', "\n    "));
        }
        said = cause;
    }
    let hint = error.chain().find_map(|e| e.downcast_ref::<Error>()?.hint_text());
    if let Some(hint) = hint {
        text += &format!("hint: {hint}\n");
    }
    say(&text);
}

/// Writes text to standard error, without what a terminal would obey; a closed standard error is nobody's loss.
pub fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(visible(text).as_bytes());
}

/// Writes text to standard output: as it is, but for what a terminal would obey where that is one.
///
/// # Errors
/// Those of standard output; a closed pipe ends the program quietly.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let text = if out.is_terminal() { visible(text) } else { text.into() };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a value to standard output as indented JSON with a line break.
///
/// # Errors
/// Those of standard output.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}
