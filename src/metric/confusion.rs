//! The confusion matrix, and what is read off it.

use super::Metric;
use crate::graph::Targets;

/// Counts `[true class, predicted class]`; the prediction is the highest output, of equals the first.
pub struct Confusion {
    width: usize,
    counts: Vec<u64>,
    read: fn(&Self) -> f64,
}

impl Confusion {
    /// No rows yet, and what is read off at the end.
    pub fn new(width: usize, read: fn(&Self) -> f64) -> Self {
        Self { width, counts: vec![0; width * width], read }
    }

    /// The counts, row-major `[true class, predicted class]`.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// For each class: rows of it that were predicted right, rows of it, rows predicted as it.
    fn per_class(&self) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
        let n = self.width;
        (0..n).map(move |c| {
            let of_class: u64 = self.counts[c * n..][..n].iter().sum();
            let predicted: u64 = (0..n).map(|t| self.counts[t * n + c]).sum();
            (self.counts[c * n + c] as f64, of_class as f64, predicted as f64)
        })
    }

    /// The mean precision over classes that occur or are predicted; 0 for one that is never predicted.
    pub fn macro_precision(&self) -> f64 {
        let found = self.per_class().filter(|(_, t, p)| t + p > 0.0);
        mean(found.map(|(right, _, p)| if p > 0.0 { right / p } else { 0.0 }))
    }

    /// The mean recall over classes that occur or are predicted; 0 for one that never occurs.
    pub fn macro_recall(&self) -> f64 {
        let found = self.per_class().filter(|(_, t, p)| t + p > 0.0);
        mean(found.map(|(right, t, _)| if t > 0.0 { right / t } else { 0.0 }))
    }

    /// Each class's F1 score, weighted by its rows.
    pub fn weighted_f1(&self) -> f64 {
        let rows: f64 = self.per_class().map(|(_, t, _)| t).sum();
        let found = self.per_class().filter(|(_, t, _)| *t > 0.0);
        found.map(|(right, t, p)| t * 2.0 * right / (t + p)).sum::<f64>() / rows.max(1.0)
    }

    /// `(agreement − chance) / (1 − chance)` (Cohen, 1960); 0 where chance alone explains everything.
    pub fn cohen_kappa(&self) -> f64 {
        let rows: f64 = self.per_class().map(|(_, t, _)| t).sum();
        let agreement: f64 = self.per_class().map(|(right, _, _)| right).sum::<f64>() / rows.max(1.0);
        let chance: f64 = self.per_class().map(|(_, t, p)| t * p).sum::<f64>() / (rows * rows).max(1.0);
        if chance < 1.0 { (agreement - chance) / (1.0 - chance) } else { 0.0 }
    }

    /// The mean of `2 · right / (of class + predicted)` over classes that occur or are predicted
    /// (scikit-learn's `f1_score(average="macro")`).
    pub fn macro_f1(&self) -> f64 {
        mean(self.per_class().filter(|(_, t, p)| t + p > 0.0).map(|(right, t, p)| 2.0 * right / (t + p)))
    }

    /// The mean recall over classes that occur (scikit-learn's `balanced_accuracy_score`).
    pub fn balanced_accuracy(&self) -> f64 {
        mean(self.per_class().filter(|(_, t, _)| *t > 0.0).map(|(right, t, _)| right / t))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0u64), |(sum, n), x| (sum + x, n + 1));
    sum / n.max(1) as f64
}

/// The position of the highest, of equals the first.
pub fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, x) in row.iter().enumerate() {
        if *x > row[best] {
            best = i;
        }
    }
    best
}

impl Metric for Confusion {
    fn update(&mut self, outputs: &[f32], targets: Targets<'_>) {
        let Targets::Classes(classes) = targets else { return };
        for (row, y) in outputs.chunks_exact(self.width).zip(classes) {
            self.counts[*y as usize * self.width + argmax(row)] += 1;
        }
    }

    fn value(&self) -> f64 {
        (self.read)(self)
    }
}
