//! What a classifier did on a split: confusion, classes, precision against recall, calibration.

use serde::Serialize;

use crate::metric::{argmax, average_precision, regression};

/// Up to this many classes the confusion matrix is shown, and a curve per class.
const MOST_SHOWN: usize = 40;
/// With more classes, so many pairs of classes that are taken for each other.
const CONFUSED: usize = 40;
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
    /// Where the matrix is absent: true and predicted class of the most wrong rows, with their number, the most first.
    pub confused: Vec<(u32, u32, u64)>,
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

/// The pixels of a split's pictures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pixels {
    /// The split.
    pub split: String,
    /// Each class.
    pub classes: Vec<ClassOfPixels>,
}

/// A class of pixels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassOfPixels {
    /// Its name.
    pub name: String,
    /// Pixels of it.
    pub support: u64,
    /// Intersection over union; none if it neither occurs nor is predicted.
    pub iou: Option<f64>,
    /// The share of pixels predicted as it that are of it.
    pub precision: Option<f64>,
    /// The share of its pixels that are predicted as it.
    pub recall: Option<f64>,
}

impl ClassOfPixels {
    /// Of a class with so many pixels, of which so many were found right, where so many were found.
    pub fn new(name: &str, (there, found, right): (u64, u64, u64)) -> Self {
        let share = |of: u64| (of > 0).then(|| right as f64 / of as f64);
        let (iou, precision, recall) = (share(there + found - right), share(found), share(there));
        Self { name: name.into(), support: there, iou, precision, recall }
    }
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
            confused: if n > MOST_SHOWN { confused(&counts) } else { Vec::new() },
            confusion: (n <= MOST_SHOWN).then_some(counts),
            classes,
            precision_recall: curves,
            calibration,
            calibration_error,
        }
    }
}

impl Evaluation {
    /// Measures the probabilities of labels `[rows, labels]` against those that the rows have. A label is predicted above
    /// one half; calibration is over every row and label.
    pub fn of_labels(split: &str, names: &[String], probabilities: &[f32], truth: &[bool]) -> Self {
        let n = names.len().max(1);
        let mut curves = Vec::new();
        let mut all: Vec<(f32, bool)> = probabilities.iter().copied().zip(truth.iter().copied()).collect();
        let classes = names.iter().enumerate().map(|(c, name)| {
            let mut pairs: Vec<(f32, bool)> = all.iter().skip(c).step_by(n).copied().collect();
            let count = |of: &dyn Fn(&(f32, bool)) -> bool| pairs.iter().filter(|pair| of(pair)).count() as u64;
            let (support, predicted) = (count(&|(_, y)| *y), count(&|(p, _)| *p > 0.5));
            let right = count(&|(p, y)| *y && *p > 0.5);
            let average_precision = average_precision(&mut pairs);
            if n <= MOST_SHOWN && average_precision.is_some() {
                curves.push(Curve { class: name.clone(), points: curve(&pairs) });
            }
            Class { average_precision, ..measured(name, right, support, predicted) }
        });
        let classes = classes.collect();
        let (calibration, calibration_error) = binned(all.iter().map(|(p, y)| (f64::from(*p), *y)));
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        if n > 1 {
            curves.insert(0, Curve { class: "all labels".into(), points: curve(&all) });
        }
        let split = split.into();
        Self {
            split,
            confusion: None,
            confused: Vec::new(),
            classes,
            precision_recall: curves,
            calibration,
            calibration_error,
        }
    }
}

/// The pairs of different classes that most rows are of.
fn confused(counts: &[Vec<u64>]) -> Vec<(u32, u32, u64)> {
    let of_class = |(y, row): (usize, &Vec<u64>)| {
        let pairs = row.iter().enumerate().filter(move |(p, count)| *p != y && **count > 0);
        pairs.map(|(p, count)| (y as u32, p as u32, *count)).collect::<Vec<_>>()
    };
    let mut all: Vec<(u32, u32, u64)> = counts.iter().enumerate().flat_map(of_class).collect();
    all.sort_by_key(|(y, p, count)| (std::cmp::Reverse(*count), *y, *p));
    all.truncate(CONFUSED);
    all
}

/// Predicted against true numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fit {
    /// The split.
    pub split: String,
    /// The value's name.
    pub name: String,
    /// Rows in all.
    pub rows: usize,
    /// The root of the mean square of the errors.
    pub rmse: f64,
    /// The share of the variance that is explained.
    pub r2: f64,
    /// Row, true and predicted value, of evenly taken rows.
    pub points: Vec<(usize, f32, f32)>,
}

