//! `caft sweep` as a user sees it.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::{Value, json};

use super::project::{Project, ran};
use super::views::VIEWS;

fn settings(ranked: &Value) -> Vec<&Value> {
    ranked["settings"].as_array().unwrap().iter().map(|setting| &setting["value"]).collect()
}

#[test]
fn a_sweep_ends_with_its_best_as_a_recipe_and_never_repeats_a_trial() {
    let project = Project::new(8);
    let words = ["sweep", "recipe.yaml", "--json", "--keep", "1", "train.epochs=3", "lr=1e-5,3e-2"];
    let first = project.run(&words);
    assert_eq!(first.code, Some(0), "{first:?}");
    let swept = first.json();
    assert_eq!((&swept["trained"], &swept["reused"]), (&json!(2), &json!(0)));
    assert_eq!(swept["metric"], "valid/accuracy");
    let ranking = swept["ranking"].as_array().unwrap();
    assert_eq!(settings(&ranking[0]), [&json!(0.03)]);
    assert!(ranking[0]["mean"].as_f64() >= ranking[1]["mean"].as_f64());
    let run = swept["runs"][0].as_str().unwrap();
    let record: Value =
        serde_json::from_str(&std::fs::read_to_string(project.path(run).join("run.json")).unwrap()).unwrap();
    assert_eq!(record["activations"]["computed"], 0, "the cache was filled by the trials");
    assert_eq!(record["metrics"]["valid/accuracy"], ranking[0]["mean"], "a trial is the run of its recipe");
    // The best recipe is the best run.
    let best = project.path(swept["best"].as_str().unwrap());
    let again = project.run(&["run", best.to_str().unwrap(), "--json"]).json();
    assert_eq!(again["id"], record["id"]);

    let resumed = project.run(&words).json();
    assert_eq!((&resumed["trained"], &resumed["reused"]), (&json!(0), &json!(2)));
    let mut wider = words;
    wider[6] = "lr=1e-5,3e-2,1e-1";
    let wider = project.run(&wider).json();
    assert_eq!((&wider["trained"], &wider["reused"]), (&json!(1), &json!(2)));
    assert_eq!(wider["ranking"].as_array().unwrap().len(), 3);
}

