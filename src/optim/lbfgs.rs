//! L-BFGS over all training rows at once.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};
use crate::graph::Weights;

/// L-BFGS (Nocedal, 1980) on the loss over all training rows, with a line search that finds a step by the weak
/// Wolfe conditions (Lewis and Overton, 2013). An epoch is one step, which reads the rows once or a few times;
/// `batch_size` is only how many are in memory at once. The schedule does not apply. For small heads: it
/// finds the exact minimum that stochastic steps only come near.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lbfgs {
    /// The length of step that is tried first.
    #[schemars(range(min = 1.0e-12))]
    pub lr: f64,
    /// Adds `weight_decay / 2 · |w|²` to the loss. Biases and norms are not decayed.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Steps that are remembered, each two numbers per parameter.
    #[schemars(range(min = 1, max = 1000))]
    pub history: u32,
    /// Training ends once no element of the gradient is greater.
    #[schemars(range(min = 0.0))]
    pub tolerance: f64,
}

impl Default for Lbfgs {
    fn default() -> Self {
        Self { lr: 1.0, weight_decay: 0.0, history: 10, tolerance: 1e-6 }
    }
}

/// The loss and its gradient at a point.
pub type Evaluate<'a> = dyn FnMut(&[f32]) -> Result<(f64, Vec<f32>)> + 'a;

/// Most evaluations of one line search.
const MOST_TRIALS: usize = 25;
/// The share of the expected descent that a step must reach (Armijo's condition).
const DESCENT: f64 = 1e-4;
/// The share of the slope that may be left after a step (the curvature condition).
const CURVATURE: f64 = 0.9;
/// The relative noise of a loss over f32 features. Below it slopes tell more than losses do (Hager and Zhang's
/// approximate conditions, 2005).
const NOISE: f64 = 1e-6;

/// The present point and the steps that led to it.
#[derive(Debug, Clone)]
pub struct LbfgsState {
    config: Lbfgs,
    /// Differences of points and of gradients, the newest last.
    steps: VecDeque<(Vec<f32>, Vec<f32>)>,
    /// The loss and gradient at the present point, where they are known.
    present: Option<(f64, Vec<f32>)>,
}

impl Lbfgs {
    /// No step yet.
    pub fn start(&self) -> LbfgsState {
        LbfgsState { config: self.clone(), steps: VecDeque::new(), present: None }
    }
}

impl LbfgsState {
    /// Takes one step from `point`, in place. Gives the loss after it, and whether the minimum is reached:
    /// then the point stays.
    ///
    /// # Errors
    /// Those of `evaluate`; the point is then as before.
    pub fn step(&mut self, point: &mut Vec<f32>, evaluate: &mut Evaluate<'_>) -> Result<(f64, bool)> {
        let (loss, gradient) = match self.present.take() {
            Some(present) => present,
            None => evaluate(point)?,
        };
        let steepest = gradient.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        if f64::from(steepest) <= self.config.tolerance || !loss.is_finite() {
            self.present = Some((loss, gradient));
            return Ok((loss, loss.is_finite()));
        }
        let mut direction = self.direction(&gradient);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            // Rounding has spoilt the history.
            self.steps.clear();
            direction = gradient.iter().map(|g| -*g).collect();
            slope = -dot(&gradient, &gradient);
        }
        let first = if self.steps.is_empty() { (1.0 / (-slope).sqrt()).min(1.0) } else { 1.0 };
        let found = search(point, &direction, (loss, slope), self.config.lr * first, evaluate)?;
        let Some((next, next_loss, next_gradient)) = found else {
            // Nothing lower can be told apart in f32. Without the history it may be.
            let ends = self.steps.is_empty();
            self.steps.clear();
            self.present = Some((loss, gradient));
            return Ok((loss, ends));
        };
        let moved: Vec<f32> = next.iter().zip(&*point).map(|(a, b)| a - b).collect();
        let turned: Vec<f32> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        if dot(&moved, &turned) > 1e-10 * dot(&turned, &turned).max(f64::MIN_POSITIVE) {
            if self.steps.len() == self.config.history as usize {
                self.steps.pop_front();
            }
            self.steps.push_back((moved, turned));
        }
        *point = next;
        self.present = Some((next_loss, next_gradient));
        Ok((next_loss, false))
    }

    /// The two-loop recursion.
    fn direction(&self, gradient: &[f32]) -> Vec<f32> {
        let mut q: Vec<f32> = gradient.iter().map(|g| -*g).collect();
        let mut factors = Vec::with_capacity(self.steps.len());
        for (s, y) in self.steps.iter().rev() {
            let factor = dot(s, &q) / dot(s, y);
            add(&mut q, y, -factor);
            factors.push(factor);
        }
        if let Some((s, y)) = self.steps.back() {
            let scale = dot(s, y) / dot(y, y);
            q.iter_mut().for_each(|q| *q = (f64::from(*q) * scale) as f32);
        }
        for ((s, y), factor) in self.steps.iter().zip(factors.iter().rev()) {
            let back = dot(y, &q) / dot(s, y);
            add(&mut q, s, factor - back);
        }
        q
    }

    /// The steps, as tensors for a checkpoint.
    pub fn tensors(&self) -> Weights {
        let mut all = Weights::default();
        for (i, (s, y)) in self.steps.iter().enumerate() {
            all.insert(format!("lbfgs.{i:03}.point"), [s.len()], s.clone());
            all.insert(format!("lbfgs.{i:03}.gradient"), [y.len()], y.clone());
        }
        all
    }

    /// Takes steps over that [`LbfgsState::tensors`] gave.
    ///
    /// # Errors
    /// One half of a step is missing, or its length is not `parameters`.
    pub fn restore(&mut self, tensors: &Weights, parameters: usize) -> Result<()> {
        self.steps.clear();
        self.present = None;
        let names = tensors.0.keys().filter_map(|name| name.strip_prefix("lbfgs.")?.strip_suffix(".point"));
        for number in names {
            let half = |what: &str| tensors.get(&format!("lbfgs.{number}.{what}"), &[parameters]).map(<[f32]>::to_vec);
            self.steps.push_back((half("point")?, half("gradient")?));
        }
        if self.steps.len() > self.config.history as usize {
            return Err(Error::bad_input("the checkpoint has more steps of L-BFGS than `history`"));
        }
        Ok(())
    }
}

