//! Training on the activations of a pack: what stands above the cut, as often and as otherwise as anyone likes.

use std::path::Path;

use super::manifest::{PackedColumn, PackedTargets, Rows, mask_name};
use super::open::Opened;
use crate::base::{Digest, Error, KeyWriter, Result, file};
use crate::cache::Store;
use crate::data::{Mask, SetConfig, Splits, Targets};
use crate::graph::Weights;
use crate::plan::{PLAN, Plan, ResolvedPlan};
use crate::run::contents::Contents;
use crate::run::context::Context;
use crate::run::directory::{self, RunDirectory};
use crate::run::lock::Lock;
use crate::run::record::{RunRecord, Status};
use crate::run::rows::StoredRows;
use crate::run::training::{BEST, CHECKPOINT, Training, TrialRows};
use crate::run::{Finished, confusion, main_metric, report};

/// Runs a plan on the activations of a pack, or finds that it is finished. `recipe` is the merged recipe as YAML. The
/// run's id is the one that it has where backbone and data are.
///
/// # Errors
/// The plan asks for other activations than those that are packed; those of training.
pub fn train(opened: &Opened, plan: &Plan, recipe: &str, context: &Context<'_>, fresh: bool) -> Result<Finished> {
    let resolved = opened.resolve(plan)?;
    let id = resolved.id();
    if let Some(record) = directory::finished(&context.runs, &plan.name, &id).filter(|_| !fresh) {
        // The packed run itself comes without its page, which may be large.
        if !Path::new(&record.path).join(report::REPORT).exists() {
            page(opened, &resolved, &record, context)?;
        }
        return Ok(Finished { record, was_there: true });
    }
    let directory = RunDirectory::take(&context.runs, &plan.name, &id, fresh)?;
    let mut record = RunRecord::begin(&plan.name, id, directory.path());
    record.write(directory.path())?;
    let outcome = stages(opened, &resolved, recipe, context, (&directory, &mut record));
    if let Err(error) = &outcome {
        record.status = if matches!(error, Error::Interrupted) { Status::Interrupted } else { Status::Failed };
        record.error = (record.status == Status::Failed).then(|| error.to_string());
        // The error at hand matters more than one about the record.
        let _ = record.write(directory.path());
    }
    outcome.map(|()| Finished { record, was_there: false })
}

fn stages(
    opened: &Opened,
    resolved: &ResolvedPlan,
    recipe: &str,
    context: &Context<'_>,
    (directory, record): (&RunDirectory, &mut RunRecord),
) -> Result<()> {
    let json =
        serde_json::to_string_pretty(resolved).map_err(|e| Error::failed("a plan does not serialise").because(e))?;
    file::write_bytes(&directory.file("recipe.yaml"), recipe.as_bytes())?;
    file::write_bytes(&directory.file(PLAN), json.as_bytes())?;
    let rows = opened.packed_rows()?;
    let (training, took) = context.stage("activations", || {
        let training = training(opened, resolved, &rows, context)?;
        Ok((training, format!("{} rows of the pack", rows.digests[0].len())))
    })?;
    record.stages.insert("activations".into(), took);
    record.activations.reused = rows.digests[0].len() as u64;
    let (weights, took) = context.stage("train", || training.train(context, directory))?;
    record.stages.insert("train".into(), took);
    let (metrics, took) = context.stage("evaluate", || training.evaluate(&weights))?;
    record.metrics = metrics;
    record.main_metric = main_metric(&resolved.plan, &record.metrics);
    record.stages.insert("evaluate".into(), took);
    let Splits { train, valid, test } = splits(opened, &resolved.plan, &rows)?;
    let splits = [("train", train), ("valid", valid), ("test", test)];
    let of_splits = splits.iter().filter(|(_, rows)| !rows.is_empty());
    let counts = of_splits.map(|(name, rows)| (name.to_string(), rows.len())).collect();
    let lock = Lock {
        columns: opened.columns(false).map(|column| (column.input.clone(), column.key)).collect(),
        metrics: record.metrics.clone(),
        checkpoint: Some(Digest::of_file(&directory.file(CHECKPOINT).join(BEST))?),
        ..Lock::of(resolved, (opened.contents(resolved)?, counts), serde_yaml::from_str(recipe).unwrap_or_default())
    };
    lock.write(directory.path())?;
    confusion::write(&training, &weights, &resolved.classes, directory)?;
    report::write_of_pack(record, resolved, (&training, &weights))?;
    record.status = Status::Finished;
    record.write(directory.path())
}

/// Writes the page of a run that is finished.
fn page(opened: &Opened, resolved: &ResolvedPlan, record: &RunRecord, context: &Context<'_>) -> Result<()> {
    if opened.manifest.columns.is_empty() {
        return report::write_from_files(record).map(drop);
    }
    let training = opened.training(resolved, context)?;
    let (weights, _) = Weights::load(&Path::new(&record.path).join(CHECKPOINT).join(BEST))?;
    report::write_of_pack(record, resolved, (&training, &weights)).map(drop)
}

