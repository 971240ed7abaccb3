//! Accuracy among the highest outputs.

use super::Metric;
use crate::graph::Targets;

/// The share of rows whose class is among the `k` highest outputs. Of equal outputs the lower class comes
/// first, as with NumPy's `argmax`.
pub struct TopK {
    k: usize,
    width: usize,
    rows: u64,
    hits: u64,
}

impl TopK {
    /// No rows yet.
    pub fn new(k: usize, width: usize) -> Self {
        Self { k, width, rows: 0, hits: 0 }
    }
}

impl Metric for TopK {
    fn update(&mut self, outputs: &[f32], targets: Targets<'_>) {
        if let Targets::MultiLabel { values, .. } = targets {
            // Of labels all must be right; one is predicted where its logit is above 0.
            for (row, y) in outputs.chunks_exact(self.width).zip(values.chunks_exact(self.width)) {
                self.hits += u64::from(row.iter().zip(y).all(|(x, y)| (*x > 0.0) == (*y > 0.5)));
                self.rows += 1;
            }
        }
        let Targets::Classes(classes) = targets else { return };
        for (row, y) in outputs.chunks_exact(self.width).zip(classes) {
            let y = *y as usize;
            let before = row.iter().enumerate().filter(|(i, x)| **x > row[y] || (**x == row[y] && *i < y)).count();
            self.hits += u64::from(before < self.k);
            self.rows += 1;
        }
    }

    fn value(&self) -> f64 {
        self.hits as f64 / self.rows.max(1) as f64
    }
}
