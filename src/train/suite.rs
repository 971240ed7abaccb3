//! One suite for all trainers of a build: 20 steps of every neck, head, loss, optimiser, schedule and sampler, and of the
//! tails of twelve kinds of networks. A kind without a case here is a failure, and so is a trainer whose loss is ever
//! more than 1e-4 from the embedded one's.

use std::collections::BTreeSet;

use prost::Message;
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::*;
use crate::graph::import::Texts;
use crate::graph::onnx::proto::ModelProto;
use crate::graph::onnx::{OutputSpec, Select};
use crate::loss::LossConfig;
use crate::optim::{OptimizerConfig, SchedulerConfig};
use crate::sampler::SamplerConfig;

const ROWS: usize = 16;
const CLASSES: usize = 3;
const STEPS: u32 = 20;
const TOLERANCE: f64 = 1e-4;

/// The trainers besides the embedded one.
const OTHERS: &[Backend] = &[
    #[cfg(feature = "libtorch")]
    Backend::Libtorch,
];

/// What is trained, and how.
struct Case {
    /// What the recipe says: `neck`, `head`, and the keys of `train`.
    recipe: Value,
    inputs: Vec<(&'static str, Vec<usize>)>,
    task: Task,
}

impl Case {
    fn new(recipe: Value) -> Self {
        Self { recipe, inputs: vec![("x", vec![6])], task: Task::Classes }
    }

    fn of(self, task: Task) -> Self {
        Self { task, ..self }
    }

    fn inputs(self, inputs: &[(&'static str, &[usize])]) -> Self {
        Self { inputs: inputs.iter().map(|(name, shape)| (*name, shape.to_vec())).collect(), ..self }
    }

    fn part<T: serde::de::DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.recipe.get(key).map(|value| serde_json::from_value(value.clone()).unwrap())
    }

    fn features(&self) -> InMemory {
        let mut features = InMemory::new(ROWS);
        for (i, (name, shape)) in self.inputs.iter().enumerate() {
            let n = ROWS * shape.iter().product::<usize>();
            let values = match name.ends_with(".mask") {
                true => (0..n).map(|at| f32::from(u8::from(at % shape[0] <= at / shape[0] % shape[0]))).collect(),
                false => numbers(n, 37 + 2 * i, 101),
            };
            features = features.with(name, shape, values).unwrap();
        }
        features
    }

    fn graph(&self, features: &InMemory) -> Graph {
        let neck: NeckChain = self.part("neck").unwrap_or_default();
        let head: HeadConfig = self.part("head").unwrap_or_else(|| HeadConfig::of_task(self.task));
        build_graph_above(None, &neck, &head, features.inputs(), head.width(CLASSES), ROWS).unwrap()
    }

    /// The loss of each step.
    fn losses(&self, graph: &Graph, features: &InMemory, backend: Backend) -> Vec<f64> {
        let mut recipe = self.recipe.clone();
        let keys = recipe.as_object_mut().unwrap();
        keys.retain(|key, _| !["neck", "head"].contains(&key.as_str()));
        let mut recipe: recipe::TrainConfig = serde_json::from_value(recipe).unwrap();
        (recipe.epochs, recipe.batch_size, recipe.backend) = (STEPS, ROWS as u32, backend);
        let loss = recipe.loss.take();
        recipe.loss = Some(loss.unwrap_or_else(|| LossConfig::of_task(self.task)));
        let classes: Vec<u32> = (0..ROWS).map(|i| ((i * 7 + i / 3) % CLASSES) as u32).collect();
        let values = numbers(ROWS * CLASSES, 29, 61);
        let labels: Vec<f32> = values.iter().map(|x| f32::from(u8::from(*x > 0.2))).collect();
        let targets = match self.task {
            Task::Classes | Task::Embedding => Targets::Classes(&classes),
            Task::MultiLabel => Targets::MultiLabel { width: CLASSES, values: &labels },
            Task::Values => Targets::Values { width: CLASSES, values: &values },
        };
        let rows: Vec<u32> = (0..ROWS as u32).collect();
        let data = Data::new(features, targets, &rows, &rows[..4]);
        let config = TrainConfig { recipe, metrics: Vec::new(), order_seed: 1, seed: 2 };
        let cancel = Cancel::default();
        let session = Session { cancel: &cancel, checkpoint: None, on_epoch: &mut |_| Ok(()) };
        let trained = train(graph, &data, &config, session).unwrap_or_else(|e| panic!("{}: {e}", self.recipe));
        trained.epochs.iter().map(|epoch| epoch.metrics["train/loss"]).collect()
    }

    /// Trains with every trainer.
    fn check(&self) {
        let features = self.features();
        self.check_graph(&self.graph(&features), &features);
    }

    fn check_graph(&self, graph: &Graph, features: &InMemory) {
        let expected = self.losses(graph, features, Backend::Embedded);
        assert!(!expected.is_empty() && expected.iter().all(|loss| loss.is_finite()), "{}: {expected:?}", self.recipe);
        for backend in OTHERS {
            let losses = self.losses(graph, features, *backend);
            assert_eq!(losses.len(), expected.len(), "{}", self.recipe);
            for (step, (ours, theirs)) in losses.iter().zip(&expected).enumerate() {
                let far = (ours - theirs).abs() > TOLERANCE;
                assert!(!far, "{backend:?}, {}, step {step}: {ours}, not {theirs}", self.recipe);
            }
        }
    }
}

fn numbers(n: usize, factor: usize, modulus: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * factor + i * i % 89 * 3) % modulus) as f32 / (modulus / 2) as f32 - 1.0).collect()
}

