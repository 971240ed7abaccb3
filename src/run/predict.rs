//! New samples through a finished run (the same preprocess, the same engine, the trained head) or through an
//! exported file.

use std::path::Path;

use super::context::Context;
use super::engine::Source;
pub use super::predicted::Predicted;
use super::tail;
use super::tower::Tower;
use super::training::{self, BEST, CHECKPOINT};
use super::{directory, exported};
use crate::base::progress::{Unit, work};
use crate::base::suggest::one_of;
use crate::base::{Error, Result};
use crate::data::{self, DataConfig, Dataset, Field, LoadContext, TargetKind};
use crate::engine::runtime;
use crate::export::{Activation, Metadata};
use crate::graph::import::Tail;
use crate::graph::{Graph, Task, Weights, onnx};
use crate::head::HeadConfig;
use crate::plan::ResolvedPlan;
use crate::postprocess::{PixelClasses, PostprocessConfig};
use crate::recipe::{Precision, Provider};
use crate::sample::image::decode;
use crate::sample::image::mask::ClassMap;
use crate::sample::pipeline::Item;
use crate::sample::{Modality, Sample};
use crate::train::{self, Features as _, InMemory, InputSpec, Prediction};

/// A finished run, ready to classify.
pub struct Predictor {
    plan: ResolvedPlan,
    towers: Vec<Tower>,
    tail: Option<Tail>,
    /// The graph above the cut, for rows of one token where rows have different numbers of them.
    graph: Graph,
    weights: Weights,
    prediction: Prediction,
    /// What the outputs have been through inside an exported file.
    activation: Activation,
}

impl Predictor {
    /// Loads a run from its directory.
    ///
    /// # Errors
    /// The run is not finished, its files are damaged, or its backbone cannot be fetched or has changed.
    pub fn open(directory: &Path, context: &Context<'_>) -> Result<Self> {
        let plan = ResolvedPlan::read(directory)?;
        let fields: Vec<&str> = plan.plan.model.towers.keys().map(String::as_str).collect();
        let source = Source::fetch(&plan.plan, context)?;
        let tail = tail::find(&plan.plan, &source)?;
        let mut towers = vec![Tower::open(&plan, source, fields.first().copied(), context)?];
        for (tower, field) in plan.towers.iter().zip(fields.iter().skip(1)) {
            towers.push(Tower::open(tower, Source::fetch(&tower.plan, context)?, Some(field), context)?);
        }
        let (weights, _) = Weights::load(&directory.join(CHECKPOINT).join(BEST))?;
        let inputs: Vec<InputSpec> = towers.iter().flat_map(|tower| tower.inputs(1)).collect();
        let graph = training::graph_in_use(&plan, tail.as_ref(), &inputs, HeadConfig::stored_rows(&weights))?;
        let prediction = prediction(&plan);
        Ok(Self { plan, towers, tail, graph, weights, prediction, activation: Activation::None })
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
        let tower = exported::open(path, &prepared, &mut plan, (activation, input), context)?;
        // What the file gives is what a graph of nothing but its input gives.
        let mut graph = Graph::new();
        for spec in tower.inputs(1) {
            let outputs = graph.input(&spec.name, &spec.shape)?;
            graph.output(&spec.name, outputs);
        }
        let prediction = if activation == Activation::None { prediction(&plan) } else { Prediction::Raw };
        let towers = vec![tower];
        Ok(Self { plan, towers, tail: None, graph, weights: Weights::default(), prediction, activation })
    }

    /// What was trained and how.
    pub fn plan(&self) -> &ResolvedPlan {
        &self.plan
    }

    /// The graph above the cut with its weights; of an exported file, what passes its outputs on.
    pub(super) fn above(&self) -> (&Graph, &Weights) {
        (&self.graph, &self.weights)
    }

    /// The graph above the cut for rows of so many tokens.
    ///
    /// # Errors
    /// It does not take rows so long.
    pub(super) fn graph_for_length(&self, tokens: usize) -> Result<Graph> {
        let inputs: Vec<InputSpec> = self.towers.iter().flat_map(|tower| tower.inputs(tokens)).collect();
        training::graph_in_use(&self.plan, self.tail.as_ref(), &inputs, HeadConfig::stored_rows(&self.weights))
    }

