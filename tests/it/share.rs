//! Engines that travel: packed, pushed, pulled, and used where their source is not.

use std::path::Path;
use std::process::Command;

use super::hub::Hub;
use super::project::{Project, Ran, ran};

/// A project whose shelf has the engine `backbone` of its tiny network.
fn with_engine() -> Project {
    let project = Project::new(2);
    let built = project.run(&[
        "engine",
        "build",
        "backbone.onnx",
        "-o",
        "pooled=/Flatten_output_0",
        "-o",
        "c2=/layer2/Relu_output_0",
    ]);
    assert_eq!(built.code, Some(0), "{built:?}");
    project
}

/// Runs the program at home in another folder, as on another machine.
fn elsewhere(project: &Project, arguments: &[&str]) -> Ran {
    ran(project.command(arguments).env("CAFT_HOME", project.path("other")).output().unwrap())
}

fn engines(project: &Project) -> usize {
    std::fs::read_dir(project.path("other/engines")).map_or(0, Iterator::count)
}

#[test]
fn a_packed_engine_serves_a_run_without_its_source() {
    let project = with_engine();
    let packed = project.run(&["engine", "pack", "backbone", "-o", "b.caft-engine"]);
    assert_eq!(packed.code, Some(0), "{packed:?}");
    std::fs::remove_file(project.path("backbone.onnx")).unwrap();
    let recipe = std::fs::read_to_string(project.path("recipe.yaml")).unwrap();
    project.write("recipe.yaml", &recipe.replace("onnx: backbone.onnx", "onnx: \"engine:backbone\""));

    let missing = elsewhere(&project, &["run", "recipe.yaml"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.stderr.contains("no engine `backbone` is kept here"), "{missing:?}");
    let kept = elsewhere(&project, &["engine", "unpack", "b.caft-engine"]);
    assert_eq!(kept.code, Some(0), "{kept:?}");
    let done = elsewhere(&project, &["run", "recipe.yaml", "--json", "-v"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("stands in for its source"), "{done:?}");

    project.write("b.caft-engine", "no zip");
    let before = engines(&project);
    let refused = elsewhere(&project, &["engine", "unpack", "b.caft-engine"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("is not a packed engine"), "{refused:?}");
    assert_eq!(engines(&project), before);
}

#[test]
fn a_folder_shares_engines() {
    let project = with_engine();
    let empty = elsewhere(&project, &["models", "--from", "shared"]);
    assert!(empty.code == Some(2) && empty.stderr.contains("there is no `index.yaml`"), "{empty:?}");
    let pushed = project.run(&["engine", "push", "backbone", "shared", "--json"]).json();
    let again = project.run(&["engine", "push", "backbone", "shared", "--json"]).json();
    assert_eq!(pushed, again);
    let listed = elsewhere(&project, &["models", "--from", "shared", "--json"]).json();
    assert_eq!(listed, serde_json::json!([pushed]));
    let table = elsewhere(&project, &["models", "--from", "shared"]).stdout;
    assert!(table.contains("pooled 16, c2 16×8×8"), "{table}");

    let slip = elsewhere(&project, &["engine", "pull", "shared/backbon"]);
    assert!(slip.code == Some(2) && slip.stderr.contains("did you mean `backbone`?"), "{slip:?}");
    let pulled = elsewhere(&project, &["engine", "pull", "shared/backbone", "--json"]).json();
    assert_eq!((&pulled["name"], &pulled["origin"]), (&"backbone".into(), &"shared".into()));
    assert_eq!(engines(&project), 1);
    assert!(elsewhere(&project, &["engine", "show", "backbone"]).stdout.contains("from        shared"));
    assert_eq!(elsewhere(&project, &["engine", "rm", "backbone"]).code, Some(0));

    let file = project.path("shared").join(pushed["file"].as_str().unwrap());
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let damaged = elsewhere(&project, &["engine", "pull", "shared"]);
    assert!(
        damaged.code == Some(2) && damaged.stderr.contains("is not the file that its index describes"),
        "{damaged:?}"
    );
    assert_eq!(engines(&project), 0);
}

fn git(folder: &Path, arguments: &[&str]) {
    let ran = Command::new("git").arg("-C").arg(folder).args(arguments).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

#[test]
fn a_git_repository_shares_engines() {
    let project = with_engine();
    git(&project.path("."), &["init", "-q", "--bare", "-b", "main", "repo.git"]);
    let address = format!("git+file://{}", project.path("repo.git").display());
    let push = ["engine", "push", "backbone", &address];
    let mut command = project.command(&push);
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "A").env(format!("GIT_{role}_EMAIL"), "a@example.org");
    }
    let pushed = ran(command.output().unwrap());
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    let listed = elsewhere(&project, &["models", "--from", &address, "--json"]).json();
    assert_eq!(listed[0]["name"], "backbone");
    let pulled = elsewhere(&project, &["engine", "pull", &format!("{address}/backbone")]);
    assert_eq!(pulled.code, Some(0), "{pulled:?}");
    // What was fetched once serves offline.
    std::fs::remove_dir_all(project.path("repo.git")).unwrap();
    let offline = elsewhere(&project, &["engine", "pull", &address, "--offline"]);
    assert_eq!(offline.code, Some(0), "{offline:?}");
    let gone = elsewhere(&project, &["models", "--from", &address]);
    assert!(gone.stderr.contains("`git fetch` failed"), "{gone:?}");
    let option = elsewhere(&project, &["models", "--from", "git+ssh://-oProxyCommand=x/y"]);
    assert_eq!(option.code, Some(2), "{option:?}");
}

#[test]
fn a_hub_shares_engines() {
    let (project, hub) = (with_engine(), Hub::start());
    hub.add("me/engines/README.md", super::hub::Kind::Plain, "# Engines");
    hub.gate("me/engines", "secret");
    let with = |arguments: &[&str], home: &str, token: &str| {
        let mut command = project.command(arguments);
        command.env("CAFT_HOME", project.path(home)).env("HF_ENDPOINT", &hub.url).env("HF_TOKEN", token);
        ran(command.output().unwrap())
    };
    let refused = with(&["engine", "push", "backbone", "hf:me/engines"], "home", "other");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let pushed = with(&["engine", "push", "backbone", "hf:me/engines", "--json"], "home", "secret");
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    let file = pushed.json()["file"].as_str().unwrap().to_string();
    assert_eq!(hub.file(&format!("me/engines/{file}")).unwrap().len() as u64, pushed.json()["size"].as_u64().unwrap());
    let stored = hub.requests().into_iter().find(|request| request.starts_with("PUT storage")).unwrap();
    assert!(stored.ends_with("token=no"), "{stored}");
    let listed = with(&["models", "--from", "hf:me/engines", "--json"], "other", "secret").json();
    assert_eq!(listed, serde_json::json!([pushed.json()]));
    let pulled = with(&["engine", "pull", "hf:me/engines/backbone"], "other", "secret");
    assert_eq!(pulled.code, Some(0), "{pulled:?}");
    assert_eq!(engines(&project), 1);
}
