//! Gathers what a report shows of a run: its files, and predictions made anew from the stored activations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rayon::prelude::*;

use super::context::Context;
use super::engine::{self, Columns};
use super::record::RunRecord;
use super::resolve::{Resolved, resolve};
use super::targets::Kept;
use super::training::{BEST, CHECKPOINT, Training};
use crate::base::{Result, file};
use crate::graph::{Task, Weights};
use crate::metric::argmax;
use crate::plan::ResolvedPlan;
use crate::report::evaluation::Evaluation;
use crate::report::examples::{Picker, Predicted};
use crate::report::projection::{Method, Point, Projection, project};
use crate::report::{Cost, Curve, Engine, Parity, Report, Run};
use crate::sample::image::thumbnail;
use crate::track::mlflow::{self, MlflowRun};
use crate::track::{self, ResultEvents, write_embeddings};
use crate::train::Features;

/// How much a report shows.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// How features are projected.
    pub method: Method,
    /// Rows that are projected at most.
    pub points: usize,
    /// Rows in each gallery at most.
    pub examples: usize,
}

impl Default for Extent {
    fn default() -> Self {
        Self { method: Method::default(), points: 300, examples: 24 }
    }
}

/// The page's file name in a run directory.
pub const REPORT: &str = "report.html";
/// Probabilities of a split that are looked at, at most: of more rows evenly taken ones.
const PROBABILITIES: usize = 10_000_000;
/// Rows whose features are written for TensorBoard's projector at most.
const EMBEDDED: usize = 1000;
/// The longer side of a thumbnail in pixels.
const SIDE: u32 = 96;
/// Digits of an id on the page.
const ID_DIGITS: usize = 16;
/// A row of features of more numbers than this is averaged over its places before it is projected.
const WIDE: usize = 8192;

/// What a report shows of a run. What cannot be had any more (moved data, a deleted cache) is left out with a note.
///
/// # Errors
/// The files of the run directory are damaged; an interruption.
pub fn gather(record: &RunRecord, extent: &Extent, context: &Context<'_>) -> Result<Run> {
    let mut run = from_files(record)?;
    match from_rows(record, &mut run, extent, context) {
        Err(error) if context.cancel.check().is_ok() => {
            run.notes.push(format!("Predictions and features could not be looked at again: {error}."));
        }
        other => other?,
    }
    Ok(run)
}

/// Writes the page of a run that has just been evaluated into its directory.
///
/// # Errors
/// Those of the cache and of the file system.
pub(super) fn write(
    record: &RunRecord,
    (resolved, columns): (&Resolved, &Columns),
    (training, weights): (&Training, &Weights),
) -> Result<PathBuf> {
    let mut run = from_files(record)?;
    run.engine = engine_facts(record, resolved, columns);
    if let Some(rows) = Rows::of_classifier(resolved, training, weights, &mut run)? {
        rows.show(&mut run, &Extent::default())?;
        rows.track(&run, Path::new(&record.path), weights)?;
    }
    let path = Path::new(&record.path).join(REPORT);
    file::write_bytes(&path, page(vec![run])?.as_bytes())?;
    Ok(path)
}

/// The page of some runs.
///
/// # Errors
/// The data do not serialise.
pub fn page(runs: Vec<Run>) -> Result<String> {
    let title = match &runs[..] {
        [run] => run.name.clone(),
        runs => format!("{} runs", runs.len()),
    };
    let made_secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    Report { title, made_secs, caft: env!("CARGO_PKG_VERSION").into(), runs }.to_html()
}

