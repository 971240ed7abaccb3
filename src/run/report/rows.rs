//! The rows of a run as its page shows them: what was predicted for each, by kind of output.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rayon::prelude::*;

use super::extent::Extent;
use super::features::features;
use super::pictures;
use crate::base::Result;
use crate::graph::{Task, Weights};
use crate::metric::argmax;
use crate::report::Run;
use crate::report::evaluation::{Evaluation, Fit};
use crate::report::examples::{Example, Picker, Predicted, labelled_worst, measured_worst};
use crate::report::projection::{Point, Projection, project};
use crate::run::resolve::Resolved;
use crate::run::targets::Kept;
use crate::run::training::Training;
use crate::sample::Sample;
use crate::sample::image::thumbnail;
use crate::track::{ResultEvents, write_embeddings};

/// Outputs of a split that are looked at, at most: of more rows evenly taken ones.
const OUTPUTS: usize = 10_000_000;
/// Rows whose features are written for TensorBoard's projector at most.
const EMBEDDED: usize = 1000;
/// The longer side of a thumbnail in pixels.
const SIDE: u32 = 96;
/// Characters of a text that are shown.
const LETTERS: usize = 280;
/// Into so many parts values are cut, to colour rows by them.
const PARTS: usize = 5;
/// Points of a picture of values.
const FITTED: usize = 2000;

/// The rows of a run with its outputs for them.
pub struct Rows<'a> {
    /// The names of the classes, labels or values.
    names: &'a [String],
    /// The data; those of a pack are not there.
    resolved: Option<&'a Resolved>,
    training: &'a Training,
    /// Split and position of every row that is looked at.
    rows: Vec<(&'static str, u32)>,
    /// What is predicted, `[rows, width]`: probabilities, values or embeddings.
    outputs: Vec<f32>,
    width: usize,
    weights: &'a Weights,
}

/// A group of each row, to colour it by.
struct Marks {
    names: Vec<String>,
    /// Of every row that is looked at, with the predicted group and whether what is predicted is wrong.
    of_row: Vec<(u32, u32, bool)>,
}

impl<'a> Rows<'a> {
    /// Predicts the rows of a run.
    ///
    /// # Errors
    /// Those of the cache.
    pub fn new(resolved: &'a Resolved, training: &'a Training, weights: &'a Weights) -> Result<Self> {
        Self::of((&resolved.plan.classes, Some(resolved)), training, weights)
    }

    /// Predicts the rows of a pack, of which there are activations and targets alone.
    ///
    /// # Errors
    /// Those of the cache.
    pub fn of_pack(names: &'a [String], training: &'a Training, weights: &'a Weights) -> Result<Self> {
        Self::of((names, None), training, weights)
    }

    fn of(
        (names, resolved): (&'a [String], Option<&'a Resolved>),
        training: &'a Training,
        weights: &'a Weights,
    ) -> Result<Self> {
        let width = training.width().max(1);
        let most = (OUTPUTS / width).max(1000);
        let splits = training.splits();
        let some = |rows: &[u32]| {
            (0..rows.len().min(most)).map(|i| rows[i * rows.len() / rows.len().min(most)]).collect::<Vec<u32>>()
        };
        let rows: Vec<(&str, u32)> =
            splits.iter().flat_map(|(split, rows)| some(rows).into_iter().map(|row| (*split, row))).collect();
        let positions: Vec<u32> = rows.iter().map(|(_, position)| *position).collect();
        let outputs = training.predictions(weights, &positions)?;
        Ok(Self { names, resolved, training, rows, outputs, width, weights })
    }

