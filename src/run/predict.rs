//! New samples through a finished run: the same preprocess, the same engine, the trained head.

use std::path::{Path, PathBuf};

use ndarray::{ArrayView1, ArrayView2};
use serde::Serialize;

use super::context::Context;
use super::engine::{self, Source};
use super::tail;
use super::training::{self, BEST, CHECKPOINT};
use crate::base::progress::{Event, Unit, work};
use crate::base::{Error, Result};
use crate::engine::{Engine, InputTensor};
use crate::graph::{Graph, Weights};
use crate::head::HeadConfig;
use crate::plan::ResolvedPlan;
use crate::sample::Sample;
use crate::sample::pipeline::{Batch, Item, Options, prepare};
use crate::train::{InMemory, InputSpec};

/// What a run says of one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Predicted {
    /// The file.
    pub file: String,
    /// The class of the greatest probability.
    pub label: String,
    /// Its probability.
    pub probability: f32,
    /// The probability of every class, in the order of the classes.
    pub probabilities: Vec<f32>,
}

/// A finished run, ready to classify.
pub struct Predictor {
    plan: ResolvedPlan,
    engine: Box<dyn Engine>,
    inputs: Vec<InputSpec>,
    graph: Graph,
    weights: Weights,
}

impl Predictor {
    /// Loads a run from its directory.
    ///
    /// # Errors
    /// The run is not finished, its files are damaged, or its backbone cannot be fetched or has changed.
    pub fn open(directory: &Path, context: &Context<'_>) -> Result<Self> {
        let plan = ResolvedPlan::read(directory)?;
        let source = Source::fetch(&plan.plan, context)?;
        if source.model.digest != plan.weights {
            let backbone = &plan.plan.model.backbone.source;
            return Err(Error::bad_input(format!("`{backbone}` is not the file that this run was trained with"))
                .hint("its contents changed; run the recipe again"));
        }
        let built = engine::build_engine(&plan, &source, context)?;
        let mut engine = source.open(&built)?;
        let shapes = engine::shapes(&built, &mut *engine, &plan.plan)?;
        let inputs: Vec<InputSpec> = plan
            .cut()
            .iter()
            .zip(shapes)
            .map(|(output, shape)| InputSpec { name: output.name.clone(), shape })
            .collect();
        let tail = tail::find(&plan.plan, &source)?;
        let (weights, _) = Weights::load(&directory.join(CHECKPOINT).join(BEST))?;
        let graph = training::graph(&plan, tail.as_ref(), &inputs, HeadConfig::stored_rows(&weights))?;
        Ok(Self { plan, engine, inputs, graph, weights })
    }

    /// The names of the classes, in the order of the probabilities.
    pub fn classes(&self) -> &[String] {
        &self.plan.classes
    }

    /// Classifies some files, in their order.
    ///
    /// # Errors
    /// A file that cannot be decoded, by its name; those of the engine.
    pub fn predict(&mut self, files: &[PathBuf], context: &Context<'_>) -> Result<Vec<Predicted>> {
        let samples: Vec<(Sample, String)> =
            files.iter().map(|path| (Sample::file(path), path.display().to_string())).collect();
        let items: Vec<Item<'_>> =
            samples.iter().enumerate().map(|(index, (sample, origin))| Item { index, sample, origin }).collect();
        let total = Some(items.len() as u64);
        let values = work(context.progress, "predicting", total, Unit::Samples, || self.features(&items, context))?;
        let mut features = InMemory::new(items.len());
        for (input, values) in self.inputs.iter().zip(values) {
            features = features.with(&input.name, &input.shape, values)?;
        }
        let probabilities = training::probabilities(&self.graph, &self.weights, &features)?;
        let classes = self.classes();
        let table = ArrayView2::from_shape((samples.len(), classes.len()), &probabilities)
            .map_err(|e| Error::failed("the head gave another number of classes than the run has").because(e))?;
        Ok(samples.iter().zip(table.rows()).map(|((_, file), row)| predicted(file, classes, row)).collect())
    }

    /// The activations of the items, one vector per output.
    fn features(&mut self, items: &[Item<'_>], context: &Context<'_>) -> Result<Vec<Vec<f32>>> {
        let preprocess = &self.plan.plan.model.backbone.preprocess;
        let [channels, height, width] = preprocess.output_shape();
        let mut all = vec![Vec::new(); self.inputs.len()];
        let mut outputs = vec![Vec::new(); self.inputs.len()];
        let mut done = 0;
        let step = |batch: &Batch| -> Result<()> {
            let shape = [batch.indices.len(), channels, height, width];
            self.engine.run(&[InputTensor::F32 { shape: &shape, data: &batch.data }], &mut outputs)?;
            all.iter_mut().zip(&outputs).for_each(|(all, values)| all.extend_from_slice(values));
            done += batch.indices.len() as u64;
            context.progress.event(Event::WorkAdvanced { done, detail: String::new() });
            Ok(())
        };
        let batch_size = self.plan.plan.engine.batch_size;
        let options = Options { batch_size, threads: 1, cancel: context.cancel, skip_bad: false };
        prepare(items, preprocess, &options, step)?;
        Ok(all)
    }
}

fn predicted(file: &str, classes: &[String], row: ArrayView1<'_, f32>) -> Predicted {
    let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
    Predicted { file: file.into(), label: classes[best].clone(), probability: row[best], probabilities: row.to_vec() }
}
