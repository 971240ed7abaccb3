//! Tests of whole training runs, on small synthetic features.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::base::Error;
use crate::base::random::Stream;
use crate::neck::{NeckConfig, Standardize};
use crate::optim::{
    Adam, AdamW, Cosine, EarlyStopping, Ema, Lamb, Lbfgs, Lion, OptimizerConfig, ParameterGroup, Plateau,
    SchedulerConfig, Sgd, Step,
};
use crate::sampler::{ClassBalanced, Pk, SamplerConfig, Weighted};

const ROWS: usize = 230;
const WIDTH: usize = 24;
const CLASSES: usize = 3;

/// Three noisy clusters.
fn dataset() -> (InMemory, Vec<u32>) {
    let classes: Vec<u32> = (0..ROWS).map(|i| (i % CLASSES) as u32).collect();
    let noise = Stream::new(5, 0);
    let values = (0..ROWS * WIDTH)
        .map(|i| {
            let (row, column) = (i / WIDTH, i % WIDTH);
            let centre = if column % CLASSES == row % CLASSES { 1.0 } else { 0.0 };
            3.0 + 2.0 * (centre + 0.8 * noise.normal(i as u64))
        })
        .collect();
    (InMemory::new(ROWS).with("cls", &[WIDTH], values).unwrap(), classes)
}

fn config() -> TrainConfig {
    let recipe = recipe::TrainConfig {
        epochs: 4,
        batch_size: 32,
        optimizer: OptimizerConfig::AdamW(AdamW { lr: 0.01, ..AdamW::default() }),
        scheduler: SchedulerConfig::Cosine(Cosine { warmup_epochs: 0.5, ..Cosine::default() }),
        ..recipe::TrainConfig::default()
    };
    TrainConfig { recipe, metrics: vec![MetricName::Accuracy, MetricName::MacroF1], order_seed: 1, seed: 2 }
}

/// The config with other settings.
fn with(change: impl FnOnce(&mut recipe::TrainConfig)) -> TrainConfig {
    let mut config = config();
    change(&mut config.recipe);
    config
}

fn graph(features: &dyn Features) -> Graph {
    let neck = NeckChain(vec![NeckConfig::Standardize(Standardize::default())]);
    build_graph(&neck, &HeadConfig::default(), features.inputs(), CLASSES).unwrap()
}

/// Rows for training, and rows for validation.
fn rows() -> (Vec<u32>, Vec<u32>) {
    (0..ROWS as u32).partition(|row| row % 5 != 0)
}

fn run(features: &dyn Features, classes: &[u32], config: &TrainConfig, session: Session<'_>) -> Result<Trained> {
    let (train_rows, valid_rows) = rows();
    let data = Data::new(features, Targets::Classes(classes), &train_rows, &valid_rows);
    train(&graph(features), &data, config, session)
}

fn run_alone(features: &dyn Features, classes: &[u32], config: &TrainConfig) -> Trained {
    let cancel = Cancel::default();
    run(features, classes, config, Session { cancel: &cancel, checkpoint: None, on_epoch: &mut |_| Ok(()) }).unwrap()
}

/// Without the times.
fn numbers(trained: &Trained) -> (Weights, Weights, u32, Vec<EpochLog>) {
    let epochs = trained.epochs.iter().map(|log| EpochLog { seconds: 0.0, ..log.clone() }).collect();
    (trained.best.clone(), trained.last.clone(), trained.best_epoch, epochs)
}

/// Features that are read from somewhere, and say so.
struct Streamed<'a> {
    features: &'a InMemory,
    reads: AtomicU64,
}

impl Features for Streamed<'_> {
    fn len(&self) -> usize {
        // Beyond what is preloaded.
        self.features.len()
    }

    fn inputs(&self) -> &[InputSpec] {
        self.features.inputs()
    }

    fn read(&self, input: usize, rows: &[usize], out: &mut [f32]) -> Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.features.read(input, rows, out)
    }
}