    /// The rows of a classifier with their classes; none of others.
    fn predicted(&self) -> Vec<Predicted<'_>> {
        let Kept::Classes(classes) = &self.training.targets else { return Vec::new() };
        if self.training.task() != Task::Classes {
            return Vec::new();
        }
        let each = self.rows.iter().zip(self.outputs.chunks_exact(self.width));
        each.map(|((split, position), probabilities)| Predicted {
            row: self.training.kept[*position as usize],
            split,
            class: classes[*position as usize],
            probabilities,
        })
        .collect()
    }

    /// What was predicted of classes or labels, split by split.
    pub fn evaluations(&self) -> Vec<Evaluation> {
        let names = self.names;
        let mut all = Vec::new();
        for split in ["test", "valid", "train"] {
            let (outputs, positions) = self.of_split(split);
            if positions.is_empty() {
                continue;
            }
            match (&self.training.targets, self.training.task()) {
                (Kept::Classes(classes), Task::Classes) => {
                    let truth: Vec<u32> = positions.iter().map(|&position| classes[position]).collect();
                    all.push(Evaluation::new(split, names, &outputs, &truth));
                }
                (Kept::MultiLabel(width, values), Task::MultiLabel) => {
                    let of_row = |position: &usize| values[position * width..][..*width].iter().map(|x| *x > 0.5);
                    let truth: Vec<bool> = positions.iter().flat_map(of_row).collect();
                    all.push(Evaluation::of_labels(split, names, &outputs, &truth));
                }
                _ => {}
            }
        }
        all
    }

    /// The outputs of a split with the positions of its rows.
    fn of_split(&self, split: &str) -> (Vec<f32>, Vec<usize>) {
        let each = self.rows.iter().zip(self.outputs.chunks_exact(self.width)).filter(|((of, _), _)| *of == split);
        let (mut outputs, mut positions) = (Vec::new(), Vec::new());
        for ((_, position), row) in each {
            outputs.extend_from_slice(row);
            positions.push(*position as usize);
        }
        (outputs, positions)
    }

    /// Puts what is to be seen of the rows onto a page.
    ///
    /// # Errors
    /// Those of the cache.
    pub fn show(&self, run: &mut Run, extent: &Extent) -> Result<()> {
        let names = self.names;
        run.classes = names.to_vec();
        for (split, rows) in self.training.splits() {
            let looked_at = self.rows.iter().filter(|(of, _)| *of == split).count();
            if looked_at < rows.len() {
                run.notes.push(format!("Of {} {split} rows {looked_at} are shown, evenly taken.", rows.len()));
            }
        }
        run.cost.bytes = Some(self.training.rows.bytes());
        run.evaluations = self.evaluations();
        if self.training.is_of_parts() {
            run.notes.push("A row is a place of a picture; what is shown of single ones is of whole pictures.".into());
            return self.resolved.map_or(Ok(()), |resolved| {
                pictures::show(run, resolved, self.training, (self.weights, extent.examples))
            });
        }
        let origin = |row: usize| self.origin(row);
        match (&self.training.targets, self.training.task()) {
            (Kept::Classes(_), Task::Classes) => {
                let predicted = self.predicted();
                let picker = Picker { rows: &predicted, names, origin: &origin, most: extent.examples };
                run.confident_errors = picker.confident_errors();
                // With two classes the surest errors are the worst rows.
                run.worst = if names.len() > 2 { picker.worst() } else { Vec::new() };
                run.label_issues = picker.label_issues();
            }
            (Kept::MultiLabel(_, values), Task::MultiLabel) => {
                run.worst = self.worst(values, extent, |row, truth| labelled_worst(names, row, truth));
            }
            (Kept::Values(_, values), Task::Values) => {
                run.fits = self.fits(values);
                let spreads: Vec<f32> = (0..self.width).map(|i| spread(values, i, self.width)).collect();
                run.worst = self.worst(values, extent, |row, truth| measured_worst(names, &spreads, row, truth));
            }
            (Kept::Pairs(..), _) => {
                run.notes.push("Of pairs the features are shown; `caft search` finds one field by another.".into());
            }
            _ => run.notes.push("Of embeddings the features are shown; `caft search` looks for neighbours.".into()),
        }
        run.projection = self.projection(extent)?;
        let shown = [&run.confident_errors, &run.worst, &run.label_issues];
        let points = run.projection.iter().flat_map(|projection| projection.points.iter().map(|point| point.row));
        let wanted: BTreeSet<usize> = shown.into_iter().flatten().map(|example| example.row).chain(points).collect();
        run.thumbnails = wanted
            .par_iter()
            .filter_map(|row| Some((*row, self.thumbnail(*row)?)))
            .collect::<Vec<_>>()
            .into_iter()
            .collect();
        run.texts = wanted.iter().filter_map(|row| Some((*row, self.text(*row)?))).collect::<BTreeMap<_, _>>();
        Ok(())
    }

    /// The rows of the greatest loss, held-out rows first. `look` gives a row's loss, its label and what is predicted.
    fn worst(
        &self,
        values: &[f32],
        extent: &Extent,
        look: impl Fn(&[f32], &[f32]) -> Option<(f64, String, String)>,
    ) -> Vec<Example> {
        let each = self.rows.iter().zip(self.outputs.chunks_exact(self.width));
        let mut found: Vec<(bool, f64, Example)> = each
            .filter_map(|((split, position), row)| {
                let position = *position as usize;
                let (loss, label, predicted) = look(row, &values[position * self.width..][..self.width])?;
                let row = self.training.kept[position];
                let (origin, split) = (self.origin(row), (*split).to_string());
                let example =
                    Example { row, origin, split, label, predicted, probability: None, label_probability: None };
                Some((example.split == "train", loss, example))
            })
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        found.into_iter().take(extent.examples).map(|(_, _, example)| example).collect()
    }

    /// Predicted against true values, split by split and value by value.
    fn fits(&self, values: &[f32]) -> Vec<Fit> {
        let mut all = Vec::new();
        for split in ["test", "valid", "train"] {
            let (outputs, positions) = self.of_split(split);
            for (i, name) in self.names.iter().enumerate().filter(|_| !positions.is_empty()) {
                let found: Vec<f32> = outputs.iter().skip(i).step_by(self.width).copied().collect();
                let truth: Vec<f32> = positions.iter().map(|position| values[position * self.width + i]).collect();
                let rows: Vec<usize> = positions.iter().map(|&position| self.training.kept[position]).collect();
                all.push(Fit::new((split, name), &rows, &truth, &found, FITTED));
            }
        }
        all
    }

    /// What rows are coloured by.
    fn marks(&self) -> Marks {
        let names = self.names.to_vec();
        let positions = self.rows.iter().map(|(_, position)| *position as usize);
        match &self.training.targets {
            Kept::Classes(classes) => {
                let is_classifier = self.training.task() == Task::Classes;
                let each = positions.zip(self.outputs.chunks_exact(self.width));
                let mark = |(position, row): (usize, &[f32])| {
                    let class = classes[position];
                    let predicted = if is_classifier { argmax(row) as u32 } else { class };
                    (class, predicted, predicted != class)
                };
                Marks { of_row: each.map(mark).collect(), names }
            }
            Kept::MultiLabel(width, values) => {
                // By the first label; those without one are a group too.
                let first = |row: &[f32]| row.iter().position(|x| *x > 0.5).unwrap_or(*width) as u32;
                let each = positions.zip(self.outputs.chunks_exact(self.width));
                let mark = |(position, row): (usize, &[f32])| {
                    let truth = &values[position * width..][..*width];
                    let right = truth.iter().zip(row).all(|(y, p)| (*y > 0.5) == (*p > 0.5));
                    (first(truth), first(row), !right)
                };
                let of_row = each.map(mark).collect();
                Marks { of_row, names: names.into_iter().chain(["no label".to_string()]).collect() }
            }
            Kept::Pairs(..) => {
                Marks { of_row: positions.map(|_| (0, 0, false)).collect(), names: vec![names.join(" and ")] }
            }
            Kept::Values(width, values) => {
                let first: Vec<f32> = positions.map(|position| values[position * width]).collect();
                let mut sorted = first.clone();
                sorted.sort_by(f32::total_cmp);
                let ends: Vec<f32> =
                    (1..=PARTS).filter_map(|i| sorted.get((i * sorted.len() / PARTS).max(1) - 1)).copied().collect();
                let part = |x: &f32| ends.iter().position(|end| x <= end).unwrap_or(0) as u32;
                let of_row = first.iter().map(|x| (part(x), part(x), false)).collect();
                let name = names.first().cloned().unwrap_or_default();
                Marks { of_row, names: ends.iter().map(|end| format!("{name} up to {end}")).collect() }
            }
        }
    }

    /// None for a picture that cannot be read any more, and for rows without one.
    fn thumbnail(&self, row: usize) -> Option<String> {
        let sample = self.samples(row).find(|sample| !sample.is_text())?;
        let mut bytes = Vec::new();
        sample.read(&mut bytes).ok()?;
        let jpeg = thumbnail(&bytes, &sample.encoding, SIDE).ok()?;
        Some(format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg)))
    }

    /// The beginnings of a row's texts.
    fn text(&self, row: usize) -> Option<String> {
        let mut bytes = Vec::new();
        let mut texts = Vec::new();
        for sample in self.samples(row).filter(|sample| sample.is_text()) {
            sample.read(&mut bytes).ok()?;
            let text = String::from_utf8_lossy(&bytes);
            let mut shown: String = text.chars().take(LETTERS).collect();
            shown.extend((shown.len() < text.len()).then_some('…'));
            texts.push(shown);
        }
        (!texts.is_empty()).then(|| texts.join("\n"))
    }

    /// The samples of a row, of every tower.
    fn samples(&self, row: usize) -> impl Iterator<Item = &Sample> {
        let towers = self.resolved.into_iter().flat_map(|first| std::iter::once(first).chain(&first.others));
        towers.filter_map(move |tower| tower.dataset.rows.get(row)).flat_map(|row| row.samples.iter())
    }

    /// Some rows with their features `[rows, width]`: held-out rows first, evenly taken. None if there are hardly any.
    fn sampled(&self, most: usize) -> Result<Option<(Vec<usize>, Vec<f32>)>> {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|&at| self.rows[at].0 == "train");
        let held_out = self.rows.iter().filter(|(split, _)| *split != "train").count();
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

    fn projection(&self, extent: &Extent) -> Result<Option<Projection>> {
        let Some((chosen, features)) = self.sampled(extent.points)? else { return Ok(None) };
        let (coordinates, method, axes) = project(extent.method, &features, features.len() / chosen.len());
        let Marks { names, of_row } = self.marks();
        let points = chosen.iter().zip(coordinates).map(|(&at, [x, y])| {
            let row = self.training.kept[self.rows[at].1 as usize];
            let (class, predicted, wrong) = of_row[at];
            Point { row, origin: self.origin(row), x, y, class, predicted, wrong }
        });
        Ok(Some(Projection { method, axes, names, points: points.collect() }))
    }

    fn origin(&self, row: usize) -> String {
        match self.resolved {
            Some(resolved) => resolved.dataset.rows[row].origin.to_string(),
            None => format!("row {row} of the pack"),
        }
    }

    /// What TensorBoard shows of the result, beside the curves.
    ///
    /// # Errors
    /// Those of the cache and of the file system.
    pub fn track(&self, run: &Run, directory: &Path, weights: &Weights) -> Result<()> {
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
        if self.training.is_of_parts() {
            return Ok(());
        }
        let Some((chosen, features)) = self.sampled(EMBEDDED)? else { return Ok(()) };
        let Marks { names, of_row } = self.marks();
        let row = |&at: &usize| {
            let row = self.training.kept[self.rows[at].1 as usize];
            (names[of_row[at].0 as usize].clone(), self.origin(row))
        };
        let rows: Vec<(String, String)> = chosen.iter().map(row).collect();
        write_embeddings(directory, &features, features.len() / chosen.len(), &rows)
    }
}

/// The standard deviation of one of a row's values.
fn spread(values: &[f32], at: usize, width: usize) -> f32 {
    let of_value = || values.iter().skip(at).step_by(width).map(|x| f64::from(*x));
    let count = of_value().count().max(1) as f64;
    let mean = of_value().sum::<f64>() / count;
    (of_value().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt().max(f64::from(f32::MIN_POSITIVE)) as f32
}
