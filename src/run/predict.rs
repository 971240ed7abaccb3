//! New samples through a finished run (the same preprocess, the same engine, the trained head) or through an
//! exported file.

use std::path::Path;
use std::thread::available_parallelism;

use serde::Serialize;

use super::context::Context;
use super::directory;
use super::engine::{self, Source};
use super::pixels::{self, FromPixels};
use super::tail;
use super::training::{self, BEST, CHECKPOINT};
use crate::base::progress::{Event, Unit, work};
use crate::base::{Error, Result};
use crate::engine::{Engine, OnnxRuntime, run_on, runtime};
use crate::export::{Activation, Input, Metadata};
use crate::graph::{Graph, Task, Weights, onnx};
use crate::head::HeadConfig;
use crate::metric::argmax;
use crate::plan::ResolvedPlan;
use crate::recipe::{Precision, Provider};
use crate::sample::pipeline::{Batch, Item, Options, prepare};
use crate::sample::{Modality, Ready, Sample};
use crate::train::{self, Features as _, InMemory, InputSpec, Prediction};

/// What a run says of one sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Predicted {
    /// The file, or the text.
    #[serde(rename = "file")]
    pub input: String,
    /// The class of the greatest probability; of several labels those above one half, with commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The greatest probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f32>,
    /// The probability of every class or label, in the order of the classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probabilities: Vec<f32>,
    /// Predicted values in the order of their names, or an embedding.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<f32>,
}

