//! Rules of training: heads, losses, optimisers, samplers and sweeps.

use super::Check;
use crate::base::Problems;
use crate::data::TargetKind;
use crate::graph::{Arithmetic, Task};
use crate::head::{HeadConfig, Solved};
use crate::loss::LossConfig;
use crate::optim::OptimizerConfig;
use crate::plan::build;
use crate::recipe::{Backend, Device, Recipe, TrainConfig};
use crate::sampler::SamplerConfig;

pub(super) fn features_change_in_steps(check: &mut Check<'_>) {
    let train = &check.recipe.train;
    if train.augment.is_empty() {
        return;
    }
    if let Some(head) = check.recipe.model.head.as_ref().and_then(|head| head.solved()) {
        let message = format!("changes batches, and `{}` is solved without any", head.name());
        return check.problem("train.augment", message);
    }
    if train.optimizer.build().is_none() {
        check.problem("train.augment", "changes every batch, but this optimizer needs the same loss at each look");
    }
}

pub(super) fn trainer_is_available(check: &mut Check<'_>) {
    let train = &check.recipe.train;
    if train.backend == Backend::Libtorch {
        if !cfg!(feature = "libtorch") {
            let message = "this build has no libtorch trainer; use `embedded`, or build caft from source with \
                `LIBTORCH=$(.ci/libtorch) cargo build --release --features libtorch`";
            check.problem("train.backend", message);
        }
        return;
    }
    if train.device == Device::Cuda {
        check.problem(
            "train.device",
            "the `embedded` trainer computes on the processor; `backend: libtorch` takes GPUs",
        );
    }
}

pub(super) fn warm_up_fits(check: &mut Check<'_>) {
    let epochs = f64::from(check.recipe.train.epochs);
    let warmup = check.recipe.train.scheduler.warmup_epochs();
    if warmup > epochs {
        let message = format!("{warmup} epochs of warm-up are more than the {epochs} of `train.epochs`");
        check.problem("train.scheduler.warmup_epochs", message);
    }
}

pub(super) fn solved_heads_take_no_steps(check: &mut Check<'_>) {
    let head = build::head(check.recipe);
    let Some(head) = head.solved().map(Solved::name) else { return };
    if check.recipe.model.neck.is_trained() {
        let message = format!("has parameters to train, but `{head}` is solved without steps; take `standardize`");
        check.problem("model.neck", message);
    }
    for key in steps(&check.recipe.train) {
        let message = format!(
            "is for heads that are trained by steps; `{head}` is solved at once (delete the key with `~train.{key}`)"
        );
        check.problem(&format!("train.{key}"), message);
    }
}

/// The paths of what a recipe says of steps, if its head takes none.
pub(super) fn needless_steps(recipe: &Recipe) -> Vec<String> {
    match build::head(recipe).solved() {
        Some(_) => steps(&recipe.train).into_iter().map(|key| format!("train.{key}")).collect(),
        None => Vec::new(),
    }
}

/// The keys of the section that say how steps are taken, where it says something.
fn steps(train: &TrainConfig) -> Vec<String> {
    let keys = |train: &TrainConfig| match serde_json::to_value(train) {
        Ok(serde_json::Value::Object(keys)) => keys,
        other => unreachable!("a section is a JSON object, not {other:?}"),
    };
    let usual = keys(&TrainConfig::default());
    // Of seeds one holds rows out to choose with.
    let read = ["seed", "order_seed", "backend", "device", "fraction"];
    let said =
        keys(train).into_iter().filter(|(key, value)| !read.contains(&key.as_str()) && usual.get(key) != Some(value));
    said.map(|(key, _)| key).collect()
}

pub(super) fn full_batches_stand_alone(check: &mut Check<'_>) {
    let train = &check.recipe.train;
    if !matches!(train.optimizer, OptimizerConfig::Lbfgs(_)) {
        return;
    }
    let used = [
        ("accumulate", train.accumulate > 1),
        ("sampler", train.sampler.draws()),
        ("clip_norm", train.clip_norm.is_some()),
        ("parameter_groups", !train.parameter_groups.is_empty()),
        ("layer_decay", train.layer_decay < 1.0),
        ("ema", train.ema.is_some()),
        ("precision", train.precision != Arithmetic::Fp32),
    ];
    for (key, _) in used.iter().filter(|(_, used)| *used) {
        check.problem(&format!("train.{key}"), "does not apply to `lbfgs`, whose steps see all rows at once");
    }
}

pub(super) fn batches_are_of_whole_classes(check: &mut Check<'_>) {
    let train = &check.recipe.train;
    if let SamplerConfig::Pk(pk) = &train.sampler
        && !train.batch_size.is_multiple_of(pk.rows_per_class.max(1))
    {
        let message = format!("`train.batch_size` {} is no multiple of it", train.batch_size);
        check.problem("train.sampler.rows_per_class", message);
    }
}

pub(super) fn head_loss_and_metrics_fit(check: &mut Check<'_>) {
    let Recipe { data, train, metrics, .. } = check.recipe;
    let targets = data.target_kind().task();
    let head = build::head(check.recipe);
    let Some(outputs) = head.task(targets) else {
        if data.target_kind() == TargetKind::Pairs {
            return check.problem("model.head.kind", "rows that are pairs need the head `embedding`");
        }
        let message = format!("does not fit the targets, which are {}", targets.name());
        return check.problem("model.head.kind", message);
    };
    if let Some(loss) = &train.loss
        && loss.task() != outputs
    {
        let message = format!("is for {}, and the outputs are {}", loss.task().name(), outputs.name());
        check.problem("train.loss.kind", message);
    }
    for (i, metric) in metrics.iter().flatten().enumerate().filter(|(_, metric)| !metric.fits(outputs)) {
        let path = format!("metrics[{i}]");
        check.problem(&path, format!("`{}` does not measure {}", metric.name(), outputs.name()));
    }
    if train.sampler.needs_classes() && targets != Task::Classes {
        let message = format!("draws rows by their class, and the targets are {}", targets.name());
        check.problem("train.sampler.kind", message);
    }
}

pub(super) fn margins_are_of_cosines(check: &mut Check<'_>) {
    let Some(LossConfig::Arcface(arcface)) = &check.recipe.train.loss else { return };
    match build::head(check.recipe) {
        HeadConfig::Cosine(cosine) if cosine.learn_scale => {
            check.problem("model.head.learn_scale", "the loss `arcface` needs a scale that is not trained");
        }
        HeadConfig::Cosine(cosine) => {
            if (f64::from(cosine.scale) - arcface.scale).abs() > 1e-6 * arcface.scale {
                let message = format!("must be the head's, which is {}", cosine.scale);
                check.problem("train.loss.scale", message);
            }
        }
        _ => check.problem("model.head.kind", "the loss `arcface` needs the head `cosine`"),
    }
}

pub(super) fn sweep_is_consistent(check: &mut Check<'_>) {
    let Some(sweep) = &check.recipe.sweep else { return };
    let mut found = Problems::default();
    let metrics: Vec<(&str, bool)> = build::metrics(check.recipe).iter().map(|m| (m.name(), m.maximize())).collect();
    sweep.check(&metrics, &mut found);
    for problem in found.list {
        check.problem(&problem.path, problem.message);
    }
}
