//! `caft bench sweep`: many linear heads trained together, beside one after the other and beside PyTorch.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::base::random::Stream;
use crate::base::{self, Cancel};
use crate::cli::table::Table;
use crate::cli::{Globals, print, print_json};
use crate::graph::bf16::Units;
use crate::graph::{Arithmetic, Targets};
use crate::head::HeadConfig;
use crate::neck::NeckChain;
use crate::optim::{AdamW, OptimizerConfig};
use crate::recipe;
use crate::train::{self, Data, Ended, Features, InMemory, Member, Session, TrainConfig, TrialLog, Watch};

/// Measure the trials of a sweep: linear heads on features in memory, each with a learning rate of its own, AdamW,
/// cross-entropy, on all cores, in fp32; together also with products in bf16 where the processor has units for it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Heads that are trained together.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    heads: u32,
    /// Heads that are trained one after the other, by caft and by others; their times are multiplied.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    alone: u32,
    /// Rows of features.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rows: u32,
    /// Numbers per row.
    #[arg(long, default_value_t = 1280, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    width: u32,
    /// Classes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    classes: u32,
    /// Epochs.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    epochs: u32,
    /// Rows per step.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_size: u32,
    /// A Python interpreter that has PyTorch and scikit-learn, to measure them too.
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
}

/// Seconds for all heads.
#[derive(Debug, Serialize)]
struct Measured {
    heads: u32,
    together_secs: f64,
    /// Multiply-adds count two.
    gflops: f64,
    /// With products in bf16, on these units.
    #[serde(skip_serializing_if = "Option::is_none")]
    bf16: Option<Bf16>,
    alone_secs: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    others: Option<Others>,
}

/// Seconds for all heads, together, with products in bf16.
#[derive(Debug, Serialize)]
struct Bf16 {
    units: &'static str,
    together_secs: f64,
    gflops: f64,
}

/// What the script prints: seconds per head.
#[derive(Debug, Serialize, Deserialize)]
struct Others {
    pytorch: String,
    sklearn: String,
    threads: u32,
    slicing: f64,
    loader: f64,
    stacked: f64,
    logistic: f64,
}

/// Counts trials that end well.
#[derive(Default)]
struct Count(u32);

