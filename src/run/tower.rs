//! An engine with what goes in and comes out, for one field of a row or for all of them: how new samples get their
//! activations.

use std::ops::Range;
use std::thread::available_parallelism;

use super::calibration;
use super::context::Context;
use super::engine::{self, RowShape, Source};
use super::pump::{Done, with_engine};
use crate::base::progress::Event;
use crate::base::{Error, Result};
use crate::engine::verify::may_batch;
use crate::engine::{Engine, OneByOne, run_on};
use crate::export::Input;
use crate::neck::MASK;
use crate::plan::ResolvedPlan;
use crate::sample::pipeline::{Buffers, Item, Options, prepare, stream};
use crate::sample::{Ready, Tensor};
use crate::train::{InMemory, InputSpec};

/// One of the engines that a row goes through.
pub struct Tower {
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// How samples become its inputs; several where one engine takes each field by inputs of its own.
    pub intakes: Vec<Intake>,
    /// The names that the graph above has for its outputs, and their rows.
    pub outputs: Vec<(String, RowShape)>,
}

/// How some fields of a row become inputs of an engine.
pub struct Intake {
    /// What the names of these inputs begin with.
    pub prefix: String,
    /// How samples become inputs.
    pub ready: Ready,
    /// The fields of a row.
    pub fields: Range<usize>,
}

impl Tower {
    /// Builds or finds the engine of a plan; `field` is the only one it takes, if each has its own.
    ///
    /// # Errors
    /// The backbone or its tokenizer has changed; those of the engine.
    pub fn open(plan: &ResolvedPlan, source: Source, field: Option<&str>, context: &Context<'_>) -> Result<Self> {
        if source.model.digest != plan.weights || source.tokenizer != plan.tokenizer {
            let backbone = &plan.plan.model.backbone.source;
            return Err(Error::bad_input(format!("`{backbone}` is not the file that this run was trained with"))
                .hint("its contents or its tokenizer's changed; run the recipe again"));
        }
        let built = engine::build_engine(plan, &source, &|| calibration::again(plan, field, context), context)?;
        let mut engine = source.open(&built)?;
        if !may_batch(&built, &mut *engine, &|seed| source.ready.probe(seed, 0), &source.engine.describe())? {
            engine = Box::new(OneByOne(engine));
        }
        let shapes = engine::shapes(&built, &mut *engine, source.probed(plan))?;
        let names = plan.cut().iter().map(|output| engine::input_name(field, &output.name));
        let outputs = names.zip(shapes).collect();
        let fields = plan.plan.data.fields();
        let place = field.and_then(|field| fields.iter().position(|known| known.name == field));
        let fields = place.map_or(0..fields.len(), |place| place..place + 1);
        let intakes = vec![Intake { prefix: String::new(), ready: source.ready, fields }];
        Ok(Self { engine, intakes, outputs })
    }

    /// The inputs of the graph above, for rows of at most so many tokens.
    pub fn inputs(&self, tokens: usize) -> Vec<InputSpec> {
        self.outputs.iter().flat_map(|(name, shape)| inputs_of(name, shape, tokens)).collect()
    }

