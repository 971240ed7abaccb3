//! `caft predict`'s formats, `caft eval`, `caft embed`, `caft search` and `caft runs show`, as a user sees them.

use std::io::Write as _;
use std::process::Stdio;

use super::project::{Project, ran};

fn trained() -> Project {
    let project = Project::new(12);
    assert_eq!(project.run(&["run", "recipe.yaml", "-q"]).code, Some(0));
    project.picture("new/x/a.png", true, 1000);
    project.picture("new/y/b.png", false, 1001);
    project
}

#[test]
fn predictions_are_written_as_tables_and_lines_from_folders_and_lists() {
    let project = trained();
    let csv = project.run(&["predict", "warmth", "new", "--format", "csv"]);
    assert_eq!(csv.code, Some(0), "{csv:?}");
    let lines: Vec<&str> = csv.stdout.lines().collect();
    assert_eq!(lines[0], "input,label,probability,cold,warm");
    assert!(lines[1].starts_with("new/x/a.png,warm,0.") || lines[1].starts_with("new/x/a.png,warm,1"), "{csv:?}");
    assert_eq!(lines.len(), 3);

    let mut command = project.command(&["predict", "warmth", "--lines", "-", "--format", "jsonl", "-o", "out.jsonl"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"new/y/b.png\n\nnew/x/a.png\n").unwrap();
    let listed = ran(child.wait_with_output().unwrap());
    assert_eq!((listed.code, listed.stdout.as_str()), (Some(0), ""), "{listed:?}");
    let text = std::fs::read_to_string(project.path("out.jsonl")).unwrap();
    let labels: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["label"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(labels, ["cold", "warm"]);
    std::fs::create_dir(project.path("none")).unwrap();
    let none = project.run(&["predict", "warmth", "none"]);
    assert_eq!(none.code, Some(2), "{none:?}");
}

#[test]
fn a_run_and_its_export_are_measured_on_other_data() {
    let project = trained();
    let own = project.run(&["eval", "warmth", "--json"]).json();
    let runs = project.run(&["runs", "--json"]).json();
    assert_eq!(own["rows"], 24);
    for metric in ["accuracy", "macro_f1", "loss"] {
        let (found, wanted) = (own["metrics"][metric].as_f64(), runs[0]["metrics"][format!("test/{metric}")].as_f64());
        assert!((found.unwrap() - wanted.unwrap()).abs() < 1e-6, "{metric}: {found:?}, not {wanted:?}");
    }
    // Only one of the classes, and under another number than in the run.
    for number in 0..5 {
        project.picture(&format!("other/warm/{number}.png"), number < 4, 2000 + number);
    }
    let other = project.run(&["eval", "warmth", "other", "--json"]).json();
    assert_eq!((other["rows"].as_u64(), other["metrics"]["accuracy"].as_f64()), (Some(5), Some(0.8)), "{other}");
    let changed = project.run(&["eval", "warmth", "data.test.path=data/train", "--json"]);
    assert_eq!(changed.json()["rows"], 24, "{changed:?}");
    assert_eq!(project.run(&["export", "warmth", "-o", "out", "--activation", "softmax"]).code, Some(0));
    let file = project.run(&["eval", "out/model.onnx", "other", "--json"]);
    let file = file.json();
    assert_eq!(file["metrics"]["accuracy"], other["metrics"]["accuracy"]);
    let losses = [&file, &other].map(|e| e["metrics"]["loss"].as_f64().unwrap());
    assert!((losses[0] - losses[1]).abs() < 1e-3, "{losses:?}");
    project.picture("strange/tepid/1.png", true, 1);
    let strange = project.run(&["eval", "warmth", "strange"]);
    assert_eq!(strange.code, Some(2), "{strange:?}");
    assert!(strange.stderr.contains("the class `tepid`; the run knows `cold` or `warm`"), "{strange:?}");
}

#[test]
fn embeddings_are_written_and_searched() {
    let project = trained();
    for ending in ["npy", "parquet", "safetensors"] {
        let index = format!("index.{ending}");
        let made = project.run(&["embed", "warmth", "--data", "-o", &index, "--json"]);
        assert_eq!(made.code, Some(0), "{made:?}");
        assert_eq!(made.json()["rows"], 48);
        let found = project.run(&["search", &index, "new", "--top", "3", "--json"]);
        assert_eq!(found.code, Some(0), "{found:?}");
        let found = found.json();
        let labels: Vec<&str> = found.as_array().unwrap().iter().map(|f| f["label"].as_str().unwrap()).collect();
        assert_eq!(labels, ["warm", "warm", "warm", "cold", "cold", "cold"], "{found}");
        let again = project.run(&["embed", "warmth", "new", "-o", &index]);
        assert_eq!(again.code, Some(2), "{again:?}");
    }
    assert_eq!(project.run(&["embed", "warmth", "new", "--layer", "cut", "-o", "cut.npy"]).code, Some(0));
    let other = project.run(&["search", "index.npy", "cut.npy", "--format", "csv", "--metric", "l2"]);
    let id = project.run(&["search", "cut.npy", "new/x/a.png", "--others", "--format", "csv"]);
    assert_eq!(id.code, Some(0), "{id:?}");
    assert!(id.stdout.starts_with("query,rank,id,label,score\nnew/x/a.png,1,new/y/b.png,,"), "{id:?}");
    assert_eq!(other.code, Some(0), "{other:?}");
    let head = project.run(&["embed", "warmth", "new", "--layer", "head", "-o", "head.npy", "--json"]);
    assert_eq!(head.json()["width"], 2);
    let unlike = project.run(&["search", "index.npy", "head.npy"]);
    assert_eq!(unlike.code, Some(2), "{unlike:?}");
    assert_eq!(project.run(&["embed", "warmth", "new", "-o", "x.csv"]).code, Some(2));
}

#[test]
fn a_run_is_shown_with_its_confusion_matrix() {
    let project = trained();
    let shown = project.run(&["runs", "show", "warmth"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.stdout.contains("test/accuracy") && shown.stdout.contains("(main)"), "{shown:?}");
    assert!(shown.stdout.contains("test: true class by line, predicted class by column"), "{shown:?}");
    let json = project.run(&["runs", "show", "warmth", "--json"]).json();
    let counts = json["evaluations"][0]["confusion"].as_array().unwrap();
    let sum: u64 = counts.iter().flat_map(|row| row.as_array().unwrap()).map(|n| n.as_u64().unwrap()).sum();
    assert_eq!((json["record"]["status"].as_str(), sum), (Some("finished"), 24), "{json}");
}
