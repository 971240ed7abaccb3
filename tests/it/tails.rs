//! Training a part of the backbone, or all of it, as a user sees it.

use super::project::Project;

const LAST_BLOCK: [&str; 5] = [
    "model.backbone.mode=last_block",
    "++model.backbone.train_from=layer2",
    "train.epochs=20",
    "train.batch_size=8",
    "train.optimizer.lr=3e-3",
];

fn run(project: &Project, words: &[&str]) -> super::project::Ran {
    let mut all = vec!["run", "recipe.yaml", "--json", "~model.neck"];
    all.extend(words);
    project.run(&all)
}

#[test]
fn the_last_block_is_trained_on_what_enters_it_and_predicts() {
    let project = Project::new(12);
    let first = run(&project, &LAST_BLOCK);
    assert_eq!(first.code, Some(0), "{first:?}");
    let record = first.json();
    assert!(record["metrics"]["test/accuracy"].as_f64().unwrap() >= 0.9, "{record}");
    assert_eq!(record["activations"], serde_json::json!({"computed": 48, "reused": 0}));
    let folder = project.path(record["path"].as_str().unwrap());
    let (weights, _) = caft::graph::Weights::load(&folder.join("checkpoint/best.safetensors")).unwrap();
    let names: Vec<&str> = weights.0.keys().map(String::as_str).collect();
    assert!(names.contains(&"backbone.layer2.0.weight") && names.contains(&"head.weight"), "{names:?}");
    assert!(names.contains(&"backbone.layer2.0.bn.running_mean"), "{names:?}");
    assert!(names.iter().all(|name| !name.starts_with("backbone.layer1")), "{names:?}");

    let other: Vec<&str> = LAST_BLOCK.iter().map(|word| word.replace("3e-3", "2e-3").leak() as &str).collect();
    let second = run(&project, &other).json();
    assert_eq!(second["activations"], serde_json::json!({"computed": 0, "reused": 48}));
    assert_ne!(second["id"], record["id"]);

    project.picture("new/a.png", true, 1000);
    let predicted = project.run(&["predict", folder.to_str().unwrap(), "new/a.png", "--json"]).json();
    assert_eq!(predicted["predictions"][0]["label"], "warm", "{predicted}");
}

#[test]
fn all_of_the_backbone_is_trained_from_its_weights_or_from_none() {
    let project = Project::new(8);
    for mode in ["full", "scratch"] {
        let mode = format!("model.backbone.mode={mode}");
        let ran = run(&project, &[&mode, "train.epochs=8", "train.batch_size=8", "train.optimizer.lr=3e-3"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let record = ran.json();
        assert!(record["metrics"]["test/accuracy"].as_f64().unwrap() >= 0.9, "{mode}: {record}");
    }
}

#[test]
fn a_trained_part_is_packed_with_what_enters_it() {
    let project = Project::new(8);
    let full = ["model.backbone.mode=full", "train.epochs=4", "train.batch_size=8", "train.optimizer.lr=3e-3"];
    for (name, words) in [("block", &LAST_BLOCK[..]), ("full", &full)] {
        let name = format!("name={name}");
        let record = run(&project, &[&[name.as_str()], words].concat()).json();
        let packed = project.run(&["pack", record["path"].as_str().unwrap(), "-o", "t.caft-run", "--with-activations"]);
        assert_eq!(packed.code, Some(0), "{packed:?}");
        // Another machine.
        let there = ["home/cache", "runs", "data", "backbone.onnx"].map(|gone| {
            let (from, to) = (project.path(gone), project.path(&format!("{gone}.away")));
            std::fs::rename(&from, &to).unwrap();
            (from, to)
        });
        let again = project.run(&["run", "t.caft-run", "--fresh", "--json"]);
        assert_eq!(again.json()["metrics"], record["metrics"], "the same bit for bit: {again:?}");
        let other = project.run(&["run", "t.caft-run", "train.optimizer.lr=1e-3", "--json"]);
        assert_eq!(other.code, Some(0), "{other:?}");
        let measured = project.run(&["eval", "t.caft-run", "--json"]).json();
        assert_eq!(measured["metrics"]["accuracy"], record["metrics"]["test/accuracy"], "{measured}");
        let refused = project.run(&["run", "t.caft-run", "model.backbone.mode=scratch"]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        for (from, to) in there {
            if from.is_dir() {
                std::fs::remove_dir_all(&from).unwrap();
            }
            std::fs::rename(to, from).unwrap();
        }
    }
}

#[test]
fn all_of_a_vision_transformer_is_trained_by_its_class_token() {
    let project = Project::new(8);
    caft::graph::onnx::write(&caft::graph::onnx::testing::tiny_vit(), &project.path("vit.onnx")).unwrap();
    let words = [
        "run",
        "recipe.yaml",
        "--json",
        "model.backbone.onnx=vit.onnx",
        "model.backbone.outputs=[tokens]",
        "model.backbone.mode=full",
        "model.neck={kind: cls_token}",
        "train.epochs=8",
        "train.batch_size=8",
        "train.optimizer.lr=3e-3",
    ];
    let ran = project.run(&words);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let record = ran.json();
    assert!(record["metrics"]["test/accuracy"].as_f64().unwrap() >= 0.9, "{record}");
    let folder = project.path(record["path"].as_str().unwrap());
    let (weights, _) = caft::graph::Weights::load(&folder.join("checkpoint/best.safetensors")).unwrap();
    let token = weights.0.iter().find(|(name, _)| name.contains("cls"));
    assert_eq!(token.map(|(_, tensor)| tensor.values.len()), Some(16), "{:?}", weights.0.keys());
    // The exported file is compared with the run before it is kept.
    let exported = project.run(&["export", record["path"].as_str().unwrap()]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
}

#[test]
fn what_cannot_be_trained_is_told_before_anything_is_computed() {
    let project = Project::new(2);
    let fails = |words: &[&str], expected: &str| {
        let ran = run(&project, words);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(expected), "{ran:?}");
    };
    fails(&["model.backbone.mode=last_block"], "is missing; it names the block or the tensor");
    fails(&["++model.backbone.train_from=layer2"], "is for mode `last_block`");
    fails(&[LAST_BLOCK[0], "++model.backbone.train_from=layer3"], "did you mean `layer1`?");
    fails(&[LAST_BLOCK[0], "++model.backbone.train_from=fc"], "does not depend on `fc`");
}
