//! `caft bench extract`: the path from files to stored activations, beside its engine and its decoding alone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::median;
use crate::base::{Event, Progress as _};
use crate::cli::surroundings::Surroundings;
use crate::cli::table::Table;
use crate::cli::{Globals, load, print, print_json};
use crate::run::extraction::{Extraction, Rate};

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

/// Medians of the rounds.
#[derive(Debug, Serialize)]
struct Measured {
    of: String,
    threads: usize,
    rounds: u8,
    /// The engine on ready inputs, on all threads.
    engine: Speed,
    /// Reading, decoding and resizing, on all threads.
    decoding: Speed,
    /// From files to rows on disk.
    whole: Speed,
    /// The time of the whole, in those that its two parts would take one after the other on all threads.
    whole_of_parts: f64,
    /// The work of the whole, in that of its two parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    work_of_parts: Option<f64>,
    /// The whole path on inputs that cost nothing to decode.
    #[serde(skip_serializing_if = "Option::is_none")]
    undecoded: Option<Speed>,
    /// Its rate beside that of the engine alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    undecoded_of_engine: Option<f64>,
}

/// How quick something is, and what it costs.
#[derive(Debug, Clone, Copy, Serialize)]
struct Speed {
    samples_per_second: f64,
    /// Seconds of a core for a sample, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    core_secs: Option<f64>,
}

impl Speed {
    fn of(rates: &[Rate]) -> Option<Self> {
        let work: Option<Vec<f64>> = rates.iter().map(|rate| rate.core_secs_each()).collect();
        let rate = median(rates.iter().map(|rate| rate.per_second()).collect());
        (!rates.is_empty()).then(|| Self { samples_per_second: rate, core_secs: work.map(median) })
    }

    /// Seconds that a sample takes.
    fn secs(self) -> f64 {
        1.0 / self.samples_per_second
    }
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
        let mut rates = [const { Vec::new() }; 4];
        // In turn, so that what else the machine does slows all; the first round only warms up.
        for round in 0..=self.rounds {
            let of_round = [
                Some(extraction.engine(f64::from(self.seconds))?),
                Some(extraction.decoding()?),
                Some(extraction.whole()?),
                (self.undecoded > 0).then(|| extraction.undecoded(self.undecoded)).transpose()?,
            ];
            let shown: Vec<String> =
                of_round.iter().flatten().map(|rate| format!("{:.1}/s", rate.per_second())).collect();
            here.progress.event(Event::Detail(format!("round {round}: {}", shown.join(", "))));
            if round > 0 {
                rates.iter_mut().zip(of_round).for_each(|(all, rate)| all.extend(rate));
            }
        }
        let [engine, decoding, whole, undecoded] = rates.map(|rates| Speed::of(&rates));
        let ((engine, decoding), whole) = engine.zip(decoding).zip(whole).context("nothing was measured")?;
        let parts = engine.core_secs.zip(decoding.core_secs).map(|(engine, decoding)| engine + decoding);
        let measured = Measured {
            of: extraction.describe(),
            threads,
            rounds: self.rounds,
            engine,
            decoding,
            whole,
            whole_of_parts: whole.secs() / (engine.secs() + decoding.secs()),
            work_of_parts: whole.core_secs.zip(parts).map(|(whole, parts)| whole / parts),
            undecoded,
            undecoded_of_engine: undecoded.map(|speed| speed.samples_per_second / engine.samples_per_second),
        };
        if globals.json {
            print_json(&measured)?;
        } else {
            print(&measured.table())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Measured {
    fn table(&self) -> String {
        let mut table = Table::new(["", "samples/s", "core-ms a sample", ""]);
        let mut row = |what: &str, speed: Speed, remark: String| {
            let work = speed.core_secs.map(|secs| format!("{:.2}", 1e3 * secs)).unwrap_or_default();
            table.row([what.into(), format!("{:.1}", speed.samples_per_second), work, remark]);
        };
        row("engine alone", self.engine, String::new());
        row("decoding alone", self.decoding, String::new());
        let work = self.work_of_parts.map(|work| format!(", {work:.3} of their work")).unwrap_or_default();
        row("files to stored rows", self.whole, format!("{:.3} of its parts' time{work}", self.whole_of_parts));
        if let Some((speed, share)) = self.undecoded.zip(self.undecoded_of_engine) {
            row("raw pixels to stored rows", speed, format!("{:.1} % of the engine's rate", 100.0 * share));
        }
        let Self { of, threads, rounds, .. } = self;
        format!("{of}, {threads} threads, medians of {rounds} rounds\n{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_shown_beside_its_parts() {
        let rate = |samples, core_secs| Rate { samples, secs: 1.0, core_secs };
        let speed =
            |samples, core_secs| Speed::of(&[rate(1, core_secs), rate(samples, core_secs), rate(9999, core_secs)]);
        assert!(Speed::of(&[]).is_none());
        let measured = Measured {
            of: "`x`".into(),
            threads: 2,
            rounds: 3,
            engine: speed(100, Some(2.0)).unwrap(),
            decoding: speed(400, None).unwrap(),
            whole: speed(80, None).unwrap(),
            whole_of_parts: 1.0,
            work_of_parts: Some(1.25),
            undecoded: speed(96, None),
            undecoded_of_engine: Some(0.96),
        };
        let table = measured.table();
        for part in ["100.0      20.00", "1.000 of its parts' time, 1.250 of their work", "96.0 %"] {
            assert!(table.contains(part), "{part}: {table}");
        }
    }
}
