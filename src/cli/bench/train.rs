//! `caft bench train`: rows per second of training on features in memory, beside PyTorch's; and the seconds of heads
//! that are solved, beside scikit-learn's.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::exact::{self, Solved};
use super::tails::TAILS;
use crate::base::Cancel;
use crate::base::random::Stream;
use crate::cli::table::Table;
use crate::cli::{Globals, print, print_json};
use crate::graph::{Graph, Targets};
use crate::head::{Activation, HeadConfig, Mlp};
use crate::neck::NeckChain;
use crate::recipe::{self, Backend, Device};
use crate::train::{Data, InMemory, InputSpec, Session, TrainConfig, build_graph, train};

/// Measure training on features in memory: shuffled, AdamW, cross-entropy, in f32, on all cores. Speeds are
/// medians over epochs. Then heads that are solved: logistic regression, and the search for nearest neighbours.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Rows of features.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rows: u32,
    /// Numbers per row.
    #[arg(long, default_value_t = 768, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    width: u32,
    /// Units of the mlp head's hidden layer.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    hidden: u32,
    /// Classes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    classes: u32,
    /// Rows per step.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_size: u32,
    /// Epochs to measure, after one to warm up.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    epochs: u32,
    /// Rows of the tails of networks, whose epochs take longer.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tail_rows: u32,
    /// Rows per step of the tails of networks.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tail_batch_size: u32,
    /// A Python interpreter that has PyTorch and scikit-learn, to measure them too.
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
}

/// One head or tail, by every trainer.
#[derive(Debug, Serialize)]
struct Case {
    head: String,
    rows_per_sec: f64,
    /// The same by the trainer on libtorch, in builds that have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    libtorch: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pytorch: Option<PyTorch>,
}

/// What the script prints: rows per second of a loop that indexes tensors and of one with a `DataLoader`.
#[derive(Debug, Serialize, Deserialize)]
struct PyTorch {
    version: String,
    threads: u32,
    indexing: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    loader: Option<f64>,
}