/// The kinds of a tagged choice, by its schema.
fn kinds<T: JsonSchema>() -> BTreeSet<String> {
    let schema = schemars::schema_for!(T).to_value();
    let kind = |variant: &Value| variant.pointer("/properties/kind/const")?.as_str().map(String::from);
    schema["oneOf"].as_array().into_iter().flatten().filter_map(kind).collect()
}

/// Checks a case for each kind of a part, and that no kind is left out.
fn check_kinds<T: JsonSchema>(key: &str, cases: Vec<Case>) {
    let name = |case: &Case| case.recipe[key]["kind"].as_str().unwrap().to_string();
    assert_eq!(cases.iter().map(name).collect::<BTreeSet<_>>(), kinds::<T>(), "a case for every kind of `{key}`");
    cases.iter().for_each(Case::check);
}

#[test]
fn every_neck() {
    let vector = |neck: Value| Case::new(json!({"neck": neck}));
    let tokens = |neck: Value| vector(neck).inputs(&[("x", &[5, 8])]);
    let map = |neck: Value| vector(neck).inputs(&[("x", &[4, 3, 3])]);
    let maps = |neck: Value| vector(neck).inputs(&[("c3", &[4, 8, 8]), ("c4", &[6, 4, 4]), ("c5", &[8, 2, 2])]);
    let cases = vec![
        vector(json!({"kind": "identity"})),
        vector(json!({"kind": "standardize"})),
        map(json!({"kind": "gap"})),
        tokens(json!({"kind": "masked_mean"})).inputs(&[("x", &[5, 8]), ("x.mask", &[5])]),
        map(json!({"kind": "gmp"})),
        map(json!({"kind": "gem"})),
        tokens(json!({"kind": "cls_token"})),
        vector(json!({"kind": "layer_norm"})),
        vector(json!({"kind": "l2_norm"})),
        maps(json!({"kind": "fpn", "channels": 4})),
        maps(json!({"kind": "pan", "channels": 4})),
        maps(json!({"kind": "bifpn", "channels": 4, "layers": 2})),
        tokens(json!({"kind": "attention_pool", "heads": 2})),
        vector(json!({"kind": "batch_norm"})),
        vector(json!({"kind": "mlp", "widths": [8], "dropout": 0.2})),
        tokens(json!({"kind": "transformer", "layers": 1, "heads": 2, "dropout": 0.1})),
        vector(json!({"kind": "concat"})).inputs(&[("a", &[3]), ("b", &[4])]),
        vector(json!({"kind": "pair"})).inputs(&[("a", &[4]), ("b", &[4])]),
    ];
    check_kinds::<crate::neck::NeckConfig>("neck", cases);
}

#[test]
fn every_head() {
    let head = |head: Value| Case::new(json!({"head": head}));
    let cases = vec![
        head(json!({"kind": "linear"})),
        head(json!({"kind": "mlp", "hidden": [8], "dropout": 0.2})),
        head(json!({"kind": "cosine"})),
        head(json!({"kind": "ridge"})),
        head(json!({"kind": "logistic"})),
        head(json!({"kind": "knn", "k": 3})),
        head(json!({"kind": "nearest_mean"})),
        head(json!({"kind": "multi_label"})).of(Task::MultiLabel),
        head(json!({"kind": "regression"})).of(Task::Values),
        head(json!({"kind": "embedding", "dim": 4})).of(Task::Embedding),
        Case::new(json!({"neck": {"kind": "mlp", "widths": [8, CLASSES]}, "head": {"kind": "identity"}})),
    ];
    check_kinds::<HeadConfig>("head", cases);
}

#[test]
fn every_loss() {
    let loss = |kind: &str| Case::new(json!({"loss": {"kind": kind}}));
    let cases = vec![
        loss("cross_entropy"),
        loss("focal"),
        loss("binary_cross_entropy").of(Task::MultiLabel),
        loss("mse").of(Task::Values),
        loss("huber").of(Task::Values),
        loss("supervised_contrastive").of(Task::Embedding),
        loss("triplet").of(Task::Embedding),
        loss("multiple_negatives_ranking").of(Task::Embedding),
        Case::new(json!({"loss": {"kind": "arcface"}, "head": {"kind": "cosine"}})),
    ];
    check_kinds::<LossConfig>("loss", cases);
}

