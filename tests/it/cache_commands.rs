//! `caft cache` on what a run stored, and a run on a cache that was damaged.

use super::project::Project;

fn shards(project: &Project, folder: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(project.path(folder)).unwrap().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors")).collect()
}

#[test]
fn stored_activations_are_listed_checked_computed_again_copied_out_and_deleted() {
    let project = Project::new(6);
    assert!(project.run(&["cache", "ls"]).stdout.starts_with("nothing is stored"));
    assert_eq!(project.run(&["run", "recipe.yaml", "train.epochs=2"]).code, Some(0));
    let columns = project.run(&["cache", "ls", "--json"]).json();
    let (key, folder) = (columns[0]["key"].as_str().unwrap(), columns[0]["path"].as_str().unwrap());
    assert_eq!(columns[0]["rows"], 24);
    let shown = project.run(&["cache", "show", &key[..8]]).stdout;
    assert!(shown.contains(key) && shown.contains("made of\n"), "{shown}");

    let verified = project.run(&["cache", "verify", "--json", "--recipe", "recipe.yaml", "--sample", "5"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert_eq!(verified.json()["recomputed"][0]["rows"], 5);

    // A flipped byte is found, and the next run computes the rows of that shard.
    for victim in shards(&project, folder) {
        let mut bytes = std::fs::read(&victim).unwrap();
        *bytes.last_mut().unwrap() ^= 0x40;
        std::fs::write(&victim, bytes).unwrap();
    }
    let verified = project.run(&["cache", "verify", key]);
    assert_eq!(verified.code, Some(1), "{verified:?}");
    assert!(verified.stdout.contains("damaged and set aside"));
    let again = project.run(&["run", "recipe.yaml", "train.epochs=2", "train.seed=5", "--json"]).json();
    assert_eq!(again["activations"]["computed"], 24);

    let compacted = project.run(&["cache", "compact", "--json"]).json();
    assert_eq!(compacted[0]["compacted"]["rows"], 24);
    assert_eq!(shards(&project, folder).len(), 1);
    let exported = project.run(&["cache", "export", key, "-o", "rows.npy", "--json"]).json();
    assert_eq!(exported["rows"], 24);
    assert_eq!(project.run(&["cache", "export", key, "-o", "rows.npy"]).code, Some(2), "nothing is overwritten");

    let would = project.run(&["cache", "gc", key]);
    assert!(would.stdout.contains("would be deleted") && project.path(folder).exists());
    assert_eq!(project.run(&["cache", "gc", key, "--yes"]).code, Some(0));
    assert!(!project.path(folder).exists());
    assert_eq!(project.run(&["cache", "show", key]).code, Some(2));
}

#[test]
fn a_run_warns_of_a_flipped_byte_and_computes_its_rows_again() {
    let project = Project::new(6);
    assert_eq!(project.run(&["run", "recipe.yaml", "train.epochs=2"]).code, Some(0));
    let columns = project.run(&["cache", "ls", "--json"]).json();
    let victim = shards(&project, columns[0]["path"].as_str().unwrap()).remove(0);
    // The values of a small shard share a block with its digests, which is checked at opening.
    let mut bytes = std::fs::read(&victim).unwrap();
    *bytes.last_mut().unwrap() ^= 0x40;
    std::fs::write(&victim, bytes).unwrap();
    let other = project.run(&["run", "recipe.yaml", "train.epochs=2", "train.seed=5"]);
    assert_eq!(other.code, Some(0), "{other:?}");
    assert!(other.stderr.contains(victim.to_str().unwrap()) && other.stderr.contains("is damaged"), "{other:?}");
}
