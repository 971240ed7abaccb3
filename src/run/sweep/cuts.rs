//! What trials share below the cut: data that is read once, and a cache that is filled in one pass.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::base::{Digest, Error, KeyWriter, Result};
use crate::graph::onnx::OutputSpec;
use crate::plan::{Plan, ResolvedPlan};
use crate::recipe::StoreMode;
use crate::run::context::Context;
use crate::run::resolve::{Resolved, resolve};
use crate::run::training::Training;
use crate::run::{engine, fill, skipped, whole};

/// The data sets and backbones of a sweep.
#[derive(Default)]
pub struct Cuts {
    /// By [`source`].
    resolved: BTreeMap<Digest, Resolved>,
    /// Rows that were left out, by [`source`].
    skipped: BTreeMap<Digest, Vec<usize>>,
    /// Outputs that were filled, by [`source`].
    filled: BTreeMap<Digest, Vec<String>>,
}

/// What decides the rows, their splits and the engine.
fn source(plan: &Plan) -> Digest {
    KeyWriter::new("sweep source")
        .json("data", &plan.data)
        .json("seeds", &[plan.seeds.data, plan.seeds.augment])
        .json("pass", &pass(plan))
        .finish()
}

/// What decides what one pass of an engine computes, but for the outputs and the rows.
fn pass(plan: &Plan) -> Digest {
    let backbone = &plan.model.backbone;
    KeyWriter::new("sweep pass")
        .json("weights", &backbone.source)
        .json("preprocess", &backbone.preprocess)
        .json("precision", &plan.engine.precision)
        .json("provider", &plan.engine.provider)
        .json("cache", &plan.cache)
        // What is stored below a part that is trained depends on where that part ends.
        .json("tail", &backbone.tail.as_ref().map(|tail| (tail, &backbone.outputs)))
        .finish()
}

/// Trials of one group are trained on the same rows of the same features.
pub fn group(plan: &ResolvedPlan) -> Digest {
    let Plan { model, train, .. } = &plan.plan;
    KeyWriter::new("sweep group")
        .json("source", &source(&plan.plan))
        .json("outputs", &model.backbone.outputs)
        .json("fraction", &train.fraction)
        .finish()
}

/// There is nothing to choose by.
pub fn no_valid() -> Error {
    Error::bad_input("a sweep chooses by validation rows, and there are none")
        .hint("give `data.valid`, such as `{fraction: 0.2}`, or `sweep.kfold`")
}

impl Cuts {
    /// The plan resolved, with data that is read once.
    pub fn resolve(&mut self, plan: &Plan, context: &Context<'_>) -> Result<&Resolved> {
        let key = source(plan);
        let resolved = match self.resolved.entry(key) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => place.insert(resolve(plan, context)?),
        };
        resolved.plan.plan = whole::settled(plan, &resolved.source)?.into_owned();
        Ok(resolved)
    }

    /// Computes what is not stored of all these plans, each sample with all its outputs in one pass.
    pub fn fill(&mut self, plans: &[&ResolvedPlan], context: &Context<'_>) -> Result<()> {
        let mut outputs: BTreeMap<Digest, Vec<OutputSpec>> = BTreeMap::new();
        for plan in plans {
            let all = outputs.entry(pass(&plan.plan)).or_default();
            for output in &plan.plan.model.backbone.outputs {
                if !all.contains(output) {
                    all.push(output.clone());
                }
            }
        }
        for plan in plans {
            if plan.plan.cache.store == StoreMode::None {
                return Err(Error::bad_input(
                    "`cache.store: none` would compute every row anew for every trial of a sweep",
                )
                .hint("trials share what is stored: `cache.store: activations`"));
            }
            let key = source(&plan.plan);
            let all = &outputs[&pass(&plan.plan)];
            let names: Vec<String> = all.iter().map(|output| output.name.clone()).collect();
            let filled = self.filled.entry(key).or_default();
            if names.iter().all(|name| filled.contains(name)) {
                continue;
            }
            filled.extend(names);
            let mut wide = plan.plan.clone();
            wide.model.backbone.outputs = all.clone();
            let resolved = self.resolve(&wide, context)?;
            // Before what may take hours.
            if resolved.dataset.splits.valid.is_empty() {
                return Err(no_valid());
            }
            let (columns, _) = context.stage("engine", || engine::columns(resolved, context))?;
            let (outcome, _) = context.stage("activations", || fill::fill(resolved, &columns, None, context))?;
            let bad = skipped::rows(&outcome.skipped, resolved)?;
            self.skipped.entry(key).or_default().extend(bad);
        }
        Ok(())
    }

    /// What the plans of a group are trained on; [`Cuts::fill`] has filled it.
    pub fn training(&mut self, plan: &ResolvedPlan, context: &Context<'_>) -> Result<Training> {
        let skipped = self.skipped.get(&source(&plan.plan)).cloned().unwrap_or_default();
        let resolved = self.resolve(&plan.plan, context)?;
        let (columns, _) = engine::columns(resolved, context)?;
        Training::new(resolved, &columns, &skipped, None)
    }
}