impl Fit {
    /// Of at most `most` rows the points are kept.
    pub fn new((split, name): (&str, &str), rows: &[usize], truth: &[f32], found: &[f32], most: usize) -> Self {
        let wide = |values: &[f32]| values.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let (x, y) = (wide(found), wide(truth));
        let count = rows.len().min(most);
        let points = (0..count).map(|i| i * rows.len() / count).map(|i| (rows[i], truth[i], found[i])).collect();
        Self {
            split: split.into(),
            name: name.into(),
            rows: rows.len(),
            rmse: regression::rmse(&x, &y),
            r2: regression::r2(&x, &y),
            points,
        }
    }
}

fn class(name: &str, c: usize, counts: &[Vec<u64>], average_precision: Option<f64>) -> Class {
    let right = counts[c][c];
    let support: u64 = counts[c].iter().sum();
    let predicted: u64 = counts.iter().map(|row| row[c]).sum();
    Class { average_precision, ..measured(name, right, support, predicted) }
}

/// What counts say of a class.
fn measured(name: &str, right: u64, support: u64, predicted: u64) -> Class {
    let share = |of: u64| (of > 0).then(|| right as f64 / of as f64);
    let both = support + predicted;
    Class {
        name: name.into(),
        support,
        precision: share(predicted),
        recall: share(support),
        f1: (both > 0).then(|| 2.0 * right as f64 / both as f64),
        average_precision: None,
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
    let surest = |row: &&[f32]| argmax(row);
    binned(rows.iter().zip(truth).map(|(row, &y)| (f64::from(row[surest(row)]), surest(row) == y as usize)))
}

/// Probabilities with whether what they are of is so, in bins, and the expected calibration error.
fn binned(pairs: impl Iterator<Item = (f64, bool)>) -> (Vec<Bin>, f64) {
    let mut bins = vec![Bin::default(); BINS];
    for (p, is_so) in pairs {
        let bin = &mut bins[((p * BINS as f64).ceil() as usize).clamp(1, BINS) - 1];
        bin.count += 1;
        bin.confidence += p;
        bin.accuracy += f64::from(u8::from(is_so));
    }
    let all: u64 = bins.iter().map(|bin| bin.count).sum();
    let error: f64 = bins.iter().map(|bin| (bin.accuracy - bin.confidence).abs()).sum();
    for bin in &mut bins {
        let count = bin.count.max(1) as f64;
        bin.confidence /= count;
        bin.accuracy /= count;
    }
    (bins, error / all.max(1) as f64)
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
    fn of_many_classes_the_most_confused_are_named() {
        let names: Vec<String> = (0..41).map(|i| format!("c{i}")).collect();
        // Classes 7 and 8 are both taken for 9, the first twice as often.
        let truth = [7, 7, 8, 9];
        let probabilities: Vec<f32> = truth.iter().flat_map(|_| (0..41).map(|c| f32::from(u8::from(c == 9)))).collect();
        let found = Evaluation::new("test", &names, &probabilities, &truth);
        assert!(found.confusion.is_none());
        assert_eq!(found.confused, [(7, 9, 2), (8, 9, 1)]);
    }

    #[test]
    fn a_perfect_class_has_precision_one_up_to_full_recall() {
        let points = curve(&[(0.9, true), (0.8, true), (0.2, false), (0.1, false)]);
        assert_eq!(points, [(0.5, 1.0), (1.0, 1.0)]);
    }

    #[test]
    fn labels_are_counted_one_by_one() {
        let names: Vec<String> = ["sky", "sea"].map(String::from).into();
        let found = Evaluation::of_labels(
            "test",
            &names,
            &[0.9, 0.6, 0.2, 0.7, 0.8, 0.1],
            &[true, false, false, true, true, true],
        );
        let sea = &found.classes[1];
        assert_eq!((sea.support, sea.precision, sea.recall), (2, Some(0.5), Some(0.5)));
        assert_eq!(found.classes[0].f1, Some(1.0));
        assert!(found.confusion.is_none() && found.precision_recall.len() == 3);
        assert_eq!(found.calibration.iter().map(|bin| bin.count).sum::<u64>(), 6);
    }

    #[test]
    fn values_are_fitted_on_evenly_taken_rows() {
        let fit = Fit::new(("test", "age"), &[3, 4, 5, 6], &[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 6.0], 2);
        assert_eq!((fit.rows, fit.points.len(), fit.points[1]), (4, 2, (5, 3.0, 3.0)));
        assert!((fit.rmse - 1.0).abs() < 1e-12 && (fit.r2 - 0.2).abs() < 1e-12, "{fit:?}");
    }
}
