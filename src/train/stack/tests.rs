//! Each head of a stack has the bits that it has alone, whatever is above the features and however it is trained.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::base::random::Stream;
use crate::graph::{Arithmetic, Targets};
use crate::metric::MetricName;
use crate::train::{
    Ended, EpochLog, Features, InMemory, InputSpec, Session, TrainConfig, Trained, build_graph, train_trials,
};

const TOKENS: usize = 4;
const WIDTH: usize = 24;
const CLASSES: usize = 3;
const ROWS: usize = 141;

/// Tokens with a mask of those that are real, and a view of each of the first 60 rows behind the plain rows.
struct Rows(InMemory);

impl Features for Rows {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn inputs(&self) -> &[InputSpec] {
        self.0.inputs()
    }

    fn read(&self, input: usize, rows: &[usize], out: &mut [f32]) -> Result<()> {
        self.0.read(input, rows, out)
    }

    fn view(&self, row: u32, epoch: u32) -> u32 {
        if row < 60 && (row + epoch).is_multiple_of(2) { ROWS as u32 + row } else { row }
    }
}

fn dataset() -> (Rows, Vec<u32>) {
    let (rows, noise) = (ROWS + 60, Stream::new(3, 0));
    let classes: Vec<u32> = (0..rows).map(|row| (noise.below(row as u64, CLASSES as u64)) as u32).collect();
    let value = |i: usize| {
        let near = if i % CLASSES == classes[i / (TOKENS * WIDTH)] as usize { 0.5 } else { 0.0 };
        1.0 + near + noise.normal((rows + i) as u64)
    };
    let values = (0..rows * TOKENS * WIDTH).map(value).collect();
    let mask = (0..rows * TOKENS).map(|i| f32::from(u8::from(i % TOKENS <= i / TOKENS % TOKENS))).collect();
    let features = InMemory::new(rows).with("x", &[TOKENS, WIDTH], values).unwrap();
    (Rows(features.with("x.mask", &[TOKENS], mask).unwrap()), classes)
}

/// A member of a recipe's `neck`, `head` and keys of `train`.
fn member<'a>(number: usize, recipe: &Value, data: Data<'a>) -> Member<'a> {
    let mut recipe = recipe.clone();
    let keys = recipe.as_object_mut().unwrap();
    let neck = keys.remove("neck").unwrap_or(json!([{"kind": "masked_mean"}]));
    let head = keys.remove("head").unwrap_or(json!({"kind": "linear"}));
    let (neck, head) = (serde_json::from_value(neck).unwrap(), serde_json::from_value(head).unwrap());
    let graph = build_graph(&neck, &head, data.features.inputs(), CLASSES).unwrap();
    let seed = keys.remove("seed").and_then(|seed| seed.as_u64()).unwrap_or(number as u64);
    keys.entry("epochs").or_insert(json!(3));
    keys.entry("batch_size").or_insert(json!(16));
    let recipe = serde_json::from_value(recipe).unwrap();
    let metrics = vec![MetricName::Accuracy];
    Member { number, graph, config: TrainConfig { recipe, metrics, order_seed: 4, seed }, data }
}

#[derive(Default)]
struct Notes {
    ended: BTreeMap<usize, Trained>,
    alone: BTreeMap<usize, &'static str>,
    at_once: Vec<usize>,
}

