//! The first stage: fetches what the plan names, reads the data, and takes every digest that the run
//! depends on.

use std::collections::BTreeMap;
use std::thread::available_parallelism;

use super::calibration;
use super::context::Context;
use super::engine::Source;
use super::{tail, whole};
use crate::base::{Digest, Error, KeyWriter, Result};
use crate::data::{self, Dataset, LoadContext, OnError, Row};
use crate::graph::import::Tail;
use crate::plan::{Manifest, Plan, ResolvedPlan};
use crate::recipe::Precision;
use crate::resource::DigestTable;
use crate::sample::pipeline::{self, Item};

/// What the plan's names turned out to be.
pub struct Resolved {
    /// The plan with its digests.
    pub plan: ResolvedPlan,
    /// The rows.
    pub dataset: Dataset,
    /// The digest of each row's sample.
    pub digests: Vec<Digest>,
    /// What the engine is made of.
    pub source: Source,
    /// What of the backbone is trained.
    pub tail: Option<Tail>,
    /// The field that is this tower's, where each has its own; the rows have that one alone then.
    pub field: Option<String>,
    /// The towers behind the first.
    pub others: Vec<Self>,
}

/// Resolves a plan.
///
/// # Errors
/// Something cannot be fetched or read, or is not what its digest says.
pub fn resolve(plan: &Plan, context: &Context<'_>) -> Result<Resolved> {
    resolve_field(plan, None, context)
}

/// Resolves the plan of one tower, which takes one field of the rows; without a field as [`resolve`].
///
/// # Errors
/// Those of [`resolve`].
pub fn resolve_field(plan: &Plan, field: Option<&str>, context: &Context<'_>) -> Result<Resolved> {
    let fetcher = context.fetcher();
    let load = LoadContext { fetcher: &fetcher, home: context.home, seed: plan.seeds.data };
    if plan.model.towers.is_empty() {
        // What cannot be had or trained is told before the data are read.
        let source = Source::fetch(plan, context)?;
        let plan = &whole::settled(plan, &source)?;
        let tail = tail::find(plan, &source)?;
        let dataset = data::load(&plan.data, &load)?;
        let dataset = match field {
            Some(field) => only(&dataset, field)?,
            None => dataset,
        };
        return one(plan, (source, tail), dataset, context);
    }
    let sources = plan.model.towers.values().map(|backbone| Source::fetch(&plan.tower(backbone), context));
    let sources = sources.collect::<Result<Vec<_>>>()?;
    let dataset = data::load(&plan.data, &load)?;
    let mut towers = Vec::new();
    for ((field, backbone), source) in plan.model.towers.iter().zip(sources) {
        let mut tower = one(&plan.tower(backbone), (source, None), only(&dataset, field)?, context)?;
        tower.field = Some(field.clone());
        towers.push(tower);
    }
    let digests: Vec<Vec<Digest>> = towers.iter().map(|tower| tower.digests.clone()).collect();
    let mut first = towers.remove(0);
    first.plan.plan = plan.clone();
    first.plan.dataset = Manifest::digest(&Dataset { rows: Vec::new(), ..dataset }, &digests);
    first.plan.towers = towers.iter().map(|tower| tower.plan.clone()).collect();
    first.others = towers;
    Ok(first)
}

/// A data set with one of its fields alone.
fn only(dataset: &Dataset, field: &str) -> Result<Dataset> {
    let place = dataset.fields.iter().position(|known| known.name == field);
    let place = place.ok_or_else(|| Error::bad_input(format!("the data have no field `{field}`")))?;
    let row = |row: &Row| Row { samples: row.samples[place].clone().into(), origin: row.origin.clone() };
    let rows = dataset.rows.iter().map(row).collect();
    let fields = vec![dataset.fields[place].clone()];
    let Dataset { targets, splits, left_out, weights, .. } = dataset.clone();
    Ok(Dataset { fields, rows, targets, splits, left_out, weights })
}

