//! `caft export`, and the exported file in place of the run.

use super::project::Project;

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
