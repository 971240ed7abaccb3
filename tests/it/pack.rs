//! `caft pack`, `caft unpack` and training on a pack, and `caft recipe push|pull`, as a user sees them.

use std::io::{Read as _, Write as _};

use super::hub::{COMMIT, Hub, Kind};
use super::project::{Project, ran};
use super::text;

/// A zip archive once more, with one of its files changed.
fn changed(project: &Project, from: &str, to: &str, name: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(project.path(from)).unwrap()).unwrap();
    let mut out = zip::ZipWriter::new(std::fs::File::create(project.path(to)).unwrap());
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let (own, mut bytes) = (entry.name().unwrap().into_owned(), Vec::new());
        entry.read_to_end(&mut bytes).unwrap();
        out.start_file(own.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
        out.write_all(&if own == name { change(bytes) } else { bytes }).unwrap();
    }
    out.finish().unwrap();
}

#[test]
fn a_packed_run_trains_and_predicts_without_backbone_and_data() {
    let project = Project::new(8);
    project.picture("new/a.png", true, 1000);
    let ran = project.run(&["run", "recipe.yaml", "--json"]).json();
    let run = ran["path"].as_str().unwrap().to_string();
    let predict = |word: &str| project.run(&["predict", word, "new/a.png", "--format", "csv"]);
    let before = predict(&run);
    let packed = project.run(&["pack", "warmth", "-o", "w.caft-run", "--with-activations", "--with-engine", "--json"]);
    assert_eq!(packed.code, Some(0), "{packed:?}");
    let other = project.run(&["run", "recipe.yaml", "train.optimizer.lr=3e-3", "--json"]).json();

    // Another machine: neither backbone, data, runs nor anything that was computed.
    for gone in ["home/cache", "home/engines", "runs", "data"] {
        std::fs::remove_dir_all(project.path(gone)).unwrap();
    }
    std::fs::remove_file(project.path("backbone.onnx")).unwrap();
    let unpacked = project.run(&["unpack", "w.caft-run", "--json"]);
    assert_eq!(unpacked.code, Some(0), "{unpacked:?}");
    assert_eq!((unpacked.json()["rows"].as_u64(), unpacked.json()["was_there"].as_bool()), (Some(32), Some(false)));
    assert_eq!(predict(&run).stdout, before.stdout);
    let again = project.run(&["run", "w.caft-run", "--json"]).json();
    assert_eq!((&again["id"], &again["metrics"]), (&ran["id"], &ran["metrics"]), "it is there");
    let fresh = project.run(&["run", "w.caft-run", "--fresh", "--json"]);
    assert_eq!(fresh.json()["metrics"], ran["metrics"], "the same bit for bit: {fresh:?}");
    let trained = project.run(&["run", "w.caft-run", "train.optimizer.lr=3e-3", "--json"]);
    assert_eq!(trained.code, Some(0), "{trained:?}");
    assert_eq!((&trained.json()["id"], &trained.json()["metrics"]), (&other["id"], &other["metrics"]));
    assert_eq!(predict(trained.json()["path"].as_str().unwrap()).code, Some(0));
    for refused in ["model.backbone.outputs=[x]", "data.seed=3", "cache.dtype=f32"] {
        let refused = project.run(&["run", "w.caft-run", refused]);
        assert!(refused.code == Some(2) && refused.stderr.contains("not as in the packed run"), "{refused:?}");
    }
    let other = project.run(&["run", "w.caft-run", "data.valid.fraction=0.5", "--json"]).json();
    assert_ne!(other["id"], ran["id"], "another part of the packed training rows: another run");
    let repeated = project.run(&["reproduce", "w.caft-run", "--json"]);
    assert_eq!((repeated.code, &repeated.json()["bitwise"]), (Some(0), &true.into()), "{repeated:?}");
    let measured = project.run(&["eval", "w.caft-run", "--json"]);
    assert_eq!(measured.json()["metrics"]["accuracy"], ran["metrics"]["test/accuracy"], "{measured:?}");
    // Its page says what was predicted, though there is nothing to see of the rows.
    let page = std::fs::read_to_string(project.path(&run).join("report.html")).unwrap();
    assert!(page.contains("\"confusion\":[[") && page.contains("row 0 of the pack"), "the page of a packed run");
    // What is in a pack never stands in for what this machine would compute.
    assert!(!project.path("home/cache").exists());

    let plain = project.run(&["pack", "warmth", "-o", "plain.caft-run"]);
    assert_eq!(plain.code, Some(0), "{plain:?}");
    let nothing = project.run(&["run", "plain.caft-run", "train.epochs=3"]);
    assert!(nothing.code == Some(2) && nothing.stderr.contains("has no activations"), "{nothing:?}");

    let tampered = |name: &str, change: fn(Vec<u8>) -> Vec<u8>| {
        changed(&project, "w.caft-run", "bad.caft-run", name, change);
        let refused = project.run(&["unpack", "bad.caft-run", "--runs-dir", "elsewhere"]);
        assert_eq!(refused.code, Some(2), "{name}: {refused:?}");
        assert!(!project.path("elsewhere").exists(), "{name}");
    };
    tampered("run/checkpoint/best.safetensors", |mut bytes| {
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    });
    tampered("rows.json", |bytes| bytes[..bytes.len() / 2].to_vec());
    let edit = |from: &'static str, to: &'static str| {
        move |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(from, to).into_bytes()
    };
    for (from, to) in
        [("name: warmth", "name: ../warmth"), ("run/plan.json", "run/../../plan.json"), ("format: 1", "format: 9")]
    {
        changed(&project, "w.caft-run", "bad.caft-run", "pack.yaml", edit(from, to));
        let refused = project.run(&["unpack", "bad.caft-run", "--runs-dir", "elsewhere"]);
        assert!(refused.code == Some(2) && !project.path("elsewhere").exists(), "{from}: {refused:?}");
    }
    project.write("no.caft-run", "no zip");
    assert_eq!(project.run(&["unpack", "no.caft-run"]).code, Some(2));
}

