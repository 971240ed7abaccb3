//! Training on the activations of a pack: what stands above the cut, as often and as otherwise as anyone likes.

use super::{Opened, PackedTargets, Rows};
use crate::base::{Digest, Error, Result, file};
use crate::cache::Store;
use crate::data::{Splits, Targets};
use crate::plan::{PLAN, Plan, ResolvedPlan};
use crate::run::context::Context;
use crate::run::directory::{self, RunDirectory};
use crate::run::lock::Lock;
use crate::run::record::{RunRecord, Status};
use crate::run::rows::StoredRows;
use crate::run::training::{BEST, CHECKPOINT, Training};
use crate::run::{Finished, main_metric, report};

/// Runs a plan on the activations of a pack, or finds that it is finished. `recipe` is the merged recipe as YAML. The
/// run's id is the one that it has where backbone and data are.
///
/// # Errors
/// The plan asks for other activations than those that are packed; those of training.
pub fn train(opened: &Opened, plan: &Plan, recipe: &str, context: &Context<'_>, fresh: bool) -> Result<Finished> {
    let resolved = resolve(opened, plan)?;
    let id = resolved.id();
    if let Some(record) = directory::finished(&context.runs, &plan.name, &id).filter(|_| !fresh) {
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

/// The plan with the digests of the packed run, if it takes the same activations.
fn resolve(opened: &Opened, plan: &Plan) -> Result<ResolvedPlan> {
    let mut resolved = opened.plan()?;
    let packed = &resolved.plan;
    let same = [
        ("model.backbone", packed.model.backbone == plan.model.backbone && packed.model.towers == plan.model.towers),
        ("engine", packed.engine == plan.engine),
        ("cache", packed.cache == plan.cache),
        ("data", packed.data == plan.data && packed.seeds.data == plan.seeds.data),
    ];
    if let Some((key, _)) = same.iter().find(|(_, same)| !same) {
        return Err(Error::bad_input(format!(
            "`{key}` is not as in the packed run, whose activations are all there is"
        ))
        .hint("change what stands above the cut: `model.neck`, `model.head`, `train`, `metrics`, `train.seed`"));
    }
    for tower in &mut resolved.towers {
        tower.plan = plan.tower(&tower.plan.model.backbone);
    }
    resolved.plan = plan.clone();
    Ok(resolved)
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
    let splits = [("train", &rows.train), ("valid", &rows.valid), ("test", &rows.test)];
    let of_splits = splits.iter().filter(|(_, rows)| !rows.is_empty());
    let counts = of_splits.map(|(name, rows)| (name.to_string(), rows.len())).collect();
    let lock = Lock {
        columns: opened.manifest.columns.iter().map(|column| (column.input.clone(), column.key)).collect(),
        metrics: record.metrics.clone(),
        checkpoint: Some(Digest::of_file(&directory.file(CHECKPOINT).join(BEST))?),
        ..Lock::of(resolved, counts, serde_yaml::from_str(recipe).unwrap_or_default())
    };
    lock.write(directory.path())?;
    report::write_from_files(record)?;
    record.status = Status::Finished;
    record.write(directory.path())
}

/// The packed rows, as if they had just been computed.
fn training(opened: &Opened, resolved: &ResolvedPlan, rows: &Rows, context: &Context<'_>) -> Result<Training> {
    let store = Store::open(&opened.home())?;
    let mut inputs = Vec::new();
    for packed in &opened.manifest.columns {
        let column = store.column(&packed.spec(&opened.manifest.name), context.progress)?;
        inputs.push((packed.input.clone(), column.reader(&rows.digests[packed.sample])?));
    }
    let names = resolved.classes.clone();
    let targets = match rows.targets.clone() {
        PackedTargets::Classes(of_row) => Targets::Classes { names, of_row },
        PackedTargets::MultiLabel(of_row) => Targets::MultiLabel { names, of_row },
        PackedTargets::Values(of_row) => Targets::Values { names, of_row },
        PackedTargets::Pairs(of_row) => Targets::Pairs { names, of_row },
    };
    let splits = Splits { train: rows.train.clone(), valid: rows.valid.clone(), test: rows.test.clone() };
    Training::alone(resolved, StoredRows::of(inputs), (&targets, rows.weights.clone()), splits)
}