/// What the files of the run directory say.
fn from_files(record: &RunRecord) -> Result<Run> {
    let directory = Path::new(&record.path);
    let recipe = file::read_text(&directory.join("recipe.yaml"), 64 << 20).unwrap_or_default();
    let settings = settings(&recipe);
    let mut curves: BTreeMap<String, Vec<(u64, Option<f64>)>> = BTreeMap::new();
    for line in track::read(directory)? {
        for (name, value) in line.values {
            curves.entry(name).or_default().push((line.step, value.as_f64()));
        }
    }
    let stages = record.stages.clone();
    Ok(Run {
        name: record.name.clone(),
        id: record.id.short(ID_DIGITS),
        error: record.error.clone(),
        main_metric: record.main_metric.clone(),
        metrics: record.metrics.clone(),
        curves: curves.into_iter().map(|(name, points)| Curve { name, points }).collect(),
        cost: Cost { computed: record.activations.computed, reused: record.activations.reused, stages, bytes: None },
        recipe,
        settings,
        ..Run::default()
    })
}

/// Sends a finished run to the experiment of its name on an MLflow server, and gives the run's address there.
///
/// # Errors
/// Those of [`mlflow::send`]; damaged files of the run directory.
pub fn to_mlflow(record: &RunRecord, server: &str) -> Result<String> {
    let run = from_files(record)?;
    let last = run.curves.iter().flat_map(|curve| curve.points.last()).map(|(step, _)| *step).max().unwrap_or(0);
    let curves = run
        .curves
        .iter()
        .flat_map(|curve| curve.points.iter().filter_map(|(step, value)| Some((curve.name.clone(), *step, (*value)?))));
    let results = run.metrics.iter().map(|(name, value)| (format!("final/{name}"), last, *value));
    let metrics = curves.chain(results).filter(|(_, _, value)| value.is_finite()).collect();
    let run = MlflowRun {
        name: format!("{} {}", run.name, record.id.short(8)),
        id: record.id.to_string(),
        started_secs: record.started_secs,
        seconds: record.stages.values().sum(),
        parameters: run.settings.into_iter().collect(),
        metrics,
    };
    mlflow::send(server, &record.name, &run)
}

/// Every value of a recipe's YAML by the path of its key, such as `train.optimizer.lr`.
pub(super) fn settings(recipe: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    if let Ok(value) = serde_yaml::from_str::<serde_json::Value>(recipe) {
        flatten("", &value, &mut settings);
    }
    settings
}

fn flatten(path: &str, value: &serde_json::Value, settings: &mut BTreeMap<String, String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                flatten(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, value, settings);
            }
        }
        serde_json::Value::String(text) => drop(settings.insert(path.into(), text.clone())),
        other => drop(settings.insert(path.into(), other.to_string())),
    }
}

/// What the stored rows say under the run's weights.
fn from_rows(record: &RunRecord, run: &mut Run, extent: &Extent, context: &Context<'_>) -> Result<()> {
    let directory = Path::new(&record.path);
    let plan = ResolvedPlan::read(directory)?;
    let resolved = resolve(&plan.plan, context)?;
    if resolved.plan.id() != plan.id() {
        run.notes
            .push("The data, the backbone or the runtime changed since the run; what follows is of today's.".into());
    }
    let (columns, _) = engine::columns(&resolved, context)?;
    run.engine = engine_facts(record, &resolved, &columns);
    let (training, weights) = stored(directory, &resolved, &columns)?;
    match Rows::of_classifier(&resolved, &training, &weights, run)? {
        Some(rows) => rows.show(run, extent),
        None => Ok(()),
    }
}

/// What a finished run predicted, split by split, from its stored rows.
///
/// # Errors
/// They cannot be had any more: moved data, a deleted cache.
pub fn evaluations(record: &RunRecord, context: &Context<'_>) -> Result<Vec<Evaluation>> {
    let directory = Path::new(&record.path);
    let resolved = resolve(&ResolvedPlan::read(directory)?.plan, context)?;
    let (columns, _) = engine::columns(&resolved, context)?;
    let (training, weights) = stored(directory, &resolved, &columns)?;
    let rows = Rows::of_classifier(&resolved, &training, &weights, &mut Run::default())?;
    Ok(rows.map(|rows| rows.evaluations(&rows.predicted())).unwrap_or_default())
}