impl Watch for Count {
    fn epoch(&mut self, _: &[TrialLog<'_>]) -> base::Result<Vec<usize>> {
        Ok(Vec::new())
    }

    fn ended(&mut self, _: usize, result: base::Result<Ended>) -> base::Result<()> {
        result?;
        self.0 += 1;
        Ok(())
    }
}

impl Args {
    pub(super) fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let (rows, width) = (self.rows as usize, self.width as usize);
        let numbers = Stream::named(0, "bench");
        let values = (0..rows * width).map(|i| 2.0 * numbers.uniform(i as u64) - 1.0).collect();
        let features = InMemory::new(rows).with("features", &[width], values)?;
        let classes: Vec<u32> = (0..self.rows).map(|i| i % self.classes).collect();
        let all: Vec<u32> = (0..self.rows).collect();
        let data = Data::new(&features, Targets::Classes(&classes), &all, &[]);
        let inputs = features.inputs();
        let graph = train::build_graph(&NeckChain::default(), &HeadConfig::default(), inputs, self.classes as usize)?;
        let members = |precision| -> Vec<Member<'_>> {
            let member = |number: u32| {
                let lr = 1e-4 * 1000f64.powf(f64::from(number) / f64::from(self.heads));
                let recipe = recipe::TrainConfig {
                    epochs: self.epochs,
                    batch_size: self.batch_size,
                    optimizer: OptimizerConfig::AdamW(AdamW { lr, ..AdamW::default() }),
                    precision,
                    ..recipe::TrainConfig::default()
                };
                let config = TrainConfig { recipe, metrics: Vec::new(), order_seed: 0, seed: number.into() };
                Member { number: number as usize, graph: graph.clone(), config, data }
            };
            (0..self.heads).map(member).collect()
        };
        let cancel = Cancel::default();
        let alone = self.alone.min(self.heads);
        let begin = Instant::now();
        for member in &members(Arithmetic::Fp32)[..alone as usize] {
            let session = Session { cancel: &cancel, checkpoint: None, on_epoch: &mut |_| Ok(()) };
            train::train(&member.graph, &data, &member.config, session)?;
        }
        let alone_secs = begin.elapsed().as_secs_f64() * f64::from(self.heads) / f64::from(alone);
        let together = |precision| -> Result<f64> {
            let members = members(precision);
            let begin = Instant::now();
            let mut count = Count::default();
            train::train_trials(&members, &cancel, &mut count)?;
            if count.0 != self.heads {
                bail!("{} of {} heads ended", count.0, self.heads);
            }
            Ok(begin.elapsed().as_secs_f64())
        };
        let together_secs = together(Arithmetic::Fp32)?;
        // Logits and the weights' gradient, two operations for each term.
        let operations =
            4.0 * [self.heads, self.classes, self.rows, self.width, self.epochs].map(f64::from).iter().product::<f64>();
        let others = self.python.as_deref().map(|python| self.others(python)).transpose()?;
        let gflops = |seconds: f64| operations / seconds / 1e9;
        let bf16 = match Units::here() {
            Units::Plain => None,
            units => {
                let together_secs = together(Arithmetic::Bf16)?;
                Some(Bf16 { units: units.name(), together_secs, gflops: gflops(together_secs) })
            }
        };
        let measured =
            Measured { heads: self.heads, together_secs, gflops: gflops(together_secs), bf16, alone_secs, others };
        if globals.json {
            print_json(&measured)?;
        } else {
            print(&table(&measured))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn others(&self, python: &Path) -> Result<Others> {
        let numbers = [self.rows, self.width, self.classes, self.batch_size, self.epochs, self.alone];
        let output = Command::new(python)
            .args(["-c", include_str!("sweep.py")])
            .args(numbers.map(|n| n.to_string()))
            .output()
            .with_context(|| format!("cannot run `{}`", python.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`{}` could not run PyTorch: {}", python.display(), said.lines().last().unwrap_or_default());
        }
        serde_json::from_slice(&output.stdout).context("the script printed something else")
    }
}

fn table(measured: &Measured) -> String {
    let mut table = Table::new(["heads", "trained by", "seconds", "caft is"]);
    let heads = measured.heads.to_string();
    let mut row = |by: String, seconds: f64, ratio: String| {
        table.row([heads.clone(), by, format!("{seconds:.1}"), ratio]);
    };
    let together = measured.together_secs;
    row(format!("caft, together ({:.0} GFLOP/s)", measured.gflops), together, String::new());
    let ratio = |seconds: f64| format!("{:.1} times as fast", seconds / together);
    if let Some(Bf16 { units, together_secs, gflops }) = &measured.bf16 {
        let by = format!("caft, together, `train.precision: bf16` on {units} ({gflops:.0} GFLOP/s)");
        row(by, *together_secs, ratio(*together_secs));
    }
    row("caft, one after the other".into(), measured.alone_secs, ratio(measured.alone_secs));
    if let Some(others) = &measured.others {
        let Others { pytorch, sklearn, threads, slicing, loader, stacked, logistic } = others;
        let all = f64::from(measured.heads);
        for (by, seconds) in [
            (format!("PyTorch {pytorch} (indexing, {threads} threads)"), slicing),
            (format!("PyTorch {pytorch} (DataLoader)"), loader),
            (format!("PyTorch {pytorch} (heads stacked by hand)"), stacked),
            (format!("scikit-learn {sklearn} (LogisticRegression)"), logistic),
        ] {
            row(by, seconds * all, ratio(seconds * all));
        }
    }
    table.to_string()
}
