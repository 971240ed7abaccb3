//! The solved heads of `caft bench train`, beside scikit-learn's.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::base::Cancel;
use crate::base::random::Stream;
use crate::graph::Targets;
use crate::head::{Distance, HeadConfig, Knn, Logistic, OneOrPath};
use crate::metric::MetricName;
use crate::neck::NeckChain;
use crate::train::exact::solve;
use crate::train::{Data, Features as _, InMemory, Prediction, TrainConfig, build_graph_above, predict};

/// Rows that neighbours are sought for.
const QUERIES: usize = 1000;
/// Each is measured so many times, and the median taken.
const REPEATS: usize = 3;

/// One solved head, by caft and by scikit-learn.
#[derive(Debug, Serialize)]
pub struct Solved {
    /// The head.
    pub head: &'static str,
    /// What is timed.
    pub what: String,
    /// Seconds that caft takes.
    pub secs: f64,
    /// scikit-learn's version, and the seconds it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scikit_learn: Option<(String, f64)>,
}

/// What the script prints.
#[derive(Deserialize)]
struct Theirs {
    version: String,
    logistic: f64,
    knn: f64,
}

/// Measures both heads on clusters of `rows` rows.
///
/// # Errors
/// Those of the solvers; the interpreter cannot run scikit-learn.
pub fn measure(rows: usize, width: usize, classes: usize, python: Option<&Path>) -> Result<Vec<Solved>> {
    let theirs = python.map(|python| scikit_learn(python, [rows, width, classes])).transpose()?;
    let (noise, centres) = (Stream::named(0, "bench/noise"), Stream::named(0, "bench/centres"));
    let of_row: Vec<u32> = (0..rows).map(|i| (i % classes) as u32).collect();
    let value = |i: usize| {
        let centre = centres.normal((i / width % classes * width + i % width) as u64);
        0.2 * centre + noise.normal(i as u64)
    };
    let features = InMemory::new(rows).with("features", &[width], (0..rows * width).map(value).collect())?;
    let all: Vec<u32> = (0..rows as u32).collect();
    let data = Data::new(&features, Targets::Classes(&of_row), &all, &[]);
    let config =
        TrainConfig { recipe: Default::default(), metrics: vec![MetricName::Accuracy], order_seed: 0, seed: 0 };
    let logistic = Logistic { c: OneOrPath(vec![1.0]), ..Logistic::default() };
    let knn = Knn { k: 10.min(rows as u32), metric: Distance::L2, ..Knn::default() };
    let queries: Vec<u32> = (0..QUERIES.min(rows) as u32).collect();
    let mut cases = Vec::new();
    for (head, config_of_head) in [("logistic", HeadConfig::Logistic(logistic)), ("knn", HeadConfig::Knn(knn))] {
        let neck = NeckChain::default();
        let graph = build_graph_above(None, &neck, &config_of_head, features.inputs(), classes, rows)?;
        let Some(solved) = config_of_head.solved() else { continue };
        let mut fits = Vec::new();
        let mut predictions = Vec::new();
        for _ in 0..REPEATS {
            let begin = Instant::now();
            let solution = solve(&neck, solved, &graph, &data, &config, &Cancel::default())?;
            fits.push(begin.elapsed().as_secs_f64());
            let begin = Instant::now();
            predict(&graph, &solution.weights, &features, &queries, Prediction::Softmax)?;
            predictions.push(begin.elapsed().as_secs_f64());
        }
        let is_knn = head == "knn";
        let mut times = if is_knn { predictions } else { fits };
        times.sort_by(f64::total_cmp);
        let what = if is_knn { format!("{} queries, k 10", queries.len()) } else { "solve, c 1".into() };
        let of_theirs = |theirs: &Theirs| (theirs.version.clone(), if is_knn { theirs.knn } else { theirs.logistic });
        cases.push(Solved { head, what, secs: times[REPEATS / 2], scikit_learn: theirs.as_ref().map(of_theirs) });
    }
    Ok(cases)
}

fn scikit_learn(python: &Path, numbers: [usize; 3]) -> Result<Theirs> {
    let numbers = numbers.into_iter().chain([QUERIES, REPEATS]);
    let output = Command::new(python)
        .args(["-c", include_str!("exact.py")])
        .args(numbers.map(|n| n.to_string()))
        .output()
        .with_context(|| format!("cannot run `{}`", python.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` could not run scikit-learn: {}", python.display(), said.lines().last().unwrap_or_default());
    }
    serde_json::from_slice(&output.stdout).context("the scikit-learn script printed something else")
}
