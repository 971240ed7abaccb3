//! Views of training samples: stored once, drawn anew each epoch, and computed again when they change.

use super::project::Project;

/// Three views of each training picture.
pub const VIEWS: &str = "data.augment={views: 3, ops: [{kind: random_resized_crop, scale: [0.5, 1.0]}, \
                     {kind: horizontal_flip}, {kind: color_jitter, brightness: 0.2}, {kind: random_erasing}]}";

#[test]
fn views_are_rows_of_their_own_and_the_plain_ones_are_shared() {
    let project = Project::new(8);
    // 32 pictures, of which 12 are for training.
    let run = |words: &[&str]| {
        let ran = project.run(&[&["run", "recipe.yaml", "--json", "train.epochs=8"], words].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.json()
    };
    let computed = |record: &serde_json::Value| record["activations"]["computed"].as_u64().unwrap();
    let plain = run(&[]);
    assert_eq!(computed(&plain), 32);
    let planned = project.run(&["plan", "recipe.yaml", VIEWS]).stdout;
    assert!(planned.contains("backbone passes: 24; reused from the cache: 32"), "{planned}");
    assert!(planned.contains("views of") && planned.contains("transform.augment"), "{planned}");

    let viewed = run(&[VIEWS]);
    assert_eq!(viewed["activations"], serde_json::json!({"computed": 24, "reused": 32}));
    assert_ne!(viewed["id"], plain["id"]);
    assert_ne!(viewed["metrics"]["train/loss"], plain["metrics"]["train/loss"], "the epochs saw other rows");
    let again = run(&[VIEWS, "train.optimizer.lr=1e-3"]);
    assert_eq!(again["activations"], serde_json::json!({"computed": 0, "reused": 56}));
    let repeated = run(&[VIEWS, "--fresh"]);
    assert_eq!(repeated["metrics"], viewed["metrics"], "views and draws are functions of the seed");

    project.write(
        "views.yaml",
        &format!("extends: [recipe.yaml]\n{}", VIEWS.replace("data.augment=", "data:\n  augment: ")),
    );
    let verified = project.run(&["cache", "verify", "--json", "--recipe", "views.yaml", "--sample", "5"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let recomputed = verified.json()["recomputed"].as_array().unwrap().clone();
    let views: Vec<_> =
        recomputed.iter().map(|of_view| (of_view["view"].as_u64().unwrap(), &of_view["rows"])).collect();
    assert_eq!(views, [(0, &5.into()), (1, &5.into()), (2, &5.into())]);

    // More views of the same kind cost what is new; another seed costs the views; valid and test stay plain.
    assert_eq!(computed(&run(&[VIEWS, "data.augment.views=4"])), 12);
    assert_eq!(computed(&run(&[VIEWS, "data.augment.seed=7"])), 24);
    let listed = project.run(&["cache", "ls", "--json"]).json();
    let mut rows: Vec<u64> = listed.as_array().unwrap().iter().map(|column| column["rows"].as_u64().unwrap()).collect();
    rows.sort_unstable();
    assert_eq!(rows, [24, 32, 36]);
}

#[test]
fn views_are_packed_with_their_samples() {
    let project = Project::new(8);
    let viewed = project.run(&["run", "recipe.yaml", "--json", "train.epochs=8", VIEWS]).json();
    let run = viewed["path"].as_str().unwrap();
    let packed = project.run(&["pack", run, "-o", "v.caft-run", "--with-activations"]);
    assert_eq!(packed.code, Some(0), "{packed:?}");
    for gone in ["home/cache", "runs", "data"] {
        std::fs::remove_dir_all(project.path(gone)).unwrap();
    }
    let again = project.run(&["run", "v.caft-run", "--fresh", "--json"]);
    assert_eq!(again.json()["metrics"], viewed["metrics"], "the same bit for bit: {again:?}");
    let repeated = project.run(&["reproduce", "v.caft-run", "--json"]);
    assert_eq!((repeated.code, &repeated.json()["bitwise"]), (Some(0), &true.into()), "{repeated:?}");
    let swept = project.run(&["sweep", "v.caft-run", "train.optimizer.lr=1e-3,1e-2", "--json"]);
    assert_eq!(swept.code, Some(0), "{swept:?}");
    let refused = project.run(&["run", "v.caft-run", "data.valid.fraction=0.5"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("its run's own training rows"), "{refused:?}");
}

#[test]
fn nothing_need_be_stored_and_the_numbers_are_the_same() {
    let project = Project::new(8);
    for words in [&[][..], &[VIEWS], &["cache.dtype=i8"]] {
        let run = |more: &[&str]| {
            let ran = project.run(&[&["run", "recipe.yaml", "--json", "train.epochs=8"], words, more].concat());
            assert_eq!(ran.code, Some(0), "{ran:?}");
            ran.json()
        };
        let live = run(&["cache.store=none"]);
        assert_eq!(live["activations"], serde_json::json!({"computed": 0, "reused": 0}));
        let stored = run(&["cache.store=activations", "--fresh"]);
        assert_eq!((&stored["id"], &stored["metrics"]), (&live["id"], &live["metrics"]), "{words:?}");
        assert!(stored["activations"]["computed"].as_u64().unwrap() > 0, "nothing was stored before: {stored}");
    }
    project.write("data/train/warm/broken.png", "no picture");
    let live = ["run", "recipe.yaml", "train.epochs=2", "cache.store=none", "--json"];
    let failed = project.run(&live);
    assert!(failed.code == Some(2) && failed.stderr.contains("broken.png"), "{failed:?}");
    assert_eq!(project.run(&[&live[..], &["data.on_error=skip"]].concat()).json()["skipped"], 1);
    // A picture whose head and end are good is looked at as a whole, because training could not leave it out.
    let mut body = std::fs::read(project.path("data/train/warm/000.png")).unwrap();
    let middle = body.len() / 2;
    body[middle..middle + 8].iter_mut().for_each(|byte| *byte ^= 0x5a);
    std::fs::write(project.path("data/train/warm/body.png"), body).unwrap();
    let skipped = project.run(&[&live[..], &["data.on_error=skip"]].concat()).json();
    assert_eq!(skipped["skipped"], 2, "{skipped}");
    let list = std::fs::read_to_string(project.path(skipped["path"].as_str().unwrap()).join("skipped.jsonl")).unwrap();
    assert!(list.contains("body.png"), "{list}");
    let inputs = project.run(&["plan", "recipe.yaml", "cache.store=inputs"]);
    assert!(inputs.code == Some(2) && inputs.stderr.contains("for the modes `full` and `scratch`"), "{inputs:?}");
    let sweep = project.run(&["sweep", "recipe.yaml", "lr=1e-3,1e-2", "cache.store=none"]);
    assert!(sweep.code == Some(2) && sweep.stderr.contains("for every trial of a sweep"), "{sweep:?}");
}

#[test]
fn views_that_cannot_be_are_refused_with_their_place() {
    let project = Project::new(1);
    let words = ["run", "recipe.yaml", "data.augment={views: 2, ops: [{kind: rotation, degrees: 400}, {kind: blur}]}"];
    let ran = project.run(&words);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.stderr.contains("400 is greater than the maximum of 360") && ran.stderr.contains("\"blur\" is not one of")
    );
    let none = project.run(&["run", "recipe.yaml", "data.augment.views=2"]);
    assert!(none.code == Some(2) && none.stderr.contains("would all be the plain one"), "{none:?}");
}
