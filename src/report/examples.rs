//! Rows worth a look: errors, and labels in doubt.

use serde::Serialize;

use crate::metric::argmax;

/// A row with what was predicted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// The row's number in the data set.
    pub row: usize,
    /// Where it comes from, such as `labels.csv:17`.
    pub origin: String,
    /// Its split.
    pub split: String,
    /// Its label, labels or values.
    pub label: String,
    /// The class with the highest probability, the predicted labels, or the predicted values.
    pub predicted: String,
    /// The probability of that class.
    pub probability: Option<f32>,
    /// The probability of the labelled class.
    pub label_probability: Option<f32>,
}

/// A predicted row.
#[derive(Debug, Clone, Copy)]
pub struct Predicted<'a> {
    /// The row's number in the data set.
    pub row: usize,
    /// Its split: `train`, `valid` or `test`.
    pub split: &'a str,
    /// Its class.
    pub class: u32,
    /// The probability of every class.
    pub probabilities: &'a [f32],
}

impl Predicted<'_> {
    fn predicted(&self) -> usize {
        argmax(self.probabilities)
    }

    fn is_wrong(&self) -> bool {
        self.predicted() != self.class as usize
    }

    fn highest(&self) -> f32 {
        self.probabilities[self.predicted()]
    }

    fn of_label(&self) -> f32 {
        self.probabilities[self.class as usize]
    }

    /// Rows that were not trained on come first.
    fn is_trained_on(&self) -> bool {
        self.split == "train"
    }

    fn example(&self, names: &[String], origin: &dyn Fn(usize) -> String) -> Example {
        Example {
            row: self.row,
            origin: origin(self.row),
            split: self.split.into(),
            label: names[self.class as usize].clone(),
            predicted: names[self.predicted()].clone(),
            probability: Some(self.highest()),
            label_probability: Some(self.of_label()),
        }
    }
}

/// Picks rows by their predictions.
pub struct Picker<'a> {
    /// The predicted rows.
    pub rows: &'a [Predicted<'a>],
    /// The names of the classes.
    pub names: &'a [String],
    /// Where a row comes from.
    pub origin: &'a dyn Fn(usize) -> String,
    /// How many are picked at most.
    pub most: usize,
}

