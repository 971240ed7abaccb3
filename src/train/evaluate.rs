//! Measuring and predicting with given weights.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::batch::{Reader, check_rows};
use super::{Data, Features, TrainConfig, Trainer, embedded};
use crate::base::Result;
use crate::graph::execution::Pass;
use crate::graph::op::Softmax;
use crate::graph::{Execution, Graph, Targets, Task, Weights};
use crate::loss::LossSum;
use crate::metric::{Metric, MetricName};

/// Rows of a batch when nothing says otherwise.
const BATCH: usize = 256;

/// What predictions are made of outputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// Probabilities that sum to 1 over the outputs.
    #[default]
    Softmax,
    /// A probability of each output on its own.
    Sigmoid,
    /// The outputs as they are.
    Raw,
}

impl Prediction {
    /// What is made of outputs of a kind.
    pub fn of(task: Task) -> Self {
        match task {
            Task::Classes => Self::Softmax,
            Task::MultiLabel => Self::Sigmoid,
            Task::Values | Task::Embedding => Self::Raw,
        }
    }
}

/// The loss and the config's metrics of `rows`, named `split/loss` and `split/metric`. `data` says what was
/// trained on, because balanced class weights are those of the training rows.
///
/// # Errors
/// Features, targets or weights do not fit the graph, or cannot be read.
pub fn evaluate(
    graph: &Graph,
    weights: &Weights,
    data: &Data<'_>,
    rows: &[u32],
    config: &TrainConfig,
    split: &str,
) -> Result<BTreeMap<String, f64>> {
    let facts = data.facts(graph, config)?;
    let bound = if facts.class_counts.is_empty() && facts.moments.is_empty() { usize::MAX } else { facts.width };
    check_rows(data.features, data.targets, bound, &[rows])?;
    let mut trainer = super::trainer(graph, weights, config, &facts)?;
    let mut reader = Reader::new(graph, data.features, data.targets, config.batch_size())?;
    embedded::on_workers(|| measure(&mut *trainer, &mut reader, rows, facts.width, &config.metrics, split))
}

/// The loss and metrics of some rows by a trainer's present weights.
pub(super) fn measure(
    trainer: &mut dyn Trainer,
    reader: &mut Reader<'_>,
    rows: &[u32],
    width: usize,
    metrics: &[MetricName],
    split: &str,
) -> Result<BTreeMap<String, f64>> {
    let mut measures: Vec<Box<dyn Metric>> = metrics.iter().map(|name| name.start(width)).collect();
    let mut loss = LossSum::default();
    let mut outputs_of_batch = Vec::new();
    reader.each(rows, |batch| {
        outputs_of_batch.clear();
        loss.add(trainer.infer(batch, &mut |outputs| outputs_of_batch.extend_from_slice(outputs))?);
        measures.iter_mut().for_each(|measure| measure.update(&outputs_of_batch, batch.targets()));
        Ok(())
    })?;
    let values = metrics.iter().zip(&measures).map(|(name, measure)| (name.name(), measure.value()));
    let all = std::iter::once(("loss", loss.mean())).chain(values);
    Ok(all.map(|(name, value)| (format!("{split}/{name}"), value)).collect())
}

/// The first output of `rows`, `[rows, outputs]`, as asked for.
///
/// # Errors
/// Features or weights do not fit the graph, or cannot be read.
pub fn predict(
    graph: &Graph,
    weights: &Weights,
    features: &dyn Features,
    rows: &[u32],
    prediction: Prediction,
) -> Result<Vec<f32>> {
    let classes = vec![0; features.len()];
    check_rows(features, Targets::Classes(&classes), 1, &[rows])?;
    let mut run: Execution<f32> = Execution::new(graph, weights, BATCH, false)?;
    let mut reader = Reader::new(graph, features, Targets::Classes(&classes), BATCH)?;
    let mut all = Vec::new();
    embedded::on_workers(|| {
        reader.each(rows, |batch| {
            for (id, buffer) in graph.inputs().iter().zip(&mut batch.inputs) {
                std::mem::swap(run.value_mut(*id), buffer);
            }
            run.forward(batch.rows, Pass::EVALUATION);
            if let Some((_, output)) = graph.outputs().first() {
                let start = all.len();
                all.extend_from_slice(run.value(*output));
                let width = graph.shape(*output).last().max(1);
                match prediction {
                    Prediction::Softmax => all[start..].chunks_exact_mut(width).for_each(|row| {
                        Softmax::row(row);
                    }),
                    Prediction::Sigmoid => all[start..].iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
                    Prediction::Raw => {}
                }
            }
            Ok(())
        })
    })?;
    Ok(all)
}
