//! What a classifier did on a split: confusion, classes, precision against recall, calibration.

use serde::Serialize;

use crate::metric::{argmax, average_precision};

/// Up to this many classes the confusion matrix is shown, and a curve per class.
const MOST_SHOWN: usize = 40;
/// Points of a curve.
const POINTS: usize = 64;
/// Bins of the calibration, as in `calibration_error`.
const BINS: usize = 15;

/// What was measured on a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// The split.
    pub split: String,
    /// Rows by `[true class][predicted class]`; absent with many classes.
    pub confusion: Option<Vec<Vec<u64>>>,
    /// Each class.
    pub classes: Vec<Class>,
    /// Precision against recall: of all classes against the rest together, and of each class where there
    /// are few.
    pub precision_recall: Vec<Curve>,
    /// Rows by their highest probability.
    pub calibration: Vec<Bin>,
    /// The expected calibration error over those bins.
    pub calibration_error: f64,
}

/// A class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// Rows of it.
    pub support: u64,
    /// The share of rows predicted as it that are of it; none if there are none.
    pub precision: Option<f64>,
    /// The share of its rows that are predicted as it.
    pub recall: Option<f64>,
    /// Their harmonic mean.
    pub f1: Option<f64>,
    /// The average precision of its probability.
    pub average_precision: Option<f64>,
}

/// Recall and precision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// What is found.
    pub class: String,
    /// Recall and precision at falling thresholds.
    pub points: Vec<(f64, f64)>,
}

/// Rows whose highest probability is in one of 15 equal ranges.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Bin {
    /// How many.
    pub count: u64,
    /// Their mean highest probability.
    pub confidence: f64,
    /// The share of them that is right.
    pub accuracy: f64,
}

impl Evaluation {
    /// Measures probabilities `[rows, classes]` against the classes of the rows.
    pub fn new(split: &str, names: &[String], probabilities: &[f32], truth: &[u32]) -> Self {
        let n = names.len();
        let rows: Vec<&[f32]> = probabilities.chunks_exact(n.max(1)).collect();
        let mut counts = vec![vec![0u64; n]; n];
        rows.iter().zip(truth).for_each(|(row, &y)| counts[y as usize][argmax(row)] += 1);
        let mut curves = Vec::new();
        let mut all: Vec<(f32, bool)> = Vec::with_capacity(probabilities.len());
        let classes = names
            .iter()
            .enumerate()
            .map(|(c, name)| {
                let mut pairs: Vec<(f32, bool)> =
                    rows.iter().zip(truth).map(|(row, &y)| (row[c], y as usize == c)).collect();
                let ap = average_precision(&mut pairs);
                if n <= MOST_SHOWN && ap.is_some() && (n > 2 || c == n - 1) {
                    curves.push(Curve { class: name.clone(), points: curve(&pairs) });
                }
                all.append(&mut pairs);
                class(name, c, &counts, ap)
            })
            .collect();
        if n > 2 {
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            curves.insert(0, Curve { class: "all classes".into(), points: curve(&all) });
        }
        let (calibration, calibration_error) = calibration(&rows, truth);
        Self {
            split: split.into(),
            confusion: (n <= MOST_SHOWN).then_some(counts),
            classes,
            precision_recall: curves,
            calibration,
            calibration_error,
        }
    }
}

fn class(name: &str, c: usize, counts: &[Vec<u64>], average_precision: Option<f64>) -> Class {
    let right = counts[c][c] as f64;
    let support: u64 = counts[c].iter().sum();
    let predicted: u64 = counts.iter().map(|row| row[c]).sum();
    let share = |of: u64| (of > 0).then(|| right / of as f64);
    let both = support + predicted;
    Class {
        name: name.into(),
        support,
        precision: share(predicted),
        recall: share(support),
        f1: (both > 0).then(|| 2.0 * right / both as f64),
        average_precision,
    }
}

/// The curve of pairs in falling order of their score, at thresholds that differ, thinned to even steps of recall.
fn curve(pairs: &[(f32, bool)]) -> Vec<(f64, f64)> {
    let positives = pairs.iter().filter(|(_, hit)| *hit).count().max(1) as f64;
    let (mut seen, mut found) = (0.0, 0.0);
    let mut points: Vec<(f64, f64)> = Vec::new();
    let groups: Vec<&[(f32, bool)]> = pairs.chunk_by(|a, b| a.0 == b.0).collect();
    for (i, group) in groups.iter().enumerate() {
        seen += group.len() as f64;
        found += group.iter().filter(|(_, hit)| *hit).count() as f64;
        let recall = found / positives;
        let far = points.last().is_none_or(|last| recall - last.0 >= 1.0 / POINTS as f64);
        if far || (i + 1 == groups.len() && points.last().is_some_and(|last| last.0 < recall)) {
            points.push((recall, found / seen));
        }
    }
    points
}

fn calibration(rows: &[&[f32]], truth: &[u32]) -> (Vec<Bin>, f64) {
    let mut bins = vec![Bin::default(); BINS];
    for (row, &y) in rows.iter().zip(truth) {
        let class = argmax(row);
        let p = f64::from(row[class]);
        let bin = &mut bins[((p * BINS as f64).ceil() as usize).clamp(1, BINS) - 1];
        bin.count += 1;
        bin.confidence += p;
        bin.accuracy += f64::from(u8::from(class == y as usize));
    }
    let error: f64 = bins.iter().map(|bin| (bin.accuracy - bin.confidence).abs()).sum();
    for bin in &mut bins {
        let count = bin.count.max(1) as f64;
        bin.confidence /= count;
        bin.accuracy /= count;
    }
    (bins, error / rows.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Targets;
    use crate::metric::MetricName;

    #[test]
    fn classes_and_calibration_agree_with_the_metrics() {
        let names: Vec<String> = ["a", "b", "c"].map(String::from).into();
        let truth: Vec<u32> = (0..60).map(|i| i * 7 % 3).collect();
        let logits: Vec<f32> = (0..180).map(|i| ((i * 367 + i * i % 97) % 101) as f32 / 25.0).collect();
        let mut probabilities = logits.clone();
        probabilities.chunks_exact_mut(3).for_each(|row| {
            crate::graph::op::Softmax::row(row);
        });
        let evaluation = Evaluation::new("test", &names, &probabilities, &truth);
        let metric = |name: MetricName| {
            let mut metric = name.start(3);
            metric.update(&logits, Targets::Classes(&truth));
            metric.value()
        };
        let mean = |f: fn(&Class) -> Option<f64>| evaluation.classes.iter().filter_map(f).sum::<f64>() / 3.0;
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        close(mean(|c| c.f1), metric(MetricName::MacroF1));
        close(mean(|c| c.precision), metric(MetricName::MacroPrecision));
        close(mean(|c| c.average_precision), metric(MetricName::AveragePrecision));
        close(evaluation.calibration_error, metric(MetricName::CalibrationError));
        let right: u64 = (0..3).map(|c| evaluation.confusion.as_ref().unwrap()[c][c]).sum();
        close(right as f64 / 60.0, metric(MetricName::Accuracy));
    }

    #[test]
    fn a_perfect_class_has_precision_one_up_to_full_recall() {
        let points = curve(&[(0.9, true), (0.8, true), (0.2, false), (0.1, false)]);
        assert_eq!(points, [(0.5, 1.0), (1.0, 1.0)]);
    }
}
