//! Runs of 20 steps against PyTorch's numbers; `tests/reference/train.py` wrote them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::loss::{ClassWeights, CrossEntropy, LossConfig};
use crate::optim::{Adam, AdamW, Cosine, Ema, Lamb, Lbfgs, OptimizerConfig, Progress, SchedulerConfig, Sgd};

const ROWS: usize = 40;
const WIDTH: usize = 6;
const CLASSES: usize = 3;
const BATCH: usize = 8;
const STEPS: usize = 20;

#[derive(Deserialize)]
struct Run {
    losses: Vec<f64>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

fn numbers(n: usize, factor: usize, modulus: usize) -> Vec<f32> {
    (0..n).map(|i| (i * factor % modulus) as f32 / (modulus / 2) as f32 - 1.0).collect()
}

/// Linear features of 40 rows, their classes, and the head that the script begins with.
fn start() -> (InMemory, Vec<u32>, Graph, Weights) {
    let values = numbers(ROWS * WIDTH, 37, 101);
    let classes: Vec<u32> = (0..ROWS).map(|i| ((i * 7 + i / 3) % CLASSES) as u32).collect();
    let features = InMemory::new(ROWS).with("x", &[WIDTH], values).unwrap();
    let graph = build_graph(&NeckChain::default(), &HeadConfig::default(), features.inputs(), CLASSES).unwrap();
    let mut weights = Weights::default();
    let scaled = |values: Vec<f32>, scale: f32| values.iter().map(|x| x * scale).collect();
    weights.insert("head.weight", [CLASSES, WIDTH], scaled(numbers(CLASSES * WIDTH, 29, 61), 0.3));
    weights.insert("head.bias", [CLASSES], scaled(numbers(CLASSES, 17, 31), 0.1));
    (features, classes, graph, weights)
}

/// Trains as the script does.
fn train(change: impl FnOnce(&mut recipe::TrainConfig)) -> (Vec<f64>, Weights) {
    let (features, classes, graph, weights) = start();
    let mut recipe = recipe::TrainConfig {
        epochs: 1,
        batch_size: BATCH as u32,
        scheduler: SchedulerConfig::Constant(Default::default()),
        ..recipe::TrainConfig::default()
    };
    change(&mut recipe);
    let config = TrainConfig { recipe, metrics: Vec::new(), order_seed: 0, seed: 0 };
    let train = &config.recipe;
    let facts = TargetFacts { width: CLASSES, class_counts: vec![1; CLASSES], ..TargetFacts::default() };
    let mut trainer = Embedded::new(&graph, &weights, &config, &facts).unwrap();
    let mut reader = batch::Reader::new(&graph, &features, Targets::Classes(&classes), BATCH).unwrap();
    let order = (0..STEPS * BATCH).map(|i| ((BATCH * (i / BATCH) + 3 * (i % BATCH)) % ROWS) as u32);
    let order: Vec<u32> = order.collect();
    let mut losses = Vec::new();
    let together = u64::from(train.accumulate);
    reader
        .each(&order, |batch| {
            let step = losses.len() as u64 / together;
            let at = Progress { step, steps_per_epoch: STEPS as u64, epochs: 1 };
            let update = StepUpdate { lr: train.scheduler.lr(train.optimizer.lr(), at), step: step + 1 };
            let loss =
                if together == 1 { trainer.step(batch, update)? } else { trainer.accumulate(batch, Some(step))? };
            losses.push(loss.mean());
            if together > 1 && (losses.len() as u64).is_multiple_of(together) { trainer.update(update) } else { Ok(()) }
        })
        .unwrap();
    trainer.swap_average().unwrap();
    (losses, trainer.weights().unwrap())
}

#[test]
fn twenty_steps_give_pytorchs_numbers() {
    let reference: BTreeMap<String, Run> =
        serde_json::from_str(include_str!("../../tests/reference/train.json")).unwrap();
    let adamw = |weight_decay| OptimizerConfig::AdamW(AdamW { lr: 0.05, weight_decay, ..AdamW::default() });
    let sgd = |lr, momentum, nesterov, weight_decay| OptimizerConfig::Sgd(Sgd { lr, momentum, nesterov, weight_decay });
    type Case = (&'static str, OptimizerConfig, fn(&mut recipe::TrainConfig));
    let cases: [Case; 10] = [
        ("adamw", adamw(0.1), |_| {}),
        ("sgd_cosine", sgd(0.2, 0.9, false, 0.01), |train| {
            train.scheduler = SchedulerConfig::Cosine(Cosine { warmup_epochs: 0.0, min_lr: 0.01 });
        }),
        ("sgd_nesterov", sgd(0.1, 0.8, true, 0.0), |_| {}),
        ("sgd_clipped", sgd(0.5, 0.9, false, 0.0), |train| train.clip_norm = Some(0.2)),
        ("sgd_plain", sgd(0.1, 0.0, false, 0.0), |_| {}),
        ("adam", OptimizerConfig::Adam(Adam { lr: 0.05, weight_decay: 0.1, ..Adam::default() }), |_| {}),
        ("lamb", OptimizerConfig::Lamb(Lamb { lr: 0.05, weight_decay: 0.1, ..Lamb::default() }), |_| {}),
        ("sgd_accumulated", sgd(0.1, 0.9, false, 0.0), |train| train.accumulate = 4),
        ("adamw_averaged", adamw(0.01), |train| train.ema = Some(Ema { decay: 0.8 })),
        ("adamw_smooth_weighted", adamw(0.01), |train| {
            let class_weights = ClassWeights::Each(vec![0.5, 1.0, 2.0]);
            train.loss = Some(LossConfig::CrossEntropy(CrossEntropy { label_smoothing: 0.1, class_weights }));
        }),
    ];
    assert_eq!(cases.len(), reference.len());
    for (name, optimizer, change) in cases {
        let (losses, weights) = train(|train| {
            train.optimizer = optimizer;
            change(train);
        });
        let expected = &reference[name];
        for (i, (ours, theirs)) in losses.iter().zip(&expected.losses).enumerate() {
            assert!((ours - theirs).abs() < 1e-5, "{name}, step {i}: {ours}, not {theirs}");
        }
        let ours = weights.get("head.weight", &[CLASSES, WIDTH]).unwrap().iter();
        let ours = ours.chain(weights.get("head.bias", &[CLASSES]).unwrap());
        for (ours, theirs) in ours.zip(expected.weight.iter().chain(&expected.bias)) {
            assert!((ours - theirs).abs() < 1e-5, "{name}: {ours}, not {theirs}");
        }
    }
}

#[test]
fn lbfgs_finds_scikit_learns_minimum() {
    #[derive(Deserialize)]
    struct Minimum {
        weight: Vec<f32>,
    }
    let expected: Minimum = serde_json::from_str(include_str!("../../tests/reference/logistic.json")).unwrap();
    let (features, classes, graph, _) = start();
    let rows: Vec<u32> = (0..ROWS as u32).collect();
    let data = Data::new(&features, Targets::Classes(&classes), &rows, &[]);
    let optimizer = OptimizerConfig::Lbfgs(Lbfgs { weight_decay: 0.01, ..Lbfgs::default() });
    let recipe = recipe::TrainConfig { epochs: 200, batch_size: 16, optimizer, ..recipe::TrainConfig::default() };
    let config = TrainConfig { recipe, metrics: Vec::new(), order_seed: 0, seed: 0 };
    let cancel = Cancel::default();
    let session = Session { cancel: &cancel, checkpoint: None, on_epoch: &mut |_| Ok(()) };
    let trained = super::train(&graph, &data, &config, session).unwrap();
    assert!(trained.epochs.len() < 100, "it ends by itself: {}", trained.epochs.len());
    let ours = trained.last.get("head.weight", &[CLASSES, WIDTH]).unwrap();
    for (ours, theirs) in ours.iter().zip(&expected.weight) {
        assert!((ours - theirs).abs() < 1e-3, "{ours}, not {theirs}");
    }
}