#[test]
fn every_optimizer_schedule_and_sampler() {
    let all = |key: &str, kinds: BTreeSet<String>| {
        let case = |kind| Case::new(json!({"head": {"kind": "mlp", "hidden": [8]}, key: {"kind": kind}}));
        kinds.into_iter().map(case).collect::<Vec<_>>()
    };
    check_kinds::<OptimizerConfig>("optimizer", all("optimizer", kinds::<OptimizerConfig>()));
    check_kinds::<SchedulerConfig>("scheduler", all("scheduler", kinds::<SchedulerConfig>()));
    let weights = json!({"kind": "weighted", "weights": [1.0, 2.0, 3.0]});
    let cases = vec![
        Case::new(json!({"sampler": {"kind": "shuffle"}})),
        Case::new(json!({"sampler": {"kind": "class_balanced"}})),
        Case::new(json!({"sampler": weights})),
        Case::new(json!({"sampler": {"kind": "pk", "rows_per_class": 8}})),
    ];
    check_kinds::<SamplerConfig>("sampler", cases);
}

#[test]
fn averages_clipping_accumulation_and_mixing() {
    let changes = [
        json!({"ema": {"decay": 0.9}}),
        json!({"clip_norm": 0.1}),
        json!({"accumulate": 2}),
        json!({"augment": [{"kind": "mixup", "alpha": 0.2}, {"kind": "noise", "std": 0.1}]}),
        json!({"layer_decay": 0.5, "parameter_groups": [{"match": "*.bias", "lr_factor": 0.5}]}),
    ];
    changes.into_iter().for_each(|change| Case::new(change).check());
}

macro_rules! tails {
    ($($name:literal),* $(,)?) => {
        [$(($name, &include_bytes!(concat!("../../tests/reference/tails/", $name, ".onnx"))[..])),*]
    };
}

#[test]
fn every_family_of_tails() {
    let tails = tails![
        "resnet",
        "resnet_norms",
        "bottleneck",
        "vgg",
        "densenet",
        "mobilenet_v2",
        "mobilenet_v3",
        "efficientnet",
        "convnext",
        "vit",
        "vit_torchvision",
        "bert",
    ];
    let shapes: Value = serde_json::from_str(include_str!("../../tests/reference/tails/gradients.json")).unwrap();
    for (name, bytes) in tails {
        let shapes: Vec<Vec<usize>> = serde_json::from_value(shapes[name]["shapes"].clone()).unwrap();
        let output = [OutputSpec { name: "out".into(), tensor: "y".into(), select: Select::All }];
        let model = ModelProto::decode(bytes).unwrap();
        let tail = Tail::find(model, &output, "tail", Some(&shapes[0])).unwrap();
        let inputs = tail.frontier().iter().zip(&shapes);
        let inputs = inputs.map(|(spec, shape)| InputSpec { name: spec.name.clone(), shape: shape.clone() });
        let inputs: Vec<InputSpec> = inputs.collect();
        let mut features = InMemory::new(ROWS);
        for (i, input) in inputs.iter().enumerate() {
            let n = ROWS * input.elements();
            // The second is a mask of attention.
            let values = if i == 0 { numbers(n, 37, 101) } else { vec![0.0; n] };
            features = features.with(&input.name, &input.shape, values).unwrap();
        }
        let (neck, head) = (NeckChain::default(), HeadConfig::default());
        let graph = build_graph_above(Some((&tail, Start::Pretrained)), &neck, &head, &inputs, CLASSES, 0).unwrap();
        let case = Case::new(json!({"optimizer": {"kind": "sgd", "lr": 1e-3}, "clip_norm": 1.0}));
        case.check_graph(&graph, &features);
    }
}

#[test]
fn networks_of_texts_from_their_ids_on() {
    let model = ModelProto::decode(&include_bytes!("../../tests/reference/live/bert.onnx")[..]).unwrap();
    let output = [OutputSpec { name: "out".into(), tensor: "logits".into(), select: Select::All }];
    let texts = Texts { tokens: 8, mask: Some("attention_mask".into()) };
    let tail = Tail::of_texts(model, &output, None, texts).unwrap();
    let mut features = InMemory::new(ROWS);
    for (spec, shape) in tail.frontier().iter().zip(tail.row_shapes()) {
        let shape = shape.unwrap_or(vec![1, 8, 8]);
        let n = ROWS * shape.iter().product::<usize>();
        let values = (0..n).map(|at| match spec.tensor.as_str() {
            "input_ids" => (at * 7 % 12) as f32,
            "token_type_ids" => (at % 2) as f32,
            // All tokens are real.
            _ => 1.0,
        });
        features = features.with(&spec.name, &shape, values.collect()).unwrap();
    }
    let (neck, head) = (NeckChain::default(), HeadConfig::default());
    let inputs = features.inputs().to_vec();
    let graph = build_graph_above(Some((&tail, Start::Pretrained)), &neck, &head, &inputs, CLASSES, 0).unwrap();
    assert!(graph.nodes().iter().any(|node| matches!(node.op, crate::graph::Op::Embedding(_))));
    Case::new(json!({"optimizer": {"kind": "sgd", "lr": 1e-2}})).check_graph(&graph, &features);
}
