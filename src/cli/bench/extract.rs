//! `caft bench extract`: the path from files to stored activations, beside its engine and its decoding alone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::Result;
use serde::Serialize;

use super::median;
use crate::base::{Event, Progress as _};
use crate::cli::surroundings::Surroundings;
use crate::cli::table::Table;
use crate::cli::{Globals, load, print, print_json};
use crate::run::extraction::Extraction;

/// Measure what a recipe's samples cost on their way to stored activations: with the engine alone on ready inputs, decoding
/// alone, and all of it into a store that begins empty. Engines are opened and compiled before.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The recipe's file, or the name of a shipped one
    recipe: PathBuf,
    /// Changes to the recipe: `key.path=value` sets, `++key.path=value` adds, `~key.path` deletes
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Rounds in which all are measured in turn; the medians count
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Seconds to measure the engine alone, in each round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// Made-up pictures that cost nothing to decode, in each round; 0 leaves them out
    #[arg(long, default_value_t = 1000)]
    undecoded: usize,
}

/// Samples per second, medians of the rounds.
#[derive(Debug, Serialize)]
struct Measured {
    of: String,
    threads: usize,
    rounds: u8,
    /// The engine on ready inputs, on all threads.
    engine: f64,
    /// Reading, decoding and resizing, on all threads.
    decoding: f64,
    /// From files to rows on disk.
    whole: f64,
    /// The time of the whole, in those that its two parts would take one after the other on all threads.
    whole_of_parts: f64,
    /// The whole path on inputs that cost nothing to decode.
    #[serde(skip_serializing_if = "Option::is_none")]
    undecoded: Option<f64>,
    /// The same beside the engine alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    undecoded_of_engine: Option<f64>,
}

impl Args {
    /// Measures and prints.
    ///
    /// # Errors
    /// Those of a run of the recipe.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let planned = load::load(&self.recipe, &self.overrides)?;
        let here = Surroundings::new(globals, false)?;
        let context = here.context(Path::new("runs"));
        let threads = available_parallelism().map_or(1, usize::from);
        let mut extraction = Extraction::new(&planned.plan, threads, &context)?;
        let (mut engine, mut decoding, mut whole, mut undecoded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        // In turn, so that what else the machine does slows all; the first round only warms up.
        for round in 0..=self.rounds {
            let rates = [
                extraction.engine(f64::from(self.seconds))?.per_second(),
                extraction.decoding()?.per_second(),
                extraction.whole()?.per_second(),
            ];
            let free = (self.undecoded > 0).then(|| extraction.undecoded(self.undecoded)).transpose()?;
            let text =
                format!("round {round}: engine {:.1}/s, decoding {:.1}/s, whole {:.1}/s", rates[0], rates[1], rates[2]);
            here.progress.event(Event::Detail(text));
            if round > 0 {
                engine.push(rates[0]);
                decoding.push(rates[1]);
                whole.push(rates[2]);
                undecoded.extend(free.map(|rate| rate.per_second()));
            }
        }
        let undecoded = (!undecoded.is_empty()).then(|| median(undecoded));
        let (engine, decoding, whole) = (median(engine), median(decoding), median(whole));
        let measured = Measured {
            of: extraction.describe(),
            threads,
            rounds: self.rounds,
            engine,
            decoding,
            whole,
            whole_of_parts: of_parts(engine, decoding, whole),
            undecoded,
            undecoded_of_engine: undecoded.map(|rate| rate / engine),
        };
        if globals.json {
            print_json(&measured)?;
        } else {
            print(&measured.table())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// How long a sample takes on the whole path, beside the sum of its parts: each of them has all threads when it is alone.
fn of_parts(engine: f64, decoding: f64, whole: f64) -> f64 {
    (1.0 / whole) / (1.0 / engine + 1.0 / decoding)
}

impl Measured {
    fn table(&self) -> String {
        let mut table = Table::new(["", "samples/s", "core-ms a sample", ""]);
        let threads = self.threads as f64;
        let mut row = |what: &str, rate: f64, remark: String| {
            table.row([what.into(), format!("{rate:.1}"), format!("{:.2}", 1e3 * threads / rate), remark]);
        };
        row("engine alone", self.engine, String::new());
        row("decoding alone", self.decoding, String::new());
        row("files to stored rows", self.whole, format!("{:.3} of its parts' time", self.whole_of_parts));
        if let Some((rate, share)) = self.undecoded.zip(self.undecoded_of_engine) {
            row("raw pixels to stored rows", rate, format!("{:.1} % of the engine's rate", 100.0 * share));
        }
        let Self { of, threads, rounds, .. } = self;
        format!("{of}, {threads} threads, medians of {rounds} rounds\n{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_compared_with_its_parts() {
        // 10 ms and 2.5 ms a sample, and 15 ms for both.
        assert!((of_parts(100.0, 400.0, 1000.0 / 15.0) - 1.2).abs() < 1e-9);
        let measured = Measured {
            of: "`x`".into(),
            threads: 2,
            rounds: 3,
            engine: 100.0,
            decoding: 400.0,
            whole: 80.0,
            whole_of_parts: 1.0,
            undecoded: Some(96.0),
            undecoded_of_engine: Some(0.96),
        };
        let table = measured.table();
        assert!(table.contains("20.00") && table.contains("1.000 of its parts") && table.contains("96.0 %"), "{table}");
    }
}
