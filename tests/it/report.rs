//! `caft report`: a page that holds its data and fetches nothing.

use super::project::Project;

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
