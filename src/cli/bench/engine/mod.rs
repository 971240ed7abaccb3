//! `caft bench engine`: how quick a model is on each provider and precision of this machine, and what that costs in
//! accuracy; beside Python's ONNX Runtime, OpenVINO and PyTorch.

mod lanes;
mod peers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::median;
use crate::base::{Event, Progress as _};
use crate::cli::engine::named;
use crate::cli::surroundings::Surroundings;
use crate::cli::table::Table;
use crate::cli::{Globals, print, print_json};
use crate::engine::runtime::{Machine, PROVIDERS, prepare};
use crate::engine::verify::Scratch;
use crate::recipe::Precision;
use crate::resource::Resource;
use lanes::{Bench, is_here};
use peers::Peers;

/// Measure how quick a model is on every provider and in every precision that this machine has.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX model: a path or an address
    model: Resource,
    /// Samples in one pass
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// Seconds to measure each, in each round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// Rounds in which all are measured in turn; the medians count
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Threads of the processor; by default all
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// The size of a picture where the model leaves it open
    #[arg(long, default_value_t = 224)]
    image_size: usize,
    /// The precisions to measure beside fp32, such as `bf16,int8`; by default all
    #[arg(long, value_delimiter = ',', value_parser = named::<Precision>)]
    precisions: Vec<Precision>,
    /// Pictures to calibrate int8 and to compare on: a folder; without it, random numbers
    #[arg(long, value_name = "PATH")]
    pictures: Option<PathBuf>,
    /// Pictures that int8 is calibrated on; a quarter as many judge it
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    calibration_samples: u16,
    /// The least cosine of int8 with fp32; layers stay in float until it is reached
    #[arg(long, default_value_t = 0.99)]
    min_cosine: f64,
    /// A Python with onnxruntime, openvino or torch, to measure them too
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// The same network for PyTorch: `torchvision:NAME` or `timm:NAME`
    #[arg(long, value_name = "NETWORK", requires = "python")]
    torch: Option<String>,
}

/// What was measured of one provider in one precision.
#[derive(Debug, Serialize)]
struct Measured {
    provider: &'static str,
    precision: &'static str,
    /// The median of the rounds.
    samples_per_second: f64,
    /// Against the first row.
    ratio: f64,
    /// Of all outputs with the first row's.
    cosine: f64,
    /// Layers that int8 left in float.
    float_layers: usize,
    /// Whether a sample alone has the same bits as in a batch.
    batch_invariant: bool,
    /// Seconds to be ready, the first time and when it was compiled before.
    first_start: f64,
    next_start: f64,
}

/// What another program does.
#[derive(Debug, Serialize)]
struct Peer {
    name: String,
    samples_per_second: f64,
    ratio: f64,
}

/// All that was measured.
#[derive(Debug, Serialize)]
struct Report {
    batch: u16,
    threads: usize,
    rounds: u8,
    rows: Vec<Measured>,
    peers: Vec<Peer>,
    /// What could not be measured, and why.
    absent: Vec<String>,
}