impl Picker<'_> {
    /// Wrong predictions, held-out rows first, the surest first.
    pub fn confident_errors(&self) -> Vec<Example> {
        self.pick(|row| row.is_wrong(), |row| -row.highest())
    }

    /// The rows with the least probability for their label, held-out rows first.
    pub fn worst(&self) -> Vec<Example> {
        self.pick(|row| row.is_wrong(), |row| row.of_label())
    }

    /// Rows whose label is in doubt, by confident learning (Northcutt, Jiang and Chuang, 2021): the threshold of
    /// a class is the mean probability that its own rows have for it; a row is in doubt if, among the
    /// classes whose threshold it reaches, the likeliest is not its label. The order is by the margin.
    pub fn label_issues(&self) -> Vec<Example> {
        let n = self.names.len();
        let (mut sums, mut counts) = (vec![0.0f64; n], vec![0.0f64; n]);
        for row in self.rows {
            sums[row.class as usize] += f64::from(row.of_label());
            counts[row.class as usize] += 1.0;
        }
        let reaches = |class: usize, p: f32| counts[class] > 0.0 && f64::from(p) >= sums[class] / counts[class];
        let doubted = |row: &Predicted<'_>| {
            let reached = (0..n).filter(|&class| reaches(class, row.probabilities[class]));
            let likeliest = reached.max_by(|&a, &b| row.probabilities[a].total_cmp(&row.probabilities[b]));
            likeliest.is_some_and(|class| class != row.class as usize && row.is_wrong())
        };
        self.pick(doubted, |row| row.of_label() - row.highest())
    }

    fn pick(&self, wanted: impl Fn(&Predicted<'_>) -> bool, order: impl Fn(&Predicted<'_>) -> f32) -> Vec<Example> {
        let mut picked: Vec<&Predicted<'_>> = self.rows.iter().filter(|row| wanted(row)).collect();
        let key = |row: &Predicted<'_>| (row.is_trained_on(), order(row));
        picked.sort_by(|a, b| {
            let (a, b) = (key(a), key(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        picked.iter().take(self.most).map(|row| row.example(self.names, self.origin)).collect()
    }
}

/// A row with wrong labels: the mean cross-entropy of its labels, what it is labelled with, and what was predicted with
/// the probability of each label. None for a row all of whose labels are right.
pub fn labelled_worst(names: &[String], probabilities: &[f32], truth: &[f32]) -> Option<(f64, String, String)> {
    let each = || names.iter().zip(probabilities).zip(truth);
    if each().all(|((_, p), y)| (*p > 0.5) == (*y > 0.5)) {
        return None;
    }
    let right = |p: f32, y: f32| f64::from(if y > 0.5 { p } else { 1.0 - p }).max(1e-12);
    let loss = each().map(|((_, p), y)| -right(*p, *y).ln()).sum::<f64>() / names.len().max(1) as f64;
    let or_none = |labels: Vec<String>| if labels.is_empty() { "no label".to_string() } else { labels.join(", ") };
    let label = each().filter(|(_, y)| **y > 0.5).map(|((name, _), _)| name.clone()).collect();
    let said = each().filter(|((_, p), _)| **p > 0.5);
    let said = said.map(|((name, p), _)| format!("{name} ({:.0} %)", 100.0 * p)).collect();
    Some((loss, or_none(label), or_none(said)))
}

/// A row of values: its greatest error in standard deviations of the value, what it is, and what was predicted.
pub fn measured_worst(
    names: &[String],
    spreads: &[f32],
    predicted: &[f32],
    truth: &[f32],
) -> Option<(f64, String, String)> {
    let errors = predicted.iter().zip(truth).zip(spreads).map(|((x, y), spread)| f64::from((x - y).abs() / spread));
    let loss = errors.max_by(f64::total_cmp)?;
    let shown = |values: &[f32]| match (names, values) {
        ([_], [value]) => format!("{value}"),
        _ => names.iter().zip(values).map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", "),
    };
    Some((loss, shown(truth), shown(predicted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_out_errors_come_first_and_a_flipped_label_is_suspected() {
        let names: Vec<String> = ["cat", "dog"].map(String::from).into();
        let data: [(&str, u32, [f32; 2]); 6] = [
            ("test", 0, [0.95, 0.05]),
            ("test", 1, [0.1, 0.9]),
            ("test", 1, [0.97, 0.03]),
            ("valid", 0, [0.45, 0.55]),
            ("train", 0, [0.01, 0.99]),
            ("train", 0, [0.9, 0.1]),
        ];
        let rows: Vec<Predicted<'_>> = data
            .iter()
            .enumerate()
            .map(|(row, (split, class, probabilities))| Predicted { row, split, class: *class, probabilities })
            .collect();
        let picker = Picker { rows: &rows, names: &names, origin: &|row| format!("{row}.png"), most: 10 };
        let numbers = |examples: Vec<Example>| examples.iter().map(|e| e.row).collect::<Vec<_>>();
        assert_eq!(numbers(picker.confident_errors()), [2, 3, 4]);
        assert_eq!(numbers(picker.worst()), [2, 3, 4]);
        let issues = picker.label_issues();
        assert_eq!(
            (issues[0].label.as_str(), issues[0].predicted.as_str(), issues[0].origin.as_str()),
            ("dog", "cat", "2.png")
        );
        assert!(!numbers(issues).contains(&0));
    }

    #[test]
    fn rows_of_labels_and_values_are_worst_by_their_loss() {
        let names: Vec<String> = ["sky", "sea"].map(String::from).into();
        assert_eq!(labelled_worst(&names, &[0.9, 0.2], &[1.0, 0.0]), None);
        let (loss, label, said) = labelled_worst(&names, &[0.1, 0.8], &[1.0, 0.0]).unwrap();
        assert!((loss - (-(0.1f64.ln()) - 0.2f64.ln()) / 2.0).abs() < 1e-6);
        assert_eq!((label.as_str(), said.as_str()), ("sky", "sea (80 %)"));
        let (loss, truth, found) = measured_worst(&names, &[2.0, 1.0], &[4.0, 0.5], &[1.0, 0.0]).unwrap();
        assert_eq!((loss, truth.as_str(), found.as_str()), (1.5, "sky 1, sea 0", "sky 4, sea 0.5"));
    }
}
