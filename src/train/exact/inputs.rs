//! What enters the head: the features after the neck.

use super::{Data, TrainConfig};
use crate::base::{Cancel, Error, Result};
use crate::graph::execution::Pass;
use crate::graph::op::Flatten;
use crate::graph::{Execution, Graph, Targets, ValueId, Weights};
use crate::neck::NeckChain;
use crate::train::batch::Reader;
use crate::train::{Embedded, Trainer, fit};

/// Bytes of features that one batch should have.
const BATCH_BYTES: usize = 16 << 20;

/// The neck with its statistics fitted, and the rows that go through it.
pub(super) struct Inputs<'a> {
    /// Features of a row.
    pub width: usize,
    /// The neck's buffers.
    pub weights: Weights,
    /// Checked before every batch.
    pub cancel: &'a Cancel,
    run: Execution<f32>,
    value: ValueId,
    reader: Reader<'a>,
}

impl<'a> Inputs<'a> {
    /// Builds the neck alone and fits its statistics on the training rows.
    ///
    /// # Errors
    /// It has parameters that would have to be trained; those of the features.
    pub fn new(neck: &NeckChain, data: &Data<'a>, config: &TrainConfig, cancel: &'a Cancel) -> Result<Self> {
        let mut graph = Graph::new();
        let specs = data.features.inputs();
        let ids = specs.iter().map(|spec| graph.input(&spec.name, &spec.shape)).collect::<Result<Vec<_>>>()?;
        let mut value = neck.build(&mut graph, &ids)?;
        if graph.shape(value).dims.len() != 1 {
            value = graph.node("features", Flatten, &[value])?;
        }
        graph.output("features", value);
        if graph.parameter_count() > 0 {
            return Err(Error::bad_input("the neck has parameters to train, but the head is solved without steps")
                .hint("take a neck without parameters, such as `standardize`, or a head that is trained"));
        }
        let row: usize = specs.iter().map(|spec| spec.elements() * 4).sum();
        let batch = (BATCH_BYTES / row.max(1)).clamp(32, 1024);
        let mut reader = Reader::new(&graph, data.features, data.targets, batch)?;
        let mut weights = graph.initial_weights(config.seed);
        if !graph.fits().is_empty() {
            let facts = crate::loss::TargetFacts { width: 1, ..Default::default() };
            let recipe = crate::recipe::TrainConfig { batch_size: batch as u32, ..Default::default() };
            let config = TrainConfig { recipe, ..config.clone() };
            let mut trainer = Embedded::new(&graph, &weights, &config, &facts)?;
            fit::statistics(&mut trainer, &graph, data, &mut reader, cancel)?;
            weights = trainer.weights()?;
        }
        let run = Execution::new(&graph, &weights, batch, false)?;
        Ok(Self { width: graph.shape(value).last(), weights, cancel, run, value, reader })
    }

    /// Calls `body` with the features `[n, width]` and the targets of some rows, batch by batch, in order.
    ///
    /// # Errors
    /// Those of `body` and of the features; one that is not finite.
    pub fn each(&mut self, rows: &[u32], body: &mut dyn FnMut(&[f32], Targets<'_>) -> Result<()>) -> Result<()> {
        let Self { run, reader, cancel, value, .. } = self;
        reader.each(rows, |batch| {
            cancel.check()?;
            let ids = run.graph().inputs().to_vec();
            for (id, buffer) in ids.iter().zip(&mut batch.inputs) {
                std::mem::swap(run.value_mut(*id), buffer);
            }
            run.forward(batch.rows, Pass::EVALUATION);
            let values = run.value(*value);
            if values.iter().any(|x| !x.is_finite()) {
                return Err(Error::bad_input("a feature is not finite in some training row"));
            }
            let done = body(values, batch.targets());
            for (id, buffer) in ids.iter().zip(&mut batch.inputs) {
                std::mem::swap(run.value_mut(*id), buffer);
            }
            done
        })
    }

    /// The features `[n, width]` and the values `[n, values]` of some rows.
    ///
    /// # Errors
    /// Those of [`Self::each`]; targets that are no values.
    pub fn collect_values(&mut self, rows: &[u32]) -> Result<(Vec<f32>, Vec<f32>)> {
        let (mut features, mut all) = (Vec::with_capacity(rows.len() * self.width), Vec::new());
        self.each(rows, &mut |batch, targets| {
            let Targets::Values { values, .. } = targets else {
                return Err(Error::bad_input("this head needs values as targets"));
            };
            features.extend_from_slice(batch);
            all.extend_from_slice(values);
            Ok(())
        })?;
        Ok((features, all))
    }

    /// The features `[n, width]` and the classes of some rows.
    ///
    /// # Errors
    /// Those of [`Self::each`]; targets that are no classes.
    pub fn collect(&mut self, rows: &[u32]) -> Result<(Vec<f32>, Vec<u32>)> {
        let mut values = Vec::with_capacity(rows.len() * self.width);
        let mut classes = Vec::with_capacity(rows.len());
        self.each(rows, &mut |batch, targets| {
            values.extend_from_slice(batch);
            classes.extend_from_slice(of_classes(targets)?);
            Ok(())
        })?;
        Ok((values, classes))
    }
}

/// The class numbers.
///
/// # Errors
/// The targets are no classes.
pub(super) fn of_classes(targets: Targets<'_>) -> Result<&[u32]> {
    match targets {
        Targets::Classes(classes) => Ok(classes),
        Targets::MultiLabel { .. } | Targets::Values { .. } | Targets::Pairs { .. } => {
            Err(Error::bad_input("this head needs classes as targets"))
        }
    }
}
