//! Sweep files of Weights & Biases, and of Ludwig (their `hyperopt` section), read as a recipe's `sweep` section.
//!
//! Of the former counts what says what to try and how: `method`, `metric`, `parameters`, `early_terminate`,
//! `run_cap` (and caft's own `seed`, `repeat`, `kfold`, `fractions`, `keep`). What says where and by which program
//! is passed over; nothing that it names is run.

use std::path::Path;
use std::sync::Arc;

use super::tree::{Entry, Map, Node, Source, Value};
use super::{ludwig, yaml};
use crate::base::{Error, Place, Problems, Result, file};

/// Keys of such a file that say nothing of what is tried.
const PASSED_OVER: &[&str] = &[
    "program",
    "command",
    "project",
    "entity",
    "name",
    "description",
    "controller",
    "job",
    "image_uri",
    "settings",
    "apiVersion",
    "kind",
];

/// Keys of `metric` by which trials without a metric count for one, and what they say of what is done here: such a trial
/// counts as a bad one.
const IMPUTED: &[(&str, &[&str])] = &[("impute", &["worst"]), ("impute_while_running", &["worst", "false"])];

/// Reads a file as a layer that holds its contents under `sweep`.
///
/// # Errors
/// The file cannot be read. What is wrong in it goes to `problems`.
pub fn read(path: &Path, problems: &mut Problems) -> Result<Node> {
    let text = file::read_text(path, yaml::LIMITS.bytes)?;
    let source = Arc::new(Source::File { path: path.to_path_buf(), folder: path.parent().map(Path::to_path_buf) });
    let before = problems.list.len();
    let Some(mut node) = yaml::parse(&text, &source, problems) else {
        if problems.list.len() == before {
            return Err(Error::bad_input(format!("`{}` is empty", path.display())));
        }
        return Err(Error::Invalid(std::mem::take(problems)));
    };
    let origin = node.origin.clone();
    match node.as_map_mut() {
        Some(map) if ludwig::is_ludwig(map) => {
            let file = std::mem::take(map);
            *map = ludwig::sweep(file, problems);
        }
        Some(map) => {
            map.retain(|key, _| !PASSED_OVER.contains(&key.as_str()));
            // The version of the file's format.
            if map.get("version").is_some_and(|entry| entry.node.to_json() == 1) {
                map.shift_remove("version");
            }
            if let Some(metric) = map.get_mut("metric").and_then(|entry| entry.node.as_map_mut()) {
                for (key, as_here) in IMPUTED {
                    let Some(entry) = metric.get(*key) else { continue };
                    let value = entry.node.to_json();
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
                    if as_here.contains(&text.as_str()) {
                        metric.shift_remove(*key);
                    } else {
                        let message =
                            format!("`{key}: {text}` has no counterpart here; such a trial counts as a bad one");
                        problems.push(Some(entry.key.place()), "sweep.metric", message);
                    }
                }
            }
        }
        None => {
            let place = Place::File { path: path.to_path_buf(), line: 1, column: 1 };
            problems.push(Some(place), "", format!("a sweep is a map of keys, not {}", node.kind_name()));
            node.value = Value::Map(Map::new());
        }
    }
    let entry = Entry { key: origin.clone(), node };
    let map = [("sweep".to_string(), entry)].into_iter().collect();
    Ok(Node { value: Value::Map(map), origin })
}

#[cfg(test)]
mod tests {
    use crate::recipe::{Overrides, load};

    fn loaded(sweep: &str) -> Result<crate::recipe::Loaded, crate::base::Error> {
        let folder = tempfile::tempdir().unwrap();
        let recipe = folder.path().join("base.yaml");
        let file = folder.path().join("sweep.yaml");
        let text = "model: {backbone: {onnx: m.onnx, outputs: [x]}}\ndata: {kind: image_folder, train: {path: d}}\n";
        std::fs::write(&recipe, text).unwrap();
        std::fs::write(&file, sweep).unwrap();
        load(&recipe, &Overrides { sweep: Some(file), ..Overrides::default() })
    }