    /// The graph of one field of pairs for rows of so many tokens.
    ///
    /// # Errors
    /// There is no such field.
    pub(super) fn graph_of_field(&self, field: &str, tokens: usize) -> Result<Graph> {
        training::graph_of_field(&self.plan, &self.towers[self.tower_of(field)?].inputs(tokens), field)
    }

    /// The embeddings of one field of pairs: `[items, dim]`.
    ///
    /// # Errors
    /// Those of [`Self::in_memory_of`].
    pub(super) fn outputs_of(&mut self, field: &str, items: &[Item<'_>], context: &Context<'_>) -> Result<Vec<f32>> {
        let (batch_size, place) = (self.plan.plan.engine.batch_size, self.tower_of(field)?);
        let features = self.towers[place].add(InMemory::new(items.len()), items, batch_size, context)?;
        let graph = training::graph_of_field(&self.plan, features.inputs(), field)?;
        train::predict(&graph, &self.weights, &features, &all_rows(&features), Prediction::Raw)
    }

    /// The engines that a row goes through, each with its outputs.
    pub(super) fn towers(&self) -> &[Tower] {
        &self.towers
    }

    /// The graph above the cut for rows as long as the longest of these, which may be longer than those of training;
    /// none where all rows are of one length.
    fn graph_of(&self, features: &InMemory) -> Result<Option<Graph>> {
        let varies = self.towers.iter().flat_map(|tower| &tower.outputs).any(|(_, shape)| shape.per_token);
        let stored = HeadConfig::stored_rows(&self.weights);
        let build = || training::graph_in_use(&self.plan, self.tail.as_ref(), features.inputs(), stored);
        varies.then(build).transpose()
    }

    /// The outputs of the head for some items, whose numbers are their places: `[items, outputs]`.
    ///
    /// # Errors
    /// Those of [`Self::predict`].
    pub(super) fn outputs(&mut self, items: &[Item<'_>], context: &Context<'_>) -> Result<Vec<f32>> {
        let features = self.in_memory(items, context)?;
        let own = self.graph_of(&features)?;
        let graph = own.as_ref().unwrap_or(&self.graph);
        train::predict(graph, &self.weights, &features, &all_rows(&features), Prediction::Raw)
    }

    /// The graph above the cut that takes these features, and the weights.
    ///
    /// # Errors
    /// It does not take rows so long.
    pub(super) fn graph_for(&self, features: &InMemory) -> Result<(Graph, &Weights)> {
        Ok((self.graph_of(features)?.unwrap_or_else(|| self.graph.clone()), &self.weights))
    }

    /// What an exported file gives for some items, as logits whatever was made of them inside.
    ///
    /// # Errors
    /// Those of [`Self::predict`].
    pub(super) fn logits_in_memory(&mut self, items: &[Item<'_>], context: &Context<'_>) -> Result<InMemory> {
        let features = self.in_memory(items, context)?;
        let Some(spec) = features.inputs().first().cloned() else { return Ok(features) };
        let mut values = vec![0.0; features.len() * spec.elements()];
        features.read(0, &(0..features.len()).collect::<Vec<usize>>(), &mut values)?;
        for x in &mut values {
            *x = match self.activation {
                Activation::None | Activation::L2 => *x,
                Activation::Softmax => x.max(f32::MIN_POSITIVE).ln(),
                Activation::Sigmoid => (x.max(f32::MIN_POSITIVE) / (1.0 - *x).max(f32::MIN_POSITIVE)).ln(),
            };
        }
        InMemory::new(features.len()).with(&spec.name, &spec.shape, values)
    }

    /// The outputs of the cut for some items, whose numbers are their places.
    ///
    /// # Errors
    /// Those of [`Self::predict`].
    pub(super) fn in_memory(&mut self, items: &[Item<'_>], context: &Context<'_>) -> Result<InMemory> {
        let batch_size = self.plan.plan.engine.batch_size;
        let start = Ok(InMemory::new(items.len()));
        self.towers.iter_mut().fold(start, |features, tower| tower.add(features?, items, batch_size, context))
    }

    /// Whether the fields of a row have an embedding each.
    pub fn is_of_pairs(&self) -> bool {
        self.plan.target == TargetKind::Pairs && !self.plan.plan.model.towers.is_empty()
    }

    /// What is made of outputs before they are told.
    pub fn postprocess(&self) -> Option<&PostprocessConfig> {
        self.plan.plan.model.postprocess.as_ref()
    }

    /// The class of each pixel of a picture in its own size, from that of each as the network saw it; of what it did not
    /// see, [`VOID`](crate::sample::image::mask::VOID).
    ///
    /// # Errors
    /// The picture cannot be read any more.
    pub fn in_own_size(&self, picture: &Sample, seen: &PixelClasses) -> Result<PixelClasses> {
        let steps = self.plan.plan.model.backbone.preprocess.image();
        let steps = steps.ok_or_else(|| Error::failed("there are no pictures"))?;
        let mut bytes = Vec::new();
        picture.read(&mut bytes)?;
        let size = decode::size(&bytes, &picture.encoding)?;
        let [height, width] = seen.size.map(|side| side as u32);
        let whole = ClassMap { width, height, classes: seen.pixels.clone() }.of_whole(steps, size);
        Ok(PixelClasses { size: [whole.height as usize, whole.width as usize], pixels: whole.classes })
    }

    /// The names of the classes, in the order of the probabilities.
    pub fn classes(&self) -> &[String] {
        &self.plan.classes
    }

    /// What the rows of the run are: the name of their only field, or `row`.
    pub fn what(&self) -> &'static str {
        match &self.plan.plan.data.fields()[..] {
            [Field { modality: Modality::Image, .. }] => "file",
            [Field { modality: Modality::Text, .. }] => "text",
            _ => "row",
        }
    }

    /// Reads a data set whose rows have the fields that the model takes.
    ///
    /// # Errors
    /// Those of the data; rows of other fields.
    pub(super) fn load_data(&self, config: &DataConfig, context: &Context<'_>) -> Result<Dataset> {
        let fetcher = context.fetcher();
        let load = LoadContext { fetcher: &fetcher, home: context.home, seed: self.plan.plan.seeds.data };
        let dataset = data::load(config, &load)?;
        let modalities = |fields: &[Field]| fields.iter().map(|field| field.modality).collect::<Vec<_>>();
        let wanted = self.plan.plan.data.fields();
        let names = |fields: &[Field]| fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
        let other_names = self.is_of_pairs() && names(&dataset.fields) != names(&wanted);
        if other_names || modalities(&dataset.fields) != modalities(&wanted) {
            let shown = |fields: &[Field]| fields.iter().map(|f| f.name.clone()).collect::<Vec<_>>().join("`, `");
            let (found, wanted) = (shown(&dataset.fields), shown(&wanted));
            return Err(Error::bad_input(format!("the data have `{found}`, and the run takes `{wanted}`")));
        }
        Ok(dataset)
    }

    /// The samples of words as a user gives them: of a file's path, of a text, or of several with a tab between
    /// them if the run was trained on pairs.
    ///
    /// # Errors
    /// A row that lacks a field.
    pub fn samples(&self, words: &[String]) -> Result<Vec<Vec<Sample>>> {
        let fields = self.plan.plan.data.fields();
        let sample = |(field, part): (&Field, &str)| match field.modality {
            Modality::Image => Sample::file(part),
            Modality::Text => Sample::text(part),
        };
        let samples = |word: &String| {
            let samples: Vec<Sample> = fields.iter().zip(word.splitn(fields.len(), '\t')).map(sample).collect();
            if samples.len() == fields.len() {
                return Ok(samples);
            }
            let names = fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>().join("`, `");
            Err(Error::bad_input(format!("`{word}` is not a whole row; it has `{names}`"))
                .hint("put tabs between them"))
        };
        words.iter().map(samples).collect()
    }

    /// The samples of one field alone; the other fields of such a row mean nothing.
    ///
    /// # Errors
    /// The run has no engine for that field alone.
    pub fn samples_of(&self, field: &str, words: &[String]) -> Result<Vec<Vec<Sample>>> {
        self.tower_of(field)?;
        let fields = self.plan.plan.data.fields();
        let modality = fields.iter().find(|known| known.name == field).map(|known| known.modality);
        let sample = |word: &String| match modality {
            Some(Modality::Text) => Sample::text(word),
            _ => Sample::file(word),
        };
        Ok(words.iter().map(|word| vec![sample(word); fields.len()]).collect())
    }

    /// The place of the engine of a field.
    ///
    /// # Errors
    /// There is none for that field alone.
    fn tower_of(&self, field: &str) -> Result<usize> {
        let towers = &self.plan.plan.model.towers;
        let found = towers.get_index_of(field).filter(|at| *at < self.towers.len());
        found.ok_or_else(|| {
            let what = match towers.is_empty() {
                true => "the run has one backbone for all fields".to_string(),
                false if self.towers.len() < towers.len() => "an exported file runs all fields together".to_string(),
                false => format!("the run has backbones for {}", one_of(towers.keys().map(String::as_str))),
            };
            Error::bad_input(format!("there is no backbone of `{field}` alone: {what}"))
        })
    }

    /// Like [`Self::in_memory`] for one field: what the engines of the others would give is nought.
    ///
    /// # Errors
    /// Those of [`Self::samples_of`] and [`Self::predict`].
    pub(super) fn in_memory_of(&mut self, field: &str, items: &[Item<'_>], context: &Context<'_>) -> Result<InMemory> {
        let (batch_size, wanted) = (self.plan.plan.engine.batch_size, self.tower_of(field)?);
        let mut features = InMemory::new(items.len());
        for (place, tower) in self.towers.iter_mut().enumerate() {
            if place == wanted {
                features = tower.add(features, items, batch_size, context)?;
                continue;
            }
            for spec in tower.inputs(1) {
                features = features.with(&spec.name, &spec.shape, vec![0.0; items.len() * spec.elements()])?;
            }
        }
        Ok(features)
    }

    /// The names of the inputs of the graph above that come from one field's engine.
    ///
    /// # Errors
    /// Those of [`Self::samples_of`].
    pub(super) fn inputs_of_field(&self, field: &str) -> Result<Vec<String>> {
        let tower = &self.towers[self.tower_of(field)?];
        Ok(tower.inputs(1).into_iter().map(|spec| spec.name).collect())
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
        if self.is_of_pairs() {
            return Err(Error::bad_input(
                "a run on pairs gives an embedding of each field, and predicts nothing of a row",
            )
            .hint("write embeddings with `caft embed RUN --field NAME …`, and find by them with `caft search`"));
        }
        let numbered = samples.iter().zip(names).enumerate();
        let items: Vec<Item<'_>> =
            numbered.map(|(index, (samples, origin))| Item { index, samples, origin: origin.into() }).collect();
        let total = Some(items.len() as u64);
        let features = work(context.progress, "predicting", total, Unit::Samples, || self.in_memory(&items, context))?;
        let task = self.plan.plan.train.loss().task();
        let own = self.graph_of(&features)?;
        let graph = own.as_ref().unwrap_or(&self.graph);
        let outputs = train::predict(graph, &self.weights, &features, &all_rows(&features), self.prediction)?;
        let width = outputs.len() / samples.len().max(1);
        let classes = self.classes();
        if let Some(postprocess) = self.postprocess() {
            let rows = names.iter().zip(outputs.chunks_exact(width.max(1)));
            return Ok(rows.map(|(name, row)| Predicted::told(name, classes, postprocess.answer(row))).collect());
        }
        if task != Task::Embedding && width != classes.len() {
            return Err(Error::failed("the head gave another number of outputs than the run has"));
        }
        let rows = outputs.chunks_exact(width.max(1));
        Ok(names.iter().zip(rows).map(|(name, row)| Predicted::of(task, name, classes, row)).collect())
    }
}

/// What is made of the outputs of a run's graph.
fn prediction(plan: &ResolvedPlan) -> Prediction {
    match plan.plan.model.postprocess {
        Some(_) => Prediction::Raw,
        None => Prediction::of(plan.plan.train.loss().task()),
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
