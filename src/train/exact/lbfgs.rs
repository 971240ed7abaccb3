//! L-BFGS (Liu and Nocedal, 1989) for smooth functions whose every evaluation is a pass over the data.

use std::collections::VecDeque;

use crate::base::{Error, Result};

/// Pairs of steps and gradients that are remembered.
const MEMORY: usize = 10;
/// The constants of the strong Wolfe conditions.
const DECREASE: f64 = 1e-4;
const CURVATURE: f64 = 0.9;
/// The rounding of a value, in parts of it.
const ROUNDING: f64 = 1e-6;
/// Evaluations along one line.
const LINE: usize = 30;

/// A function's value at a point; its gradient goes to the second argument.
pub(super) type Function<'a> = dyn FnMut(&[f64], &mut [f64]) -> Result<f64> + 'a;

/// Minimises from `x` in place, until no component of the gradient is larger than `tolerance`; returns the number
/// of iterations.
///
/// # Errors
/// Those of the function; it is not finite where it begins.
pub(super) fn minimise(f: &mut Function<'_>, x: &mut [f64], tolerance: f64, most: u32) -> Result<u32> {
    let n = x.len();
    let mut gradient = vec![0.0; n];
    let mut value = f(x, &mut gradient)?;
    if !value.is_finite() {
        return Err(Error::failed("the loss is not finite").hint("standardize the features"));
    }
    let mut pairs: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::with_capacity(MEMORY);
    for iteration in 0..most {
        if gradient.iter().all(|g| g.abs() <= tolerance) {
            return Ok(iteration);
        }
        let mut direction = descent(&gradient, &pairs);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            pairs.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = -dot(&gradient, &gradient);
        }
        // The first direction has no scale yet.
        let first = if pairs.is_empty() { 1.0 / gradient.iter().map(|g| g.abs()).sum::<f64>().max(1.0) } else { 1.0 };
        let begin = x.to_vec();
        let Some(end) = search(f, x, &begin, &direction, (value, slope), first)? else {
            // Rounding hides any further decrease.
            x.copy_from_slice(&begin);
            return Ok(iteration);
        };
        let step: Vec<f64> = x.iter().zip(&begin).map(|(a, b)| a - b).collect();
        let change: Vec<f64> = end.gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&step, &change);
        if curvature > 1e-10 * dot(&change, &change).sqrt() * dot(&step, &step).sqrt() {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back((step, change, 1.0 / curvature));
        }
        (value, gradient) = (end.value, end.gradient);
    }
    Ok(most)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The two-loop recursion: the direction that the remembered curvature makes of the gradient.
fn descent(gradient: &[f64], pairs: &VecDeque<(Vec<f64>, Vec<f64>, f64)>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut factors = Vec::with_capacity(pairs.len());
    for (step, change, inverse) in pairs.iter().rev() {
        let factor = inverse * dot(step, &direction);
        direction.iter_mut().zip(change).for_each(|(d, y)| *d -= factor * y);
        factors.push(factor);
    }
    if let Some((_, change, inverse)) = pairs.back() {
        let scale = 1.0 / (inverse * dot(change, change));
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for ((step, change, inverse), factor) in pairs.iter().zip(factors.iter().rev()) {
        let correction = factor - inverse * dot(change, &direction);
        direction.iter_mut().zip(step).for_each(|(d, s)| *d += correction * s);
    }
    direction
}

/// A point of a line, by its distance from the beginning.
struct Point {
    at: f64,
    value: f64,
    slope: f64,
    gradient: Vec<f64>,
}

/// A point that meets the strong Wolfe conditions (Nocedal and Wright, algorithms 3.5 and 3.6), to which `x` is
/// moved; `None` if there is none that rounding can tell.
fn search(
    f: &mut Function<'_>,
    x: &mut [f64],
    begin: &[f64],
    direction: &[f64],
    (value, slope): (f64, f64),
    first: f64,
) -> Result<Option<Point>> {
    let mut evaluate = |at: f64| -> Result<Point> {
        x.iter_mut().zip(begin).zip(direction).for_each(|((x, b), d)| *x = b + at * d);
        let mut gradient = vec![0.0; begin.len()];
        let value = f(x, &mut gradient)?;
        let slope = dot(&gradient, direction);
        Ok(Point { at, value: if value.is_finite() { value } else { f64::INFINITY }, slope, gradient })
    };
    // Near the minimum values differ by less than their rounding; then slopes decide (the approximate conditions of
    // Hager and Zhang, 2005).
    let slack = ROUNDING * value.abs();
    let enough = |p: &Point| {
        p.value <= value + DECREASE * p.at * slope
            || (p.value <= value + slack && p.slope <= (2.0 * DECREASE - 1.0) * slope)
    };
    let flat = |p: &Point| p.slope.abs() <= -CURVATURE * slope;
    let mut low = Point { at: 0.0, value, slope, gradient: Vec::new() };
    let mut high: Option<Point> = None;
    let mut next = first;
    for _ in 0..LINE {
        let point = evaluate(next)?;
        if !enough(&point) || (low.at > 0.0 && point.value > low.value + slack) {
            high = Some(point);
        } else if flat(&point) {
            return Ok(Some(point));
        } else if point.slope * high.as_ref().map_or(1.0, |high| high.at - low.at) >= 0.0 {
            high = Some(std::mem::replace(&mut low, point));
        } else {
            low = point;
        }
        next = match &high {
            None => low.at * 2.0,
            Some(high) => between(&low, high),
        };
        if high.as_ref().is_some_and(|high| (high.at - low.at).abs() <= 1e-12 * high.at.max(low.at)) {
            break;
        }
    }
    // A decrease without the curvature is still one.
    if low.at > 0.0 && low.value <= value + slack { evaluate(low.at).map(Some) } else { Ok(None) }
}

/// The minimum of the cubic through two points with their slopes, kept away from both.
fn between(low: &Point, high: &Point) -> f64 {
    let (a, b) = (low.at, high.at);
    let d1 = low.slope + high.slope - 3.0 * (low.value - high.value) / (a - b);
    let d2 = (d1 * d1 - low.slope * high.slope).max(0.0).sqrt().copysign(b - a);
    let cubic = b - (b - a) * (high.slope + d2 - d1) / (high.slope - low.slope + 2.0 * d2);
    let (least, most) = (a.min(b), a.max(b));
    let margin = 0.1 * (most - least);
    if cubic.is_finite() { cubic.clamp(least + margin, most - margin) } else { 0.5 * (a + b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curved_valley_is_followed_to_its_end() {
        // Rosenbrock's function.
        let mut calls = 0;
        let mut f = |x: &[f64], g: &mut [f64]| {
            calls += 1;
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            g[0] = -2.0 * a - 400.0 * x[0] * b;
            g[1] = 200.0 * b;
            Ok(a * a + 100.0 * b * b)
        };
        let mut x = [-1.2, 1.0];
        let iterations = minimise(&mut f, &mut x, 1e-8, 200).unwrap();
        assert!((x[0] - 1.0).abs() < 1e-6 && (x[1] - 1.0).abs() < 1e-6, "{x:?}");
        assert_eq!(minimise(&mut f, &mut x, 1e-3, 200).unwrap(), 0);
        assert!(iterations < 60 && calls < 90, "{iterations} {calls}");
        assert!(minimise(&mut |_, _| Ok(f64::NAN), &mut x, 1e-3, 200).is_err());
    }
}
