//! What the suite of all trainers does not reach: single operators, checkpoints of the one trainer for the other, bf16.

use super::*;
use crate::base::Cancel;
use crate::graph::op::*;
use crate::graph::{Execution, Init, Op, Targets};
use crate::neck::NeckChain;
use crate::train::{self, Data, Embedded, EpochLog, Features, InMemory, Session, build_graph};

const ROWS: usize = 3;

fn numbers(n: usize, factor: usize, modulus: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * factor + i * i % 89 * 3) % modulus) as f32 / (modulus / 2) as f32 - 1.0).collect()
}

/// Holds an operator's output and gradients to the embedded ones.
fn compare(op: impl Into<Op>, rows: &[&[usize]], fixed: &[&[usize]], training: bool) {
    let op = op.into();
    let mut graph = Graph::new();
    let mut inputs = Vec::new();
    for (i, dims) in rows.iter().enumerate() {
        let x = graph.input(&format!("x{i}"), dims).unwrap();
        let p = graph.parameter(&format!("p{i}"), dims, Init::Uniform(0.8), true).unwrap();
        inputs.push(graph.node(&format!("s{i}"), Binary(BinaryKind::Add), &[x, p]).unwrap());
    }
    for (i, dims) in fixed.iter().enumerate() {
        // Buffers of a norm are positive.
        let init = if i >= 2 { Init::Fill(1.5) } else { Init::Uniform(1.0) };
        let name = format!("f{i}");
        let buffer = matches!(op, Op::BatchNorm(_)) && i >= 2;
        let value = if buffer { graph.buffer(&name, dims, init) } else { graph.parameter(&name, dims, init, true) };
        inputs.push(value.unwrap());
    }
    let out = graph.node("out", op.clone(), &inputs).unwrap();
    graph.output("out", out);
    let weights = graph.initial_weights(11);
    let pass = Pass { training, seed: 3, step: 5, ..Pass::EVALUATION };
    let mut batch = Batch::new(&graph, ROWS);
    batch.rows = ROWS;
    for (i, buffer) in batch.inputs.iter_mut().enumerate() {
        *buffer = numbers(buffer.len(), 37 + 2 * i, 101);
    }
    let mut run: Execution<f32> = Execution::new(&graph, &weights, ROWS, true).unwrap();
    for (id, buffer) in graph.inputs().iter().zip(&batch.inputs) {
        run.value_mut(*id).copy_from_slice(buffer);
    }
    run.forward(ROWS, pass);
    let (values, grad) = run.value_and_grad_mut(out);
    let (values, slope) = (values.to_vec(), numbers(grad.len(), 29, 61));
    grad.copy_from_slice(&slope);
    run.backward(&[out]);

    let mut network = Network::new(&graph, Device::Cpu).unwrap();
    for (id, value) in graph.ids().filter(|(_, v)| matches!(v.origin, Origin::Parameter { .. } | Origin::Buffer { .. }))
    {
        network.set(id, weights.get(&value.name, &value.shape.dims).unwrap()).unwrap();
    }
    let output = network.forward(&batch, out, pass).unwrap();
    let close = |ours: &[f32], theirs: &[f32], what: &str| {
        assert_eq!(ours.len(), theirs.len(), "{op:?}: {what}");
        for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
            assert!((a - b).abs() < 2e-4 * (1.0 + b.abs()), "{op:?}: {what}[{i}]: {a}, not {b}");
        }
    };
    close(&to_memory(&output).unwrap(), &values, "output");
    let parameters: Vec<ValueId> = graph.parameters().collect();
    let grads = network.backward(&output, &slope, &parameters).unwrap();
    for (id, grad) in parameters.iter().zip(grads) {
        let grad = grad.map_or(vec![0.0; run.grad(*id).len()], |grad| to_memory(&grad).unwrap());
        close(&grad, run.grad(*id), &graph.values()[id.index()].name);
    }
    for (id, value) in graph.ids().filter(|(_, v)| matches!(v.origin, Origin::Buffer { .. })) {
        close(&to_memory(network.get(id).unwrap()).unwrap(), run.value(id), &value.name);
    }
}