#[test]
fn texts_and_towers_are_packed_token_by_token() {
    let project = text::project();
    for recipe in ["text.yaml", "both.yaml"] {
        let record = text::run(&project, recipe, &[]);
        let file = format!("{recipe}.caft-run");
        let packed = project.run(&["pack", record["path"].as_str().unwrap(), "-o", &file, "--with-activations"]);
        assert_eq!(packed.code, Some(0), "{packed:?}");
        let again = project.run(&["run", &file, "--fresh", "--json"]);
        assert_eq!(again.code, Some(0), "{again:?}");
        assert_eq!((&again.json()["id"], &again.json()["metrics"]), (&record["id"], &record["metrics"]), "{recipe}");
    }
}

#[test]
fn recipes_are_shared_and_taken_over_after_saying_what_they_name() {
    let project = Project::new(0);
    let digest = "85e31c11".repeat(8);
    let recipe = format!(
        "# Cells of solar panels.\nextends: [linear_probe]\nmodel: {{backbone: {{name: vit_small_patch14_focus}}}}\ndata:\n  \
         kind: csv\n  root: {{address: 'pip:elpv-dataset==1.0.0.post1#elpv_dataset/data', sha256: {digest}}}\n  \
         train: {{path: labels.csv}}\n  image: image\n  label: type\n"
    );
    project.write("cells.yaml", &recipe);
    let git = |arguments: &[&str]| {
        let done = std::process::Command::new("git").args(arguments).current_dir(project.path("")).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    git(&["init", "-q", "--bare", "-b", "main", "shared.git"]);
    let remote = format!("git+file://{}", project.path("shared.git").display());
    for address in ["shared", &remote] {
        let pushed = project.command(&["recipe", "push", "cells.yaml", address]).envs(AUTHOR).output().unwrap();
        assert!(pushed.status.success(), "{pushed:?}");
        let listed = project.run(&["recipe", "ls", "--from", address, "--json"]).json();
        assert_eq!((&listed[0]["name"], &listed[0]["about"]), (&"cells".into(), &"Cells of solar panels.".into()));
        let shown = project.run(&["recipe", "pull", address, "--show"]);
        assert_eq!(shown.code, Some(0), "{shown:?}");
        assert!(
            shown.stdout.contains("fetches pip:elpv-dataset") && shown.stdout.contains("writes to runs/"),
            "{shown:?}"
        );
        assert!(shown.stdout.contains("runs no commands"), "{shown:?}");
        let to = format!("taken-{}.yaml", address.len());
        assert!(!project.path(&to).exists());
        let pulled = project.run(&["recipe", "pull", address, "cells", "-o", &to]);
        assert_eq!(pulled.code, Some(0), "{pulled:?}");
        assert_eq!(std::fs::read_to_string(project.path(&to)).unwrap(), recipe);
        assert_eq!(project.run(&["recipe", "pull", address, "-o", &to]).code, Some(2), "it is there already");
    }
    let behind = project.run(&["recipe", "pull", "shared/cells", "--show"]);
    assert_eq!(behind.code, Some(0), "{behind:?}");
    let unknown = project.run(&["recipe", "pull", "shared", "cell"]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("did you mean `cells`?"), "{unknown:?}");
    // The project's own recipe names a backbone and data of this machine.
    let own = project.run(&["recipe", "push", "recipe.yaml", "shared"]);
    assert!(own.code == Some(2) && own.stderr.contains("model.backbone.onnx: `backbone.onnx` is a path"), "{own:?}");
    // Whoever writes to the place by hand does not get past the puller.
    let evil = recipe.replace("path: labels.csv", "path: /etc/passwd");
    project.write("shared/cells.yaml", &evil);
    let changed = project.run(&["recipe", "pull", "shared"]);
    assert!(changed.code == Some(2) && changed.stderr.contains("its index describes"), "{changed:?}");
    let index = std::fs::read_to_string(project.path("shared/recipes.yaml")).unwrap();
    let of = |text: &str| caft::base::Digest::of(text.as_bytes()).to_string();
    project.write("shared/recipes.yaml", &index.replace(&of(&recipe), &of(&evil)));
    let refused = project.run(&["recipe", "pull", "shared"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("leads out of `data.root`"), "{refused:?}");
    let swept = format!("{recipe}sweep: {{parameters: {{data.root: {{values: [/etc, /home]}}}}}}\n");
    project.write("shared/cells.yaml", &swept);
    project.write("shared/recipes.yaml", &index.replace(&of(&recipe), &of(&swept)));
    let refused = project.run(&["recipe", "pull", "shared"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("`/etc` is a path"), "{refused:?}");
}

#[test]
fn a_hub_shares_recipes_whose_tables_name_no_file_of_this_machine() {
    let (project, hub) = (Project::new(0), Hub::start());
    hub.add("me/recipes/README.md", Kind::Plain, "# Recipes");
    hub.gate("me/recipes", "secret");
    hub.add("datasets/them/cells/labels.csv", Kind::Plain, "image,label\n/etc/passwd,a\n../../../x.png,b\n");
    let table = format!("hf:datasets/them/cells/labels.csv@{COMMIT}");
    let recipe = format!(
        "# Cells.\nextends: [linear_probe]\nmodel: {{backbone: {{name: vit_small_patch14_focus}}}}\ndata:\n  kind: csv\n  \
         train: {{path: '{table}'}}\n  image: image\n  label: label\n  valid: {{fraction: 0.5}}\n"
    );
    project.write("cells.yaml", &recipe);
    let with = |arguments: &[&str], home: &str, token: &str| {
        let mut command = project.command(arguments);
        command.env("CAFT_HOME", project.path(home)).env("HF_ENDPOINT", &hub.url).env("HF_TOKEN", token);
        ran(command.output().unwrap())
    };
    let refused = with(&["recipe", "push", "cells.yaml", "hf:me/recipes"], "home", "other");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let pushed = with(&["recipe", "push", "cells.yaml", "hf:me/recipes"], "home", "secret");
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    assert_eq!(hub.file("me/recipes/cells.yaml").as_deref(), Some(recipe.as_bytes()));
    let listed = with(&["recipe", "ls", "--from", "hf:me/recipes", "--json"], "other", "secret").json();
    assert_eq!(listed[0]["name"], "cells");
    let shown = with(&["recipe", "pull", "hf:me/recipes", "--show"], "other", "secret");
    assert!(shown.code == Some(0) && shown.stdout.contains(&table), "{shown:?}");
    assert!(!hub.requests().iter().any(|request| request.contains("labels.csv")), "shown before it is fetched");
    let pulled = with(&["recipe", "pull", "hf:me/recipes/cells", "-o", "taken.yaml"], "other", "secret");
    assert_eq!(pulled.code, Some(0), "{pulled:?}");
    let words = [
        "run",
        "taken.yaml",
        "model.backbone.onnx=backbone.onnx",
        "model.backbone.outputs=[/Flatten_output_0]",
        "++data.preprocess={resize: {size: 32, mode: exact}, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}",
    ];
    let ran = with(&words, "home", "secret");
    assert_eq!(ran.code, Some(2), "{ran:?}");
    for path in ["/etc/passwd", "../../../x.png"] {
        assert!(ran.stderr.contains(&format!("`{path}` is outside of")), "{path}: {ran:?}");
    }
    assert!(!project.path("runs").exists(), "nothing was written");
}

/// Whose commits they are, for a machine without a name in git.
const AUTHOR: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "a"),
    ("GIT_AUTHOR_EMAIL", "a@example.org"),
    ("GIT_COMMITTER_NAME", "a"),
    ("GIT_COMMITTER_EMAIL", "a@example.org"),
];