impl Watch for Notes {
    fn epoch(&mut self, logs: &[TrialLog<'_>]) -> Result<Vec<usize>> {
        self.at_once.push(logs.len());
        Ok(Vec::new())
    }

    fn alone(&mut self, member: usize, why: &'static str) {
        self.alone.insert(member, why);
    }

    fn ended(&mut self, member: usize, result: Result<Ended>) -> Result<()> {
        let ended = result?;
        assert!(self.ended.insert(member, without_times(ended.trained)).is_none());
        Ok(())
    }
}

fn without_times(trained: Trained) -> Trained {
    let epochs = trained.epochs.into_iter().map(|log| EpochLog { seconds: 0.0, ..log }).collect();
    Trained { epochs, ..trained }
}

fn alone(member: &Member<'_>) -> Trained {
    let session = Session { cancel: &Cancel::default(), checkpoint: None, on_epoch: &mut |_| Ok(()) };
    without_times(crate::train::train(&member.graph, &member.data, &member.config, session).unwrap())
}

/// Trains all members in one stack, on several numbers of threads, and compares each with itself alone.
fn check(members: &[Member<'_>]) {
    for threads in [1, 3] {
        let mut notes = Notes::default();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| train_trials(members, &Cancel::default(), &mut notes)).unwrap();
        assert_eq!(notes.alone, BTreeMap::new());
        assert_eq!(notes.at_once.first(), Some(&members.len()), "all train together");
        for member in members {
            let name = || format!("member {}: {:?}", member.number, member.config.recipe);
            assert!(notes.ended[&member.number] == alone(member), "{} on {threads} threads", name());
        }
    }
}

/// Whatever a recipe may say of what stands above the features and of how it is trained.
fn recipes() -> Vec<Value> {
    let mlp = |hidden: usize, dropout: f64| json!({"kind": "mlp", "hidden": [hidden], "dropout": dropout});
    let standardized = json!([{"kind": "masked_mean"}, {"kind": "standardize"}]);
    vec![
        json!({}),
        json!({"neck": standardized, "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9}}),
        json!({"neck": standardized, "optimizer": {"kind": "lamb"}, "epochs": 2}),
        json!({"head": mlp(8, 0.2)}),
        json!({"head": mlp(8, 0.5), "clip_norm": 0.05}),
        json!({"head": mlp(8, 0.0)}),
        json!({"head": mlp(70, 0.1), "neck": standardized, "ema": {"decay": 0.8}}),
        json!({"clip_norm": 0.01}),
        json!({"ema": {"decay": 0.9}, "epochs": 5}),
        json!({"accumulate": 3, "head": mlp(8, 0.2)}),
        json!({"accumulate": 2, "clip_norm": 0.1}),
        json!({"augment": [{"kind": "noise", "std": 0.2}], "seed": 5}),
        json!({"augment": [{"kind": "noise", "std": 0.2}], "seed": 5, "optimizer": {"kind": "lion"}}),
        json!({"augment": [{"kind": "mixup", "alpha": 0.4}, {"kind": "dropout", "rate": 0.1}], "accumulate": 2}),
        json!({"neck": [{"kind": "masked_mean"}, {"kind": "batch_norm"}]}),
        json!({"neck": [{"kind": "masked_mean"}, {"kind": "layer_norm"}], "head": mlp(8, 0.1)}),
        json!({"neck": [{"kind": "mlp", "widths": [10], "dropout": 0.3}, {"kind": "masked_mean"}]}),
        json!({"neck": [{"kind": "transformer", "layers": 1, "heads": 2, "dropout": 0.1}, {"kind": "masked_mean"}]}),
        json!({"neck": [{"kind": "mlp", "widths": [10]}, {"kind": "masked_mean"}, {"kind": "standardize"}]}),
        json!({"neck": [{"kind": "masked_mean"}, {"kind": "standardize"}, {"kind": "mlp", "widths": [9]}, {"kind": "standardize"}]}),
        json!({"head": {"kind": "cosine"}, "loss": {"kind": "arcface"}}),
        json!({"parameter_groups": [{"match": "*.bias", "lr_factor": 0.3}], "head": mlp(8, 0.2), "layer_decay": 0.5}),
        json!({"early_stopping": {"patience": 1}, "epochs": 6, "optimizer": {"kind": "adam", "lr": 0.1}}),
        json!({"scheduler": {"kind": "plateau", "patience": 1}, "epochs": 5}),
        json!({"loss": {"kind": "focal"}, "head": {"kind": "linear", "bias": false}}),
    ]
}

#[test]
fn every_way_to_train_has_the_bits_that_it_has_alone() {
    let (features, classes) = dataset();
    let (train, valid): (Vec<u32>, Vec<u32>) = (0..ROWS as u32).partition(|row| row % 4 > 0);
    let targets = Targets::Classes(&classes);
    let data = Data::new(&features, targets, &train, &valid);
    let members: Vec<Member<'_>> = recipes().iter().enumerate().map(|(n, recipe)| member(n, recipe, data)).collect();
    check(&members);
    // Two of one shape alone are fewer heads than threads.
    check(&members[3..5]);
    let mut halves = members;
    halves.iter_mut().for_each(|member| member.config.recipe.precision = Arithmetic::Bf16);
    check(&halves);
}

#[test]
fn folds_and_shares_are_masks_over_one_order() {
    let (features, classes) = dataset();
    let all: Vec<u32> = (0..ROWS as u32).collect();
    let parts: Vec<(Vec<u32>, Vec<u32>)> = (0..5)
        .map(|fold| all.iter().copied().partition(|row| row * 7 % 5 != fold))
        .chain([30, 3].map(|share| {
            let (_, valid): (Vec<u32>, Vec<u32>) = all.iter().copied().partition(|row| row % 5 != 0);
            (all.iter().copied().filter(|row| row % 5 != 0 && row * 31 % 100 < share).collect(), valid)
        }))
        .collect();
    let targets = Targets::Classes(&classes);
    let recipes = recipes();
    let mut members = Vec::new();
    for (train, valid) in &parts {
        let data = Data { features: &features, targets, train, valid, pool: &all, weights: None };
        for recipe in [0, 1, 4, 9, 11, 16, 18, 19] {
            members.push(member(members.len(), &recipes[recipe], data));
        }
    }
    check(&members);
}

#[test]
fn who_trains_alone_is_told_why() {
    let (features, classes) = dataset();
    let all: Vec<u32> = (0..ROWS as u32).collect();
    let targets = Targets::Classes(&classes);
    let data = Data::new(&features, targets, &all, &all[..20]);
    let recipes = [
        json!({}),
        json!({"optimizer": {"kind": "lbfgs"}, "epochs": 2}),
        json!({"batch_size": 8}),
        json!({"head": {"kind": "mlp"}}),
        json!({"sampler": {"kind": "class_balanced"}}),
        json!({"sampler": {"kind": "class_balanced"}, "seed": 9}),
    ];
    let members: Vec<Member<'_>> = recipes.iter().enumerate().map(|(n, recipe)| member(n, recipe, data)).collect();
    let mut notes = Notes::default();
    train_trials(&members, &Cancel::default(), &mut notes).unwrap();
    assert_eq!(notes.alone.keys().copied().collect::<Vec<_>>(), [1, 2]);
    assert!(notes.alone[&1].contains("all rows at once"));
    assert!(members.iter().all(|member| notes.ended[&member.number] == alone(member)));
}
