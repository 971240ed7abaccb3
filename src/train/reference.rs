//! Runs of 20 steps against PyTorch's numbers; `tests/reference/train.py` wrote them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::loss::{ClassWeights, CrossEntropy, LossConfig};
use crate::optim::{Adam, AdamW, Cosine, OptimizerConfig, Progress, SchedulerConfig, Sgd};

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

/// Trains as the script does.
fn train(
    optimizer: OptimizerConfig,
    scheduler: &SchedulerConfig,
    loss: LossConfig,
    clip_norm: Option<f64>,
) -> (Vec<f64>, Weights) {
    let values = numbers(ROWS * WIDTH, 37, 101);
    let classes: Vec<u32> = (0..ROWS).map(|i| ((i * 7 + i / 3) % CLASSES) as u32).collect();
    let features = InMemory::new(ROWS).with("x", &[WIDTH], values).unwrap();
    let graph = build_graph(&NeckChain::default(), &HeadConfig::default(), features.inputs(), CLASSES).unwrap();
    let mut weights = Weights::default();
    let scaled = |values: Vec<f32>, scale: f32| values.iter().map(|x| x * scale).collect();
    weights.insert("head.weight", [CLASSES, WIDTH], scaled(numbers(CLASSES * WIDTH, 29, 61), 0.3));
    weights.insert("head.bias", [CLASSES], scaled(numbers(CLASSES, 17, 31), 0.1));
    let recipe = recipe::TrainConfig {
        epochs: 1,
        batch_size: BATCH as u32,
        optimizer,
        scheduler: scheduler.clone(),
        loss,
        clip_norm,
        ..recipe::TrainConfig::default()
    };
    let config = TrainConfig { recipe, metrics: Vec::new(), order_seed: 0, seed: 0 };
    let facts = TargetFacts { width: CLASSES, class_counts: vec![1; CLASSES] };
    let mut trainer = Embedded::new(&graph, &weights, &config, &facts).unwrap();
    let mut reader = batch::Reader::new(&graph, &features, Targets::Classes(&classes), BATCH).unwrap();
    let order = (0..STEPS * BATCH).map(|i| ((BATCH * (i / BATCH) + 3 * (i % BATCH)) % ROWS) as u32);
    let order: Vec<u32> = order.collect();
    let mut losses = Vec::new();
    reader
        .each(&order, |batch| {
            let step = losses.len() as u64;
            let lr =
                scheduler.lr(config.recipe.optimizer.lr(), Progress { step, steps_per_epoch: STEPS as u64, epochs: 1 });
            losses.push(trainer.step(batch, StepUpdate { lr, step: step + 1 })?.mean());
            Ok(())
        })
        .unwrap();
    (losses, trainer.weights())
}

#[test]
fn twenty_steps_give_pytorchs_numbers() {
    let reference: BTreeMap<String, Run> =
        serde_json::from_str(include_str!("../../tests/reference/train.json")).unwrap();
    let constant = SchedulerConfig::Constant(Default::default());
    let cosine = SchedulerConfig::Cosine(Cosine { warmup_epochs: 0.0, min_lr: 0.01 });
    let plain = LossConfig::default();
    let adamw = |weight_decay| OptimizerConfig::AdamW(AdamW { lr: 0.05, weight_decay, ..AdamW::default() });
    let sgd = |lr, momentum, nesterov, weight_decay| OptimizerConfig::Sgd(Sgd { lr, momentum, nesterov, weight_decay });
    let smooth = LossConfig::CrossEntropy(CrossEntropy {
        label_smoothing: 0.1,
        class_weights: ClassWeights::Each(vec![0.5, 1.0, 2.0]),
    });
    let cases = [
        ("adamw", adamw(0.1), &constant, plain.clone()),
        ("sgd_cosine", sgd(0.2, 0.9, false, 0.01), &cosine, plain.clone()),
        ("sgd_nesterov", sgd(0.1, 0.8, true, 0.0), &constant, plain.clone()),
        ("sgd_clipped", sgd(0.5, 0.9, false, 0.0), &constant, plain.clone()),
        ("sgd_plain", sgd(0.1, 0.0, false, 0.0), &constant, plain),
        (
            "adam",
            OptimizerConfig::Adam(Adam { lr: 0.05, weight_decay: 0.1, ..Adam::default() }),
            &constant,
            LossConfig::default(),
        ),
        ("adamw_smooth_weighted", adamw(0.01), &constant, smooth),
    ];
    assert_eq!(cases.len(), reference.len());
    for (name, optimizer, scheduler, loss) in cases {
        let clip_norm = (name == "sgd_clipped").then_some(0.2);
        let (losses, weights) = train(optimizer, scheduler, loss, clip_norm);
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
