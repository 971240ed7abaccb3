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
