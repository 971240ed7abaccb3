//! Solved heads against scikit-learn's numbers; `tests/reference/exact.py` wrote them.

use serde_json::Value;

use super::*;
use crate::graph::{Targets, Task};
use crate::head::{Distance, HeadConfig, Kept, Knn, Logistic, NearestMean, OneOrPath, Ridge, VoteWeights};
use crate::loss::LossConfig;
use crate::metric::MetricName;
use crate::neck::{Gem, NeckConfig, Standardize};
use crate::train::{InMemory, Prediction, build_graph_above, predict};

fn numbers(n: usize, factor: usize, modulus: usize) -> Vec<f32> {
    (0..n).map(|i| (i * factor % modulus) as f32 / (modulus / 2) as f32 - 1.0).collect()
}

/// As the script makes them.
fn rows_of(rows: usize, width: usize, classes: usize) -> (Vec<f32>, Vec<u32>) {
    let y: Vec<u32> = (0..rows).map(|i| ((i * 7 + i / 3) % classes) as u32).collect();
    let mut x: Vec<f32> = numbers(rows * width, 37, 101).iter().map(|x| 2.0 * x + 0.5).collect();
    y.iter().enumerate().for_each(|(row, label)| x[row * width + *label as usize % width] += 1.0);
    (x, y)
}

fn config() -> TrainConfig {
    let recipe = crate::recipe::TrainConfig { batch_size: 16, ..Default::default() };
    TrainConfig { recipe, metrics: vec![MetricName::Accuracy], order_seed: 0, seed: 0 }
}

/// A head solved on some rows, then asked about others.
struct Case {
    width: usize,
    classes: usize,
    x: Vec<f32>,
    y: Vec<u32>,
    neck: NeckChain,
}

impl Case {
    fn new(rows: usize, width: usize, classes: usize) -> Self {
        let (x, y) = rows_of(rows, width, classes);
        Self { width, classes, x, y, neck: NeckChain::default() }
    }

    /// The solution with the last `valid` rows for validation.
    fn solve_with(&self, head: &HeadConfig, valid: usize) -> Result<(Graph, Solution)> {
        let rows = self.y.len();
        let features = InMemory::new(rows).with("x", &[self.width], self.x.clone())?;
        let all: Vec<u32> = (0..rows as u32).collect();
        let (train, valid) = all.split_at(rows - valid);
        let data = Data::new(&features, Targets::Classes(&self.y), train, valid);
        let inputs = crate::train::Features::inputs(&features);
        let graph = build_graph_above(None, &self.neck, head, inputs, self.classes, train.len())?;
        let solved = head.solved().unwrap();
        let solution = solve(&self.neck, solved, &graph, &data, &config(), &Cancel::default())?;
        Ok((graph, solution))
    }

    /// What the nearest rows' two values are on average.
    fn means(&self, head: Knn, queries: &[f32]) -> Vec<f32> {
        let (rows, head) = (self.y.len(), HeadConfig::Knn(head));
        let features = InMemory::new(rows).with("x", &[self.width], self.x.clone()).unwrap();
        let values = numbers(rows * 2, 29, 61);
        let (all, targets) = ((0..rows as u32).collect::<Vec<_>>(), Targets::Values { width: 2, values: &values });
        let data = Data::new(&features, targets, &all, &[]);
        let inputs = crate::train::Features::inputs(&features);
        let graph = build_graph_above(None, &self.neck, &head, inputs, 2, rows).unwrap();
        let recipe = crate::recipe::TrainConfig { loss: Some(LossConfig::of_task(Task::Values)), ..config().recipe };
        let config = TrainConfig { recipe, metrics: vec![MetricName::Rmse], ..config() };
        let weights = solve(&self.neck, head.solved().unwrap(), &graph, &data, &config, &Cancel::default());
        let asked = InMemory::new(queries.len() / self.width).with("x", &[self.width], queries.to_vec()).unwrap();
        let rows: Vec<u32> = (0..(queries.len() / self.width) as u32).collect();
        predict(&graph, &weights.unwrap().weights, &asked, &rows, Prediction::Raw).unwrap()
    }

    fn solve(&self, head: &HeadConfig) -> (Graph, Solution) {
        self.solve_with(head, 0).unwrap()
    }

    fn outputs(&self, head: &HeadConfig, queries: &[f32], prediction: Prediction) -> Vec<f32> {
        let (graph, solution) = self.solve(head);
        let count = queries.len() / self.width;
        let features = InMemory::new(count).with("x", &[self.width], queries.to_vec()).unwrap();
        let rows: Vec<u32> = (0..count as u32).collect();
        predict(&graph, &solution.weights, &features, &rows, prediction).unwrap()
    }
}

fn near(ours: &[f32], theirs: &Value, tolerance: f64, what: &str) {
    let theirs = theirs.as_array().unwrap();
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (a, b) in ours.iter().zip(theirs) {
        let b = b.as_f64().unwrap();
        assert!((f64::from(*a) - b).abs() <= tolerance * b.abs().max(1.0), "{what}: {a}, not {b}");
    }
}

