//! Logistic regression: scikit-learn's objective, minimised along a path of penalties.

use rayon::prelude::*;

use super::{Inputs, Solution, Task, Trial, is_better, lbfgs};
use crate::base::random::Stream;
use crate::base::{Error, Result};
use crate::graph::op::Softmax;
use crate::graph::{Matrix, Weights, gemm};
use crate::head::Logistic;

/// Rows that are looked at together: few enough to stay in a core's cache.
const CHUNK: usize = 128;
/// Sums that are made apart and then added in order, whatever the number of threads.
const PARTS: usize = 8;
/// One in so many training rows is held out to choose where there are no validation rows.
const HELD_OUT: usize = 5;

pub(super) fn solve(head: &Logistic, inputs: &mut Inputs<'_>, task: &Task<'_>) -> Result<Solution> {
    let mut cs = head.c.0.clone();
    cs.sort_by(f64::total_cmp);
    let data = task.data;
    let held = if cs.len() > 1 && data.valid.is_empty() { held_out(task)? } else { (data.train.to_vec(), Vec::new()) };
    let (train, held) = held;
    let judge: &[u32] = if held.is_empty() { data.valid } else { &held };
    let place = if held.is_empty() { "valid" } else { "held-out" };

    let mut problem = Problem::new(head, inputs, &train, task)?;
    let mut point = vec![0.0; problem.outputs * (inputs.width + 1)];
    let mut trials = Vec::new();
    let mut best: Option<(usize, f64, Weights, Vec<f64>)> = None;
    for (i, c) in cs.iter().enumerate() {
        let iterations = problem.minimise(*c, &mut point, inputs)?;
        let weights = problem.weights(&point, inputs);
        let (score, maximize) = if cs.len() > 1 {
            let (name, value, maximize) = task.measure(&weights, judge)?;
            (Some((format!("{place}/{name}"), value)), maximize)
        } else {
            (None, true)
        };
        let value = score.as_ref().map_or(0.0, |(_, value)| *value);
        if is_better(value, best.as_ref().map(|(_, value, ..)| *value), maximize) {
            best = Some((i, value, weights, point.clone()));
        }
        trials.push(Trial { what: format!("c {c}"), score, iterations: Some(iterations) });
    }
    let (chosen, _, mut weights, mut point) = best.ok_or_else(|| Error::bad_input("`model.head.c` has no value"))?;
    if !held.is_empty() {
        drop(problem);
        let mut problem = Problem::new(head, inputs, data.train, task)?;
        trials[chosen].iterations = Some(problem.minimise(cs[chosen], &mut point, inputs)?);
        weights = problem.weights(&point, inputs);
    }
    Ok(Solution { weights, trials, chosen })
}

/// Training rows to solve on, and others to choose with: a seeded fifth of each class, at least one of each that
/// has two.
fn held_out(task: &Task<'_>) -> Result<(Vec<u32>, Vec<u32>)> {
    let classes = super::inputs::of_classes(task.data.targets)?;
    let mut of_class = vec![Vec::new(); task.outputs()];
    task.data.train.iter().for_each(|row| of_class[classes[*row as usize] as usize].push(*row));
    let (mut train, mut held) = (Vec::new(), Vec::new());
    for (class, rows) in of_class.iter_mut().enumerate() {
        Stream::named(task.config.seed, &format!("held-out/{class}")).shuffle(rows);
        let count = (rows.len() / HELD_OUT).max(usize::from(rows.len() > 1));
        held.extend_from_slice(&rows[..count]);
        train.extend_from_slice(&rows[count..]);
    }
    if held.is_empty() {
        return Err(Error::bad_input("there are too few training rows to choose `model.head.c` with")
            .hint("give one `c`, or validation rows (`data.valid`)"));
    }
    train.sort_unstable();
    held.sort_unstable();
    Ok((train, held))
}

/// Bytes of the features, if so many may be kept in memory.
pub(super) fn bytes(head: &Logistic, rows: usize, width: usize) -> Option<f64> {
    let bytes = rows as f64 * width as f64 * 4.0;
    (bytes <= head.max_memory_gb * 1e9).then_some(bytes)
}

/// The rows to solve on: in memory where they fit, else read in every pass.
struct Problem {
    memory: Option<(Vec<f32>, Vec<u32>)>,
    rows: Vec<u32>,
    outputs: usize,
    width: usize,
    tolerance: f64,
    most: u32,
}

