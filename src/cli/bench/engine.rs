//! `caft bench engine`: how quick a model is on each provider and precision of this machine, and what that costs in
//! accuracy; beside Python's ONNX Runtime.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

use crate::base::home::Home;
use crate::base::random::Stream;
use crate::base::{Cancel, Error, Event, Progress as _};
use crate::cli::progress::Terminal;
use crate::cli::table::Table;
use crate::cli::{Globals, interrupt, print, print_json};
use crate::engine::runtime::{Machine, PROVIDERS, Prepared, ProviderInfo, prepare};
use crate::engine::{Engine, InputTensor, OnnxRuntime};
use crate::recipe::{Precision, Provider};
use crate::resource::{Fetcher, Resource};

/// Measure how quick a model is on every provider and in every precision that this machine has.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX model: a path or an address
    model: Resource,
    /// Samples in one pass
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// Seconds to measure each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// Threads of the processor; by default all
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// The size of a picture where the model leaves it open
    #[arg(long, default_value_t = 224)]
    image_size: usize,
    /// A Python with onnxruntime, to measure beside
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
}

/// What was measured of one provider in one precision.
#[derive(Debug, Serialize)]
struct Measured {
    provider: &'static str,
    precision: &'static str,
    samples_per_second: f64,
    /// Against the first row.
    ratio: f64,
    /// Of all outputs with the first row's.
    cosine: f64,
    /// Whether a sample alone has the same bits as in a batch.
    batch_invariant: bool,
    /// Seconds to be ready, the first time and when it was compiled before.
    first_start: f64,
    next_start: f64,
}

/// Prints the samples and the seconds they took as JSON.
const PYTHON: &str = r#"
import json, sys, time
import numpy, onnxruntime
model, shape, threads, seconds = json.loads(sys.argv[1])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
values = {session.get_inputs()[0].name: numpy.random.default_rng(0).standard_normal(shape).astype(numpy.float32)}
session.run(None, values)
begin = time.perf_counter()
samples = 0
while time.perf_counter() - begin < seconds:
    session.run(None, values)
    samples += shape[0]
took = time.perf_counter() - begin
print(json.dumps({"samples": samples, "seconds": took, "version": onnxruntime.__version__}))
"#;

impl Args {
    /// Measures and prints.
    ///
    /// # Errors
    /// The model cannot be fetched, does not load, or has several inputs; or Python fails.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let (home, cancel) = (Home::from_environment()?, Cancel::default());
        interrupt::handle(&cancel)?;
        let progress = Terminal::new(globals.verbosity());
        let fetcher = Fetcher::new(&home, &progress, &cancel, false);
        let model = fetcher.fetch(&self.model)?.path;
        let machine = Machine::here();
        let mut bench = Bench { args: self, home: &home, model: &model, reference: None, rows: Vec::new() };
        for info in &PROVIDERS {
            for &precision in info.precisions.iter().filter(|&&precision| precision != Precision::Int8) {
                cancel.check()?;
                if !is_here(info, precision, &machine, &home) {
                    continue;
                }
                let prepared = prepare(&fetcher, info.provider, precision)?;
                // The processor's own provider must do; one more that does not work is only left out.
                match bench.measure(&prepared) {
                    Err(error) if !bench.rows.is_empty() => progress.event(Event::Warning(error.to_string())),
                    other => other?,
                }
            }
        }
        let python = self.python.as_ref().map(|python| self.python(python, &bench)).transpose()?;
        let rows = &bench.rows;
        if globals.json {
            print_json(&json!({"batch": self.batch, "threads": self.threads(), "rows": rows, "python": python}))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::new(["", "samples/s", "ratio", "cosine", "alone = in a batch", "start", "next start"]);
        for row in rows {
            table.row([
                format!("{} {}", row.provider, row.precision),
                format!("{:.1}", row.samples_per_second),
                format!("{:.2}", row.ratio),
                format!("{:.6}", row.cosine),
                if row.batch_invariant { "yes".into() } else { "no".into() },
                format!("{:.1} s", row.first_start),
                format!("{:.1} s", row.next_start),
            ]);
        }
        if let Some(python) = python {
            let rate = python["samples_per_second"].as_f64().unwrap_or_default();
            let ratio = rows.first().map_or(1.0, |first| rate / first.samples_per_second);
            let name = format!("Python onnxruntime {} cpu fp32", python["version"].as_str().unwrap_or_default());
            let none = String::new;
            table.row([name, format!("{rate:.1}"), format!("{ratio:.2}"), none(), none(), none(), none()]);
        }
        print(&format!("batches of {}, {} threads\n{table}", self.batch, self.threads()))?;
        Ok(ExitCode::SUCCESS)
    }

    fn threads(&self) -> usize {
        self.threads.map_or_else(|| available_parallelism().map_or(1, usize::from), usize::from)
    }

    fn python(&self, python: &Path, bench: &Bench<'_>) -> Result<Value> {
        let shape = bench.reference.as_ref().map(|reference| reference.shape.clone()).unwrap_or_default();
        let task = json!([bench.model, shape, self.threads(), self.seconds]);
        let output = Command::new(python)
            .args(["-c", PYTHON, &task.to_string()])
            .output()
            .with_context(|| format!("cannot start `{}`", python.display()))?;
        if !output.status.success() {
            let last = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_string();
            bail!("`{}` failed: {last}", python.display());
        }
        let told: Value = serde_json::from_slice(&output.stdout).context("Python's answer is not JSON")?;
        let rate = told["samples"].as_f64().unwrap_or_default() / told["seconds"].as_f64().unwrap_or(1.0);
        Ok(json!({"samples_per_second": rate, "version": told["version"]}))
    }
}