fn best(outputs: &[f32], classes: usize) -> Vec<u64> {
    outputs.chunks_exact(classes).map(|row| crate::metric::argmax(row) as u64).collect()
}

fn cases() -> [(&'static str, usize, usize, usize); 3] {
    [("tall", 60, 5, 3), ("wide", 14, 20, 3), ("two", 50, 4, 2)]
}

#[test]
fn solved_heads_give_scikit_learns_numbers() {
    let reference: Value = serde_json::from_str(include_str!("../../../tests/reference/exact.json")).unwrap();
    for (name, rows, width, classes) in cases() {
        let case = Case::new(rows, width, classes);
        let expected = &reference[name];
        let weights = |head: &HeadConfig| {
            let (_, solution) = case.solve(head);
            let weight = solution.weights.get("head.weight", &[classes, width]).unwrap().to_vec();
            (weight, solution.weights.get("head.bias", &[classes]).unwrap().to_vec())
        };
        // In f64, and in f32 where the limit asks for it.
        let order = rows.min(width) as f64;
        let kept = if rows < width { (rows * width) as f64 } else { 0.0 };
        for (max_memory_gb, tolerance) in [(4.0, 1e-6), ((4.0 * order * order + 4.0 * kept + 1.0) / 1e9, 1e-4)] {
            let head = HeadConfig::Ridge(Ridge { alpha: OneOrPath(vec![2.0]), max_memory_gb });
            let (weight, bias) = weights(&head);
            near(&weight, &expected["ridge"]["weight"], tolerance, name);
            near(&bias, &expected["ridge"]["bias"], tolerance, name);
            let predicted = best(&case.outputs(&head, &case.x, Prediction::Raw), classes);
            assert_eq!(serde_json::to_value(predicted).unwrap(), expected["ridge_predicts"]);
        }
        let path = Ridge { alpha: OneOrPath(vec![0.5, 2.0, 30.0]), ..Ridge::default() };
        for trial in case.solve(&HeadConfig::Ridge(path)).1.trials {
            let wanted = expected["gcv"][trial.what.replace("alpha ", "")].as_f64();
            let wanted = wanted.or(expected["gcv"][trial.what.replace("alpha ", "") + ".0"].as_f64()).unwrap();
            let found = trial.score.unwrap().1;
            assert!((found - wanted).abs() < 1e-6 * wanted, "{name} {}: {found}, not {wanted}", trial.what);
        }

        // In memory, and read anew in every pass.
        for max_memory_gb in [4.0, 1e-9] {
            let logistic = Logistic { c: OneOrPath(vec![0.7]), tolerance: 1e-8, max_memory_gb, ..Logistic::default() };
            let head = HeadConfig::Logistic(logistic);
            let probabilities = case.outputs(&head, &case.x[..6 * width], Prediction::Softmax);
            near(&probabilities, &expected["logistic_probabilities"], 2e-6, name);
            if classes > 2 {
                let (weight, bias) = weights(&head);
                near(&weight, &expected["logistic"]["weight"], 1e-4, name);
                let mean = bias.iter().sum::<f32>() / classes as f32;
                let centred: Vec<f32> = bias.iter().map(|b| b - mean).collect();
                near(&centred, &expected["logistic"]["bias"], 1e-4, name);
            }
        }

        let (queries, _) = rows_of(rows + 9, width, classes);
        let queries: Vec<f32> = queries[(rows - 1) * width..].iter().map(|x| x * 0.9).collect();
        for (metric, written) in [(Distance::L2, "euclidean"), (Distance::Cosine, "cosine")] {
            for (weights, how) in [(VoteWeights::Uniform, "uniform"), (VoteWeights::Distance, "distance")] {
                let head = HeadConfig::Knn(Knn { k: 5, metric, weights, ..Knn::default() });
                let what = format!("{name} {written} {how}");
                let shares = case.outputs(&head, &queries, Prediction::Softmax);
                near(&shares, &expected[format!("knn_{written}_{how}")], 1e-4, &what);
                let means = case.means(Knn { k: 5, metric, weights, keeps: Kept::Values, ..Knn::default() }, &queries);
                near(&means, &expected[format!("knn_values_{written}_{how}")], 1e-4, &what);
            }
        }
        let knn = Knn { k: 5, metric: Distance::L2, weights: VoteWeights::Distance, ..Knn::default() };
        let same = case.outputs(&HeadConfig::Knn(knn), &case.x[..6 * width], Prediction::Softmax);
        near(&same, &expected["knn_same"], 1e-6, name);

        let mean = |metric| HeadConfig::NearestMean(NearestMean { metric });
        let predicted = best(&case.outputs(&mean(Distance::L2), &queries, Prediction::Raw), classes);
        assert_eq!(serde_json::to_value(predicted).unwrap(), expected["nearest_mean_l2"]);
        let scores = case.outputs(&mean(Distance::Cosine), &queries, Prediction::Raw);
        let cosines: Vec<f32> = scores.iter().map(|x| x / NearestMean::SCALE).collect();
        near(&cosines, &expected["nearest_mean_cosine"], 1e-5, name);
    }
}

#[test]
fn a_path_is_chosen_on_validation_rows_or_held_out_ones() {
    let case = Case::new(60, 5, 3);
    let logistic = HeadConfig::Logistic(Logistic::default());
    let (_, chosen) = case.solve_with(&logistic, 15).unwrap();
    assert!(chosen.summary().contains("of 5 tried, valid/accuracy"), "{}", chosen.summary());
    let best = chosen.trials.iter().map(|t| t.score.as_ref().unwrap().1).fold(0.0, f64::max);
    assert_eq!(chosen.trials[chosen.chosen].score.as_ref().unwrap().1, best);
    let (_, held) = case.solve_with(&logistic, 0).unwrap();
    assert!(held.summary().contains("held-out/accuracy"), "{}", held.summary());
    assert_eq!(held, case.solve(&logistic).1, "a function of the seed");
    let (_, ridge) = case.solve_with(&HeadConfig::Ridge(Ridge::default()), 15).unwrap();
    assert!(ridge.summary().contains("of 7 tried, valid/accuracy"), "{}", ridge.summary());
}

#[test]
fn results_do_not_depend_on_threads_and_a_neck_goes_before() {
    let mut case = Case::new(300, 12, 3);
    case.neck = NeckChain(vec![NeckConfig::Standardize(Standardize::default())]);
    for head in [HeadConfig::Logistic(Logistic::default()), HeadConfig::Ridge(Ridge::default())] {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| case.solve(&head).1)
        };
        assert_eq!(on(1), on(4));
        let mean = on(1).weights.get("neck.x.0.mean", &[12]).unwrap()[0];
        assert!(mean > 0.3, "fitted: {mean}");
    }
}

