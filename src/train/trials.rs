//! Many trials: those that read the same batches train together, the others one after the other.

use super::stack::{self, Kin};
use super::{Data, EpochLog, Session, TrainConfig, Trained, train};
use crate::base::{Cancel, Error, Result};
use crate::graph::{Graph, Weights};

/// One trial.
#[derive(Clone)]
pub struct Member<'a> {
    /// What [`Watch`] knows it by.
    pub number: usize,
    /// What is trained.
    pub graph: Graph,
    /// How it is trained.
    pub config: TrainConfig,
    /// What it is trained on. Members of the same features and targets, at the same addresses, may train together.
    pub data: Data<'a>,
}

/// What came out of one epoch of one trial.
#[derive(Debug, Clone, Copy)]
pub struct TrialLog<'a> {
    /// The trial's number.
    pub member: usize,
    /// The log of its epoch.
    pub log: &'a EpochLog,
}

/// A trial that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// What it gave. If it was given up, `last` are the weights of its best epoch too.
    pub trained: Trained,
    /// Whether it was given up before its last epoch.
    pub stopped: bool,
}

/// Watches trials.
pub trait Watch: Send {
    /// Some trials, all of one age, ended an epoch; gives the numbers of those to give up.
    ///
    /// # Errors
    /// Whatever shall end all of them.
    fn epoch(&mut self, logs: &[TrialLog<'_>]) -> Result<Vec<usize>>;

    /// A trial is about to train by itself, for a reason that is given in a few words.
    fn alone(&mut self, _member: usize, _why: &'static str) {}

    /// A trial ended, well or not.
    ///
    /// # Errors
    /// Whatever shall end all of them.
    fn ended(&mut self, member: usize, result: Result<Ended>) -> Result<()>;
}

/// Trains all members, those that read the same batches together. A member that fails is told to `watch`, and the
/// others go on.
///
/// # Errors
/// Those of `watch`; [`Error::Interrupted`].
pub fn train_trials(members: &[Member<'_>], cancel: &Cancel, watch: &mut dyn Watch) -> Result<()> {
    let Kin { stacks, alone: rest } = Kin::of(members)?;
    for stack in stacks {
        stack::train(&stack, cancel, watch)?;
    }
    for (member, why) in rest {
        watch.alone(member.number, why);
        alone(member, cancel, watch)?;
    }
    Ok(())
}

/// One trial by itself.
fn alone(member: &Member<'_>, cancel: &Cancel, watch: &mut dyn Watch) -> Result<()> {
    let mut logs: Vec<EpochLog> = Vec::new();
    let (mut stopped, mut failed) = (false, None);
    let mut on_epoch = |log: &EpochLog| {
        logs.push(log.clone());
        match watch.epoch(&[TrialLog { member: member.number, log }]) {
            Ok(given_up) if given_up.contains(&member.number) => stopped = true,
            Ok(_) => return Ok(()),
            Err(error) => failed = Some(error),
        }
        // The only way out of the loop is an error; who raised it is known here.
        Err(Error::Interrupted)
    };
    let session = Session { cancel, checkpoint: None, on_epoch: &mut on_epoch };
    let result = train(&member.graph, &member.data, &member.config, session);
    if let Some(error) = failed {
        return Err(error);
    }
    let result = match result {
        Err(Error::Interrupted) if stopped => {
            Ok(Ended { trained: given_up(logs, &member.config, Weights::default()), stopped })
        }
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        other => other.map(|trained| Ended { trained, stopped: false }),
    };
    watch.ended(member.number, result)
}

/// What a trial that was given up gave.
pub(super) fn given_up(epochs: Vec<EpochLog>, config: &TrainConfig, best: Weights) -> Trained {
    let (name, maximize) = config.metrics.first().map_or(("loss", false), |m| (m.name(), m.maximize()));
    let score = |log: &EpochLog| log.metrics.get(&format!("valid/{name}")).map(|v| if maximize { *v } else { -*v });
    // The first of equals, as the loop has it.
    let best_epoch = epochs.iter().fold((0, f64::NEG_INFINITY), |best, log| match score(log) {
        Some(score) if score > best.1 => (log.epoch, score),
        None => (log.epoch, f64::NEG_INFINITY),
        _ => best,
    });
    Trained { last: best.clone(), best, best_epoch: best_epoch.0, epochs }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::random::Stream;
    use crate::graph::{Arithmetic, Targets};
    use crate::head::HeadConfig;
    use crate::loss::{ClassWeighting, ClassWeights, CrossEntropy, LossConfig};
    use crate::metric::MetricName;
    use crate::neck::{NeckChain, NeckConfig, Standardize};
    use crate::optim::{AdamW, Constant, OptimizerConfig, SchedulerConfig, Sgd};
    use crate::recipe;
    use crate::train::{InMemory, build_graph};

    const WIDTH: usize = 600;
    const CLASSES: usize = 3;

    /// More rows than a whole number of batches, so that the last one is small.
    fn dataset(rows: usize) -> (InMemory, Vec<u32>) {
        let noise = Stream::new(8, 0);
        let classes: Vec<u32> = (0..rows).map(|i| (noise.below(i as u64, CLASSES as u64)) as u32).collect();
        let value = |i: usize| {
            let (row, column) = (i / WIDTH, i % WIDTH);
            let centre = if column % CLASSES == classes[row] as usize { 0.2 } else { 0.0 };
            2.0 + centre + noise.normal(i as u64)
        };
        let values = (0..rows * WIDTH).map(value).collect();
        (InMemory::new(rows).with("cls", &[WIDTH], values).unwrap(), classes)
    }

    fn members<'a>(data: Data<'a>, precision: Arithmetic) -> Vec<Member<'a>> {
        let features = data.features;
        let neck = NeckChain(vec![NeckConfig::Standardize(Standardize::default())]);
        let inputs = features.inputs().to_vec();
        let graph = build_graph(&neck, &HeadConfig::default(), &inputs, CLASSES).unwrap();
        let adamw = |lr, weight_decay| OptimizerConfig::AdamW(AdamW { lr, weight_decay, ..AdamW::default() });
        let sgd = |lr, momentum| OptimizerConfig::Sgd(Sgd { lr, momentum, ..Sgd::default() });
        let lamb = OptimizerConfig::Lamb(crate::optim::Lamb::default());
        let optimizers = [adamw(0.01, 0.0), adamw(0.001, 0.1), sgd(0.1, 0.9), sgd(0.01, 0.0), lamb];
        (0..23)
            .map(|number| {
                let weights = if number % 3 == 0 { ClassWeighting::Balanced } else { ClassWeighting::Uniform };
                let label_smoothing = number as f64 / 100.0;
                let recipe = recipe::TrainConfig {
                    epochs: 2 + (number as u32 % 3),
                    batch_size: 32,
                    precision,
                    optimizer: optimizers[number % 5].clone(),
                    scheduler: match number % 2 {
                        0 => SchedulerConfig::default(),
                        _ => SchedulerConfig::Constant(Constant::default()),
                    },
                    loss: Some(LossConfig::CrossEntropy(CrossEntropy {
                        label_smoothing,
                        class_weights: ClassWeights::Rule(weights),
                    })),
                    ..recipe::TrainConfig::default()
                };
                let metrics = vec![MetricName::Accuracy, MetricName::MacroF1];
                let config = TrainConfig { recipe, metrics, order_seed: 4, seed: number as u64 / 2 };
                Member { number, graph: graph.clone(), config, data }
            })
            .collect()
    }

    #[derive(Default)]
    struct Notes {
        ended: BTreeMap<usize, Result<Ended>>,
        logs: BTreeMap<usize, u32>,
        give_up: Vec<(usize, u32)>,
        most_at_once: usize,
    }

    impl Watch for Notes {
        fn epoch(&mut self, logs: &[TrialLog<'_>]) -> Result<Vec<usize>> {
            self.most_at_once = self.most_at_once.max(logs.len());
            logs.iter().for_each(|log| *self.logs.entry(log.member).or_default() += 1);
            let given_up = |log: &&TrialLog<'_>| self.give_up.contains(&(log.member, log.log.epoch));
            Ok(logs.iter().filter(given_up).map(|log| log.member).collect())
        }

        fn ended(&mut self, member: usize, result: Result<Ended>) -> Result<()> {
            assert!(self.ended.insert(member, result).is_none(), "{member} ended twice");
            Ok(())
        }
    }

    fn without_times(trained: &Trained) -> Trained {
        let epochs = trained.epochs.iter().map(|log| EpochLog { seconds: 0.0, ..log.clone() }).collect();
        Trained { epochs, ..trained.clone() }
    }

    fn run_alone(member: &Member<'_>) -> Result<Trained> {
        let cancel = Cancel::default();
        train(
            &member.graph,
            &member.data,
            &member.config,
            Session { cancel: &cancel, checkpoint: None, on_epoch: &mut |_| Ok(()) },
        )
    }

    #[test]
    fn each_stacked_head_has_the_bits_that_it_has_alone() {
        // The last batch has 5, 1 and 2 rows.
        for (rows, precision) in [(101, Arithmetic::Fp32), (97, Arithmetic::Bf16), (98, Arithmetic::Fp32)] {
            let (features, classes) = dataset(rows + 40);
            let (train_rows, valid): (Vec<u32>, Vec<u32>) = (0..rows as u32 + 40).partition(|row| *row < rows as u32);
            let data = Data::new(&features, Targets::Classes(&classes), &train_rows, &valid);
            let members = members(data, precision);
            for threads in [1, 3] {
                let mut notes = Notes::default();
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| train_trials(&members, &Cancel::default(), &mut notes)).unwrap();
                assert_eq!(notes.most_at_once, members.len(), "all trained together");
                for member in &members {
                    let stacked = &notes.ended[&member.number].as_ref().unwrap().trained;
                    let alone = run_alone(member).unwrap();
                    let same = without_times(stacked) == without_times(&alone);
                    assert!(same, "member {}, {rows} rows", member.number);
                    assert_eq!(notes.logs[&member.number], member.config.recipe.epochs);
                }
            }
        }
    }

    #[test]
    fn heads_leave_the_stack_early_or_with_an_error_and_the_others_go_on() {
        let (features, classes) = dataset(100);
        let all: Vec<u32> = (0..100).collect();
        let data = Data::new(&features, Targets::Classes(&classes), &all, &all[..30]);
        let mut members = members(data, Arithmetic::Fp32);
        let OptimizerConfig::Sgd(sgd) = &mut members[2].config.recipe.optimizer else { unreachable!() };
        sgd.lr = 1e300;
        members[5].graph = {
            let inputs = crate::train::Features::inputs(&features).to_vec();
            build_graph(&NeckChain::default(), &HeadConfig::default(), &inputs, CLASSES).unwrap()
        };
        let mut notes = Notes { give_up: vec![(1, 1), (8, 2)], ..Notes::default() };
        train_trials(&members, &Cancel::default(), &mut notes).unwrap();
        assert_eq!(notes.ended.len(), members.len());
        for member in &members {
            let number = member.number;
            match (number, &notes.ended[&number]) {
                (2, ended) => assert!(ended.as_ref().unwrap_err().to_string().contains("not finite")),
                (1 | 8, Ok(ended)) => {
                    let epochs = ended.trained.epochs.len();
                    assert!(ended.stopped && epochs == notes.logs[&number] as usize && epochs < 4);
                }
                (_, ended) => {
                    let trained = &ended.as_ref().unwrap().trained;
                    let alone = run_alone(member).unwrap();
                    assert!(without_times(trained) == without_times(&alone), "member {number}");
                }
            }
        }
        let cancel = Cancel::default();
        cancel.cancel();
        let stopped = train_trials(&members, &cancel, &mut Notes::default());
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }
}