fn pytorch(python: &Path, script: &str, words: &[String]) -> Result<PyTorch> {
    let output = Command::new(python)
        .args(["-c", script])
        .args(words)
        .output()
        .with_context(|| format!("cannot run `{}`", python.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` could not run PyTorch: {}", python.display(), said.lines().last().unwrap_or_default());
    }
    serde_json::from_slice(&output.stdout).context("the PyTorch script printed something else")
}

impl Args {
    pub(super) fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let mlp = Mlp { hidden: vec![self.hidden], activation: Activation::Relu, dropout: 0.0 };
        let (width, classes) = (self.width as usize, self.classes as usize);
        let heads = [
            (format!("linear {width}→{classes}"), HeadConfig::default(), 0),
            (format!("mlp {width}→{}→{classes}", self.hidden), HeadConfig::Mlp(mlp), self.hidden),
        ];
        let mut cases = Vec::new();
        for (head, config, hidden) in heads {
            let input = InputSpec { name: "features".into(), shape: vec![width] };
            let graph = build_graph(&NeckChain::default(), &config, &[input], classes)?;
            let (rows_per_sec, libtorch) = self.trainers(&graph, [self.rows, self.batch_size])?;
            let words =
                [self.rows, self.width, hidden, self.classes, self.batch_size, self.epochs].map(|n| n.to_string());
            let script = |python: &Path| pytorch(python, include_str!("train.py"), &words);
            let pytorch = self.python.as_deref().map(script).transpose()?;
            cases.push(Case { head, rows_per_sec, libtorch, pytorch });
        }
        for tail in TAILS {
            let graph = tail.graph(classes)?;
            let (rows_per_sec, libtorch) = self.trainers(&graph, [self.tail_rows, self.tail_batch_size])?;
            let numbers = [self.tail_rows, self.classes, self.tail_batch_size, self.epochs].map(|n| n.to_string());
            let words: Vec<String> = std::iter::once(tail.name.to_string()).chain(numbers).collect();
            let script = |python: &Path| pytorch(python, include_str!("tails.py"), &words);
            let pytorch = self.python.as_deref().map(script).transpose()?;
            cases.push(Case { head: tail.name.into(), rows_per_sec, libtorch, pytorch });
        }
        let solved =
            exact::measure(self.rows as usize, self.width as usize, self.classes as usize, self.python.as_deref())?;
        if globals.json {
            print_json(&serde_json::json!({"trained": cases, "solved": solved}))?;
        } else {
            print(&(Self::table(&cases) + "\n" + &self.solved_table(&solved)))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Rows per second of the embedded trainer, and of the one on libtorch if this build has it.
    fn trainers(&self, graph: &Graph, sizes: [u32; 2]) -> Result<(f64, Option<f64>)> {
        let libtorch = cfg!(feature = "libtorch").then(|| self.ours(graph, sizes, Backend::Libtorch));
        Ok((self.ours(graph, sizes, Backend::Embedded)?, libtorch.transpose()?))
    }

    /// Rows per second of a trainer, on the processor.
    fn ours(&self, graph: &Graph, [rows, batch_size]: [u32; 2], backend: Backend) -> Result<f64> {
        let shape = &graph.shape(graph.inputs()[0]).dims;
        let elements = rows as usize * shape.iter().product::<usize>();
        let numbers = Stream::named(0, "bench");
        let values = (0..elements).map(|i| 2.0 * numbers.uniform(i as u64) - 1.0).collect();
        let features = InMemory::new(rows as usize).with("features", shape, values)?;
        let classes: Vec<u32> = (0..rows).map(|i| i % self.classes).collect();
        let all: Vec<u32> = (0..rows).collect();
        let (epochs, device) = (self.epochs + 1, Device::Cpu);
        let recipe = recipe::TrainConfig { epochs, batch_size, backend, device, ..recipe::TrainConfig::default() };
        let config = TrainConfig { recipe, metrics: Vec::new(), order_seed: 0, seed: 0 };
        let data = Data::new(&features, Targets::Classes(&classes), &all, &[]);
        let cancel = Cancel::default();
        let session = Session { cancel: &cancel, checkpoint: None, on_epoch: &mut |_| Ok(()) };
        let trained = train(graph, &data, &config, session)?;
        let mut seconds: Vec<f64> = trained.epochs.iter().skip(1).map(|epoch| epoch.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        Ok(f64::from(rows) / seconds[seconds.len() / 2])
    }

    fn solved_table(&self, cases: &[Solved]) -> String {
        let mut table = Table::new(["head", "of", "solver", "seconds", "caft is"]);
        for case in cases {
            let name = format!("{} {}→{}, {} rows", case.head, self.width, self.classes, self.rows);
            table.row([name.clone(), case.what.clone(), "caft".into(), format!("{:.3}", case.secs), String::new()]);
            if let Some((version, secs)) = &case.scikit_learn {
                let ratio = format!("{:.1} times as fast", secs / case.secs);
                table.row([name, case.what.clone(), format!("scikit-learn {version}"), format!("{secs:.3}"), ratio]);
            }
        }
        table.to_string()
    }

    fn table(cases: &[Case]) -> String {
        let mut table = Table::new(["head", "trainer", "rows/s", "caft is"]);
        for case in cases {
            let name = &case.head;
            table.row([name.clone(), "caft embedded".into(), format!("{:.0}", case.rows_per_sec), String::new()]);
            if let Some(libtorch) = case.libtorch {
                table.row([name.clone(), "caft libtorch".into(), format!("{libtorch:.0}"), String::new()]);
            }
            if let Some(pytorch) = &case.pytorch {
                let loader = pytorch.loader.map(|speed| ("DataLoader", speed));
                for (how, speed) in std::iter::once(("indexing", pytorch.indexing)).chain(loader) {
                    let trainer = format!("PyTorch {} ({how}, {} threads)", pytorch.version, pytorch.threads);
                    let ratio = format!("{:.1} times as fast", case.rows_per_sec / speed);
                    table.row([name.clone(), trainer, format!("{speed:.0}"), ratio]);
                }
            }
        }
        table.to_string()
    }
}