/// Whether a provider can be measured without adding what nobody asked for.
fn is_here(info: &ProviderInfo, precision: Precision, machine: &Machine, home: &Home) -> bool {
    let usable = info.check_precision(precision, machine).and_then(|()| info.check(machine)).is_ok();
    let added = |platform| info.package(machine).is_some_and(|package| package.installed(home, platform).is_some());
    usable && (info.provider == Provider::Cpu || machine.platform.is_some_and(added))
}

struct Bench<'a> {
    args: &'a Args,
    home: &'a Home,
    model: &'a Path,
    reference: Option<Reference>,
    rows: Vec<Measured>,
}

/// What the first row gave, and what it was given.
struct Reference {
    shape: Vec<usize>,
    input: Vec<f32>,
    outputs: Vec<Vec<f32>>,
    rate: f64,
}

impl Bench<'_> {
    fn measure(&mut self, prepared: &Prepared) -> Result<()> {
        let open = || -> Result<(OnnxRuntime, f64)> {
            let begin = Instant::now();
            let engine = OnnxRuntime::open(prepared, self.home, self.model, self.args.threads())?;
            Ok((engine, begin.elapsed().as_secs_f64()))
        };
        let first_start = open()?.1;
        let (mut engine, next_start) = open()?;
        let (shape, input) = match &self.reference {
            Some(reference) => (reference.shape.clone(), reference.input.clone()),
            None => self.input(&engine)?,
        };
        let mut run = |shape: &[usize], data: &[f32]| -> Result<Vec<Vec<f32>>> {
            let mut outputs = vec![Vec::new(); engine.outputs().len()];
            engine.run(&[InputTensor::F32 { shape, data }], &mut outputs)?;
            Ok(outputs)
        };
        let row: usize = shape[1..].iter().product();
        let alone = run(&[&[1], &shape[1..]].concat(), &input[..row])?;
        let outputs = run(&shape, &input)?;
        let batch_invariant = alone.iter().zip(&outputs).all(|(one, all)| all.starts_with(one));
        let (begin, mut samples) = (Instant::now(), 0);
        while begin.elapsed().as_secs_f64() < f64::from(self.args.seconds) {
            run(&shape, &input)?;
            samples += shape[0];
        }
        let rate = samples as f64 / begin.elapsed().as_secs_f64();
        let reference =
            self.reference.get_or_insert_with(|| Reference { shape, input, outputs: outputs.clone(), rate });
        self.rows.push(Measured {
            provider: prepared.choice.info.name,
            precision: prepared.precision.name(),
            samples_per_second: rate,
            ratio: rate / reference.rate,
            cosine: cosine(&reference.outputs, &outputs),
            batch_invariant,
            first_start,
            next_start,
        });
        Ok(())
    }

    /// The shape of a batch, and made-up values for it.
    fn input(&self, engine: &OnnxRuntime) -> Result<(Vec<usize>, Vec<f32>)> {
        let [port] = engine.inputs() else {
            let count = engine.inputs().len();
            return Err(Error::bad_input(format!("the model has {count} inputs; one is measured")).into());
        };
        let open =
            |(axis, size): (usize, &Option<usize>)| size.unwrap_or(if axis == 0 { 3 } else { self.args.image_size });
        let row = port.row_shape.iter().enumerate().map(open);
        let shape: Vec<usize> = std::iter::once(usize::from(self.args.batch)).chain(row).collect();
        let stream = Stream::named(0, "bench engine");
        let values = (0..shape.iter().product::<usize>() as u64).map(|i| stream.normal(i)).collect();
        Ok((shape, values))
    }
}

/// The cosine of all values together, in f64; 1 if they are equal, also where all are 0.
fn cosine(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    let dot = |a: &[Vec<f32>], b: &[Vec<f32>]| -> f64 {
        let pairs = a.iter().flatten().zip(b.iter().flatten());
        pairs.map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    if a == b { 1.0 } else { dot(a, b) / (dot(a, a) * dot(b, b)).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_outputs_have_cosine_one() {
        let a = [vec![1.0, 2.0], vec![-3.0]];
        assert!((cosine(&a, &a) - 1.0).abs() < 1e-12);
        assert_eq!(cosine(&[vec![0.0]], &[vec![0.0]]), 1.0);
        assert!(cosine(&a, &[vec![-2.0, 1.0], vec![0.0]]).abs() < 1e-12);
    }

    #[test]
    fn only_what_is_here_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let machine = Machine { nvidia_driver: None, ..Machine::here() };
        let here = |provider, precision| {
            ProviderInfo::of(provider).is_some_and(|info| is_here(info, precision, &machine, &home))
        };
        assert!(!here(Provider::Cuda, Precision::Fp32) && !here(Provider::Openvino, Precision::Fp32));
        assert!(here(Provider::Cpu, Precision::Fp32));
        assert!(!here(Provider::Cpu, Precision::Bf16));
    }
}
