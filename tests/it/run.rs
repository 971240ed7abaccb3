//! `caft run` from a recipe to predictions, as a user sees it.

use std::time::Duration;

use super::project::{Project, ran};

#[test]
fn a_recipe_runs_is_found_finished_and_shares_its_activations() {
    let project = Project::new(12);
    let first = project.run(&["run", "recipe.yaml", "--json"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let record = first.json();
    assert_eq!(record["status"], "finished");
    assert_eq!(record["activations"], serde_json::json!({"computed": 48, "reused": 0}));
    assert_eq!(record["main_metric"], "test/accuracy");
    let accuracy = record["metrics"]["test/accuracy"].as_f64().unwrap();
    assert!(accuracy >= 0.9, "red and blue are told apart: {accuracy}");
    for stage in ["resolve", "engine", "activations", "train", "evaluate", "write"] {
        assert!(record["stages"][stage].is_f64(), "{stage}");
    }
    let folder = record["path"].as_str().unwrap();
    for file in [
        "recipe.yaml",
        "plan.json",
        "caft.lock",
        "metrics.jsonl",
        "run.json",
        "checkpoint/best.safetensors",
        "report.html",
    ] {
        assert!(project.path(folder).join(file).exists(), "{file}");
    }

    let confusion = std::fs::read_to_string(project.path(folder).join("confusion.json")).unwrap();
    let confusion: serde_json::Value = serde_json::from_str(&confusion).unwrap();
    let counts: Vec<Vec<u64>> = serde_json::from_value(confusion["splits"]["test"].clone()).unwrap();
    assert_eq!(counts.iter().flatten().sum::<u64>(), 24);
    assert!(((counts[0][0] + counts[1][1]) as f64 / 24.0 - accuracy).abs() < 1e-9, "{counts:?}");
    let again = project.run(&["run", "recipe.yaml"]);
    assert!(again.stdout.contains("finished already"), "{again:?}");
    let other = project.run(&["run", "recipe.yaml", "--json", "train.optimizer.lr=3e-3", "train.seed=7"]).json();
    assert_eq!(other["activations"], serde_json::json!({"computed": 0, "reused": 48}));
    assert_ne!(other["id"], record["id"]);
    let merged = project.path(folder).join("recipe.yaml");
    let repeated = project.run(&["run", merged.to_str().unwrap(), "--json"]).json();
    assert_eq!(repeated["id"], record["id"], "the merged recipe of a run is the same run");

    let fresh = project.run(&["run", "recipe.yaml", "--json", "--fresh"]).json();
    assert_eq!((&fresh["id"], &fresh["metrics"]), (&record["id"], &record["metrics"]));
    assert!(fresh["path"].as_str().unwrap().ends_with("attempt-2"));
    let runs = project.run(&["runs", "--json"]).json();
    assert_eq!(runs.as_array().unwrap().len(), 3);
    let some =
        project.run(&["runs", "--where", "train.optimizer.lr<1e-2", "--where", "status=finished", "--json"]).json();
    assert_eq!((some.as_array().unwrap().len(), &some[0]["id"]), (1, &other["id"]));
    let sorted = project.run(&["runs", "--sort", "train.optimizer.lr", "--json"]).json();
    assert_eq!(sorted[0]["id"], other["id"]);
    assert_eq!(project.run(&["runs", "--where", "lr"]).code, Some(2));
    let told = |words: &[&str], part: &str| {
        let told = project.run(&[&["runs"], words].concat());
        assert!(told.code == Some(2) && told.stderr.contains(part), "{told:?}");
    };
    told(&["--where", "test/acuracy>0.5"], "did you mean `test/accuracy`?");
    told(&["--where", "status=finishd"], "did you mean `finished`?");
    told(&["--where", "test/accuracy>high"], "is not a number");
    told(&["--sort", "train.optimiser.lr"], "did you mean `train.optimizer.lr`?");
    // What the recipe left to the defaults is there too, and what was asked for is shown.
    let by_default =
        project.run(&["runs", "--where", "train.backend=embedded", "--sort", "train.optimizer.lr", "--descending"]);
    assert!(by_default.code == Some(0) && by_default.stdout.contains("TRAIN.OPTIMIZER.LR"), "{by_default:?}");
    assert_eq!(by_default.stdout.lines().count(), 4, "{by_default:?}");
    project.write("runs/warmth/0badbadbadbadbad/run.json", "{\"name\": \"war");
    let damaged = project.run(&["runs"]);
    assert!(damaged.code == Some(0) && damaged.stderr.contains("is damaged; this run is left out"), "{damaged:?}");
}

#[test]
fn new_changed_and_moved_pictures_cost_what_is_new() {
    let project = Project::new(6);
    let run = || project.run(&["run", "recipe.yaml", "--json", "train.epochs=2"]).json();
    let first = run();
    assert_eq!(first["activations"]["computed"], 24);
    std::fs::rename(project.path("data/train/warm/000.png"), project.path("data/train/warm/zzz.png")).unwrap();
    project.picture("data/train/cold/new.png", false, 99);
    assert_eq!(run()["activations"], serde_json::json!({"computed": 1, "reused": 24}));
    std::fs::rename(project.path("data/train/cold/001.png"), project.path("data/train/warm/relabelled.png")).unwrap();
    let relabelled = run();
    assert_eq!(relabelled["activations"], serde_json::json!({"computed": 0, "reused": 25}));
    assert_ne!(relabelled["id"], first["id"], "changed labels are another run");
    let moved = project.path("elsewhere");
    std::fs::rename(project.path("data"), &moved).unwrap();
    let word = format!("data.train.path={}", moved.join("train").display());
    let test = format!("data.test.path={}", moved.join("test").display());
    let there = project.run(&["run", "recipe.yaml", "--json", "train.epochs=2", &word, &test]).json();
    assert_eq!(there["id"], relabelled["id"], "a moved folder is the same data");
}

#[test]
fn a_finished_run_predicts() {
    let project = Project::new(12);
    assert_eq!(project.run(&["run", "recipe.yaml", "-q"]).code, Some(0));
    project.picture("new/a.png", true, 1000);
    project.picture("new/b.png", false, 1001);
    let predicted = project.run(&["predict", "warmth", "new/a.png", "new/b.png", "--json"]).json();
    assert_eq!(predicted["classes"], serde_json::json!(["cold", "warm"]));
    let labels: Vec<&str> =
        predicted["predictions"].as_array().unwrap().iter().map(|p| p["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["warm", "cold"]);
    let sum: f64 =
        predicted["predictions"][0]["probabilities"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-5);
    let unknown = project.run(&["predict", "warmht", "new/a.png"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("did you mean `warmth`?"), "{unknown:?}");
    project.write("new/text.png", "not a picture");
    let bad = project.run(&["predict", "warmth", "new/text.png"]);
    assert_eq!(bad.code, Some(2), "{bad:?}");
    assert!(bad.stderr.contains("new/text.png"), "{bad:?}");
}

#[test]
fn a_bad_picture_stops_the_run_or_is_skipped_and_told() {
    let project = Project::new(12);
    project.write("data/train/warm/broken.png", "\u{89}PNG, but no more than that");
    let failed = project.run(&["run", "recipe.yaml"]);
    assert_eq!(failed.code, Some(2), "{failed:?}");
    assert!(failed.stderr.contains("broken.png"), "{failed:?}");
    assert!(project.run(&["runs"]).stdout.contains("failed"));
    let skipped = project.run(&["run", "recipe.yaml", "--json", "data.on_error=skip"]);
    assert_eq!(skipped.code, Some(0), "{skipped:?}");
    let folder = skipped.json()["path"].as_str().unwrap().to_string();
    let list = std::fs::read_to_string(project.path(&folder).join("skipped.jsonl")).unwrap();
    assert!(list.lines().count() == 1 && list.contains("broken.png"), "{list}");

    // A table with a bad row, a label that training lacks, and the bad picture: three of 21 rows.
    let rows = |class: &str, label: &str| -> String {
        (0..6).map(|number| format!("data/test/{class}/{number:03}.png,{label}\n")).collect()
    };
    let table =
        format!("image,label\n{}{}only one cell\ndata/train/warm/broken.png,1\n", rows("cold", "0"), rows("warm", "1"));
    project.write("train.csv", &table);
    project.write("test.csv", &format!("image,label\n{}data/test/warm/000.png,2\n", rows("cold", "0")));
    let recipe = std::fs::read_to_string(project.path("recipe.yaml")).unwrap();
    let recipe = recipe.replace("kind: image_folder", "kind: csv\n  on_error: skip").replace("data/train", "train.csv");
    project.write("table.yaml", &recipe.replace("data/test", "test.csv"));
    let refused = project.run(&["run", "table.yaml"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("3 of 21 rows are bad, more than the share of 0.1"), "{refused:?}");
    let told = project.run(&["run", "table.yaml", "data.max_skipped=0.2"]);
    assert!(told.code == Some(0) && told.stdout.contains("3 bad rows were left out; runs/warmth/"), "{told:?}");
    let runs = project.run(&["runs", "--json", "--where", "skipped=3"]).json();
    let list = project.path(runs[0]["path"].as_str().unwrap()).join("skipped.jsonl");
    let list = std::fs::read_to_string(list).unwrap();
    for expected in ["train.csv:14", "test.csv:8", "broken.png"] {
        assert!(list.contains(expected), "{expected}: {list}");
    }
}

#[test]
fn every_stored_type_trains_and_tells_what_it_lost() {
    let project = Project::new(12);
    for (dtype, least, most) in [("f32", 0.0, 0.0), ("f16", 1e-5, 1e-3), ("bf16", 1e-4, 8e-3), ("i8", 1e-3, 3e-2)] {
        let word = format!("cache.dtype={dtype}");
        let ran = project.run(&["run", "recipe.yaml", "--json", &word]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let record = ran.json();
        assert_eq!(record["activations"], serde_json::json!({"computed": 48, "reused": 0}), "{dtype}");
        assert!(record["metrics"]["test/accuracy"].as_f64().unwrap() >= 0.8, "{dtype}: {record}");
        let stored = &record["stored"]["/Flatten_output_0"];
        let error = stored["error"].as_f64().unwrap();
        assert!(stored["dtype"] == dtype && (least..=most).contains(&error), "{dtype}: {error}");
        let told = format!("stored as {dtype} with a relative error of {error:.1e}");
        assert_eq!(ran.stderr.matches(&told).count(), usize::from(error > 0.0), "{told}: {ran:?}");
        let again = project.run(&["run", "recipe.yaml", "--json", "train.seed=9", &word]);
        assert_eq!((&again.json()["stored"], &again.json()["activations"]["computed"]), (&record["stored"], &0.into()));
        assert_eq!(again.stderr.matches(&told).count(), usize::from(error > 0.0), "{again:?}");
    }
}

/// Waits until the only run of a project has logged so many epochs.
#[cfg(unix)]
fn wait_for_epochs(project: &Project, wanted: usize) {
    for _ in 0..600 {
        std::thread::sleep(Duration::from_millis(100));
        let runs = std::fs::read_dir(project.path("runs/warmth")).into_iter().flatten();
        let logs = runs.filter_map(|run| std::fs::read_to_string(run.ok()?.path().join("metrics.jsonl")).ok());
        if logs.map(|log| log.lines().count()).max().unwrap_or(0) >= wanted {
            return;
        }
    }
    panic!("no {wanted} epochs within a minute");
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_a_run_that_goes_on() {
    let project = Project::new(6);
    let arguments = ["run", "recipe.yaml", "train.epochs=200000"];
    let mut epochs = Vec::new();
    for _ in 0..2 {
        let mut command = project.command(&arguments);
        let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        wait_for_epochs(&project, epochs.last().copied().unwrap_or(0) + 1);
        std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        let stopped = ran(child.wait_with_output().unwrap());
        assert_eq!(stopped.code, Some(130), "{stopped:?}");
        assert!(stopped.stderr.contains("the same command goes on from there"), "{stopped:?}");
        let runs = project.run(&["runs", "--json"]).json();
        assert_eq!(runs[0]["status"], "interrupted");
        let metrics = project.path(runs[0]["path"].as_str().unwrap()).join("metrics.jsonl");
        let text = std::fs::read_to_string(metrics).unwrap();
        let steps: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap())
            .collect();
        assert!(steps.windows(2).all(|pair| pair[1] == pair[0] + 1), "each epoch once, in order");
        epochs.push(steps.len());
    }
    assert!(epochs[1] > epochs[0], "{epochs:?}");
}

#[test]
fn labels_numbers_and_embeddings_are_trained_and_predicted() {
    let project = Project::new(12);
    project.table();
    let recipe = Project::table_recipe;
    let trained = |label: &str, rest: &str, metric: &str| {
        project.write("table.yaml", &recipe(label, rest));
        let ran = project.run(&["run", "table.yaml", "--json"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let value = ran.json()["metrics"][metric].as_f64().unwrap_or_else(|| panic!("{metric}: {ran:?}"));
        let run = ran.json()["path"].as_str().unwrap().to_string();
        let predicted = project.run(&["predict", &run, "data/test/warm/000.png", "--json"]).json();
        (value, predicted["predictions"][0].clone())
    };
    let (precision, predicted) = trained("{kind: multi_label, columns: [warm, cold]}", "", "test/average_precision");
    assert!(precision > 0.95, "{precision}");
    assert_eq!(predicted["label"], "warm");
    let (explained, predicted) = trained("{kind: values, column: degrees}", "", "test/r2");
    assert!(explained > 0.8, "{explained}");
    let degrees = predicted["values"][0].as_f64().unwrap();
    assert!((20.0..45.0).contains(&degrees), "in its own units: {degrees}");
    let (recall, predicted) = trained("warm", "  head: {kind: embedding, dim: 4}", "test/recall_at_1");
    assert!(recall > 0.9, "{recall}");
    assert_eq!(predicted["values"].as_array().unwrap().len(), 4);

    project.write("table.yaml", &recipe("{kind: values, column: degrees}", "  head: {kind: cosine}"));
    let refused = project.run(&["check", "table.yaml"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("model.head.kind: does not fit the targets, which are numbers"), "{refused:?}");
}
