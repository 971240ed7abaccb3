//! Whole networks trained from their inputs on, of pictures and of texts, step by step with PyTorch's losses;
//! `tests/reference/live.py` made the exports and the numbers.

use caft::graph::onnx::testing;
use serde_json::Value;

use super::project::Project;

const WORDS: [&str; 8] = ["good", "fine", "great", "bad", "poor", "dull", "film", "plot"];
const ROWS: usize = 10;

const TRAIN: &str = "
train:
  epochs: 10
  batch_size: 10
  optimizer: {kind: sgd, lr: 0.1, momentum: 0.9}
  scheduler: {kind: constant}
";

/// A project with a network of the reference, and pictures and texts made as there.
fn project(name: &str) -> Project {
    let project = Project::new(0);
    let file = format!("{name}.onnx");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/live");
    std::fs::copy(folder.join(&file), project.path(&file)).unwrap();
    let mut table = String::new();
    for number in 0..ROWS {
        let picture = image::RgbImage::from_fn(16, 16, |x, y| {
            let n = number as u32;
            let of = |channel: u32| (x * (3 + n) + y * (5 + 2 * n) + channel * 29) % 97;
            let high = if n % 2 == 1 { 0 } else { 2 };
            image::Rgb([0, 1, 2].map(|channel| (of(channel) + if channel == high { 120 } else { 20 }) as u8))
        });
        picture.save(project.path(&format!("{number}.png"))).unwrap();
        let words: Vec<&str> = (0..1 + number % 5).map(|place| WORDS[(number * 5 + place * 3) % 8]).collect();
        table += &format!("{number}.png\t{}\t{}\n", words.join(" "), number % 2);
    }
    project.write("rows.tsv", &table);
    project.write("tokenizer.json", &testing::tiny_tokenizer(&WORDS));
    let (model, steps) = match name {
        "net" => (
            "",
            "image: image\n  preprocess: {resize: {size: 16, mode: exact}, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}",
        ),
        _ => (", tokenizer: tokenizer.json", "text: words\n  preprocess: {max_tokens: 8}"),
    };
    project.write(
        "recipe.yaml",
        &format!(
            "name: live\nmodel: {{full: {{onnx: {file}, mode: full{model}}}}}\ndata:\n  kind: tsv\n  train: {{path: rows.tsv}}\n  \
             header: false\n  columns: [image, words, label]\n  label: {{column: label, names: [no, yes]}}\n  {steps}\n\
             cache: {{dtype: f32}}{TRAIN}"
        ),
    );
    project
}

fn run(project: &Project, words: &[&str]) -> Value {
    let ran = project.run(&[&["run", "recipe.yaml", "--json"], words].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.json()
}

/// The loss of each step of a run.
fn steps(project: &Project, record: &Value) -> Vec<f64> {
    let folder = project.path(record["path"].as_str().unwrap());
    let lines = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line["train/loss"].as_f64()).collect()
}

fn near(ours: f64, theirs: f64, what: &str) {
    assert!((ours - theirs).abs() < 1e-4 * theirs.abs().max(0.1), "{what}: {ours}, not {theirs}");
}

