//! `caft cache fill` by several processes at once, in shards, and by processes that are killed.

use std::process::Stdio;
use std::time::Duration;

use super::project::{Project, ran};

const FILL: [&str; 4] = ["cache", "fill", "recipe.yaml", "--json"];

fn rows(project: &Project) -> u64 {
    project.run(&["cache", "ls", "--json"]).json()[0]["rows"].as_u64().unwrap()
}

fn nothing_is_left_behind(project: &Project) {
    let claims = project.path("home/cache/1/claims");
    let left: Vec<_> = std::fs::read_dir(claims).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn processes_that_fill_one_cache_split_the_work_and_repeat_none() {
    let project = Project::new(160);
    let start = || project.command(&FILL).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children = [start(), start(), start()];
    let computed = children.map(|child| {
        let ended = ran(child.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let activations = ended.json();
        let (computed, reused) = (activations["computed"].as_u64().unwrap(), activations["reused"].as_u64().unwrap());
        assert_eq!(computed + reused, 640, "each ends when all is there: {activations}");
        computed
    });
    assert_eq!(computed.iter().sum::<u64>(), 640, "{computed:?}");
    assert_eq!(rows(&project), 640, "no row is there twice");
    nothing_is_left_behind(&project);
}

#[test]
fn shards_are_computed_apart_and_are_together_the_whole() {
    let project = Project::new(40);
    let computed = ["1/3", "3/3", "2/3"].map(|shard| {
        let ended = project.run(&[&FILL[..], &["--shard", shard]].concat());
        ended.json()["computed"].as_u64().unwrap()
    });
    assert_eq!(computed, [53, 54, 53]);
    assert_eq!(project.run(&FILL).json(), serde_json::json!({"computed": 0, "reused": 160}));
    let wrong = project.run(&["cache", "fill", "recipe.yaml", "--shard", "4/3"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("is not a shard"), "{wrong:?}");
    let run = project.run(&["run", "recipe.yaml", "--shard", "1/3"]);
    assert!(run.code == Some(2) && run.stderr.contains("`caft cache fill recipe.yaml --shard 1/3`"), "{run:?}");
}

#[test]
fn claims_of_a_killed_process_hold_nobody_up() {
    let project = Project::new(160);
    let mut child = project.command(&FILL).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let claims = project.path("home/cache/1/claims");
    let claimed = || std::fs::read_dir(&claims).is_ok_and(|entries| entries.count() > 0);
    while !claimed() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let ended = project.run(&FILL);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(rows(&project), 640);
    nothing_is_left_behind(&project);
}

#[test]
fn the_path_from_files_to_rows_is_measured_and_leaves_nothing() {
    let project = Project::new(4);
    let fixed = ["bench", "extract", "recipe.yaml", "--json", "--rounds=1", "--seconds=1", "--undecoded=8"];
    let ended = project.run(&fixed);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let measured = ended.json();
    for key in ["engine", "decoding", "whole", "undecoded"] {
        assert!(measured[key]["samples_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{key}: {measured}");
    }
    assert!(measured["whole_of_parts"].is_f64() && measured["undecoded_of_engine"].is_f64(), "{measured}");
    let stored = project.run(&["cache", "ls", "--json"]).json();
    assert!(stored.as_array().unwrap().iter().all(|column| column["rows"] == 0), "a store of its own: {stored}");
    let left = std::fs::read_dir(project.path("home/cache")).unwrap().flatten();
    assert!(left.map(|entry| entry.file_name()).all(|name| name == "1"), "its store is gone");
}