#[test]
fn a_file_of_weights_and_biases_varies_a_recipe() {
    let project = Project::new(8);
    project.write(
        "sweep.yaml",
        "program: train.py\ncommand: [touch, evil]\nmethod: bayes\nmetric: {name: val_loss, goal: minimize}\n\
         parameters:\n  rate: {distribution: log_uniform_values, min: 1e-4, max: 1e-1}\n  optimizer: {values: [adamw, sgd]}\n\
         \x20 train: {parameters: {loss: {parameters: {label_smoothing: {min: 0.0, max: 0.2}}}}}\n\
         early_terminate: {type: hyperband, min_iter: 2}\nrun_cap: 12\n",
    );
    let alone = project.run(&["sweep", "sweep.yaml"]);
    assert_eq!(alone.code, Some(2));
    assert!(alone.stderr.contains("--base"), "{alone:?}");
    let unknown = project.run(&["sweep", "sweep.yaml", "--base", "recipe.yaml"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("sweep.yaml:6:9") && unknown.stderr.contains("`rate` is neither"), "{unknown:?}");
    let words = [
        "sweep",
        "sweep.yaml",
        "--base",
        "recipe.yaml",
        "--alias",
        "rate=train.optimizer.lr",
        "--json",
        "train.epochs=6",
        "++train.loss.kind=cross_entropy",
    ];
    let ran = project.run(&words);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let swept = ran.json();
    assert_eq!((&swept["trained"], &swept["metric"]), (&json!(12), &json!("valid/loss")), "{ran:?}");
    let ranking = swept["ranking"].as_array().unwrap();
    assert_eq!(ranking.len(), 12);
    assert!(ranking.iter().any(|ranked| ranked["stopped"] == true), "some were given up");
    let means: Vec<f64> =
        ranking.iter().filter(|r| r["stopped"] == false).map(|r| r["mean"].as_f64().unwrap()).collect();
    assert!(means.is_sorted(), "{means:?}");
    assert!(!project.path("evil").exists(), "nothing that the file names is run");
    assert_eq!(project.run(&words).json()["trained"], 0);
}

#[test]
fn repetitions_folds_and_fractions_are_in_the_table() {
    let project = Project::new(12);
    let section = "\nsweep:\n  parameters: {train.weight_decay_unknown: {value: 1}}\n";
    let recipe = std::fs::read_to_string(project.path("recipe.yaml")).unwrap();
    project.write("wrong.yaml", &(recipe.clone() + section));
    let wrong = project.run(&["sweep", "wrong.yaml"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("unknown field") && wrong.stderr.contains("wrong.yaml:"), "{wrong:?}");
    project
        .write("sweep.yaml", &(recipe + "\nsweep: {repeat: {seeds: 2}, kfold: 3, fractions: [0.3, 1.0], keep: 0}\n"));
    let once = project.run(&["run", "sweep.yaml"]);
    assert!(once.stderr.contains("caft sweep sweep.yaml"), "{once:?}");
    let swept = project.run(&["sweep", "sweep.yaml", "--json", "train.epochs=5"]).json();
    assert_eq!(swept["trained"], 12);
    let ranking = swept["ranking"].as_array().unwrap();
    assert_eq!(ranking.len(), 2);
    assert!(ranking.iter().all(|r| r["values"].as_array().unwrap().len() == 6 && r["interval"].is_number()));
    assert_eq!(swept["runs"], json!([]));
    assert_eq!(swept["alone"], json!({}), "all folds, seeds and shares train together");
    let ended = trials(&project, &swept);
    assert_eq!(ended.len(), 12);
    for trial in [&ended[1], &ended[8]] {
        is_the_run_of_its_recipe(&project, trial, &["train.epochs=5"]);
    }
}

#[test]
fn views_train_together_in_folds_and_shares() {
    let project = Project::new(12);
    let recipe = std::fs::read_to_string(project.path("recipe.yaml")).unwrap();
    project.write("sweep.yaml", &(recipe + "\nsweep: {kfold: 3, fractions: [0.5, 1.0], keep: 0}\n"));
    let words = [VIEWS, "train.epochs=6", "++model.neck=[{kind: standardize}]"];
    let swept = project.run(&[&["sweep", "sweep.yaml", "--json"], &words[..]].concat());
    assert_eq!(swept.code, Some(0), "{swept:?}");
    let swept = swept.json();
    assert_eq!((&swept["trained"], &swept["alone"]), (&json!(6), &json!({})), "all folds and shares train together");
    for trial in trials(&project, &swept) {
        is_the_run_of_its_recipe(&project, &trial, &words);
    }
}

/// The trials of a sweep's table that ended.
fn trials(project: &Project, swept: &Value) -> Vec<Value> {
    let table = std::fs::read_to_string(project.path(swept["folder"].as_str().unwrap()).join("trials.jsonl")).unwrap();
    let lines = table.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == "ended").collect()
}

/// A trial of `sweep.yaml` with some words is the very run of its recipe: the same id, and the same bits.
fn is_the_run_of_its_recipe(project: &Project, trial: &Value, words: &[&str]) {
    let mut words: Vec<String> = words.iter().map(|word| (*word).into()).collect();
    words.push("~sweep".into());
    for setting in trial["settings"].as_array().unwrap().iter().chain(trial["replica"].as_array().unwrap()) {
        words.extend((setting["path"] == "data.valid").then(|| "~data.valid.fraction".into()));
        words.push(format!("++{}={}", setting["path"].as_str().unwrap(), setting["value"]));
    }
    let words: Vec<&str> =
        ["run", "sweep.yaml", "--json"].into_iter().chain(words.iter().map(String::as_str)).collect();
    let alone = project.run(&words);
    assert_eq!(alone.code, Some(0), "{alone:?}");
    assert_eq!(alone.json()["id"], trial["trial"], "{trial}");
    for metric in ["valid/accuracy", "valid/loss"] {
        assert_eq!(alone.json()["metrics"][metric], trial["metrics"][metric], "{metric} of {trial}");
    }
}

#[test]
fn trials_of_all_kinds_of_heads_train_together_and_say_so_if_not() {
    let project = Project::new(8);
    let head = "model.head={kind: linear},{kind: mlp, hidden: [8]},{kind: mlp, hidden: [8], dropout: 0.5}";
    let words =
        ["sweep", "recipe.yaml", "train.epochs=3", head, "lr=1e-3,1e-2", "train.clip_norm=0.1,1.0", "--keep", "0"];
    let words = |more: &[&'static str]| words.iter().chain(more).copied().collect::<Vec<&str>>();
    let swept = project.run(&words(&["++train.ema={decay: 0.9}", "--json"]));
    assert_eq!(swept.code, Some(0), "{swept:?}");
    assert_eq!((&swept.json()["trained"], &swept.json()["alone"]), (&json!(12), &json!({})));
    let mixed = project.run(&["sweep", "recipe.yaml", "optimizer=adamw,sgd,lbfgs", "train.epochs=3", "--keep", "0"]);
    assert!(
        mixed.stdout.contains("1 of them by itself, not together with others: an optimiser that sees"),
        "{mixed:?}"
    );
}

#[test]
fn processes_that_share_a_sweep_repeat_no_trial_and_end_together() {
    let project = Project::new(8);
    project.run(&["run", "recipe.yaml", "train.epochs=1"]);
    let words =
        ["sweep", "recipe.yaml", "train.epochs=20", "lr=log_uniform(1e-4,1e-1)", "++sweep.run_cap=40", "--json"];
    let begin = || project.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let processes: Vec<_> = (0..3).map(|_| begin()).collect();
    let ended: Vec<_> = processes.into_iter().map(|process| ran(process.wait_with_output().unwrap())).collect();
    assert!(ended.iter().all(|ended| ended.code == Some(0)), "{ended:?}");
    let trained: Vec<u64> = ended.iter().map(|ended| ended.json()["trained"].as_u64().unwrap()).collect();
    assert_eq!(trained.iter().sum::<u64>(), 40, "{trained:?}");
    assert!(ended.iter().all(|one| one.json()["ranking"] == ended[0].json()["ranking"]));
    assert_eq!(ended[0].json()["runs"].as_array().unwrap().len(), 3);
    let lines = trials(&project, &ended[0].json());
    let distinct: BTreeSet<&str> = lines.iter().map(|line| line["trial"].as_str().unwrap()).collect();
    assert_eq!((lines.len(), distinct.len()), (40, 40), "each trial ended once");
}

#[test]
fn a_killed_sweep_goes_on_and_repeats_no_trial_that_ended() {
    let project = Project::new(8);
    project.run(&["run", "recipe.yaml", "train.epochs=1"]);
    // Short trials end while long ones go on.
    let words = ["sweep", "recipe.yaml", "train.epochs=1,1500", "lr=1e-4,1e-3,1e-2", "--keep", "0", "--json"];
    let mut first = project.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let table = || {
        let folders = std::fs::read_dir(project.path("runs/warmth")).into_iter().flatten().flatten();
        let tables = folders.map(|folder| folder.path().join("trials.jsonl")).filter(|table| table.is_file());
        tables.map(|table| std::fs::read_to_string(table).unwrap()).collect::<String>()
    };
    while !table().contains("\"event\":\"ended\"") {
        assert!(first.try_wait().unwrap().is_none(), "it ended before it was killed");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let before = table().matches("\"event\":\"ended\"").count() as u64;
    assert!((1..6).contains(&before), "{before} of 6 ended");
    let again = project.run(&words).json();
    assert_eq!((&again["reused"], &again["trained"]), (&json!(before), &json!(6 - before)));
    let lines = trials(&project, &again);
    let distinct: BTreeSet<&str> = lines.iter().map(|line| line["trial"].as_str().unwrap()).collect();
    assert_eq!((lines.len(), distinct.len()), (6, 6), "each trial ended once");
}

#[test]
fn outputs_that_a_model_does_not_have_fail_alone() {
    let project = Project::new(8);
    let words = ["sweep", "recipe.yaml", "train.epochs=2", "outputs=[/Flatten_output_0],[nothing]", "--keep", "0"];
    let swept = project.run(&words);
    assert_eq!(swept.code, Some(0), "{swept:?}");
    assert!(swept.stdout.contains("1 choice failed") && swept.stdout.contains("no tensor `nothing`"), "{swept:?}");
    let all = project.run(&["sweep", "recipe.yaml", "outputs=[none],[nothing]"]);
    assert!(all.code == Some(2) && all.stderr.contains("no tensor"), "{all:?}");
}

#[test]
fn heads_that_are_solved_stand_beside_those_that_take_steps() {
    let project = Project::new(8);
    let words = [
        "sweep",
        "recipe.yaml",
        "model.head={kind: linear},{kind: ridge},{kind: nearest_mean}",
        "lr=1e-3,1e-2",
        "--json",
    ];
    let swept = project.run(&words);
    assert_eq!(swept.code, Some(0), "{swept:?}");
    let swept = swept.json();
    let ranking = swept["ranking"].as_array().unwrap();
    // What is said of steps is no value of a head that takes none.
    assert_eq!((ranking.len(), &swept["trained"]), (4, &json!(4)), "{swept}");
    let rates = ranking.iter().filter(|ranked| ranked.to_string().contains("train.optimizer.lr"));
    assert_eq!(rates.count(), 2, "{swept}");
    assert!(ranking.iter().all(|ranked| ranked["mean"].is_number()), "{swept}");
    assert_eq!(project.run(&words).json()["trained"], 0);
    for run in swept["runs"].as_array().unwrap() {
        let record = std::fs::read_to_string(project.path(run.as_str().unwrap()).join("run.json")).unwrap();
        let record: Value = serde_json::from_str(&record).unwrap();
        assert!(ranking.iter().any(|ranked| ranked["mean"] == record["metrics"]["valid/accuracy"]), "{record}");
    }
}

#[test]
fn a_pack_is_swept_without_backbone_and_data() {
    let project = Project::new(12);
    // The first may be the packed run, which is finished where the pack is opened.
    let words = |file: &'static str| vec!["sweep", file, "--json", "--keep", "2", "train.epochs=3", "lr=1e-3,3e-2"];
    let before = project.run(&words("recipe.yaml"));
    assert_eq!(before.code, Some(0), "{before:?}");
    project.run(&["run", "recipe.yaml"]);
    let packed = project.run(&["pack", "warmth", "-o", "w.caft-run", "--with-activations"]);
    assert_eq!(packed.code, Some(0), "{packed:?}");
    for gone in ["home/cache", "home/engines", "runs", "data"] {
        std::fs::remove_dir_all(project.path(gone)).unwrap();
    }
    std::fs::remove_file(project.path("backbone.onnx")).unwrap();
    let after = project.run(&words("w.caft-run"));
    assert_eq!(after.code, Some(0), "{after:?}");
    let means = |swept: &Value| -> Vec<Value> {
        swept["ranking"].as_array().unwrap().iter().map(|ranked| ranked["values"].clone()).collect()
    };
    assert_eq!(means(&after.json()), means(&before.json()), "the same bit for bit");
    for run in after.json()["runs"].as_array().unwrap() {
        assert!(project.path(run.as_str().unwrap()).join("report.html").is_file(), "{after:?}");
    }
    assert_eq!(project.run(&words("w.caft-run")).json()["trained"], 0);
    let folds = project.run(&["sweep", "w.caft-run", "--json", "--keep", "0", "++sweep.kfold=4", "lr=1e-3,3e-2"]);
    assert_eq!(folds.code, Some(0), "{folds:?}");
    assert_eq!((&folds.json()["trained"], &folds.json()["alone"]), (&json!(8), &json!({})));
    let other = project.run(&["sweep", "w.caft-run", "engine.precision=fp32,bf16"]);
    assert!(
        other.code == Some(2) || other.stdout.contains("2 choices failed") || other.stdout.contains("failed"),
        "{other:?}"
    );
}

#[test]
fn a_failing_trial_is_a_line_and_the_others_go_on() {
    let project = Project::new(8);
    // Momentum is a key of one of the optimisers alone.
    let words =
        ["sweep", "recipe.yaml", "train.epochs=2", "optimizer=adamw,sgd", "momentum=0.5,0.9", "--keep", "0", "--json"];
    let swept = project.run(&words).json();
    let ranking = swept["ranking"].as_array().unwrap();
    assert_eq!(ranking.len(), 4);
    assert!(ranking[2]["mean"].is_null() && ranking[2]["errors"][0].as_str().unwrap().contains("momentum"));
    assert!(ranking[..2].iter().all(|ranked| settings(ranked)[0] == "sgd"));
    let text = project.run(&words[..7]);
    assert!(text.stdout.contains("2 choices failed"), "{text:?}");
}

#[test]
fn several_values_in_one_run_are_told_how_to_be_tried() {
    let project = Project::new(2);
    let once = project.run(&["run", "recipe.yaml", "train.epochs=5,10"]);
    assert_eq!(once.code, Some(2));
    assert!(once.stderr.contains("`--multirun` or `caft sweep` tries each"), "{once:?}");
}
