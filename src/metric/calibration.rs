//! How well probabilities say how often they are right.

use super::{Metric, argmax};
use crate::graph::Targets;
use crate::graph::op::Softmax;

const BINS: usize = 15;

/// The expected calibration error (Guo and others, 2017): rows go into 15 equal bins by their highest softmax
/// probability; the mean over rows of |share right − mean probability| of their bin.
pub struct Calibration {
    width: usize,
    /// Rows, rows that are right, and the sum of probabilities, by bin.
    bins: [(f64, f64, f64); BINS],
}

impl Calibration {
    /// No rows yet.
    pub fn new(width: usize) -> Self {
        Self { width, bins: [(0.0, 0.0, 0.0); BINS] }
    }
}

impl Metric for Calibration {
    fn update(&mut self, outputs: &[f32], targets: Targets<'_>) {
        let Targets::Classes(classes) = targets else { return };
        let mut probabilities = vec![0.0; self.width];
        for (row, y) in outputs.chunks_exact(self.width).zip(classes) {
            probabilities.copy_from_slice(row);
            Softmax::row(&mut probabilities);
            let class = argmax(&probabilities);
            let p = f64::from(probabilities[class]);
            // Bins are open below and closed above.
            let bin = ((p * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            let (rows, right, sum) = &mut self.bins[bin];
            *rows += 1.0;
            *right += f64::from(u8::from(class == *y as usize));
            *sum += p;
        }
    }

    fn value(&self) -> f64 {
        let rows: f64 = self.bins.iter().map(|(rows, _, _)| rows).sum();
        self.bins.iter().map(|(_, right, sum)| (right - sum).abs()).sum::<f64>() / rows.max(1.0)
    }
}
