//! What is read off how often each class is predicted, and predicted right.

use super::Metric;
use crate::graph::Targets;

/// Counts of each class; the prediction is the highest output, of equals the first. Of several labels per row
/// each is a class of its own, predicted where its probability is above one half.
pub struct PerClass {
    /// For each class: rows of it that were predicted right, rows of it, rows predicted as it.
    counts: Vec<(u64, u64, u64)>,
    /// Whether rows have several labels.
    labels: bool,
    read: fn(&Self) -> f64,
}

impl PerClass {
    /// No rows yet, and what is read off at the end.
    pub fn new(width: usize, read: fn(&Self) -> f64) -> Self {
        Self { counts: vec![(0, 0, 0); width], labels: false, read }
    }

    /// Takes a row of a class with what it was predicted as.
    pub fn count(&mut self, class: usize, predicted: usize) {
        self.counts[class].0 += u64::from(class == predicted);
        self.counts[class].1 += 1;
        self.counts[predicted].2 += 1;
    }

    /// For each class: rows of it that were predicted right, rows of it, rows predicted as it.
    pub fn counts(&self) -> &[(u64, u64, u64)] {
        &self.counts
    }

    fn per_class(&self) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
        self.counts.iter().map(|(right, of_class, predicted)| (*right as f64, *of_class as f64, *predicted as f64))
    }

    /// The mean of a score over classes that occur or are predicted, or over all labels (as scikit-learn's
    /// `macro`); a score without anything to divide by is 0.
    fn over_classes(&self, score: impl Fn(f64, f64, f64) -> (f64, f64)) -> f64 {
        let all = self.per_class().filter(|(_, t, p)| t + p > 0.0 || self.labels);
        mean(all.map(|(right, t, p)| quotient(score(right, t, p))))
    }

    /// The same, weighted by each class's rows.
    fn by_rows(&self, score: impl Fn(f64, f64, f64) -> (f64, f64)) -> f64 {
        let rows: f64 = self.per_class().map(|(_, t, _)| t).sum();
        self.per_class().map(|(right, t, p)| t * quotient(score(right, t, p))).sum::<f64>() / rows.max(1.0)
    }

    /// The same of the sums over classes.
    fn of_sums(&self, score: impl Fn(f64, f64, f64) -> (f64, f64)) -> f64 {
        let add = |(a, b, c): (f64, f64, f64), (x, y, z): (f64, f64, f64)| (a + x, b + y, c + z);
        let (right, t, p) = self.per_class().fold((0.0, 0.0, 0.0), add);
        quotient(score(right, t, p))
    }

    /// The mean intersection over union.
    pub fn mean_iou(&self) -> f64 {
        self.over_classes(|right, of_class, predicted| (right, of_class + predicted - right))
    }

    /// The mean precision.
    pub fn macro_precision(&self) -> f64 {
        self.over_classes(precision)
    }

    /// The mean recall.
    pub fn macro_recall(&self) -> f64 {
        self.over_classes(recall)
    }

    /// The mean F1 score.
    pub fn macro_f1(&self) -> f64 {
        self.over_classes(f1)
    }

    /// The precision of all predictions together.
    pub fn micro_precision(&self) -> f64 {
        self.of_sums(precision)
    }

    /// The recall of all rows together.
    pub fn micro_recall(&self) -> f64 {
        self.of_sums(recall)
    }

    /// The F1 score of all together.
    pub fn micro_f1(&self) -> f64 {
        self.of_sums(f1)
    }

    /// Each class's precision, weighted by its rows.
    pub fn weighted_precision(&self) -> f64 {
        self.by_rows(precision)
    }

    /// Each class's recall, weighted by its rows.
    pub fn weighted_recall(&self) -> f64 {
        self.by_rows(recall)
    }

    /// Each class's F1 score, weighted by its rows.
    pub fn weighted_f1(&self) -> f64 {
        self.by_rows(f1)
    }

    /// `(agreement − chance) / (1 − chance)` (Cohen, 1960); 0 where chance alone explains everything.
    pub fn cohen_kappa(&self) -> f64 {
        let rows: f64 = self.per_class().map(|(_, t, _)| t).sum();
        let agreement: f64 = self.per_class().map(|(right, _, _)| right).sum::<f64>() / rows.max(1.0);
        let chance: f64 = self.per_class().map(|(_, t, p)| t * p).sum::<f64>() / (rows * rows).max(1.0);
        if chance < 1.0 { (agreement - chance) / (1.0 - chance) } else { 0.0 }
    }

    /// The mean recall over classes that occur (scikit-learn's `balanced_accuracy_score`).
    pub fn balanced_accuracy(&self) -> f64 {
        mean(self.per_class().filter(|(_, t, _)| *t > 0.0).map(|(right, t, _)| right / t))
    }
}

fn precision(right: f64, _: f64, predicted: f64) -> (f64, f64) {
    (right, predicted)
}

fn recall(right: f64, of_class: f64, _: f64) -> (f64, f64) {
    (right, of_class)
}

fn f1(right: f64, of_class: f64, predicted: f64) -> (f64, f64) {
    (2.0 * right, of_class + predicted)
}

fn quotient((above, below): (f64, f64)) -> f64 {
    if below > 0.0 { above / below } else { 0.0 }
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

impl Metric for PerClass {
    fn update(&mut self, outputs: &[f32], targets: Targets<'_>) {
        let width = self.counts.len();
        match targets {
            Targets::Classes(classes) => {
                for (row, y) in outputs.chunks_exact(width).zip(classes) {
                    self.count(*y as usize, argmax(row));
                }
            }
            Targets::MultiLabel { values, .. } => {
                self.labels = true;
                for (row, y) in outputs.chunks_exact(width).zip(values.chunks_exact(width)) {
                    for ((x, y), (right, of_label, predicted)) in row.iter().zip(y).zip(&mut self.counts) {
                        // A logit above 0 is a probability above one half.
                        let (says, is) = (*x > 0.0, *y > 0.5);
                        *right += u64::from(says && is);
                        *of_label += u64::from(is);
                        *predicted += u64::from(says);
                    }
                }
            }
            Targets::Values { .. } | Targets::Pairs { .. } => {}
        }
    }

    fn value(&self) -> f64 {
        (self.read)(self)
    }
}