#[test]
fn a_linear_head_learns_and_is_measured() {
    let (features, classes) = dataset();
    let trained = run_alone(&features, &classes, &with(|train| train.epochs = 20));
    assert_eq!(trained.epochs.len(), 20);
    let log = &trained.epochs[trained.best_epoch as usize - 1];
    assert!(log.metrics["valid/accuracy"] > 0.85, "{log:?}");
    let losses: Vec<f64> = trained.epochs.iter().map(|e| e.metrics["train/loss"]).collect();
    assert!(losses[19] < 0.5 * losses[0], "{losses:?}");
    let (train_rows, valid_rows) = rows();
    let targets = Targets::Classes(&classes);
    let data = Data::new(&features, targets, &train_rows, &valid_rows);
    let again = evaluate(&graph(&features), &trained.best, &data, &valid_rows, &config(), "test").unwrap();
    assert_eq!(again["test/accuracy"], log.metrics["valid/accuracy"]);
    assert_eq!(again["test/macro_f1"], log.metrics["valid/macro_f1"]);
    let softmax = predict(&graph(&features), &trained.best, &features, &valid_rows, Prediction::Softmax).unwrap();
    let hits = softmax
        .chunks(CLASSES)
        .zip(&valid_rows)
        .filter(|(p, row)| crate::metric::argmax(p) as u32 == classes[**row as usize])
        .count();
    assert_eq!(hits as f64 / valid_rows.len() as f64, log.metrics["valid/accuracy"]);
    assert!(softmax.chunks(CLASSES).all(|p| (p.iter().sum::<f32>() - 1.0).abs() < 1e-5));
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    // Large enough that every reduction and product is cut into chunks.
    let (rows, width, outputs) = (300, 3000, 40);
    let numbers = Stream::new(1, 1);
    let values = (0..rows * width).map(|i| numbers.normal(i as u64)).collect();
    let features = InMemory::new(rows).with("x", &[width], values).unwrap();
    let classes: Vec<u32> = (0..rows).map(|i| (i % outputs) as u32).collect();
    let all: Vec<u32> = (0..rows as u32).collect();
    let neck = NeckChain(vec![NeckConfig::Standardize(Standardize::default())]);
    let graph = build_graph(&neck, &HeadConfig::default(), features.inputs(), outputs).unwrap();
    let config = with(|train| (train.epochs, train.batch_size) = (1, 128));
    let run = |threads| {
        let data = Data::new(&features, Targets::Classes(&classes), &all, &all[..50]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let cancel = Cancel::default();
        let session = Session { cancel: &cancel, checkpoint: None, on_epoch: &mut |_| Ok(()) };
        pool.install(|| super::train(&graph, &data, &config, session)).unwrap().last
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(4));
}

#[test]
fn streamed_features_give_the_same_numbers() {
    let (features, classes) = dataset();
    let streamed = Streamed { features: &features, reads: AtomicU64::new(0) };
    let memory = run_alone(&features, &classes, &config());
    assert_eq!(numbers(&memory), numbers(&run_alone(&streamed, &classes, &config())));
    assert_eq!(streamed.reads.load(Ordering::Relaxed), 1, "small features are read once");
}

/// Features that raise a flag when they are read for the `at`th time.
struct Raises<'a> {
    features: &'a InMemory,
    cancel: &'a Cancel,
    at: u64,
    reads: AtomicU64,
}

impl Features for Raises<'_> {
    fn len(&self) -> usize {
        self.features.len()
    }

    fn inputs(&self) -> &[InputSpec] {
        self.features.inputs()
    }

    fn in_memory(&self) -> bool {
        true
    }

    fn read(&self, input: usize, rows: &[usize], out: &mut [f32]) -> Result<()> {
        if self.reads.fetch_add(1, Ordering::Relaxed) == self.at {
            self.cancel.cancel();
        }
        self.features.read(input, rows, out)
    }
}