    #[test]
    fn a_file_of_weights_and_biases_is_the_sweep() {
        let text = "program: train.py\ncommand: [rm, -rf, x]\nmethod: bayes\nmetric: {name: val_loss, goal: minimize}\n\
                    parameters:\n  lr: {distribution: log_uniform_values, min: 1e-5, max: 0.1}\n  epochs: {values: [5, 10]}\n\
                    early_terminate: {type: hyperband, min_iter: 3}\nrun_cap: 7\n";
        let sweep = loaded(text).unwrap().recipe.sweep.unwrap();
        assert_eq!(sweep.run_cap, Some(7));
        assert_eq!(sweep.parameters.len(), 2);
        assert!(sweep.early_terminate.is_some());
        let text = "apiVersion: 0.0.1\nkind: sweep\nmethod: random\nmetric: {name: loss, target: 0.1, impute: IMPUTE}\n\
                    parameters: {lr: {distribution: beta, a: 2, b: 5}}\n";
        let metric = loaded(&text.replace("IMPUTE", "worst")).unwrap().recipe.sweep.unwrap().metric.unwrap();
        assert_eq!(metric.target, Some(0.1));
        let error = loaded(&text.replace("IMPUTE", "best")).unwrap_err().to_string();
        assert!(error.contains("`impute: best` has no counterpart") && error.contains(":4:"), "{error}");
    }

    #[test]
    fn ludwigs_section_is_the_sweep() {
        let text = "input_features: [{name: x, type: text}]\nhyperopt:\n  goal: maximize\n  metric: accuracy\n  parameters:\n    \
                    trainer.learning_rate: {space: loguniform, lower: 0.001, upper: 0.1}\n    \
                    trainer.epochs: {space: randint, lower: 3, upper: 9}\n    \
                    trainer.optimizer.type: {space: choice, categories: [sgd, adamw]}\n  \
                    search_alg: {type: hyperopt}\n  executor:\n    type: ray\n    num_samples: 7\n    \
                    scheduler: {type: async_hyperband, grace_period: 2, reduction_factor: 4}\n";
        let sweep = loaded(text).unwrap().recipe.sweep.unwrap();
        assert_eq!(
            serde_json::to_value(&sweep.parameters).unwrap(),
            serde_json::json!({
                "train.optimizer.lr": {"distribution": "log_uniform_values", "min": 0.001, "max": 0.1},
                "train.epochs": {"distribution": "int_uniform", "min": 3, "max": 8},
                "train.optimizer.kind": {"values": ["sgd", "adamw"]},
            })
        );
        let rest = serde_json::to_value(&sweep).unwrap();
        assert_eq!(rest["metric"], serde_json::json!({"name": "valid/accuracy", "goal": "maximize"}));
        assert_eq!((&rest["method"], &rest["run_cap"]), (&"bayes".into(), &7.into()));
        assert_eq!((&rest["early_terminate"]["min_iter"], &rest["early_terminate"]["eta"]), (&2.into(), &4.0.into()));
        let text = "hyperopt:\n  parameters:\n    trainer.epochs: {space: logunifrm, lower: 3}\n    lr: {space: uniform, lowr: 1}\n";
        let error = loaded(text).unwrap_err().to_string();
        assert!(error.contains("sweep.yaml:3:29") && error.contains("did you mean `loguniform`"), "{error}");
        assert!(error.contains("`uniform` takes no `lowr`; did you mean `lower`?"), "{error}");
    }

    #[test]
    fn mistakes_have_their_place_in_the_sweeps_file() {
        let error = loaded("method: byes\nparameters:\n  lr: {mim: 1}\n").unwrap_err().to_string();
        assert!(error.contains("sweep.yaml:1:9") && error.contains("did you mean `bayes`?"), "{error}");
        assert!(error.contains("sweep.yaml:3:8") && error.contains("did you mean `min`?"), "{error}");
        let error = loaded("- a\n").unwrap_err().to_string();
        assert!(error.contains("a sweep is a map of keys"), "{error}");
    }
}