#[test]
fn operators_compute_what_the_embedded_ones_do() {
    let window = |kernel: usize, stride: usize, pads: [usize; 4]| Window {
        strides: [stride; 2],
        pads,
        ..Window::new([kernel; 2])
    };
    let map: &[usize] = &[4, 7, 6];
    for pads in [[1, 1, 1, 1], [0, 1, 1, 0]] {
        for ceil in [false, true] {
            for kind in [PoolKind::Max, PoolKind::Mean, PoolKind::MeanWithPads] {
                compare(Pool { kind, window: Window { ceil, ..window(3, 2, pads) } }, &[map], &[], true);
            }
        }
        compare(Conv { window: window(3, 2, pads), groups: 2 }, &[map], &[&[6, 2, 3, 3], &[6]], true);
        let transposed = ConvTranspose { window: window(3, 2, pads), groups: 2, output_padding: [1, 0] };
        compare(transposed, &[map], &[&[4, 3, 3, 3], &[6]], true);
    }
    let dilated = Window { dilations: [2, 2], ..window(2, 1, [0; 4]) };
    compare(Conv { window: dilated, groups: 4 }, &[map], &[&[4, 1, 2, 2]], true);
    for coordinates in [Coordinates::HalfPixel, Coordinates::Asymmetric, Coordinates::AlignCorners] {
        for mode in [ResizeMode::Nearest, ResizeMode::Bilinear] {
            for size in [[14, 12], [3, 4], [10, 9]] {
                compare(Resize { size, mode, coordinates }, &[map], &[], true);
            }
        }
    }
    for training in [true, false] {
        compare(BatchNorm { eps: 1e-5, momentum: 0.1 }, &[map], &[&[4], &[4], &[4], &[4]], training);
        compare(Dropout { rate: 0.3 }, &[map], &[], training);
    }
    let activations = [
        Activation::Sigmoid,
        Activation::Silu,
        Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Activation::HardSwish,
        Activation::Tanh,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Erf,
        Activation::Clip { min: -0.5, max: 0.5 },
        Activation::LeakyRelu { alpha: 0.1 },
        Activation::Exp,
        Activation::Pow { exponent: 2.0 },
    ];
    activations.into_iter().for_each(|activation| compare(activation, &[&[5]], &[], true));
    for kind in [BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul] {
        compare(Binary(kind), &[&[4, 5]], &[&[5]], true);
        compare(Binary(kind), &[&[4, 1], &[4, 5]], &[], true);
    }
    compare(Pad { before: vec![0, 1, 2], after: vec![1, 0, 1], value: 0.5 }, &[map], &[], true);
    compare(Slice { axis: 1, start: 1, end: 6, step: 2 }, &[map], &[], true);
    compare(Gather { axis: 1, index: vec![3, 0, 3] }, &[map], &[], true);
    compare(Transpose { order: vec![2, 0, 1] }, &[map], &[], true);
    compare(Token { index: 2 }, &[&[4, 5]], &[], true);
    compare(Concat { axis: 1 }, &[&[2, 3], &[2, 4]], &[], true);
    compare(Softmax, &[&[4, 5]], &[], true);
    compare(MatMul { transposed: true }, &[&[2, 3, 4], &[2, 5, 4]], &[], true);
    compare(MatMul { transposed: false }, &[&[3, 4]], &[&[4, 5]], true);
    compare(Attention { scale: 0.5 }, &[&[2, 3, 4], &[2, 5, 4], &[2, 5, 6]], &[], true);
    for kind in [ReduceKind::Mean, ReduceKind::Max] {
        compare(Reduce { kind, start: 1, end: 3 }, &[map], &[], true);
    }
}

#[test]
fn neighbours_vote_as_the_embedded_ones_do() {
    let all = [NeighbourWeights::Uniform, NeighbourWeights::Distance, NeighbourWeights::HalfSquare];
    for (weights, values) in all.into_iter().flat_map(|weights| [(weights, false), (weights, true)]) {
        let mut graph = Graph::new();
        let x = graph.input("x", &[4]).unwrap();
        let rows = graph.constant("rows", &[20, 4], numbers(80, 41, 103)).unwrap();
        let classes = match values {
            false => graph.constant("classes", &[20], (0..20).map(|i| (i % 3) as f32).collect()).unwrap(),
            true => graph.constant("values", &[20, 3], numbers(60, 43, 107)).unwrap(),
        };
        let out = graph.node("out", Neighbours { k: 5, outputs: 3, values, weights }, &[x, rows, classes]).unwrap();
        let mut batch = Batch::new(&graph, ROWS);
        batch.rows = ROWS;
        batch.inputs[0] = numbers(ROWS * 4, 37, 101);
        let mut run: Execution<f32> = Execution::new(&graph, &Weights::default(), ROWS, false).unwrap();
        run.value_mut(x).copy_from_slice(&batch.inputs[0]);
        run.forward(ROWS, Pass::EVALUATION);
        let mut network = Network::new(&graph, Device::Cpu).unwrap();
        let ours = to_memory(&network.forward(&batch, out, Pass::EVALUATION).unwrap()).unwrap();
        for (a, b) in ours.iter().zip(run.value(out)) {
            assert!((a - b).abs() < 1e-4, "{weights:?}: {a}, not {b}");
        }
    }
}