/// Holds a run that is interrupted at each of some reads, and goes on, to one that is not.
fn resumes_exactly(config: &TrainConfig, interruptions: &[u64]) {
    let (features, classes) = dataset();
    let expected = run_alone(&features, &classes, config);
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Some(folder.path());
    let mut quiet = |_: &EpochLog| Ok(());
    for at in interruptions {
        let cancel = Cancel::default();
        let raises = Raises { features: &features, cancel: &cancel, at: *at, reads: AtomicU64::new(0) };
        let session = Session { cancel: &cancel, checkpoint, on_epoch: &mut quiet };
        let stopped = run(&raises, &classes, config, session);
        assert!(matches!(stopped, Err(Error::Interrupted)), "{config:?} at {at}");
    }
    let cancel = Cancel::default();
    let mut seen = Vec::new();
    let mut on_epoch = |log: &EpochLog| {
        seen.push(log.epoch);
        Ok(())
    };
    let session = Session { cancel: &cancel, checkpoint, on_epoch: &mut on_epoch };
    let resumed = run(&features, &classes, config, session).unwrap();
    assert_eq!(numbers(&resumed), numbers(&expected), "{config:?}");
    assert_eq!(seen, (1..=expected.epochs.len() as u32).collect::<Vec<_>>());
    // A finished run is read back; another config begins anew.
    let session = Session { cancel: &cancel, checkpoint, on_epoch: &mut quiet };
    assert_eq!(run(&features, &classes, config, session).unwrap(), resumed);
    let session = Session { cancel: &cancel, checkpoint, on_epoch: &mut quiet };
    let other = run(&features, &classes, &TrainConfig { seed: 3, ..config.clone() }, session).unwrap();
    assert_ne!(other.last, resumed.last);
}

#[test]
fn an_interrupted_run_goes_on_bit_for_bit() {
    // Six batches to fit, then six and two per epoch: in the middle of the second, then of the third.
    resumes_exactly(&config(), &[17, 9]);
}

#[test]
fn every_optimizer_resumes_bit_for_bit() {
    let optimizers = [
        OptimizerConfig::Sgd(Sgd { nesterov: true, ..Sgd::default() }),
        OptimizerConfig::Adam(Adam::default()),
        OptimizerConfig::Lion(Lion::default()),
        OptimizerConfig::Lamb(Lamb::default()),
        OptimizerConfig::Lbfgs(Lbfgs { weight_decay: 0.01, ..Lbfgs::default() }),
    ];
    for optimizer in optimizers {
        resumes_exactly(&with(|train| train.optimizer = optimizer), &[17, 9]);
    }
}

#[test]
fn every_schedule_and_sampler_resumes_bit_for_bit() {
    let plateau = Plateau { factor: 0.5, patience: 0, warmup_epochs: 0.5, ..Plateau::default() };
    let schedules = [
        SchedulerConfig::Constant(Default::default()),
        SchedulerConfig::Step(Step { every_epochs: 1, ..Step::default() }),
        SchedulerConfig::OneCycle(Default::default()),
        SchedulerConfig::Plateau(plateau),
    ];
    for scheduler in schedules {
        resumes_exactly(&with(|train| train.scheduler = scheduler), &[17]);
    }
    let samplers = [
        SamplerConfig::ClassBalanced(ClassBalanced {}),
        SamplerConfig::Weighted(Weighted { weights: vec![1.0, 2.0, 3.0] }),
        SamplerConfig::Pk(Pk { rows_per_class: 16 }),
    ];
    for sampler in samplers {
        resumes_exactly(&with(|train| train.sampler = sampler), &[14]);
    }
}

#[test]
fn averages_accumulation_and_groups_resume_bit_for_bit() {
    resumes_exactly(&with(|train| train.ema = Some(Ema { decay: 0.9 })), &[17]);
    // Also with batches that are left over at the end of an epoch.
    resumes_exactly(&with(|train| train.accumulate = 4), &[10, 9]);
    let group = ParameterGroup { pattern: "*.bias".into(), lr_factor: 0.5, weight_decay_factor: 1.0 };
    resumes_exactly(&with(|train| (train.parameter_groups, train.layer_decay) = (vec![group], 0.5)), &[17]);
}