/// A finished run, ready to classify.
pub struct Predictor {
    plan: ResolvedPlan,
    engine: Box<dyn Engine>,
    ready: Ready,
    inputs: Vec<InputSpec>,
    graph: Graph,
    weights: Weights,
    prediction: Prediction,
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
        let shapes = engine::shapes(&built, &mut *engine, &source.ready)?;
        let inputs: Vec<InputSpec> = plan
            .cut()
            .iter()
            .zip(shapes)
            .map(|(output, shape)| InputSpec { name: output.name.clone(), shape })
            .collect();
        let tail = tail::find(&plan.plan, &source)?;
        let (weights, _) = Weights::load(&directory.join(CHECKPOINT).join(BEST))?;
        let graph = training::graph(&plan, tail.as_ref(), &inputs, HeadConfig::stored_rows(&weights))?;
        let prediction = Prediction::of(plan.plan.train.loss().task());
        Ok(Self { plan, engine, ready: source.ready, inputs, graph, weights, prediction })
    }

    /// Loads a run, or a file that `caft export` wrote, which a word names.
    ///
    /// # Errors
    /// Those of [`directory::find_finished`], [`Self::open`] and [`Self::open_exported`].
    pub fn of(word: &str, context: &Context<'_>) -> Result<Self> {
        if is_exported(word) {
            return Self::open_exported(Path::new(word), context);
        }
        Self::open(directory::find_finished(&context.runs, word)?.path.as_ref(), context)
    }

    /// Loads a file that `caft export` wrote. It runs on the processor.
    ///
    /// # Errors
    /// It is no such file, or the runtime cannot load it.
    pub fn open_exported(path: &Path, context: &Context<'_>) -> Result<Self> {
        let model = onnx::read(path)?;
        let Metadata { activation, input, mut plan, .. } = Metadata::read(&model, &path.display().to_string())?;
        drop(model);
        let prepared = runtime::prepare(&context.fetcher(), Provider::Cpu, Precision::Fp32)?;
        let threads = available_parallelism().map_or(1, usize::from);
        let mut engine: Box<dyn Engine> = Box::new(OnnxRuntime::open(&prepared, context.home, path, threads)?);
        if input == Input::Pixels {
            engine = Box::new(FromPixels::new(engine));
            plan.plan.model.backbone.preprocess = pixels::whole(&plan.plan.model.backbone.preprocess);
        }
        let (ready, _) = engine::ready(&plan.plan, &context.fetcher())?;
        // What the file gives is what a graph of nothing but its input gives.
        let mut graph = Graph::new();
        let name = activation.output();
        let width = plan.plan.model.head.width(plan.classes.len());
        let outputs = graph.input(name, &[width])?;
        graph.output(name, outputs);
        let inputs = vec![InputSpec { name: name.into(), shape: vec![width] }];
        let task = plan.plan.train.loss().task();
        let prediction = if activation == Activation::None { Prediction::of(task) } else { Prediction::Raw };
        Ok(Self { plan, engine, ready, inputs, graph, weights: Weights::default(), prediction })
    }

    /// What was trained and how.
    pub fn plan(&self) -> &ResolvedPlan {
        &self.plan
    }

    /// The graph above the cut with its weights; of an exported file, what passes its outputs on.
    pub(super) fn above(&self) -> (&Graph, &Weights) {
        (&self.graph, &self.weights)
    }

    /// The outputs of the head for some items, whose numbers are their places: `[items, outputs]`.
    ///
    /// # Errors
    /// Those of [`Self::predict`].
    pub(super) fn outputs(&mut self, items: &[Item<'_>], context: &Context<'_>) -> Result<Vec<f32>> {
        let features = self.in_memory(items, context)?;
        train::predict(&self.graph, &self.weights, &features, &all_rows(&features), Prediction::Raw)
    }

    /// The outputs of the cut for some items, whose numbers are their places.
    ///
    /// # Errors
    /// Those of [`Self::predict`].
    pub(super) fn in_memory(&mut self, items: &[Item<'_>], context: &Context<'_>) -> Result<InMemory> {
        let values = self.features(items, context)?;
        let inputs = self.inputs.iter().zip(values);
        inputs.fold(Ok(InMemory::new(items.len())), |features, (input, values)| {
            features?.with(&input.name, &input.shape, values)
        })
    }

    /// The names of the classes, in the order of the probabilities.
    pub fn classes(&self) -> &[String] {
        &self.plan.classes
    }

    /// What the run was trained on: pictures or texts.
    pub fn modality(&self) -> Modality {
        self.plan.plan.model.backbone.preprocess.modality()
    }

    /// The samples of words as a user gives them: of a file's path, of a text, or of two texts with a tab between
    /// them if the run was trained on pairs.
    ///
    /// # Errors
    /// A pair without its second text.
    pub fn samples(&self, words: &[String]) -> Result<Vec<Vec<Sample>>> {
        let fields = self.plan.plan.data.fields().len();
        let texts = |word: &str| {
            let texts: Vec<Sample> = word.splitn(fields, '\t').map(Sample::text).collect();
            if texts.len() == fields { Some(texts) } else { None }
        };
        let sample = |word: &String| match self.modality() {
            Modality::Image => Ok(vec![Sample::file(word)]),
            Modality::Text => texts(word).ok_or_else(|| {
                Error::bad_input(format!("`{word}` is one text, and this run takes pairs"))
                    .hint("put a tab between the two texts")
            }),
        };
        words.iter().map(sample).collect()
    }

    /// Classifies some samples, in their order; `names` are for messages and the results.
    ///
    /// # Errors
    /// A sample that cannot be read, by its name; those of the engine.
    pub fn predict(
        &mut self,
        samples: &[Vec<Sample>],
        names: &[String],
        context: &Context<'_>,
    ) -> Result<Vec<Predicted>> {
        let numbered = samples.iter().zip(names).enumerate();
        let items: Vec<Item<'_>> = numbered.map(|(index, (samples, origin))| Item { index, samples, origin }).collect();
        let total = Some(items.len() as u64);
        let features = work(context.progress, "predicting", total, Unit::Samples, || self.in_memory(&items, context))?;
        let task = self.plan.plan.train.loss().task();
        let outputs = train::predict(&self.graph, &self.weights, &features, &all_rows(&features), self.prediction)?;
        let width = outputs.len() / samples.len().max(1);
        let classes = self.classes();
        if task != Task::Embedding && width != classes.len() {
            return Err(Error::failed("the head gave another number of outputs than the run has"));
        }
        let rows = outputs.chunks_exact(width.max(1));
        Ok(names.iter().zip(rows).map(|(name, row)| predicted(task, name, classes, row)).collect())
    }

    /// The activations of the items, one vector per output.
    fn features(&mut self, items: &[Item<'_>], context: &Context<'_>) -> Result<Vec<Vec<f32>>> {
        let sizes: Vec<usize> = self.inputs.iter().map(|input| input.shape.iter().product()).collect();
        let mut all: Vec<Vec<f32>> = sizes.iter().map(|size| vec![0.0; size * items.len()]).collect();
        let mut outputs = vec![Vec::new(); self.inputs.len()];
        let mut done = 0;
        let step = |batch: &Batch| -> Result<()> {
            run_on(&mut *self.engine, &batch.inputs, &mut outputs)?;
            for ((all, values), size) in all.iter_mut().zip(&outputs).zip(&sizes) {
                // Batches need not be in the order of the items.
                for (row, index) in values.chunks_exact(*size).zip(&batch.indices) {
                    all[index * size..(index + 1) * size].copy_from_slice(row);
                }
            }
            done += batch.indices.len() as u64;
            context.progress.event(Event::WorkAdvanced { done, detail: String::new() });
            Ok(())
        };
        let batch_size = self.plan.plan.engine.batch_size;
        let options = Options { batch_size, threads: 1, cancel: context.cancel, skip_bad: false };
        prepare(items, &self.ready, &options, step)?;
        Ok(all)
    }
}

/// Whether a word names an exported file and not a run.
pub(super) fn is_exported(word: &str) -> bool {
    let path = Path::new(word);
    path.extension().is_some_and(|extension| extension == "onnx") && path.is_file()
}

pub(super) fn all_rows(features: &InMemory) -> Vec<u32> {
    (0..features.len()).filter_map(|row| u32::try_from(row).ok()).collect()
}

fn predicted(task: Task, input: &str, classes: &[String], row: &[f32]) -> Predicted {
    let best = argmax(row);
    let label = match task {
        Task::Classes => Some(classes[best].clone()),
        Task::MultiLabel => {
            let said = classes.iter().zip(row).filter(|(_, p)| **p > 0.5).map(|(name, _)| name.as_str());
            Some(said.collect::<Vec<_>>().join(", "))
        }
        Task::Values | Task::Embedding => None,
    };
    let (probabilities, values) = if label.is_some() { (row.to_vec(), Vec::new()) } else { (Vec::new(), row.to_vec()) };
    Predicted { input: input.into(), probability: label.as_ref().map(|_| row[best]), label, probabilities, values }
}
