//! Heads that are solved at once instead of trained by steps, one file per solver.
//!
//! [`solve`] computes what enters the head for the training rows, after the neck (whose statistics are fitted
//! first), and gives the weights of the whole graph above the cut; from there on they are weights like those of
//! a trained head. Results do not depend on the number of threads.

use crate::base::{Cancel, Error, Result};
use crate::graph::{Graph, Weights};
use crate::head::Solved;
use crate::neck::NeckChain;

use super::{Data, TrainConfig, embedded, evaluate};

mod inputs;
mod knn;
mod lbfgs;
mod logistic;
mod nearest_mean;
mod ridge;
mod tiles;

use inputs::Inputs;

/// What solving a head gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// Parameters and buffers of the graph.
    pub weights: Weights,
    /// What was tried, in order; one trial for a head that has nothing to choose.
    pub trials: Vec<Trial>,
    /// The trial that was taken.
    pub chosen: usize,
}

/// One value of the parameter that is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// The parameter with its value, such as `c 0.1`; nothing where there is none.
    pub what: String,
    /// What it was judged by, such as `held-out/accuracy`, and the value; nothing for a single trial. `gcv/error` is
    /// the error of generalised cross-validation.
    pub score: Option<(String, f64)>,
    /// Iterations of the solver, where it iterates.
    pub iterations: Option<u32>,
}

impl Solution {
    /// What was taken and by what, in a few words.
    pub fn summary(&self) -> String {
        let Some(trial) = self.trials.get(self.chosen) else { return String::new() };
        let mut parts = Vec::new();
        if !trial.what.is_empty() {
            let of = if self.trials.len() > 1 { format!(" of {} tried", self.trials.len()) } else { String::new() };
            parts.push(format!("{}{of}", trial.what));
        }
        if let Some((criterion, value)) = &trial.score {
            parts.push(format!("{criterion} {value:.4}"));
        }
        parts.extend(trial.iterations.map(|count| format!("{count} iterations")));
        parts.join(", ")
    }
}

/// Solves a head on the training rows. `graph` is what [`build_graph_above`](super::build_graph_above) makes of
/// the neck and this head; of the config, the batch size, the seed and the metrics are looked at.
///
/// # Errors
/// The neck has parameters that would have to be trained; more memory is needed than the head may take, with the
/// figure; targets that are no classes; a feature that is not finite; [`Error::Interrupted`]; those of the features.
pub fn solve(
    neck: &NeckChain,
    head: Solved<'_>,
    graph: &Graph,
    data: &Data<'_>,
    config: &TrainConfig,
    cancel: &Cancel,
) -> Result<Solution> {
    data.facts(graph, config)?;
    embedded::on_workers(|| {
        let mut inputs = Inputs::new(neck, data, config, cancel)?;
        let task = Task { graph, data, config };
        match head {
            Solved::Ridge(ridge) => ridge::solve(ridge, &mut inputs, &task),
            Solved::Logistic(logistic) => logistic::solve(logistic, &mut inputs, &task),
            Solved::Knn(knn) => knn::solve(knn, &mut inputs, &task),
            Solved::NearestMean(mean) => nearest_mean::solve(mean, &mut inputs, &task),
        }
    })
}

/// What solving takes of memory, and the most that the head may take of it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct MemoryNeed {
    /// What is needed.
    pub bytes: f64,
    /// The head's `max_memory_gb`; a head that needs more is refused.
    pub most: f64,
}

/// What solving a head on so many rows of `width` features takes, in the thriftiest way that is tried; `None` for heads
/// that take no more than a batch.
pub fn memory_need(head: Solved<'_>, rows: usize, width: usize) -> Option<MemoryNeed> {
    let (bytes, gb) = match head {
        Solved::Ridge(ridge) => (ridge::bytes(ridge, rows, width), ridge.max_memory_gb),
        Solved::Knn(knn) => (knn::bytes(rows, width), knn.max_memory_gb),
        Solved::Logistic(logistic) => (logistic::bytes(logistic, rows, width)?, logistic.max_memory_gb),
        Solved::NearestMean(_) => return None,
    };
    Some(MemoryNeed { bytes, most: gb * 1e9 })
}

/// What solvers know of what is asked of them.
struct Task<'a> {
    graph: &'a Graph,
    data: &'a Data<'a>,
    config: &'a TrainConfig,
}

impl Task<'_> {
    /// The number of outputs.
    fn outputs(&self) -> usize {
        self.graph.outputs().first().map_or(0, |(_, id)| self.graph.shape(*id).last())
    }

    /// The first metric (or the loss) of some rows with given weights, and whether more of it is better.
    fn measure(&self, weights: &Weights, rows: &[u32]) -> Result<(&'static str, f64, bool)> {
        let (name, maximize) = self.config.metrics.first().map_or(("loss", false), |m| (m.name(), m.maximize()));
        let metrics = evaluate(self.graph, weights, self.data, rows, self.config, "valid")?;
        let value = metrics.get(&format!("valid/{name}")).copied();
        let value = value.ok_or_else(|| Error::failed(format!("`{name}` was not measured")))?;
        Ok((name, value, maximize))
    }
}

/// Refuses what needs more memory than a head may take.
fn check_memory(what: &str, bytes: f64, max_gb: f64, hint: &str) -> Result<()> {
    if bytes <= max_gb * 1e9 {
        return Ok(());
    }
    let need = bytes / 1e9;
    Err(Error::bad_input(format!("{what} needs {need:.1} GB of memory; `model.head.max_memory_gb` is {max_gb}"))
        .hint(hint))
}

/// Whether a value is better than the best so far; of equals the first is.
fn is_better(value: f64, best: Option<f64>, maximize: bool) -> bool {
    best.is_none_or(|best| if maximize { value > best } else { value < best })
}

#[cfg(test)]
mod tests;