#[test]
fn factors_of_a_group_reach_its_parameters() {
    let (features, classes) = dataset();
    let group = |pattern: &str| ParameterGroup { pattern: pattern.into(), lr_factor: 0.0, weight_decay_factor: 1.0 };
    let start = graph(&features).initial_weights(config().seed);
    let frozen = run_alone(&features, &classes, &with(|train| train.parameter_groups = vec![group("head.weight")]));
    assert_eq!(frozen.last.0["head.weight"], start.0["head.weight"]);
    assert_ne!(frozen.last.0["head.bias"], start.0["head.bias"]);
    let cancel = Cancel::default();
    let session = Session { cancel: &cancel, checkpoint: None, on_epoch: &mut |_| Ok(()) };
    let config = with(|train| train.parameter_groups = vec![group("tail.*")]);
    let error = run(&features, &classes, &config, session).unwrap_err();
    assert!(error.to_string().contains("no parameter matches `tail.*`"), "{error}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let (features, mut classes) = dataset();
    let cancel = Cancel::default();
    let mut quiet = |_: &EpochLog| Ok(());
    let error =
        run(&features, &classes[1..], &config(), Session { cancel: &cancel, checkpoint: None, on_epoch: &mut quiet })
            .unwrap_err();
    assert_eq!(error.to_string(), "there are 229 targets for 230 rows of features");
    classes[3] = 9;
    let error =
        run(&features, &classes, &config(), Session { cancel: &cancel, checkpoint: None, on_epoch: &mut quiet })
            .unwrap_err();
    assert_eq!(error.to_string(), "row 3 has class 9, of 3 classes");
    let wrong = InMemory::new(ROWS).with("cls", &[2], vec![0.0; ROWS * 2]).unwrap();
    let (targets, graph) = (Targets::Classes(&classes), graph(&features));
    let data = Data::new(&wrong, targets, &[0, 1], &[]);
    assert!(
        train(&graph, &data, &config(), Session { cancel: &cancel, checkpoint: None, on_epoch: &mut quiet })
            .unwrap_err()
            .to_string()
            .contains("the features are")
    );
    let broken = InMemory::new(1).with("cls", &[WIDTH], vec![f32::NAN; WIDTH]).unwrap();
    let plain = build_graph(&NeckChain::default(), &HeadConfig::default(), broken.inputs(), 1).unwrap();
    let data = Data::new(&broken, Targets::Classes(&[0]), &[0], &[]);
    let error = train(&plain, &data, &config(), Session { cancel: &cancel, checkpoint: None, on_epoch: &mut quiet })
        .unwrap_err();
    assert_eq!(error.to_string(), "the loss is not finite in step 1 (epoch 1)");
}

#[test]
fn early_stopping_ends_after_patience_and_stays_ended() {
    let (features, classes) = dataset();
    let stop = EarlyStopping { patience: 2 };
    let config = with(|train| (train.epochs, train.early_stopping) = (60, Some(stop)));
    let folder = tempfile::tempdir().unwrap();
    let cancel = Cancel::default();
    let mut quiet = |_: &EpochLog| Ok(());
    let session = Session { cancel: &cancel, checkpoint: Some(folder.path()), on_epoch: &mut quiet };
    let trained = run(&features, &classes, &config, session).unwrap();
    let epochs = trained.epochs.len() as u32;
    assert!(epochs < 60 && epochs == trained.best_epoch + 2, "{epochs} {}", trained.best_epoch);
    let session = Session { cancel: &cancel, checkpoint: Some(folder.path()), on_epoch: &mut quiet };
    assert_eq!(run(&features, &classes, &config, session).unwrap(), trained);
    let data = Data::new(&features, Targets::Classes(&classes), &[0, 1], &[]);
    let session = Session { cancel: &cancel, checkpoint: None, on_epoch: &mut quiet };
    let error = train(&graph(&features), &data, &config, session).unwrap_err();
    assert!(error.to_string().contains("needs validation rows"), "{error}");
}
