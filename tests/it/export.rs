//! `caft export`, and the exported file in place of the run.

use serde_json::Value;

use super::project::Project;
use super::text;

/// Probabilities of some new pictures, by a run or a file.
fn probabilities(project: &Project, model: &str) -> Vec<f64> {
    let ran = project.run(&["predict", model, "new/a.png", "new/b.png", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let predictions = ran.json()["predictions"].as_array().unwrap().clone();
    predictions
        .iter()
        .flat_map(|p| p["probabilities"].as_array().unwrap().clone())
        .map(|p| p.as_f64().unwrap())
        .collect()
}

#[test]
fn an_exported_file_predicts_what_the_run_does() {
    let project = Project::new(12);
    project.picture("new/a.png", true, 1000);
    project.picture("new/b.png", false, 1001);
    let heads = ["{kind: linear}", "{kind: mlp, hidden: [8]}", "{kind: knn, k: 5, weights: distance}"];
    for (number, head) in heads.iter().enumerate() {
        let word = format!("model.head={head}");
        let mut words = vec!["run", "recipe.yaml", "--json", &word];
        if number == 2 {
            words.extend(["~train.epochs", "~train.batch_size", "~train.optimizer"]);
        }
        let ran = project.run(&words);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let run = ran.json()["path"].as_str().unwrap().to_string();
        let live = probabilities(&project, &run);
        for (name, flags) in [
            ("plain", &[][..]),
            ("softmax", &["--activation", "softmax"]),
            ("pixels", &["--input", "pixels", "--activation", "softmax"]),
        ] {
            let folder = format!("out/{number}/{name}");
            let arguments = [&["export", &run, "--output", &folder, "--json"], flags].concat();
            let ran = project.run(&arguments);
            assert_eq!(ran.code, Some(0), "{head} {name}: {ran:?}");
            let comparison = ran.json()["comparisons"][0].clone();
            assert!(comparison["max_difference"].as_f64().unwrap() < 1e-3, "{comparison}");
            assert_eq!(comparison["samples"], 16);
            let exported = probabilities(&project, &format!("{folder}/model.onnx"));
            assert!(
                live.iter().zip(&exported).all(|(a, b)| (a - b).abs() < 1e-4),
                "{head} {name}: {live:?} {exported:?}"
            );
            let config = std::fs::read_to_string(project.path(&folder).join("config.json")).unwrap();
            assert!(config.contains("\"0\": \"cold\""), "{config}");
            assert!(project.path(&folder).join("preprocessor_config.json").exists());
            let left: Vec<_> = std::fs::read_dir(project.path(&folder)).unwrap().collect();
            assert_eq!(left.len(), 3, "nothing else is left: {left:?}");
        }
    }
    let other = project.run(&["predict", "backbone.onnx", "new/a.png"]);
    assert_eq!(other.code, Some(2), "{other:?}");
    assert!(other.stderr.contains("caft export"), "{other:?}");
    let unknown = project.run(&["export", "warmht"]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
}

/// Exports a run; gives what was printed, and the file.
fn exported(project: &Project, run: &str, folder: &str, flags: &[&str]) -> (Value, String) {
    let ran = project.run(&[&["export", run, "--output", folder, "--json"], flags].concat());
    assert_eq!(ran.code, Some(0), "{flags:?}: {ran:?}");
    (ran.json(), format!("{folder}/model.onnx"))
}

/// All numbers that a model says of some inputs.
fn numbers(project: &Project, model: &str, inputs: &[&str]) -> Vec<f64> {
    let ran = project.run(&[&["predict", model, "--json"], inputs].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let predictions = ran.json()["predictions"].as_array().unwrap().clone();
    let of = |p: &Value| {
        ["probabilities", "values"].iter().filter_map(|key| p[*key].as_array().cloned()).flatten().collect::<Vec<_>>()
    };
    predictions.iter().flat_map(of).map(|number| number.as_f64().unwrap()).collect()
}

fn assert_near(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < tolerance), "{a:?} {b:?}");
}

#[test]
fn every_kind_of_output_is_exported_and_measured() {
    let project = Project::new(12);
    project.table();
    let pictures = ["data/test/warm/000.png", "data/test/cold/000.png"];
    let labels = "{kind: multi_label, columns: [warm, cold]}";
    let degrees = "{kind: values, column: degrees}";
    let embedding = "  head: {kind: embedding, dim: 4}";
    let kinds = [
        (labels, "", "sigmoid", "average_precision", "multi_label_classification"),
        (degrees, "", "none", "r2", "regression"),
        ("warm", embedding, "l2", "recall_at_1", ""),
    ];
    for (number, (label, rest, activation, metric, problem)) in kinds.into_iter().enumerate() {
        project.write("table.yaml", &Project::table_recipe(label, rest));
        let ran = project.run(&["run", "table.yaml", "--json"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let (run, wanted) = (ran.json()["path"].as_str().unwrap().to_string(), ran.json()["metrics"].clone());
        let live = numbers(&project, &run, &pictures);
        for activation in ["none", activation] {
            let folder = format!("out/{number}/{activation}");
            let (said, file) = exported(&project, &run, &folder, &["--activation", activation]);
            assert!(said["comparisons"][0]["max_difference"].as_f64().unwrap() < 1e-3, "{said}");
            assert_near(&live, &numbers(&project, &file, &pictures), 1e-3);
            let config = std::fs::read_to_string(project.path(&folder).join("config.json")).unwrap();
            assert!(config.contains(problem), "{config}");
            let measured = project.run(&["eval", &file, "--data-of", "table.yaml", "--json"]);
            assert_eq!(measured.code, Some(0), "{measured:?}");
            let found = measured.json()["metrics"][metric].as_f64().unwrap();
            assert!((found - wanted[format!("test/{metric}")].as_f64().unwrap()).abs() < 1e-3, "{measured:?}");
        }
        let own = project.run(&["eval", &run, "--json"]).json();
        assert_eq!(own["metrics"][metric], wanted[format!("test/{metric}")], "{own}");
        let refused = project.run(&["export", &run, "-o", "no", "--activation", "softmax"]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        let other = project.run(&["eval", &run, "--metrics", "accuracy,mape"]);
        assert!(other.code == Some(2) && other.stderr.contains("there is no metric `mape`"), "{other:?}");
        let unfit = project.run(&["eval", &run, "--metrics", if number == 1 { "auroc" } else { "mae" }]);
        assert!(unfit.code == Some(2) && unfit.stderr.contains("does not measure"), "{unfit:?}");
    }
    // Embeddings find rows of classes that no training row had.
    for number in 0..6 {
        project.picture(&format!("new/hot/{number}.png"), true, 3000 + number);
        project.picture(&format!("new/icy/{number}.png"), false, 4000 + number);
    }
    let measured = project.run(&["eval", "table", "new", "--metrics", "recall_at_5,ndcg_at_10", "--json"]).json();
    assert!(measured["metrics"]["recall_at_5"].as_f64().unwrap() > 0.9, "{measured}");
    assert!(measured["metrics"]["ndcg_at_10"].is_f64(), "{measured}");
}

#[test]
fn texts_and_towers_are_exported_with_their_inputs() {
    let project = text::project();
    let texts = ["good film", "dull plot film film film film", "poor"];
    for (recipe, more) in [
        ("text.yaml", &[][..]),
        ("text.yaml", &["model.neck=[{kind: transformer, heads: 2}, {kind: attention_pool}]", "train.epochs=5"]),
    ] {
        let run = text::run(&project, recipe, more)["path"].as_str().unwrap().to_string();
        let folder = format!("out/{}", more.len());
        let (said, file) = exported(&project, &run, &folder, &["--activation", "softmax"]);
        assert!(said["comparisons"][0]["max_difference"].as_f64().unwrap() < 1e-4, "{said}");
        assert_near(&numbers(&project, &run, &texts), &numbers(&project, &file, &texts), 1e-4);
        assert!(project.path(&folder).join("tokenizer.json").exists());
    }
    let pairs = ["good film\tgood", "bad plot film\tbad"];
    let both = ["p/0.png\tgood film", "p/3.png\tbad plot film film"];
    for (recipe, rows) in [("pair.yaml", pairs), ("two_texts.yaml", pairs), ("both.yaml", both)] {
        let run = text::run(&project, recipe, &[])["path"].as_str().unwrap().to_string();
        let folder = format!("out/{recipe}");
        let (_, file) = exported(&project, &run, &folder, &[]);
        assert_near(&numbers(&project, &run, &rows), &numbers(&project, &file, &rows), 1e-4);
        if recipe == "both.yaml" {
            let (_, pixels) = exported(&project, &run, &format!("{folder}.pixels"), &["--input", "pixels"]);
            assert_near(&numbers(&project, &run, &rows), &numbers(&project, &pixels, &rows), 1e-4);
        } else {
            let refused = project.run(&["export", &run, "-o", "no", "--input", "pixels"]);
            assert!(refused.code == Some(2) && refused.stderr.contains("takes no pixels"), "{refused:?}");
        }
        let fp16 = exported(&project, &run, &format!("{folder}.half"), &["--precision", "fp16"]).1;
        assert_near(&numbers(&project, &run, &rows), &numbers(&project, &fp16, &rows), 2e-2);
        let measured = project.run(&["eval", &file, "--data-of", recipe, "--json"]).json();
        let own = project.run(&["eval", &run, "--json"]).json();
        assert_eq!((&measured["rows"], &measured["metrics"]["accuracy"]), (&own["rows"], &own["metrics"]["accuracy"]));
    }
    // Pictures and texts by the backbone of their field alone, and texts among texts.
    let embed = |words: &[&str]| project.run(&[&["embed"], words, &["--json"]].concat());
    let images = embed(&["both", "p", "--field", "image", "-o", "images.npy"]);
    assert_eq!((images.code, images.json()["rows"].as_u64()), (Some(0), Some(text::ROWS as u64)), "{images:?}");
    let words = embed(&["both", "good film", "bad plot", "--field", "text", "-o", "words.npy"]);
    assert_eq!(words.json()["width"], 8, "{words:?}");
    let found = project.run(&["search", "words.npy", "good film film", "--top", "1", "--json"]).json();
    assert_eq!(found[0]["id"], "good film", "{found}");
    let none = embed(&["text", "good", "--field", "text", "-o", "x.npy"]);
    assert!(none.code == Some(2) && none.stderr.contains("one backbone for all fields"), "{none:?}");
    assert_eq!(embed(&["text", "--data", "-o", "rows.parquet"]).code, Some(0));
    let measured = project.run(&["search", "rows.parquet", "--measure", "--json"]).json();
    assert_eq!(measured["by"], "label", "{measured}");
    assert!(measured["metrics"]["recall_at_10"].as_f64().unwrap() > 0.8, "{measured}");
}

#[test]
fn a_run_in_fp32_is_exported_in_the_engines_other_precisions() {
    let project = Project::new(12);
    let run = project.run(&["run", "recipe.yaml", "--json"]).json()["path"].as_str().unwrap().to_string();
    for precision in ["fp16", "int8"] {
        let (said, file) = exported(&project, &run, precision, &["--precision", precision]);
        assert_eq!(said["comparisons"][0]["same_prediction"], 16, "{said}");
        assert!(said["comparisons"][0]["max_difference"].as_f64().unwrap() > 0.0, "{said}");
        let live = numbers(&project, &run, &["data/test/warm/000.png"]);
        assert_near(&live, &numbers(&project, &file, &["data/test/warm/000.png"]), 0.2);
        let model = caft::graph::onnx::read(&project.path(&file)).unwrap();
        let nodes = &model.graph.unwrap().node;
        assert_eq!(nodes.iter().any(|node| node.op_type == "QuantizeLinear"), precision == "int8");
        assert!(said["notes"].to_string().contains(precision), "{said}");
    }
    let texts = text::project();
    let run = text::run(&texts, "text.yaml", &["train.epochs=2"])["path"].as_str().unwrap().to_string();
    let (said, _) = exported(&texts, &run, "texts", &["--precision", "int8"]);
    assert!(said["notes"].to_string().contains("int8 was calibrated on"), "{said}");
}