#[test]
fn whole_networks_train_from_their_inputs_as_in_pytorch() {
    let reference = include_str!("../reference/live/losses.json");
    let reference: Value = serde_json::from_str(reference).unwrap();
    for (name, expected) in reference.as_object().unwrap() {
        let project = project(name);
        for store in ["auto", "none"] {
            let record = run(&project, &["--fresh", &format!("cache.store={store}")]);
            let ours = steps(&project, &record);
            let theirs: Vec<f64> = expected["steps"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
            assert_eq!(ours.len(), theirs.len(), "{name}");
            for (step, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                near(*ours, *theirs, &format!("{name}, {store}, step {step}"));
            }
            let after = record["metrics"]["train/loss"].as_f64().unwrap();
            let measured = record["peak_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20);
            assert!(measured || !cfg!(target_os = "linux"), "{record}");
            near(after, expected["after"].as_f64().unwrap(), &format!("{name}, {store}, evaluated"));
        }
    }
}

#[test]
fn weights_drawn_anew_are_trained_live_too() {
    let project = project("net");
    let words = ["++model.full.mode=scratch", "train.epochs=40", "train.optimizer.lr=0.05"];
    let losses = steps(&project, &run(&project, &words));
    let first = reference_first();
    assert!((losses[0] - first).abs() > 1e-3, "the file's weights: {losses:?}");
    assert!(losses[39] < 0.3 * losses[0], "{losses:?}");
}

fn reference_first() -> f64 {
    let reference: Value = serde_json::from_str(include_str!("../reference/live/losses.json")).unwrap();
    reference["net"]["steps"][0].as_f64().unwrap()
}

#[test]
fn a_network_of_texts_that_was_trained_whole_predicts_and_is_exported() {
    let project = project("bert");
    let padded = project.run(&["run", "recipe.yaml", "data.preprocess={max_tokens: 5, pad_to: 10}", "train.epochs=1"]);
    assert!(padded.stderr.contains("texts have at most 5 tokens"), "{padded:?}");
    let record = run(&project, &["train.epochs=60"]);
    assert!(record["metrics"]["train/accuracy"].as_f64().unwrap() > 0.7, "{record}");
    let folder = record["path"].as_str().unwrap();
    let (weights, _) = caft::graph::Weights::load(&project.path(folder).join("checkpoint/best.safetensors")).unwrap();
    let named = |part: &str| weights.0.keys().any(|name| name.contains(part));
    for part in ["word_embeddings", "position_embeddings", "token_type_embeddings", "classifier"] {
        assert!(named(part), "{part}: {:?}", weights.0.keys());
    }
    // Texts of other lengths, and longer than any of training.
    let predict = |text: &str| project.run(&["predict", folder, text, "--json"]).json()["predictions"][0].clone();
    let one = predict("good");
    assert!(one["probability"].as_f64().unwrap() > 0.0, "{one}");
    assert_eq!(
        predict("good film bad plot dull fine")["label"],
        predict("good film bad plot dull fine great")["label"]
    );
    // The exported file is compared with the run before it is kept.
    let exported = project.run(&["export", folder]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
}

#[test]
fn a_block_of_a_network_of_texts_is_trained_and_pooled_without_its_padding() {
    let project = project("distilbert");
    let words = [
        "~model.full",
        "++model.backbone={onnx: distilbert.onnx, tokenizer: tokenizer.json, outputs: [TENSOR], mode: last_block, train_from: layer.0}",
        "++model.neck={kind: masked_mean}",
        "++model.head={kind: linear}",
        "train.epochs=40",
    ];
    let tensor = hidden(&project);
    let words = words.map(|word| word.replace("TENSOR", &tensor));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let short = run(&project, &words);
    assert!(short["metrics"]["train/accuracy"].as_f64().unwrap() > 0.7, "{short}");
    let packed = project.run(&["pack", short["path"].as_str().unwrap(), "-o", "t.caft-run", "--with-activations"]);
    assert_eq!(packed.code, Some(0), "{packed:?}");
    let again = project.run(&["run", "t.caft-run", "--fresh", "--json"]).json();
    assert_eq!(again["metrics"], short["metrics"], "{again}");
    // More padding changes nothing.
    let more: Vec<&str> = words.iter().copied().chain(["data.preprocess={max_tokens: 8, pad_to: 10}"]).collect();
    let long = run(&project, &more);
    for (ours, theirs) in steps(&project, &long).iter().zip(steps(&project, &short)) {
        near(*ours, theirs, "padded to 10");
    }
}

/// The tensor behind the last normalisation of the encoder.
fn hidden(project: &Project) -> String {
    let model = caft::graph::onnx::read(&project.path("distilbert.onnx")).unwrap();
    let nodes = model.graph.unwrap().node;
    let last = nodes.iter().rfind(|node| node.op_type == "LayerNormalization").unwrap();
    last.output[0].clone()
}