impl Problem {
    fn new(head: &Logistic, inputs: &mut Inputs<'_>, rows: &[u32], task: &Task<'_>) -> Result<Self> {
        let fits = bytes(head, rows.len(), inputs.width).is_some();
        let memory = if fits { Some(inputs.collect(rows)?) } else { None };
        Ok(Self {
            memory,
            rows: rows.to_vec(),
            outputs: task.outputs(),
            width: inputs.width,
            tolerance: head.tolerance,
            most: head.max_iterations,
        })
    }

    /// Minimises the mean loss plus `‖w‖²/(2·c·n)`; the point holds weights `[outputs, width]`, then biases.
    fn minimise(&mut self, c: f64, point: &mut [f64], inputs: &mut Inputs<'_>) -> Result<u32> {
        let (tolerance, most) = (self.tolerance, self.most);
        let count = self.rows.len() as f64;
        // Two classes have one set of weights in scikit-learn, which here are two opposite halves of it.
        let penalty = if self.outputs == 2 { 2.0 } else { 1.0 } / (c * count);
        let weights = self.outputs * self.width;
        let mut f = |point: &[f64], gradient: &mut [f64]| -> Result<f64> {
            let mut loss = self.pass(point, gradient, inputs)? / count;
            gradient.iter_mut().for_each(|g| *g /= count);
            for (g, w) in gradient[..weights].iter_mut().zip(&point[..weights]) {
                *g += penalty * w;
                loss += 0.5 * penalty * w * w;
            }
            Ok(loss)
        };
        lbfgs::minimise(&mut f, point, tolerance, most)
    }

    /// The sum of the losses of all rows, and its gradient.
    fn pass(&self, point: &[f64], gradient: &mut [f64], inputs: &mut Inputs<'_>) -> Result<f64> {
        gradient.fill(0.0);
        let numbers: Vec<f32> = point.iter().map(|x| *x as f32).collect();
        if let Some((values, classes)) = &self.memory {
            inputs.cancel.check()?;
            return Ok(self.sums(&numbers, values, classes, gradient));
        }
        let mut loss = 0.0;
        inputs.each(&self.rows, &mut |values, targets| {
            loss += self.sums(&numbers, values, super::inputs::of_classes(targets)?, gradient);
            Ok(())
        })?;
        Ok(loss)
    }

    /// Adds the gradient of some rows; gives their loss.
    fn sums(&self, point: &[f32], values: &[f32], classes: &[u32], gradient: &mut [f64]) -> f64 {
        let part = classes.len().div_ceil(PARTS).next_multiple_of(CHUNK);
        let parts = values.par_chunks((part * self.width).max(1)).zip(classes.par_chunks(part));
        let sums: Vec<(f64, Vec<f64>)> = parts.map(|(values, classes)| self.part(point, values, classes)).collect();
        sums.iter().fold(0.0, |loss, (of_part, sum)| {
            gradient.iter_mut().zip(sum).for_each(|(g, s)| *g += s);
            loss + of_part
        })
    }

    fn part(&self, point: &[f32], values: &[f32], classes: &[u32]) -> (f64, Vec<f64>) {
        let (width, outputs) = (self.width, self.outputs);
        let (weight, bias) = point.split_at(outputs * width);
        let weight = Matrix::new(weight, outputs, width);
        let (mut loss, mut sum) = (0.0, vec![0.0; point.len()]);
        let (mut logits, mut products) = (vec![0.0f32; CHUNK * outputs], vec![0.0f32; outputs * width]);
        for (values, classes) in values.chunks(CHUNK * width).zip(classes.chunks(CHUNK)) {
            let rows = classes.len();
            let logits = &mut logits[..rows * outputs];
            logits.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias));
            let x = Matrix::new(values, rows, width);
            gemm(logits, x, weight.t(), true);
            for (row, class) in logits.chunks_exact_mut(outputs).zip(classes) {
                let own = row[*class as usize];
                loss += f64::from(Softmax::row(row) - own);
                row[*class as usize] -= 1.0;
            }
            gemm(&mut products, Matrix::new(logits, rows, outputs).t(), x, false);
            sum.iter_mut().zip(&products).for_each(|(s, p)| *s += f64::from(*p));
            for row in logits.chunks_exact(outputs) {
                sum[outputs * width..].iter_mut().zip(row).for_each(|(s, p)| *s += f64::from(*p));
            }
        }
        (loss, sum)
    }

    fn weights(&self, point: &[f64], inputs: &Inputs<'_>) -> Weights {
        let (weight, bias) = point.split_at(self.outputs * self.width);
        let narrow = |numbers: &[f64]| numbers.iter().map(|x| *x as f32).collect();
        let mut weights = inputs.weights.clone();
        weights.insert("head.weight", [self.outputs, self.width], narrow(weight));
        weights.insert("head.bias", [self.outputs], narrow(bias));
        weights
    }
}
