//! `caft reproduce` and `caft diff`, as a user sees them.

use super::project::Project;

#[test]
fn a_run_is_repeated_bit_for_bit_from_its_lock_and_told_when_it_cannot_be() {
    let project = Project::new(8);
    let ran = project.run(&["run", "recipe.yaml", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let run = ran.json()["path"].as_str().unwrap().to_string();
    // The lock alone is enough: neither the recipe nor what was computed is needed.
    std::fs::copy(project.path(&run).join("caft.lock"), project.path("kept.lock")).unwrap();
    std::fs::remove_file(project.path("recipe.yaml")).unwrap();
    std::fs::remove_dir_all(project.path("home/cache")).unwrap();
    let again = project.run(&["reproduce", "kept.lock", "--json"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    let said = again.json();
    assert_eq!((&said["agrees"], &said["bitwise"], &said["same_weights"]), (&true.into(), &true.into(), &true.into()));
    assert_eq!(said["differences"], serde_json::json!([]), "{said}");
    assert_eq!(said["rechecked"][0]["rows"], 4, "{said}");
    assert!(said["run"].as_str().unwrap().ends_with("attempt-2"), "{said}");
    let same = project.run(&["diff", &run, said["run"].as_str().unwrap()]);
    assert!(same.stdout.contains("recipe, data, engine, versions and machine are the same"), "{same:?}");

    // A lock of another machine and program: a tolerance, and both are named.
    let text = std::fs::read_to_string(project.path("kept.lock")).unwrap();
    let line = |line: &str| match line.trim_start().starts_with("caft:") {
        true => "  caft: 0.0.9".to_string(),
        false => line.replace(std::env::consts::OS, "haiku"),
    };
    let elsewhere = text.lines().map(|of_file| line(of_file) + "\n").collect::<String>();
    assert_ne!(elsewhere, text);
    project.write("elsewhere.lock", &elsewhere);
    let other = project.run(&["reproduce", "elsewhere.lock"]);
    assert_eq!(other.code, Some(0), "{other:?}");
    assert!(other.stdout.contains("platform: haiku") && other.stdout.contains("caft: 0.0.9 then"), "{other:?}");
    assert!(other.stdout.contains("the same within 0.01"), "{other:?}");

    // One picture more is other data.
    project.picture("data/train/warm/900.png", true, 900);
    let grown = project.run(&["reproduce", &run]);
    assert_eq!(grown.code, Some(1), "{grown:?}");
    assert!(grown.stdout.contains("number of rows") && grown.stdout.contains("not run"), "{grown:?}");
    let anyway = project.run(&["reproduce", &run, "--anyway", "--json"]);
    assert_eq!((anyway.code, anyway.json()["bitwise"].as_bool()), (Some(1), Some(false)), "{anyway:?}");
    let diff = project.run(&["diff", &run, anyway.json()["run"].as_str().unwrap(), "--json"]).json();
    assert!(diff["made_of"].as_array().unwrap().iter().any(|d| d["origin"] == "data"), "{diff}");
    std::fs::remove_file(project.path("data/train/warm/900.png")).unwrap();

    let rate = project.run(&["reproduce", &run, "train.optimizer.lr=0.5"]);
    assert!(rate.code == Some(1) && rate.stdout.contains("what is asked for"), "{rate:?}");
    project.write("old.lock", text.split("recipe:").next().unwrap());
    let old = project.run(&["reproduce", "old.lock"]);
    assert!(old.code == Some(2) && old.stderr.contains("has no recipe"), "{old:?}");
    project.write("bad.lock", "id: [");
    assert_eq!(project.run(&["reproduce", "bad.lock"]).code, Some(2));
}

#[test]
fn what_differs_is_told_apart_and_an_edited_lock_is_refused() {
    let project = Project::new(6);
    let run = project.run(&["run", "recipe.yaml", "--json"]).json()["path"].as_str().unwrap().to_string();
    let text = std::fs::read_to_string(project.path(&run).join("caft.lock")).unwrap();
    let edited = |key: &str, change: &dyn Fn(&str) -> String| {
        let line = |line: &str| if line.trim_start().starts_with(key) { change(line) } else { line.to_string() };
        let changed: String = text.lines().map(|of_file| line(of_file) + "\n").collect();
        assert_ne!(changed, text, "{key}");
        project.write("edited.lock", &changed);
        project.run(&["reproduce", "edited.lock"])
    };
    let other_digest = |line: &str| match line.split_once(": ") {
        Some((key, digest)) => {
            let first = if digest.starts_with('0') { '1' } else { '0' };
            format!("{key}: {first}{}", &digest[1..])
        }
        None => line.to_string(),
    };
    for key in ["dataset:", "weights:", "id:", "runtime:"] {
        let refused =
            edited(key, &|line| if key == "runtime:" { "runtime: other 1.0".into() } else { other_digest(line) });
        assert_eq!(refused.code, Some(2), "{key}: {refused:?}");
        assert!(refused.stderr.contains("the lock contradicts itself"), "{key}: {refused:?}");
    }
    let epochs = edited("epochs:", &|line| line.replace(": ", ": 1"));
    assert!(epochs.code == Some(2) && epochs.stderr.contains("contradicts itself"), "{epochs:?}");
    // What the id is not made of is compared with what comes out.
    let weights = edited("checkpoint:", &other_digest);
    assert!(
        weights.code == Some(1) && weights.stdout.contains("weights") && weights.stdout.contains("differs"),
        "{weights:?}"
    );
    let columns = edited("/Flatten_output_0:", &other_digest);
    assert!(columns.code == Some(1) && columns.stdout.contains("keys of stored activations"), "{columns:?}");
    // A lock may be anybody's: what it reads is said before.
    assert!(columns.stderr.contains("reads the path") && columns.stderr.contains("runs no commands"), "{columns:?}");

    // A picture's bytes, then a picture in another class.
    project.picture("data/train/warm/000.png", true, 500);
    let picture = project.run(&["reproduce", &run]);
    assert!(picture.code == Some(1) && picture.stdout.contains("contents of samples: "), "{picture:?}");
    project.picture("data/train/warm/000.png", true, 0);
    let again = project.run(&["reproduce", &run]);
    assert_eq!(again.code, Some(0), "{again:?}");
    for (from, to) in [("warm/001", "cold/901"), ("cold/001", "warm/901")] {
        let path = |name: &str| project.path(&format!("data/train/{name}.png"));
        std::fs::rename(path(from), path(to)).unwrap();
    }
    let labels = project.run(&["reproduce", &run]);
    assert!(labels.code == Some(1) && labels.stdout.contains("targets: "), "{labels:?}");

    std::fs::rename(project.path("data"), project.path("elsewhere")).unwrap();
    let gone = project.run(&["reproduce", &run]);
    assert!(gone.code == Some(2) && gone.stderr.contains("if it is elsewhere, say where"), "{gone:?}");
}