impl Opened {
    /// The plan with the digests of the packed run.
    ///
    /// # Errors
    /// It takes other activations than those that are packed.
    pub fn resolve(&self, plan: &Plan) -> Result<ResolvedPlan> {
        let mut resolved = self.plan()?;
        let packed = &resolved.plan;
        let mut data = plan.data.clone();
        if let Some(part) = other_part(packed, plan) {
            // Not the name that it has where the data are, whose rows may be more.
            let key = KeyWriter::new("part of a pack").json("dataset", &resolved.dataset).json("valid", part);
            resolved.dataset = key.finish();
            data.common.valid = packed.data.common.valid.clone();
        }
        let same = [
            (
                "model.backbone",
                packed.model.backbone == plan.model.backbone && packed.model.towers == plan.model.towers,
            ),
            ("engine", packed.engine == plan.engine),
            ("cache", packed.cache == plan.cache),
            ("data", packed.data == data && packed.seeds.data == plan.seeds.data),
        ];
        if let Some((key, _)) = same.iter().find(|(_, same)| !same) {
            return Err(Error::bad_input(format!(
                "`{key}` is not as in the packed run, whose activations are all there is"
            ))
            .hint(
                "change what stands above the cut: `model.neck`, `model.head`, `train`, `metrics`, or the share or fold of \
                 `data.valid`",
            ));
        }
        for tower in &mut resolved.towers {
            tower.plan = plan.tower(&tower.plan.model.backbone);
        }
        resolved.plan = plan.clone();
        Ok(resolved)
    }

    /// What the packed run's data are made of, as its lock says, where a plan takes all of them alike.
    fn contents(&self, resolved: &ResolvedPlan) -> Result<Option<Contents>> {
        let lock = self.lock()?;
        Ok(lock.contents.filter(|_| lock.dataset == resolved.dataset))
    }

    /// The columns of plain rows, or those of views.
    fn columns(&self, views: bool) -> impl Iterator<Item = &PackedColumn> {
        self.manifest.columns.iter().filter(move |column| column.views == views)
    }

    /// What a plan of this pack is trained on.
    ///
    /// # Errors
    /// The pack has no activations; the neck or the head does not fit them.
    pub fn training(&self, resolved: &ResolvedPlan, context: &Context<'_>) -> Result<Training> {
        training(self, resolved, &self.packed_rows()?, context)
    }

    /// The rows of a plan of this pack.
    ///
    /// # Errors
    /// The pack has no activations; no training rows are left.
    pub fn trial_rows(&self, plan: &Plan) -> Result<TrialRows> {
        TrialRows::among(plan, &splits(self, plan, &self.packed_rows()?)?)
    }
}

/// What a plan validates on, if it is another part of the training rows than in the packed run.
fn other_part<'a>(packed: &Plan, plan: &'a Plan) -> Option<&'a SetConfig> {
    let valid = plan.data.common.valid.as_ref()?;
    let is_part = matches!(valid, SetConfig::Fraction(_) | SetConfig::Fold(_));
    (is_part && packed.data.common.valid.as_ref() != Some(valid)).then_some(valid)
}

/// The packed rows of each set, of which a plan may validate on another part.
fn splits(opened: &Opened, plan: &Plan, rows: &Rows) -> Result<Splits> {
    let mut splits = Splits { train: rows.train.clone(), valid: rows.valid.clone(), test: rows.test.clone() };
    let packed = opened.plan()?;
    if let Some(part) = other_part(&packed.plan, plan) {
        // A place of their own is no part of the training rows.
        if !matches!(packed.plan.data.common.valid, None | Some(SetConfig::Path(_))) {
            splits.train.append(&mut splits.valid);
            splits.train.sort_unstable();
        }
        let all = (splits.train.len(), plan.seeds.data, "valid");
        let targets = targets(opened, rows, &packed)?;
        splits.valid = part.take(&mut splits.train, &targets, all).unwrap_or_default();
    }
    Ok(splits)
}

fn targets(opened: &Opened, rows: &Rows, plan: &ResolvedPlan) -> Result<Targets> {
    let names = plan.classes.clone();
    Ok(match rows.targets.clone() {
        PackedTargets::Classes(of_row) => Targets::Classes { names, of_row },
        PackedTargets::MultiLabel(of_row) => Targets::MultiLabel { names, of_row },
        PackedTargets::Values(of_row) => Targets::Values { names, of_row },
        PackedTargets::Pairs(of_row) => Targets::Pairs { names, of_row },
        PackedTargets::Masks(masks) => {
            let meaning = plan.plan.data.masks();
            let meaning = meaning.ok_or_else(|| Error::bad_input("the data of the packed run have no masks"))?;
            let path = |digest: &Digest| opened.folder.join(mask_name(digest));
            let of_row = masks.into_iter().map(|digest| Mask { path: path(&digest), digest }).collect();
            Targets::Masks { names, meaning, of_row }
        }
    })
}

/// The packed rows, as if they had just been computed.
fn training(opened: &Opened, resolved: &ResolvedPlan, rows: &Rows, context: &Context<'_>) -> Result<Training> {
    let store = Store::open(&opened.home())?;
    let column = |packed: &PackedColumn| store.column(&packed.spec(&opened.manifest.name), context.progress);
    let plain = || {
        let reader =
            |packed: &PackedColumn| Ok((packed.input.clone(), column(packed)?.reader(&rows.digests[packed.sample])?));
        Ok(StoredRows::of(opened.columns(false).map(reader).collect::<Result<_>>()?))
    };
    let targets = targets(opened, rows, resolved)?;
    let splits = splits(opened, &resolved.plan, rows)?;
    let mut stored = plain()?;
    if let Some((augment, views)) = resolved.plan.augment() {
        if other_part(&opened.plan()?.plan, &resolved.plan).is_some() {
            return Err(Error::bad_input("a pack has views of its run's own training rows alone")
                .hint("leave `data.valid` as it is in the pack"));
        }
        let columns = opened.columns(true).map(column).collect::<Result<Vec<_>>>()?;
        if columns.len() != stored.specs().len() {
            return Err(Error::bad_input("the pack does not have views of every input"));
        }
        let digest_of = |row: usize| rows.digests[0][row];
        stored = stored.with_views(&columns, (&splits.train, views, augment.seed), &digest_of)?;
    }
    let tail = opened.tail(&resolved.plan)?;
    let labels = (&targets, rows.weights.as_deref());
    Training::alone(resolved, (&rows.digests[0], tail), labels, (stored, &plain), splits)
}