/// The rows of a run that are stored, and its weights.
fn stored(directory: &Path, resolved: &Resolved, columns: &Columns) -> Result<(Training, Weights)> {
    let stored = |row: &usize| columns.iter().all(|(_, column)| column.contains(&resolved.digests[*row]));
    let absent: Vec<usize> = (0..resolved.digests.len()).filter(|row| !stored(row)).collect();
    let training = Training::new(resolved, columns, &absent)?;
    let (weights, _) = Weights::load(&directory.join(CHECKPOINT).join(BEST))?;
    Ok((training, weights))
}

fn engine_facts(record: &RunRecord, resolved: &Resolved, columns: &Columns) -> Engine {
    let plan = &resolved.plan.plan;
    let outputs: Vec<&str> = resolved.plan.cut().iter().map(|output| output.name.as_str()).collect();
    let facts = [
        ("backbone", plan.model.backbone.name.clone()),
        ("outputs", outputs.join(", ")),
        ("precision", plan.engine.precision.name().to_string()),
        ("provider", resolved.source.engine.choice.info.name.to_string()),
        ("runtime", resolved.plan.runtime.clone()),
        ("stored as", plan.cache.dtype.name().to_string()),
        ("weights", resolved.plan.weights.to_string()),
    ];
    let checks = columns.manifest().checks.iter();
    let parity = checks.flat_map(|checks| &checks.parity).map(|parity| Parity {
        output: parity.output.clone(),
        cosine: parity.cosine,
        max_difference: parity.max_difference,
    });
    let mut facts: BTreeMap<String, String> = facts.map(|(name, value)| (name.to_string(), value)).into();
    facts.extend(record.precision_cost_in_words().map(|words| ("precision's cost".to_string(), words)));
    Engine { facts, parity: parity.collect() }
}

/// The rows of a run with its probabilities for them.
struct Rows<'a> {
    resolved: &'a Resolved,
    training: &'a Training,
    classes: &'a [u32],
    /// Split, position and probabilities' place of every row that is in a split.
    rows: Vec<(&'static str, u32)>,
    probabilities: Vec<f32>,
}

impl<'a> Rows<'a> {
    /// Of a classifier; of others a note says that there are none.
    fn of_classifier(
        resolved: &'a Resolved,
        training: &'a Training,
        weights: &Weights,
        run: &mut Run,
    ) -> Result<Option<Self>> {
        match &training.targets {
            Kept::Classes(classes) if training.task() == Task::Classes => {
                Self::new(resolved, (training, classes), weights).map(Some)
            }
            _ => {
                run.notes.push("Rows are shown one by one for classifiers only.".into());
                Ok(None)
            }
        }
    }

    fn new(resolved: &'a Resolved, (training, classes): (&'a Training, &'a [u32]), weights: &Weights) -> Result<Self> {
        let most = (PROBABILITIES / resolved.plan.classes.len().max(1)).max(1000);
        let splits = training.splits();
        let some = |rows: &[u32]| {
            (0..rows.len().min(most)).map(|i| rows[i * rows.len() / rows.len().min(most)]).collect::<Vec<u32>>()
        };
        let rows: Vec<(&str, u32)> =
            splits.iter().flat_map(|(split, rows)| some(rows).into_iter().map(|row| (*split, row))).collect();
        let positions: Vec<u32> = rows.iter().map(|(_, position)| *position).collect();
        let probabilities = training.probabilities(weights, &positions)?;
        Ok(Self { resolved, training, classes, rows, probabilities })
    }

