//! Ludwig's `hyperopt` section, read as a recipe's `sweep` section where the two say the same.
//!
//! Spaces are those of Ray Tune, by which Ludwig draws: `randint` and `lograndint` leave `upper` out, `qrandint` and
//! `qlograndint` do not. What says how many machines work (`executor`'s resources) is passed over.

use super::tree::{Entry, Map, Node, Origin, Value};
use crate::base::Problems;
use crate::base::suggest::did_you_mean;

/// Ludwig's names for keys that a recipe has too.
const KEYS: &[(&str, &str)] = &[
    ("trainer.learning_rate", "train.optimizer.lr"),
    ("trainer.batch_size", "train.batch_size"),
    ("trainer.epochs", "train.epochs"),
    ("trainer.optimizer.type", "train.optimizer.kind"),
    ("trainer.optimizer.weight_decay", "train.optimizer.weight_decay"),
    ("trainer.optimizer.momentum", "train.optimizer.momentum"),
    ("trainer.learning_rate_scheduler.warmup_epochs", "train.scheduler.warmup_epochs"),
    ("trainer.early_stop", "train.early_stopping.patience"),
];

/// A kind of space: its name, the distribution it is (none for a list of values), and its keys as ours.
struct Space {
    name: &'static str,
    distribution: Option<&'static str>,
    keys: &'static [(&'static str, &'static str)],
    /// Whether `upper` itself is never drawn.
    open: bool,
}

const BOUNDS: &[(&str, &str)] = &[("lower", "min"), ("upper", "max")];
const STEPPED: &[(&str, &str)] = &[("lower", "min"), ("upper", "max"), ("q", "q")];
const NORMAL: &[(&str, &str)] = &[("mean", "mu"), ("sd", "sigma")];
const STEPPED_NORMAL: &[(&str, &str)] = &[("mean", "mu"), ("sd", "sigma"), ("q", "q")];

const fn space(
    name: &'static str,
    distribution: Option<&'static str>,
    keys: &'static [(&'static str, &'static str)],
) -> Space {
    Space { name, distribution, keys, open: false }
}

const SPACES: &[Space] = &[
    space("choice", None, &[("categories", "values")]),
    space("grid_search", None, &[("values", "values")]),
    space("uniform", Some("uniform"), BOUNDS),
    space("quniform", Some("q_uniform"), STEPPED),
    space("loguniform", Some("log_uniform_values"), BOUNDS),
    space("qloguniform", Some("q_log_uniform_values"), STEPPED),
    space("randn", Some("normal"), NORMAL),
    space("qrandn", Some("q_normal"), STEPPED_NORMAL),
    space("qrandint", Some("q_uniform"), STEPPED),
    space("qlograndint", Some("q_log_uniform_values"), STEPPED),
    Space { open: true, ..space("randint", Some("int_uniform"), BOUNDS) },
    Space { open: true, ..space("lograndint", Some("q_log_uniform_values"), BOUNDS) },
];

/// Whether a file holds such a section.
pub(super) fn is_ludwig(file: &Map) -> bool {
    file.contains_key("hyperopt")
}

/// The `hyperopt` section of a file as a `sweep` section. What has no counterpart goes to `problems`.
pub(super) fn sweep(mut file: Map, problems: &mut Problems) -> Map {
    let mut sweep = Map::new();
    let Some(section) = file.swap_remove("hyperopt") else { return sweep };
    let (mut metric, mut split, mut goal) = (None, "valid", None);
    for (key, mut entry) in map(section.node, "hyperopt", problems) {
        match key.as_str() {
            "parameters" => {
                let parameters = map(entry.node, "hyperopt.parameters", problems);
                let renamed = parameters.into_iter().map(|(name, entry)| parameter(name, entry, problems)).collect();
                entry.node = Node { value: Value::Map(renamed), origin: entry.key.clone() };
                sweep.insert("parameters".into(), entry);
            }
            "metric" => metric = Some(entry),
            "goal" => goal = Some(entry),
            "split" => split = choose(&entry.node, &[("training", "train"), ("validation", "valid")], problems),
            // Which of several outputs is looked at: here there is one.
            "output_feature" => {}
            "search_alg" | "sampler" => {
                if let Some(mut kind) = map(entry.node, &key, problems).swap_remove("type") {
                    let kinds = [
                        ("variant_generator", "random"),
                        ("random", "random"),
                        ("grid", "grid"),
                        ("hyperopt", "bayes"),
                        ("optuna", "bayes"),
                        ("bohb", "bayes"),
                    ];
                    kind.node.value = Value::String(choose(&kind.node, &kinds, problems).into());
                    sweep.insert("method".into(), kind);
                }
            }
            "executor" => executor(entry, &mut sweep, problems),
            other => {
                let known = ["parameters", "metric", "goal", "split", "output_feature", "search_alg", "executor"];
                let near = did_you_mean(other, known);
                problems.push(Some(entry.key.place()), "hyperopt", format!("`{other}` has no counterpart here{near}"));
            }
        }
    }
    if let Some(mut entry) = metric {
        let name = match &entry.node.value {
            Value::String(name) if name == "roc_auc" => format!("{split}/auroc"),
            Value::String(name) => format!("{split}/{name}"),
            _ => String::new(),
        };
        let origin = entry.node.origin.clone();
        let mut value = Map::new();
        value.insert("name".into(), Entry { key: origin.clone(), node: Node { value: Value::String(name), origin } });
        if let Some(goal) = goal {
            value.insert("goal".into(), goal);
        }
        entry.node.value = Value::Map(value);
        sweep.insert("metric".into(), entry);
    }
    sweep
}

