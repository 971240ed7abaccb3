//! Heads that are solved at once, from a recipe to predictions.

use super::project::Project;

const RECIPE: &str = "
name: solved
model:
  backbone: {onnx: backbone.onnx, outputs: [/Flatten_output_0]}
  neck: {kind: standardize}
data:
  kind: image_folder
  train: {path: data/train}
  test: {path: data/test}
  preprocess: {resize: {size: 32, mode: exact}, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
";

#[test]
fn solved_heads_run_and_predict_on_shared_activations() {
    let project = Project::new(12);
    project.write("solved.yaml", RECIPE);
    project.picture("new/a.png", true, 1000);
    project.picture("new/b.png", false, 1001);
    let heads = [
        "{kind: logistic}",
        "{kind: ridge}",
        "{kind: ridge, alpha: 1.0}",
        "{kind: knn, k: 3}",
        "{kind: knn, k: 5, metric: l2, weights: distance}",
        "{kind: nearest_mean}",
        "{kind: nearest_mean, metric: l2}",
    ];
    for (i, head) in heads.iter().enumerate() {
        let ran = project.run(&["run", "solved.yaml", "--json", &format!("++model.head={head}")]);
        assert_eq!(ran.code, Some(0), "{head}: {ran:?}");
        let record = ran.json();
        assert_eq!(record["activations"]["computed"], if i == 0 { 48 } else { 0 }, "{head}");
        assert!(record["metrics"]["test/accuracy"].as_f64().unwrap() >= 0.9, "{head}: {record}");
        let path = record["path"].as_str().unwrap();
        let predicted = project.run(&["predict", path, "new/a.png", "new/b.png", "--json"]).json();
        let labels: Vec<&str> =
            predicted["predictions"].as_array().unwrap().iter().map(|p| p["label"].as_str().unwrap()).collect();
        assert_eq!(labels, ["warm", "cold"], "{head}");
        if i == 0 {
            let log = std::fs::read_to_string(project.path(path).join("metrics.jsonl")).unwrap();
            assert_eq!(log.lines().filter(|line| line.contains("held-out/accuracy")).count(), 5, "{log}");
        }
    }
}

#[test]
fn keys_of_training_by_steps_and_trained_necks_are_told() {
    let project = Project::new(0);
    project.write("solved.yaml", RECIPE);
    let ran = project.run(&[
        "check",
        "solved.yaml",
        "++model.head={kind: logistic}",
        "++train.epochs=3",
        "model.neck={kind: layer_norm}",
    ]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let text = ran.stdout + &ran.stderr;
    assert!(text.contains("is for heads that are trained by steps; `logistic` is solved"), "{text}");
    assert!(text.contains("has parameters to train, but `logistic`"), "{text}");
}

#[test]
fn neighbours_of_values_give_their_mean_in_the_run_and_in_its_export() {
    let project = Project::new(12);
    project.table();
    let recipe =
        Project::table_recipe("{kind: values, column: degrees}", "  head: {kind: knn, k: 3, weights: distance}");
    let recipe = recipe.split("train: {epochs").next().unwrap();
    project.write("values.yaml", &recipe.replace("extends: [linear_probe]\n", ""));
    let ran = project.run(&["run", "values.yaml", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.json()["metrics"]["test/r2"].as_f64().unwrap() > 0.5, "{ran:?}");
    let exported = project.run(&["export", "table", "-o", "out", "--json"]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    // Of values up to 32.
    assert!(exported.json()["comparisons"][0]["max_difference"].as_f64().unwrap() < 1e-2, "{exported:?}");
    let refused = project.run(&["plan", "values.yaml", "model.head.keeps=classes"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
}