impl Args {
    /// Measures and prints.
    ///
    /// # Errors
    /// The model cannot be fetched, does not load, or has several inputs; or Python fails.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, false)?;
        let Surroundings { home, progress, cancel, .. } = &here;
        let fetcher = here.fetcher();
        let model = fetcher.fetch(&self.model)?.path;
        let machine = Machine::here();
        let scratch = Scratch::beside(&home.folder("engines")?.join("bench"))?;
        let mut bench =
            Bench { args: self, home, model: &model, scratch: &scratch, progress, cancel, lanes: Vec::new() };
        let mut absent = Vec::new();
        for info in &PROVIDERS {
            for &precision in info.precisions.iter().filter(|precision| self.wants(**precision)) {
                cancel.check()?;
                if !is_here(info, precision, &machine, home) {
                    continue;
                }
                let prepared = prepare(&fetcher, info.provider, precision)?;
                match bench.open(prepared) {
                    // The processor's own provider must do; one more that does not work is only left out.
                    Err(error) if !bench.lanes.is_empty() => {
                        absent.push(format!("{} {}: {error:#}", info.name, precision.name()));
                    }
                    other => other?,
                }
            }
        }
        let (shape, input) = bench.input()?;
        let int8 = bench.lanes.iter().rev().find(|lane| lane.precision() == Precision::Int8).map(|lane| &lane.model);
        let task = json!([model, int8, shape, self.threads(), self.seconds, self.torch]);
        let mut peers = self.python.as_deref().map(|python| Peers::start(python, &task)).transpose()?;
        let mut rows = bench.compare(&shape, &input)?;
        let mut ours = vec![Vec::new(); rows.len()];
        let mut theirs = vec![Vec::new(); peers.as_ref().map_or(0, |peers| peers.names.len())];
        // In turn, so that what else the machine does slows all.
        for round in 1..=self.rounds {
            progress.event(Event::Detail(format!("round {round} of {}", self.rounds)));
            for (lane, rates) in bench.lanes.iter_mut().zip(&mut ours) {
                cancel.check()?;
                rates.push(lane.rate((&shape, &input), f64::from(self.seconds))?);
            }
            if let Some(peers) = &mut peers {
                for (number, rates) in theirs.iter_mut().enumerate() {
                    cancel.check()?;
                    rates.push(peers.measure(number)?);
                }
            }
        }
        let ours: Vec<f64> = ours.into_iter().map(median).collect();
        let first = ours[0];
        for (row, rate) in rows.iter_mut().zip(&ours) {
            (row.samples_per_second, row.ratio) = (*rate, rate / first);
        }
        let (names, missing) = peers.map(|peers| (peers.names.clone(), peers.absent.clone())).unwrap_or_default();
        absent.extend(missing);
        let peer = |(name, rate): (String, f64)| Peer { name, samples_per_second: rate, ratio: rate / first };
        let peers = names.into_iter().zip(theirs.into_iter().map(median)).map(peer).collect();
        let report = Report { batch: self.batch, threads: self.threads(), rounds: self.rounds, rows, peers, absent };
        if globals.json {
            print_json(&report)?;
        } else {
            print(&report.table(self.pictures.is_some()))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn wants(&self, precision: Precision) -> bool {
        precision == Precision::Fp32 || self.precisions.is_empty() || self.precisions.contains(&precision)
    }

    fn threads(&self) -> usize {
        self.threads.map_or_else(|| available_parallelism().map_or(1, usize::from), usize::from)
    }
}

impl Report {
    fn table(&self, pictures: bool) -> String {
        let mut table = Table::new(["", "samples/s", "ratio", "cosine", "alone = in a batch", "start", "next start"]);
        for row in &self.rows {
            let float = match row.float_layers {
                0 => String::new(),
                count => format!(" ({count} layers in float)"),
            };
            table.row([
                format!("{} {}{float}", row.provider, row.precision),
                format!("{:.1}", row.samples_per_second),
                format!("{:.2}", row.ratio),
                format!("{:.6}", row.cosine),
                if row.batch_invariant { "yes".into() } else { "no".into() },
                format!("{:.1} s", row.first_start),
                format!("{:.1} s", row.next_start),
            ]);
        }
        for Peer { name, samples_per_second, ratio } in &self.peers {
            let none = String::new;
            let (rate, ratio) = (format!("{samples_per_second:.1}"), format!("{ratio:.2}"));
            table.row([format!("Python {name}"), rate, ratio, none(), none(), none(), none()]);
        }
        let on = if pictures { "pictures" } else { "random numbers" };
        let Self { batch, threads, rounds, .. } = self;
        let absent: String = self.absent.iter().map(|why| format!("not measured: {why}\n")).collect();
        format!("batches of {batch} ({on}), {threads} threads, medians of {rounds} rounds\n{table}{absent}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_ours_theirs_and_what_is_missing() {
        let row = |provider, precision, ratio, float_layers| Measured {
            provider,
            precision,
            samples_per_second: 10.0 * ratio,
            ratio,
            cosine: 1.0,
            float_layers,
            batch_invariant: true,
            first_start: 1.0,
            next_start: 0.1,
        };
        let rows = vec![row("cpu", "fp32", 1.0, 0), row("openvino", "int8", 5.0, 3)];
        let peers = vec![Peer { name: "torch 2 fp32".into(), samples_per_second: 9.0, ratio: 0.9 }];
        let absent = vec!["openvino: No module named 'openvino'".to_string()];
        let table = Report { batch: 4, threads: 2, rounds: 3, rows, peers, absent }.table(false);
        for part in [
            "batches of 4 (random numbers), 2 threads, medians of 3 rounds",
            "openvino int8 (3 layers in float)",
            "Python torch 2 fp32",
            "not measured: openvino: No module named 'openvino'",
        ] {
            assert!(table.contains(part), "{part} in {table}");
        }
    }
}