/// How many trials there are, and which end early.
fn executor(entry: Entry, sweep: &mut Map, problems: &mut Problems) {
    for (key, entry) in map(entry.node, "hyperopt.executor", problems) {
        match key.as_str() {
            "num_samples" => {
                sweep.insert("run_cap".into(), entry);
            }
            "scheduler" => {
                let at = entry.key.clone();
                let mut scheduler = map(entry.node, "hyperopt.executor.scheduler", problems);
                let kinds =
                    [("fifo", ""), ("async_hyperband", "hyperband"), ("asha", "hyperband"), ("hyperband", "hyperband")];
                let kind = scheduler.get("type").map_or("", |kind| choose(&kind.node, &kinds, problems));
                if kind.is_empty() {
                    continue;
                }
                let text = Node { value: Value::String(kind.into()), origin: at.clone() };
                let mut value = Map::from_iter([("type".to_string(), Entry { key: at.clone(), node: text })]);
                for (theirs, ours) in [("grace_period", "min_iter"), ("reduction_factor", "eta")] {
                    if let Some(entry) = scheduler.swap_remove(theirs) {
                        value.insert(ours.into(), entry);
                    }
                }
                let node = Node { value: Value::Map(value), origin: at.clone() };
                sweep.insert("early_terminate".into(), Entry { key: at, node });
            }
            _ => {}
        }
    }
}

/// One key that varies.
fn parameter(name: String, entry: Entry, problems: &mut Problems) -> (String, Entry) {
    let ours = KEYS.iter().find(|(theirs, _)| *theirs == name).map_or(name.clone(), |(_, ours)| (*ours).to_string());
    let Entry { key, node } = entry;
    let origin = node.origin.clone();
    let mut given = map(node, &name, problems);
    let mut value = Map::new();
    let Some(kind) = given.swap_remove("space") else {
        // Spelt as here.
        return (ours, Entry { key, node: Node { value: Value::Map(given), origin } });
    };
    let place = kind.node.origin.clone();
    let names = SPACES.iter().map(|space| (space.name, space.name)).collect::<Vec<_>>();
    let chosen = choose(&kind.node, &names, problems);
    if let Some(space) = SPACES.iter().find(|space| space.name == chosen) {
        let text = |text: &str, at: &Origin| Entry {
            key: at.clone(),
            node: Node { value: Value::String(text.into()), origin: at.clone() },
        };
        if let Some(distribution) = space.distribution {
            value.insert("distribution".into(), text(distribution, &place));
        }
        for (theirs, ours) in space.keys {
            if let Some(mut entry) = given.swap_remove(*theirs) {
                if space.open && *theirs == "upper" {
                    below(&mut entry.node);
                }
                value.insert((*ours).into(), entry);
            }
        }
        if space.name == "lograndint" {
            let one = Node { value: Value::Number(1.into()), origin: place.clone() };
            value.insert("q".into(), Entry { key: place, node: one });
        }
        // The base of a logarithm changes nothing of what is drawn.
        let idle = |key: &str| key == "type" || (key == "base" && space.name.contains("log"));
        for (key, entry) in given.into_iter().filter(|(key, _)| !idle(key)) {
            let near = did_you_mean(&key, space.keys.iter().map(|(theirs, _)| *theirs));
            problems.push(Some(entry.key.place()), &name, format!("`{}` takes no `{key}`{near}", space.name));
        }
    }
    (ours, Entry { key, node: Node { value: Value::Map(value), origin } })
}

/// One less than a whole number.
fn below(node: &mut Node) {
    if let Value::Number(number) = &node.value
        && let Some(whole) = number.as_i64()
    {
        node.value = Value::Number(whole.saturating_sub(1).into());
    }
}

/// What a word stands for, by a table; empty where it is not in it, which goes to `problems`.
fn choose<'a>(node: &Node, table: &[(&'a str, &'a str)], problems: &mut Problems) -> &'a str {
    let text = node.to_json();
    let text = text.as_str().unwrap_or_default();
    if let Some((_, ours)) = table.iter().find(|(theirs, _)| *theirs == text) {
        return ours;
    }
    let names: Vec<String> = table.iter().map(|(theirs, _)| format!("`{theirs}`")).collect();
    let near = did_you_mean(text, table.iter().map(|(theirs, _)| *theirs));
    let message = format!("`{text}` has no counterpart here{near}; what has: {}", names.join(", "));
    problems.push(Some(node.origin.place()), "hyperopt", message);
    ""
}

/// The entries of a map; that it is none goes to `problems`.
fn map(node: Node, path: &str, problems: &mut Problems) -> Map {
    let (place, kind) = (node.origin.place(), node.kind_name());
    match node.value {
        Value::Map(map) => map,
        _ => {
            problems.push(Some(place), path, format!("must be a map of keys, not {kind}"));
            Map::new()
        }
    }
}
