//! Metrics of numbers against numbers. Of several values per row the mean over them is taken.

use super::Metric;
use crate::graph::Targets;

/// Keeps all pairs, because ranking needs them: 8 bytes per row and value.
pub struct Pairs {
    width: usize,
    outputs: Vec<f32>,
    targets: Vec<f32>,
    of_value: fn(&[f64], &[f64]) -> f64,
}

impl Pairs {
    /// No rows yet, and what is read off the outputs and targets of one value.
    pub fn new(width: usize, of_value: fn(&[f64], &[f64]) -> f64) -> Self {
        Self { width, outputs: Vec::new(), targets: Vec::new(), of_value }
    }
}

impl Metric for Pairs {
    fn bytes_per_row(&self) -> usize {
        8 * self.width
    }

    fn update(&mut self, outputs: &[f32], targets: Targets<'_>) {
        let Targets::Values { values, .. } = targets else { return };
        self.outputs.extend_from_slice(outputs);
        self.targets.extend_from_slice(values);
    }

    fn value(&self) -> f64 {
        if self.outputs.is_empty() {
            return 0.0;
        }
        let column = |all: &[f32], i: usize| all.iter().skip(i).step_by(self.width).map(|x| f64::from(*x)).collect();
        let of_value = |i: usize| {
            let (outputs, targets): (Vec<f64>, Vec<f64>) = (column(&self.outputs, i), column(&self.targets, i));
            (self.of_value)(&outputs, &targets)
        };
        (0..self.width).map(of_value).sum::<f64>() / self.width.max(1) as f64
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    values.sum::<f64>() / n
}

/// The mean of the differences' sizes.
pub fn mae(outputs: &[f64], targets: &[f64]) -> f64 {
    mean(outputs.iter().zip(targets).map(|(x, y)| (x - y).abs()))
}

/// The root of the mean square of the differences.
pub fn rmse(outputs: &[f64], targets: &[f64]) -> f64 {
    mean(outputs.iter().zip(targets).map(|(x, y)| (x - y).powi(2))).sqrt()
}

/// The share of the targets' variance that the outputs explain; 0 where the targets do not vary, unless the
/// outputs are right.
pub fn r2(outputs: &[f64], targets: &[f64]) -> f64 {
    let middle = mean(targets.iter().copied());
    let all: f64 = targets.iter().map(|y| (y - middle).powi(2)).sum();
    let left: f64 = outputs.iter().zip(targets).map(|(x, y)| (x - y).powi(2)).sum();
    if all > 0.0 { 1.0 - left / all } else { f64::from(u8::from(left == 0.0)) }
}

/// Spearman's correlation: Pearson's of the ranks, equals sharing theirs; 0 where one side does not vary.
pub fn spearman(outputs: &[f64], targets: &[f64]) -> f64 {
    let (a, b) = (ranks(outputs), ranks(targets));
    let (mean_a, mean_b) = (mean(a.iter().copied()), mean(b.iter().copied()));
    let product =
        |x: &[f64], mx: f64, y: &[f64], my: f64| -> f64 { x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum() };
    let spread = (product(&a, mean_a, &a, mean_a) * product(&b, mean_b, &b, mean_b)).sqrt();
    if spread > 0.0 { product(&a, mean_a, &b, mean_b) / spread } else { 0.0 }
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for group in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = before as f64 + (group.len() as f64 - 1.0) / 2.0;
        group.iter().for_each(|i| ranks[*i] = rank);
        before += group.len();
    }
    ranks
}