    /// Adds the activations of the items, whose numbers are their places, to some features.
    ///
    /// # Errors
    /// An item that cannot be read; those of the engine.
    pub fn add(
        &mut self,
        mut features: InMemory,
        items: &[Item<'_>],
        batch_size: usize,
        context: &Context<'_>,
    ) -> Result<InMemory> {
        let is_whole = |item: &Item<'_>| self.intakes.iter().all(|i| item.samples.get(i.fields.clone()).is_some());
        if !items.iter().all(is_whole) {
            return Err(Error::failed("a row lacks a field"));
        }
        for ((name, shape), rows) in self.outputs.clone().iter().zip(self.rows(items, batch_size, context)?) {
            features = with_rows(features, name, shape, &rows)?;
        }
        Ok(features)
    }

    /// For each output one row per item, whose numbers are their places.
    ///
    /// # Errors
    /// Those of [`Self::add`].
    pub fn rows(&mut self, items: &[Item<'_>], batch_size: usize, context: &Context<'_>) -> Result<Vec<Vec<Vec<f32>>>> {
        let mut all = vec![vec![Vec::new(); items.len()]; self.outputs.len()];
        let mut done = 0;
        let mut store = |indices: &[usize], outputs: &[Vec<f32>]| {
            for (all, values) in all.iter_mut().zip(outputs) {
                // Batches need not be in the order of the items, and the rows of one batch are of one size.
                let size = (values.len() / indices.len().max(1)).max(1);
                for (row, index) in values.chunks_exact(size).zip(indices) {
                    all[*index] = row.to_vec();
                }
            }
            done += indices.len() as u64;
            context.progress.event(Event::WorkAdvanced { done, detail: String::new() });
        };
        let threads = available_parallelism().map_or(1, usize::from);
        let options = Options { batch_size, threads, cancel: context.cancel, skip_bad: false };
        if let [intake] = &self.intakes[..] {
            let (own, buffers) = (intake.own(items), Buffers::default());
            with_engine(&mut *self.engine, |pump| {
                let mut take = |done: Done| {
                    store(&done.batch.indices, &done.outputs);
                    buffers.give(done.batch);
                    Ok(())
                };
                stream(&own, &intake.ready, &options, &buffers, |batch| pump.push(batch, &mut take))?;
                pump.drain(&mut take)
            })?;
            return Ok(all);
        }
        // What is a batch for one field need not be one for another.
        let mut outputs = vec![Vec::new(); self.outputs.len()];
        for item in items {
            let mut inputs = Vec::new();
            for intake in &self.intakes {
                prepare(&intake.own(&[*item]), &intake.ready, &options, |batch| {
                    inputs.extend(batch.inputs.iter().map(|tensor| intake.named(tensor)));
                    Ok(())
                })?;
            }
            run_on(&mut *self.engine, &inputs, &mut outputs)?;
            store(&[item.index], &outputs);
        }
        Ok(all)
    }
}

impl Intake {
    /// The items with the fields that it takes alone.
    fn own<'a>(&self, items: &[Item<'a>]) -> Vec<Item<'a>> {
        items.iter().map(|item| Item { samples: &item.samples[self.fields.clone()], ..*item }).collect()
    }

    /// A tensor under the name that the engine has for it.
    fn named(&self, tensor: &Tensor) -> Tensor {
        // Pictures are an engine's only input, and have no name of their own.
        let own = if tensor.name.is_empty() { Input::Tensor.name() } else { &tensor.name };
        Tensor { name: format!("{}{own}", self.prefix), ..tensor.clone() }
    }
}

/// An output's input of the graph above, and its mask where rows have different numbers of tokens.
fn inputs_of(name: &str, of_row: &RowShape, tokens: usize) -> Vec<InputSpec> {
    let RowShape { shape, per_token } = of_row;
    if !per_token {
        return vec![InputSpec { name: name.into(), shape: shape.clone() }];
    }
    let padded = std::iter::once(tokens).chain(shape.iter().copied()).collect();
    vec![
        InputSpec { name: name.into(), shape: padded },
        InputSpec { name: format!("{name}{MASK}"), shape: vec![tokens] },
    ]
}

/// Adds an input with these rows; rows of different numbers of tokens are padded to the longest of them.
fn with_rows(features: InMemory, name: &str, of_row: &RowShape, rows: &[Vec<f32>]) -> Result<InMemory> {
    let width = of_row.shape.iter().product::<usize>().max(1);
    let longest = rows.iter().map(|row| row.len() / width).max().unwrap_or(1).max(1);
    let inputs = inputs_of(name, of_row, longest);
    let [tokens, mask] = &inputs[..] else {
        return features.with(name, &of_row.shape, rows.concat());
    };
    let (mut values, mut real) = (Vec::new(), Vec::new());
    for row in rows {
        values.extend_from_slice(row);
        values.resize(values.len() + longest * width - row.len(), 0.0);
        real.extend((0..longest).map(|at| f32::from(u8::from(at < row.len() / width))));
    }
    features.with(&tokens.name, &tokens.shape, values)?.with(&mask.name, &mask.shape, real)
}
