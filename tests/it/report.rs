//! `caft report`: a page that holds its data and fetches nothing.

use super::project::Project;
use super::text;

/// The data inside a page.
fn data(html: &str) -> serde_json::Value {
    let json = html.split_once("id=\"data\">").unwrap().1.split_once("</script>").unwrap().0;
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_page_shows_a_run_and_several_side_by_side() {
    let project = Project::new(12);
    let first = project.run(&["run", "recipe.yaml", "--json"]).json();
    let second = project.run(&["run", "recipe.yaml", "--json", "train.epochs=1", "train.optimizer.lr=1e-6"]).json();
    let folder = second["path"].as_str().unwrap();
    let page = data(&std::fs::read_to_string(project.path(folder).join("report.html")).unwrap());
    let run = &page["runs"][0];
    assert_eq!(run["metrics"], second["metrics"]);
    assert_eq!(run["notes"], serde_json::json!([]));
    let splits: Vec<&str> =
        run["evaluations"].as_array().unwrap().iter().map(|e| e["split"].as_str().unwrap()).collect();
    assert_eq!(splits[0], "test");
    let confusion = run["evaluations"][0]["confusion"].as_array().unwrap();
    let count = |row: usize, column: usize| confusion[row][column].as_u64().unwrap();
    let all: u64 = (0..2).flat_map(|row| (0..2).map(move |column| (row, column))).map(|(r, c)| count(r, c)).sum();
    let accuracy = (count(0, 0) + count(1, 1)) as f64 / all as f64;
    assert!((accuracy - second["metrics"]["test/accuracy"].as_f64().unwrap()).abs() < 1e-9);
    let points = run["projection"]["points"].as_array().unwrap();
    let thumbnail = &run["thumbnails"][points[0]["row"].to_string()];
    assert!(thumbnail.as_str().unwrap().starts_with("data:image/jpeg;base64,"));

    let ids = [&first, &second].map(|record| record["id"].as_str().unwrap().to_string());
    let shown = project.run(&["report", &ids[0], &ids[1], "--projection", "tsne", "--points", "20", "-o", "both.html"]);
    assert_eq!((shown.code, shown.stdout.trim()), (Some(0), "both.html"), "{shown:?}");
    let both = data(&std::fs::read_to_string(project.path("both.html")).unwrap());
    assert_eq!(both["runs"].as_array().unwrap().len(), 2);
    assert_eq!(both["runs"][1]["settings"]["train.epochs"], "1");
    assert!(both["runs"][0]["projection"]["method"].as_str().unwrap().starts_with("t-SNE"));

    std::fs::rename(project.path("data"), project.path("moved")).unwrap();
    let without = project.run(&["report", &ids[0], "-o", "moved.html"]);
    assert_eq!(without.code, Some(0), "{without:?}");
    let without = data(&std::fs::read_to_string(project.path("moved.html")).unwrap());
    assert!(!without["runs"][0]["notes"].as_array().unwrap().is_empty());
    assert!(!without["runs"][0]["curves"].as_array().unwrap().is_empty());
}

/// The only run on the page of a run.
fn page_of(project: &Project, record: &serde_json::Value) -> serde_json::Value {
    let path = project.path(record["path"].as_str().unwrap()).join("report.html");
    data(&std::fs::read_to_string(path).unwrap())["runs"][0].clone()
}

#[test]
fn labels_values_and_texts_have_pages_too() {
    let project = Project::new(12);
    project.table();
    let run = |label: &str, rest: &str| {
        project.write("table.yaml", &Project::table_recipe(label, rest));
        let ran = project.run(&["run", "table.yaml", "--json", "train.epochs=2"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        page_of(&project, &ran.json())
    };
    let labels = run("{kind: multi_label, columns: [warm, cold]}", "");
    let evaluation = &labels["evaluations"][0];
    assert_eq!(
        (evaluation["classes"].as_array().unwrap().len(), evaluation["classes"][0]["support"].as_u64()),
        (2, Some(12))
    );
    assert_eq!(labels["projection"]["names"], serde_json::json!(["warm", "cold", "no label"]));
    let values = run("{kind: values, column: degrees}", "");
    assert_eq!((values["fits"][0]["split"].as_str(), values["fits"][0]["rows"].as_u64()), (Some("test"), Some(24)));
    let found = values["metrics"]["test/rmse"].as_f64().unwrap();
    assert!((values["fits"][0]["rmse"].as_f64().unwrap() - found).abs() < 1e-3 * found, "{found}");
    let worst = &values["worst"][0];
    assert!(values["thumbnails"][worst["row"].to_string()].is_string(), "{worst}");
    let embeddings = run("warm", "  head: {kind: embedding, dim: 4}");
    assert!(!embeddings["projection"]["points"].as_array().unwrap().is_empty());

    let texts = text::project();
    let both = page_of(&texts, &text::run(&texts, "both.yaml", &[]));
    let point = both["projection"]["points"][0]["row"].to_string();
    assert!(both["texts"][&point].is_string() && both["thumbnails"][&point].is_string(), "{}", both["texts"]);
}

#[test]
fn a_sweep_has_a_page_and_sessions_for_tensorboard() {
    let project = Project::new(12);
    let words = ["lr=1e-3,1e-2,1e-1", "train.epochs=2,4", "sweep.repeat={seeds: 2}", "sweep.keep=1", "--json"];
    let swept = project.run(&[&["sweep", "recipe.yaml"], &words[..]].concat());
    assert_eq!(swept.code, Some(0), "{swept:?}");
    let folder = swept.json()["folder"].as_str().unwrap().to_string();
    let path = project.path(swept.json()["report"].as_str().unwrap());
    let page = data(&std::fs::read_to_string(path).unwrap());
    let sweep = &page["sweeps"][0];
    assert_eq!((sweep["metric"].as_str(), sweep["trials"].as_array().unwrap().len()), (Some("valid/accuracy"), 12));
    let axes: Vec<&str> = sweep["axes"].as_array().unwrap().iter().map(|axis| axis["path"].as_str().unwrap()).collect();
    assert_eq!(axes, ["train.optimizer.lr", "train.epochs"]);
    assert_eq!(sweep["choices"].as_array().unwrap().len(), 6);
    assert!(sweep["choices"][0]["interval"].is_f64(), "{}", sweep["choices"][0]);
    assert_eq!(sweep["importance"].as_array().unwrap().len(), 2);
    assert_eq!(sweep["runs"].as_array().unwrap().len(), 1);
    let sessions = std::fs::read_dir(project.path(&folder).join("tensorboard")).unwrap().count();
    assert_eq!(sessions, 13, "a folder for each trial beside the experiment's own file");
    let again = project.run(&["report", &folder, "-o", "sweep.html"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(data(&std::fs::read_to_string(project.path("sweep.html")).unwrap())["sweeps"][0], *sweep);
    let run = sweep["runs"][0].as_str().unwrap();
    assert_eq!(project.run(&["report", &folder, run]).code, Some(2));
}
