//! What trials share below the cut: data that is read once, and a cache that is filled in one pass.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Digest, Error, KeyWriter, Result};
use crate::data::{Dataset, Splits};
use crate::graph::onnx::OutputSpec;
use crate::plan::{Manifest, Plan, ResolvedPlan};
use crate::recipe::StoreMode;
use crate::run::context::Context;
use crate::run::pack::Opened;
use crate::run::resolve::{Resolved, resolve};
use crate::run::training::{Training, TrialRows};
use crate::run::{engine, fill, skipped, whole};

/// The data sets and backbones of a sweep, or the pack that stands for them.
#[derive(Default)]
pub struct Cuts<'a> {
    pack: Option<&'a Opened>,
    /// By [`source`].
    resolved: BTreeMap<Digest, Resolved>,
    /// Rows that were left out, by [`source`].
    skipped: BTreeMap<Digest, Vec<usize>>,
    /// Outputs that were filled, by [`source`].
    filled: BTreeMap<Digest, Vec<String>>,
    /// What all rows and their targets are, by [`source`].
    rows: BTreeMap<Digest, Digest>,
    /// The rows of trials, by [`source`] and share.
    trial_rows: BTreeMap<Digest, TrialRows>,
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

/// There is nothing to choose by.
pub fn no_valid() -> Error {
    Error::bad_input("a sweep chooses by validation rows, and there are none")
        .hint("give `data.valid`, such as `{fraction: 0.2}`, or `sweep.kfold`")
}

/// What decides the rows of a trial.
fn rows_of(plan: &Plan) -> Digest {
    KeyWriter::new("sweep rows").json("source", &source(plan)).json("fraction", &plan.train.fraction).finish()
}

impl<'a> Cuts<'a> {
    /// Those of a pack.
    pub fn of_pack(pack: &'a Opened) -> Self {
        Self { pack: Some(pack), ..Self::default() }
    }

    /// The plan with its digests.
    pub fn plan(&mut self, plan: &Plan, context: &Context<'_>) -> Result<ResolvedPlan> {
        match self.pack {
            Some(pack) => pack.resolve(plan),
            None => Ok(self.resolve(plan, context)?.plan.clone()),
        }
    }

    /// The plan with its digests, and what it is of in a few words.
    pub fn describe(&mut self, plan: &Plan, context: &Context<'_>) -> Result<(ResolvedPlan, String)> {
        match self.pack {
            Some(pack) => {
                Ok((pack.resolve(plan)?, format!("{} rows of the pack of `{}`", pack.rows, pack.manifest.name)))
            }
            None => {
                let resolved = self.resolve(plan, context)?;
                Ok((resolved.plan.clone(), resolved.summary()))
            }
        }
    }

    /// Trials of one group read the same features, each its rows of them. What is stored must be filled.
    pub fn group(&mut self, plan: &ResolvedPlan, context: &Context<'_>) -> Result<Digest> {
        let of_towers = plan.towers.iter().map(|tower| tower.calibration).collect::<Vec<_>>();
        let key = KeyWriter::new("sweep group")
            .json("pass", &pass(&plan.plan))
            .json("outputs", &plan.plan.model.backbone.outputs)
            .json("calibration", &(plan.calibration, of_towers));
        if self.pack.is_some() {
            return Ok(key.finish());
        }
        let own = source(&plan.plan);
        let rows = match self.rows.get(&own) {
            Some(rows) => *rows,
            None => {
                let rows = all_rows(self.resolve(&plan.plan, context)?);
                *self.rows.entry(own).or_insert(rows)
            }
        };
        let key = key.json("rows", &rows).json("skipped", &self.skipped.get(&own));
        let views = plan.plan.augment().map(|(augment, views)| (augment.ops, augment.seed, views));
        Ok(key.json("views", &views).finish())
    }

    /// The plan resolved, with data that is read once.
    fn resolve(&mut self, plan: &Plan, context: &Context<'_>) -> Result<&Resolved> {
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
        if self.pack.is_some() {
            return Ok(());
        }
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
            if self.filled.get(&key).is_some_and(|filled| names.iter().all(|name| filled.contains(name))) {
                continue;
            }
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
            self.filled.entry(key).or_default().extend(names);
            self.skipped.entry(key).or_default().extend(bad);
        }
        Ok(())
    }

    /// Why each of some plans has no engine of its own, such as outputs that the model does not have; none of a plan that
    /// has.
    ///
    /// # Errors
    /// An interruption.
    pub fn unfit(&mut self, plans: &[&ResolvedPlan], context: &Context<'_>) -> Result<Vec<Option<Error>>> {
        let one = |plan: &&ResolvedPlan| {
            let columns = self.resolve(&plan.plan, context).and_then(|resolved| engine::columns(resolved, context));
            match columns {
                Ok(_) => Ok(None),
                Err(Error::Interrupted) => Err(Error::Interrupted),
                Err(error) => Ok(Some(error)),
            }
        };
        plans.iter().map(one).collect()
    }

    /// What the plans of a group are trained on; [`Cuts::fill`] has filled it.
    pub fn training(&mut self, group: &[&ResolvedPlan], context: &Context<'_>) -> Result<Training> {
        let plan = group[0];
        if let Some(pack) = self.pack {
            return pack.training(plan, context);
        }
        let mut seen = BTreeSet::new();
        if plan.plan.augment().is_some() {
            for plan in group {
                // Whose rows cannot be told is told when they are asked for.
                if let Ok(rows) = self.samples_of(plan, context) {
                    seen.extend(rows.train);
                }
            }
        }
        let seen: Vec<u32> = seen.into_iter().collect();
        let skipped = self.skipped.get(&source(&plan.plan)).cloned().unwrap_or_default();
        let resolved = self.resolve(&plan.plan, context)?;
        let (columns, _) = engine::columns(resolved, context)?;
        Training::of_trials(resolved, &columns, &skipped, &seen)
    }

    /// The rows of a plan of a group.
    pub fn trial_rows(&mut self, plan: &ResolvedPlan, training: &Training, context: &Context<'_>) -> Result<TrialRows> {
        let key = rows_of(&plan.plan);
        if let Some(rows) = self.trial_rows.get(&key) {
            return Ok(rows.clone());
        }
        let rows = match self.pack {
            Some(pack) => training.parts_of(pack.trial_rows(&plan.plan)?)?,
            None => training.parts_of(self.samples_of(plan, context)?)?,
        };
        Ok(self.trial_rows.entry(key).or_insert(rows).clone())
    }

    /// The samples of a plan that is of no pack.
    fn samples_of(&mut self, plan: &ResolvedPlan, context: &Context<'_>) -> Result<TrialRows> {
        let skipped = self.skipped.get(&source(&plan.plan)).cloned().unwrap_or_default();
        TrialRows::of(self.resolve(&plan.plan, context)?, &skipped)
    }
}

/// All rows with their targets, whichever are trained on.
fn all_rows(resolved: &Resolved) -> Digest {
    let Resolved { dataset, digests, others, .. } = resolved;
    let samples: Vec<Vec<Digest>> =
        std::iter::once(digests).chain(others.iter().map(|tower| &tower.digests)).cloned().collect();
    let splits = Splits { train: (0..digests.len() as u32).collect(), ..Splits::default() };
    let (fields, targets, weights) = (dataset.fields.clone(), dataset.targets.clone(), dataset.weights.clone());
    let (rows, left_out) = (Vec::new(), Vec::new());
    Manifest::digest(&Dataset { fields, rows, targets, weights, splits, left_out }, &samples)
}