    fn predicted(&self) -> Vec<Predicted<'_>> {
        let width = self.resolved.plan.classes.len().max(1);
        let each = self.rows.iter().zip(self.probabilities.chunks_exact(width));
        each.map(|((split, position), probabilities)| Predicted {
            row: self.training.kept[*position as usize],
            split,
            class: self.classes[*position as usize],
            probabilities,
        })
        .collect()
    }

    fn evaluations(&self, predicted: &[Predicted<'_>]) -> Vec<Evaluation> {
        let names = &self.resolved.plan.classes;
        let mut all = Vec::new();
        for split in ["test", "valid", "train"] {
            let of_split: Vec<&Predicted<'_>> = predicted.iter().filter(|row| row.split == split).collect();
            if !of_split.is_empty() {
                let probabilities: Vec<f32> = of_split.iter().flat_map(|row| row.probabilities).copied().collect();
                let truth: Vec<u32> = of_split.iter().map(|row| row.class).collect();
                all.push(Evaluation::new(split, names, &probabilities, &truth));
            }
        }
        all
    }

    fn show(&self, run: &mut Run, extent: &Extent) -> Result<()> {
        let names = &self.resolved.plan.classes;
        let predicted = self.predicted();
        run.classes.clone_from(names);
        for (split, rows) in self.training.splits() {
            let looked_at = predicted.iter().filter(|row| row.split == split).count();
            if looked_at < rows.len() {
                run.notes.push(format!("Of {} {split} rows {looked_at} are shown, evenly taken.", rows.len()));
            }
        }
        run.cost.bytes = Some(self.training.rows.bytes());
        run.evaluations = self.evaluations(&predicted);
        let origin = |row: usize| self.origin(row);
        let picker = Picker { rows: &predicted, names, origin: &origin, most: extent.examples };
        run.confident_errors = picker.confident_errors();
        // With two classes the surest errors are the worst rows.
        run.worst = if names.len() > 2 { picker.worst() } else { Vec::new() };
        run.label_issues = picker.label_issues();
        run.projection = self.projection(&predicted, extent)?;
        let shown = [&run.confident_errors, &run.worst, &run.label_issues];
        let points = run.projection.iter().flat_map(|projection| projection.points.iter().map(|point| point.row));
        let wanted: BTreeSet<usize> = shown.into_iter().flatten().map(|example| example.row).chain(points).collect();
        run.thumbnails = wanted
            .par_iter()
            .filter_map(|row| Some((*row, self.thumbnail(*row)?)))
            .collect::<Vec<_>>()
            .into_iter()
            .collect();
        Ok(())
    }

    /// None for a picture that cannot be read any more.
    fn thumbnail(&self, row: usize) -> Option<String> {
        let sample = self.resolved.dataset.rows[row].samples.first()?;
        let mut bytes = Vec::new();
        sample.read(&mut bytes).ok()?;
        let jpeg = thumbnail(&bytes, &sample.encoding, SIDE).ok()?;
        Some(format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg)))
    }

    /// Some rows with their features `[rows, width]`: held-out rows first, evenly taken. None if there are hardly any.
    fn sampled(&self, predicted: &[Predicted<'_>], most: usize) -> Result<Option<(Vec<usize>, Vec<f32>)>> {
        let mut order: Vec<usize> = (0..predicted.len()).collect();
        order.sort_by_key(|&at| predicted[at].split == "train");
        let held_out = predicted.iter().filter(|row| row.split != "train").count();
        let pool = if held_out >= most { held_out } else { order.len() };
        let count = most.min(pool);
        if count < 3 {
            return Ok(None);
        }
        let chosen: Vec<usize> = (0..count).map(|i| order[i * pool / count]).collect();
        let positions: Vec<usize> = chosen.iter().map(|&at| self.rows[at].1 as usize).collect();
        let features = features(&self.training.rows, &positions)?;
        Ok(Some((chosen, features)))
    }

    fn projection(&self, predicted: &[Predicted<'_>], extent: &Extent) -> Result<Option<Projection>> {
        let Some((chosen, features)) = self.sampled(predicted, extent.points)? else { return Ok(None) };
        let (coordinates, method, axes) = project(extent.method, &features, features.len() / chosen.len());
        let points = chosen.iter().zip(coordinates).map(|(&at, [x, y])| {
            let row = &predicted[at];
            let class = argmax(row.probabilities) as u32;
            Point {
                row: row.row,
                origin: self.origin(row.row),
                x,
                y,
                class: row.class,
                predicted: class,
                wrong: class != row.class,
            }
        });
        Ok(Some(Projection { method, axes, points: points.collect() }))
    }

    fn origin(&self, row: usize) -> String {
        self.resolved.dataset.rows[row].origin.clone()
    }

    /// What TensorBoard shows of the result, beside the curves.
    fn track(&self, run: &Run, directory: &Path, weights: &Weights) -> Result<()> {
        let step = run.curves.iter().flat_map(|curve| curve.points.last()).map(|(step, _)| *step).max().unwrap_or(0);
        let mut events = ResultEvents::create(directory, step)?;
        for (name, tensor) in &weights.0 {
            events.histogram(&format!("weights/{name}"), &tensor.values)?;
        }
        for evaluation in &run.evaluations {
            if let Some(counts) = &evaluation.confusion {
                events.matrix(&format!("{}/confusion", evaluation.split), counts)?;
            }
        }
        events.finish()?;
        let predicted = self.predicted();
        let Some((chosen, features)) = self.sampled(&predicted, EMBEDDED)? else { return Ok(()) };
        let label = |row: &Predicted<'_>| self.resolved.plan.classes[row.class as usize].clone();
        let rows: Vec<(String, String)> =
            chosen.iter().map(|&at| (label(&predicted[at]), self.origin(predicted[at].row))).collect();
        write_embeddings(directory, &features, features.len() / chosen.len(), &rows)
    }
}

/// The activations of some rows side by side, `[rows, width]`. Wide ones are averaged over their places first: tokens
/// `[tokens, width]` over the tokens, maps `[channels, height, width]` over height and width.
fn features(rows: &dyn Features, positions: &[usize]) -> Result<Vec<f32>> {
    let mut parts: Vec<(usize, Vec<f32>)> = Vec::new();
    for (input, spec) in rows.inputs().iter().enumerate() {
        let elements = spec.elements();
        let mut values = vec![0.0; elements * positions.len()];
        // A row at a time: whole maps of many rows would be large.
        for (values, position) in values.chunks_exact_mut(elements.max(1)).zip(positions) {
            rows.read(input, &[*position], values)?;
        }
        parts.push(match spec.shape[..] {
            [tokens, width] if elements > WIDE => (width, averaged(&values, tokens, width, width, 1)),
            [channels, height, width] if elements > WIDE => {
                (channels, averaged(&values, height * width, channels, 1, height * width))
            }
            _ => (elements, values),
        });
    }
    let joined = (0..positions.len())
        .flat_map(|row| parts.iter().flat_map(move |(width, values)| values[row * width..][..*width].iter().copied()));
    Ok(joined.collect())
}

/// The mean over `places` of each of `width` numbers, in rows of `places · width`.
fn averaged(values: &[f32], places: usize, width: usize, place_stride: usize, stride: usize) -> Vec<f32> {
    let mean =
        |row: &[f32], at: usize| (0..places).map(|p| row[at * stride + p * place_stride]).sum::<f32>() / places as f32;
    values.chunks_exact(places * width).flat_map(|row| (0..width).map(move |at| mean(row, at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::InMemory;

    #[test]
    fn wide_features_are_averaged_over_their_places() {
        let tokens: Vec<f32> = (0..4 * 4096).map(|i| (i / 4096) as f32).collect();
        let maps: Vec<f32> = (0..2 * 100 * 100).map(|i| (i / 10_000) as f32).collect();
        let rows = InMemory::new(1)
            .with("tokens", &[4, 4096], tokens)
            .unwrap()
            .with("map", &[2, 100, 100], maps)
            .unwrap()
            .with("cls", &[1], vec![7.0])
            .unwrap();
        let values = features(&rows, &[0]).unwrap();
        assert_eq!(values.len(), 4096 + 2 + 1);
        assert_eq!((values[0], values[4095], &values[4096..]), (1.5, 1.5, &[0.0, 1.0, 7.0][..]));
    }
}