fn one(
    plan: &Plan,
    (source, tail): (Source, Option<Tail>),
    dataset: Dataset,
    context: &Context<'_>,
) -> Result<Resolved> {
    context.cancel.check()?;
    let table = DigestTable::open(context.home)?;
    let digests = sample_digests(&dataset, plan.data.common.on_error, &table, context)?;
    table.save()?;
    let plan = ResolvedPlan {
        plan: plan.clone(),
        weights: source.model.digest,
        tokenizer: source.tokenizer,
        dataset: Manifest::digest(&dataset, std::slice::from_ref(&digests)),
        target: dataset.targets.kind(),
        classes: dataset.targets.names().to_vec(),
        frontier: tail.as_ref().map(|tail| tail.frontier().to_vec()),
        towers: Vec::new(),
        calibration: calibration::digest(plan, &dataset, &digests),
        numeric_class: source.engine.numeric_class(),
        runtime: source.engine.runtime(),
    };
    Ok(Resolved { plan, dataset, digests, source, tail, field: None, others: Vec::new() })
}

/// The digest of every row's sample.
///
/// # Errors
/// A sample cannot be read, unless those are skipped; [`Error::Interrupted`].
pub fn sample_digests(
    dataset: &Dataset,
    on_error: OnError,
    table: &DigestTable,
    context: &Context<'_>,
) -> Result<Vec<Digest>> {
    let items: Vec<Item<'_>> = dataset
        .rows
        .iter()
        .enumerate()
        .map(|(index, row)| Item { index, samples: &row.samples, origin: (&row.origin).into() })
        .collect();
    let threads = available_parallelism().map_or(1, usize::from);
    let digests = pipeline::digests(&items, threads, context.cancel, &|path| table.digest(path))?;
    let skip = on_error == OnError::Skip;
    let digest = |(digest, row): (Result<Digest>, &Row)| match digest {
        // A digest that no bytes have: the pass finds the row bad once more, and records it.
        Err(_) if skip => Ok(KeyWriter::new("unreadable").field("row", row.origin.to_string()).finish()),
        digest => digest,
    };
    digests.into_iter().zip(&dataset.rows).map(digest).collect()
}

impl Resolved {
    /// The same with the engine in fp32 on the processor, for comparison.
    ///
    /// # Errors
    /// There is no such provider.
    pub fn in_fp32(&self) -> Result<Self> {
        let source = self.source.in_fp32()?;
        let mut plan = self.plan.clone();
        plan.plan.engine.precision = Precision::Fp32;
        plan.plan.engine.calibration = None;
        plan.calibration = None;
        plan.numeric_class = source.engine.numeric_class();
        plan.runtime = source.engine.runtime();
        let others = self.others.iter().map(Self::in_fp32).collect::<Result<Vec<_>>>()?;
        plan.towers = others.iter().map(|tower| tower.plan.clone()).collect();
        let Self { dataset, digests, tail, field, .. } = self;
        let (dataset, digests, tail, field) = (dataset.clone(), digests.clone(), tail.clone(), field.clone());
        Ok(Self { plan, dataset, digests, source, tail, field, others })
    }

    /// Rows of each split that has some.
    pub fn rows_of_splits(&self) -> BTreeMap<String, usize> {
        let splits = &self.dataset.splits;
        let all = [("train", &splits.train), ("valid", &splits.valid), ("test", &splits.test)];
        all.iter().filter(|(_, rows)| !rows.is_empty()).map(|(name, rows)| (name.to_string(), rows.len())).collect()
    }

    /// `2,624 rows (1,968 train, 656 test), 2 classes`.
    pub fn summary(&self) -> String {
        let splits = &self.dataset.splits;
        let parts: Vec<String> = [("train", &splits.train), ("valid", &splits.valid), ("test", &splits.test)]
            .iter()
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(name, rows)| format!("{} {name}", rows.len()))
            .collect();
        let others = self.others.iter().map(|tower| tower.plan.plan.model.backbone.name.as_str());
        let backbones = std::iter::once(self.plan.plan.model.backbone.name.as_str()).chain(others);
        let backbone = backbones.collect::<Vec<_>>().join(" + ");
        let targets = self.dataset.targets.summary();
        let left_out = match self.dataset.left_out.len() {
            0 => String::new(),
            count => format!(", {count} bad rows of tables left out"),
        };
        format!("{backbone}, {} rows ({}), {targets}{left_out}", self.dataset.rows.len(), parts.join(", "))
    }
}