#[test]
fn memory_is_forecast_as_it_is_bounded() {
    let need = |head: HeadConfig, rows, width| memory_need(head.solved().unwrap(), rows, width);
    assert_eq!(need(HeadConfig::Knn(Knn::default()), 1000, 10), Some(MemoryNeed { bytes: 40_000.0, most: 4e9 }));
    assert_eq!(need(HeadConfig::NearestMean(NearestMean::default()), 1000, 10), None);
    let little = Logistic { max_memory_gb: 1e-6, ..Logistic::default() };
    assert_eq!(need(HeadConfig::Logistic(little), 1000, 10), None, "rows are read anew in every pass");
    // Of a path of penalties the matrix is kept beside its factor: 2 · 25,088² / 2 numbers or a little more, which
    // are within 4 GB in 32-bit floats alone.
    let wide = need(HeadConfig::Ridge(Ridge::default()), 50_000, 25_088).unwrap();
    assert!((2.5e9..4e9).contains(&wide.bytes), "{wide:?}");
    let wider = need(HeadConfig::Ridge(Ridge::default()), 200_000, 100_352).unwrap();
    assert!(wider.bytes > wider.most);
}

#[test]
fn what_cannot_be_solved_is_refused_with_the_figure() {
    let mut case = Case::new(60, 5, 3);
    let little = Ridge { max_memory_gb: 1e-9, ..Ridge::default() };
    let error = case.solve_with(&HeadConfig::Ridge(little), 0).unwrap_err();
    assert!(error.to_string().contains("60 rows of 5 features"), "{error}");
    let little = Knn { max_memory_gb: 1e-9, ..Knn::default() };
    assert!(case.solve_with(&HeadConfig::Knn(little), 0).unwrap_err().to_string().contains("needs 0.0 GB"));
    let many = Knn { k: 61, ..Knn::default() };
    let error = case.solve_with(&HeadConfig::Knn(many), 0).unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("61 neighbours"), "{error}");
    case.x[7] = f32::NAN;
    let error = case.solve_with(&HeadConfig::NearestMean(NearestMean::default()), 0).unwrap_err();
    assert!(error.to_string().contains("not finite"), "{error}");

    let rows = 12;
    let features = InMemory::new(rows).with("map", &[2, 2, 2], numbers(rows * 8, 37, 101)).unwrap();
    let classes: Vec<u32> = (0..rows as u32).map(|i| i % 2).collect();
    let train: Vec<u32> = (0..rows as u32).collect();
    let data = Data::new(&features, Targets::Classes(&classes), &train, &[]);
    let neck = NeckChain(vec![NeckConfig::Gem(Gem::default())]);
    let head = HeadConfig::NearestMean(NearestMean::default());
    let graph = build_graph_above(None, &neck, &head, crate::train::Features::inputs(&features), 2, 0).unwrap();
    let error = solve(&neck, head.solved().unwrap(), &graph, &data, &config(), &Cancel::default()).unwrap_err();
    assert!(error.to_string().contains("parameters to train"), "{error}");
}