/// A point with its loss and gradient.
type Looked = (Vec<f32>, f64, Vec<f32>);

/// A point along `direction` at which the weak Wolfe conditions hold, or the lowest that was seen, with its
/// loss and gradient; `None` if none is lower.
fn search(
    point: &[f32],
    direction: &[f32],
    (loss, slope): (f64, f64),
    first: f64,
    evaluate: &mut Evaluate<'_>,
) -> Result<Option<Looked>> {
    let (mut length, mut low, mut high) = (first, 0.0, f64::INFINITY);
    let mut best: Option<Looked> = None;
    for _ in 0..MOST_TRIALS {
        let mut trial = point.to_vec();
        add(&mut trial, direction, length);
        let (value, gradient) = evaluate(&trial)?;
        let left = dot(&gradient, direction);
        let near = value <= loss + NOISE * loss.abs() && left <= -0.8 * slope;
        // Also where the loss is not a number.
        let too_far = (value.is_nan() || value > loss + DESCENT * length * slope) && !near;
        if !too_far && left >= CURVATURE * slope {
            return Ok(Some((trial, value, gradient)));
        }
        if value < best.as_ref().map_or(loss, |best| best.1) {
            best = Some((trial, value, gradient));
        }
        if too_far {
            high = length;
        } else {
            low = length;
        }
        length = if high.is_finite() { 0.5 * (low + high) } else { 2.0 * length };
    }
    Ok(best)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn add(to: &mut [f32], what: &[f32], factor: f64) {
    to.iter_mut().zip(what).for_each(|(x, d)| *x = (f64::from(*x) + factor * f64::from(*d)) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rosenbrock's function, whose minimum is (1, 1).
    fn valley(x: &[f32]) -> (f64, Vec<f32>) {
        let (a, b) = (f64::from(x[0]), f64::from(x[1]));
        let (u, v) = (1.0 - a, b - a * a);
        (u * u + 100.0 * v * v, vec![(-2.0 * u - 400.0 * a * v) as f32, (200.0 * v) as f32])
    }

    #[test]
    fn it_finds_the_end_of_a_bent_valley_and_resumes_exactly() {
        let config = Lbfgs { tolerance: 1e-4, ..Lbfgs::default() };
        let (mut state, mut point) = (config.start(), vec![-1.2, 1.0]);
        let mut steps = 0;
        while !state.step(&mut point, &mut |x| Ok(valley(x))).unwrap().1 {
            steps += 1;
            assert!(steps < 100, "{point:?}");
            // As if every step were made by another process.
            let tensors = state.tensors();
            state = config.start();
            state.restore(&tensors, 2).unwrap();
        }
        assert!(point.iter().all(|x| (x - 1.0).abs() < 1e-3), "{point:?} after {steps}");
        let (mut state, mut whole) = (config.start(), vec![-1.2, 1.0]);
        while !state.step(&mut whole, &mut |x| Ok(valley(x))).unwrap().1 {}
        assert_eq!(point, whole);
        assert!(config.start().restore(&state.tensors(), 3).is_err());
    }
}