/// A small problem of classes.
fn problem() -> (InMemory, Vec<u32>, Graph) {
    let features = InMemory::new(40).with("x", &[6], numbers(240, 37, 101)).unwrap();
    let head = serde_json::from_value(serde_json::json!({"kind": "mlp", "hidden": [8], "dropout": 0.2})).unwrap();
    let graph = build_graph(&NeckChain::default(), &head, features.inputs(), 3).unwrap();
    (features, (0..40).map(|i| i % 3).collect(), graph)
}

fn config(backend: recipe::Backend, precision: Arithmetic) -> TrainConfig {
    let recipe = recipe::TrainConfig { epochs: 6, batch_size: 16, backend, precision, ..Default::default() };
    TrainConfig { recipe, metrics: Vec::new(), order_seed: 0, seed: 0 }
}

#[test]
fn a_run_that_one_trainer_began_ends_with_the_other() {
    let (features, classes, graph) = problem();
    let rows: Vec<u32> = (0..40).collect();
    let data = Data::new(&features, Targets::Classes(&classes), &rows, &[]);
    let run = |backend, checkpoint: Option<&std::path::Path>, stop: u32| {
        let cancel = Cancel::default();
        let mut on_epoch = |log: &EpochLog| {
            if log.epoch == stop {
                cancel.cancel();
            }
            Ok(())
        };
        let session = Session { cancel: &cancel, checkpoint, on_epoch: &mut on_epoch };
        train::train(&graph, &data, &config(backend, Arithmetic::Fp32), session)
    };
    let whole = run(recipe::Backend::Embedded, None, 99).unwrap();
    for [first, second] in
        [[recipe::Backend::Embedded, recipe::Backend::Libtorch], [recipe::Backend::Libtorch, recipe::Backend::Embedded]]
    {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(run(first, Some(folder.path()), 3), Err(Error::Interrupted)));
        let ended = run(second, Some(folder.path()), 99).unwrap();
        // The first epochs are read back, bit for bit; had it begun anew, they would differ by rounding.
        assert_eq!(ended.epochs.len(), 6);
        for (ours, theirs) in ended.epochs.iter().zip(&whole.epochs) {
            assert!((ours.metrics["train/loss"] - theirs.metrics["train/loss"]).abs() < 1e-5);
        }
        assert_eq!(ended.epochs[5].step, whole.epochs[5].step);
    }
}

#[test]
fn bf16_is_near_fp32_and_not_the_same() {
    let (features, classes, graph) = problem();
    let rows: Vec<u32> = (0..40).collect();
    let data = Data::new(&features, Targets::Classes(&classes), &rows, &[]);
    let last = |precision| {
        let cancel = Cancel::default();
        let session = Session { cancel: &cancel, checkpoint: None, on_epoch: &mut |_| Ok(()) };
        let trained = train::train(&graph, &data, &config(recipe::Backend::Libtorch, precision), session).unwrap();
        trained.epochs[5].metrics["train/loss"]
    };
    let (fp32, bf16) = (last(Arithmetic::Fp32), last(Arithmetic::Bf16));
    assert!(fp32 != bf16 && (fp32 - bf16).abs() < 0.01, "{fp32} {bf16}");
}

#[test]
fn a_gpu_that_is_not_there_is_an_error() {
    if tch::Cuda::is_available() {
        return;
    }
    assert_eq!(device(recipe::Device::Auto).unwrap(), Device::Cpu);
    let error = device(recipe::Device::Cuda).unwrap_err();
    assert!(error.to_string().contains("finds no GPU"), "{error}");
    assert_eq!(error.exit_code(), 2);
    let (_, _, graph) = problem();
    let facts = TargetFacts { width: 3, rows: 40, class_counts: vec![1; 3], ..TargetFacts::default() };
    let weights = graph.initial_weights(0);
    let recipe = recipe::TrainConfig { device: recipe::Device::Cuda, ..Default::default() };
    let config = TrainConfig { recipe, metrics: Vec::new(), order_seed: 0, seed: 0 };
    assert!(Libtorch::new(&graph, &weights, &config, &facts).is_err());
    assert!(Embedded::new(&graph, &weights, &config, &facts).is_ok());
}
