//! Texts, pairs of texts, and pairs of a picture and a text, from a recipe to predictions.

use caft::graph::onnx::{self, testing};
use serde_json::{Value, json};

use super::project::Project;

const WORDS: [&str; 8] = ["good", "fine", "great", "bad", "poor", "dull", "film", "plot"];
pub const ROWS: usize = 48;

/// A project with a table of pictures and texts that are warm or cold, praise or blame, and recipes for it.
pub fn project() -> Project {
    let project = Project::new(0);
    onnx::write(&testing::tiny_text(), &project.path("text.onnx")).unwrap();
    project.write("tokenizer.json", &testing::tiny_tokenizer(&WORDS));
    let mut rows = String::new();
    for number in 0..ROWS {
        let (word, praise) = (WORDS[number % 6], number % 6 < 3);
        let (noun, other) = (["film", "plot"][number % 2], WORDS[number * 5 % 6]);
        let tail = " film".repeat(number / 12);
        rows += &format!("p/{number}.png\t{word} {noun}{tail}\t{other}\t{}\n", u8::from(praise));
        project.picture(&format!("p/{number}.png"), praise, number);
    }
    project.write("rows.tsv", &rows);
    let recipe = |model: &str, fields: &str| format!("extends: [linear_probe]\nmodel:\n{model}data:\n{DATA}{fields}");
    project.write("text.yaml", &recipe(BACKBONE, "  text: words\n"));
    project.write("pair.yaml", &recipe(BACKBONE, "  text: words\n  text_b: other\n"));
    let two_texts = format!("  towers:\n    text: {TEXT}\n    text_b: {TEXT}\n{NECK}");
    project.write("two_texts.yaml", &recipe(&two_texts, "  text: words\n  text_b: other\n"));
    let both = format!("  towers:\n    image: {IMAGE}\n    text: {TEXT}\n{NECK}");
    let fields = format!("  image: image\n  text: words\n{PREPROCESS}");
    project.write("both.yaml", &recipe(&both, &fields));
    project
}

const TEXT: &str = "{onnx: text.onnx, tokenizer: tokenizer.json, outputs: [last_hidden_state]}";
const IMAGE: &str = "{onnx: backbone.onnx, outputs: [/Flatten_output_0]}";
const NECK: &str = "  neck: [{kind: masked_mean}, {kind: standardize}]\n";
const BACKBONE: &str = "  backbone: {onnx: text.onnx, tokenizer: tokenizer.json, outputs: [last_hidden_state]}
  neck: [{kind: masked_mean}, {kind: standardize}]
";
const DATA: &str = "  kind: tsv
  train: {path: rows.tsv}
  test: {fraction: 0.25}
  header: false
  columns: [image, words, other, label]
  label: {column: label, names: [blame, praise]}
";
const PREPROCESS: &str =
    "  preprocess: {resize: {size: 32, mode: exact}, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25], max_tokens: 16}\n";
const TRAIN: [&str; 4] =
    ["train.epochs=200", "train.batch_size=8", "train.optimizer.lr=0.05", "train.optimizer.weight_decay=0"];

pub fn run(project: &Project, recipe: &str, more: &[&str]) -> Value {
    let ran = project.run(&[&["run", recipe, "--json"], &TRAIN[..], more].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.json()
}

#[test]
fn texts_are_stored_token_by_token_and_pooled_with_their_mask() {
    let project = project();
    let record = run(&project, "text.yaml", &[]);
    let distinct = record["activations"]["computed"].as_u64().unwrap();
    assert!(distinct > 20 && distinct <= ROWS as u64, "equal texts share their activations: {distinct}");
    assert!(record["metrics"]["test/accuracy"].as_f64().unwrap() >= 0.9, "{record}");
    // Neither the batch nor the window that a text was in changes what is stored of it.
    let alone = run(&project, "text.yaml", &["engine.batch_size=1", "train.seed=1"]);
    assert_eq!(alone["activations"], json!({"computed": 0, "reused": distinct}));
    let shorter = run(&project, "text.yaml", &["++data.preprocess={max_tokens: 4}"]);
    assert!(shorter["activations"]["computed"].as_u64().unwrap() > 0, "truncation is part of the key");
    project.write("lines.txt", "good film\n\ndull plot film film film film film film film film\n");
    let predicted = project.run(&["predict", "text", "great plot", "--lines", "lines.txt", "--json"]).json();
    let predictions = predicted["predictions"].as_array().unwrap();
    let labels: Vec<&str> = predictions.iter().map(|p| p["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["praise", "praise", "blame"]);
    let ls = project.run(&["cache", "verify"]);
    assert_eq!(ls.code, Some(0), "{ls:?}");
}

#[test]
fn a_pair_is_encoded_as_one_or_each_text_by_its_own_tower() {
    let project = project();
    let pair = run(&project, "pair.yaml", &[]);
    assert!(pair["metrics"]["test/accuracy"].as_f64().unwrap() >= 0.9, "{pair}");
    let one = project.run(&["predict", "pair", "good film"]);
    assert_eq!(one.code, Some(2), "{one:?}");
    assert!(one.stderr.contains("it has `text`, `text_b`"), "{one:?}");
    let towers = run(&project, "two_texts.yaml", &[]);
    assert!(towers["metrics"]["test/accuracy"].as_f64().unwrap() >= 0.9, "{towers}");
    assert_ne!(towers["id"], pair["id"]);
    let again = run(&project, "two_texts.yaml", &["train.seed=3"]);
    assert_eq!(again["activations"]["computed"], 0);
    // The sides compared rather than joined, in the whole network too.
    let neck = "model.neck=[{kind: masked_mean}, {kind: pair, parts: [difference, product]}, {kind: standardize}]";
    let compared = run(&project, "two_texts.yaml", &["name=compared", neck]);
    assert_eq!(compared["activations"]["computed"], 0);
    let swapped = project.run(&["predict", "compared", "good film\tbad plot", "bad plot\tgood film", "--json"]).json();
    let probability = |row: usize| swapped["predictions"][row]["probability"].as_f64().unwrap();
    assert_eq!(probability(0), probability(1), "{swapped}");
    let predicted = project.run(&["predict", "two_texts", "good film\tgood", "bad plot\tbad", "--json"]).json();
    assert_eq!(
        (&predicted["predictions"][0]["label"], &predicted["predictions"][1]["label"]),
        (&json!("praise"), &json!("blame"))
    );
}

#[test]
fn a_picture_and_a_text_have_an_engine_each_and_one_head() {
    let project = project();
    let record = run(&project, "both.yaml", &[]);
    assert!(record["metrics"]["test/accuracy"].as_f64().unwrap() >= 0.9, "{record}");
    let computed = record["activations"]["computed"].as_u64().unwrap();
    assert!(computed > ROWS as u64, "every picture, and every text: {computed}");
    // The texts of another recipe are those of this one.
    let texts = run(&project, "text.yaml", &["++data.preprocess={max_tokens: 16}"]);
    assert_eq!(texts["activations"]["computed"], 0);
    let predicted = project.run(&["predict", "both", "p/0.png\tgood film", "--json"]);
    assert_eq!(predicted.json()["predictions"][0]["label"], "praise", "{predicted:?}");
    assert_eq!(project.run(&["plan", "both.yaml"]).code, Some(0));
}

#[test]
fn recipes_whose_fields_and_backbones_differ_are_told_so() {
    let project = project();
    let told = |words: &[&str], expected: &str| {
        let ran = project.run(&[&["plan"], words].concat());
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(expected), "{expected}: {ran:?}");
    };
    told(&["text.yaml", "~model.backbone.tokenizer"], "model.backbone.tokenizer: is missing");
    told(&["both.yaml", "~data.text"], "rows have no field `text`; there is `image`");
    told(&["both.yaml", "++data.text_b=other"], "the field `text_b` has no tower");
    told(&["both.yaml", "++model.backbone={onnx: text.onnx, outputs: [x]}"], "stand in place of `model.backbone`");
    told(&["text.yaml", "++data.preprocess={crop: 8}"], "has steps for pictures");
    let neck = project.run(&["run", "text.yaml", "model.neck={kind: gap}"]);
    assert_eq!(neck.code, Some(2), "{neck:?}");
    assert!(neck.stderr.contains("neck `gap` would take padding for tokens"), "{neck:?}");
}

#[test]
fn texts_and_towers_run_in_less_than_fp32_and_say_what_it_cost() {
    let project = project();
    for (recipe, precision) in
        [("text.yaml", "int8"), ("text.yaml", "fp16"), ("both.yaml", "int8"), ("both.yaml", "fp16")]
    {
        let engine = [format!("engine.precision={precision}"), "engine.provider=cpu".into()];
        let record = run(&project, recipe, &[&engine[0], &engine[1]]);
        let cost = &record["precision_cost"];
        assert_eq!(cost["precision"], precision, "{recipe}: {record}");
        assert!(cost["in_fp32"]["test/accuracy"].is_f64() && cost["metrics"]["test/accuracy"].is_f64(), "{record}");
        assert!(record["metrics"]["test/accuracy"].as_f64().unwrap() >= 0.9, "{recipe} {precision}: {record}");
        if (recipe, precision) != ("both.yaml", "int8") {
            continue;
        }
        let engines = project.run(&["engine", "ls", "--json"]).json();
        let quantised = |inputs: usize| {
            let all = engines.as_array().unwrap().iter().map(|engine| &engine["manifest"]);
            let mut int8 = all.filter(|manifest| manifest["precision"] == "int8");
            int8.any(|manifest| manifest["inputs"].as_array().unwrap().len() == inputs)
        };
        assert!(quantised(1) && quantised(3), "an engine of pictures and one of texts: {engines}");
        let path = record["path"].as_str().unwrap();
        let evaluate = || project.run(&["eval", path, "--json"]);
        let before = evaluate();
        assert_eq!(before.code, Some(0), "{before:?}");
        std::fs::remove_dir_all(project.path("home/engines")).unwrap();
        assert_eq!(evaluate().stdout, before.stdout, "both are calibrated again, on the same samples");
    }
}

/// A project with a text network whose inputs have names of its own.
fn renamed(names: [(&str, &str); 3]) -> Project {
    let project = Project::new(1);
    let mut model = testing::tiny_text();
    let graph = model.graph.as_mut().unwrap();
    for (from, to) in names {
        let swap = |name: &mut String| {
            if name == from {
                *name = to.into();
            }
        };
        graph.input.iter_mut().for_each(|input| swap(&mut input.name));
        graph.node.iter_mut().flat_map(|node| &mut node.input).for_each(swap);
    }
    onnx::write(&model, &project.path("own.onnx")).unwrap();
    project.write("tokenizer.json", &testing::tiny_tokenizer(&WORDS));
    project.write("texts.txt", "good film\n\ndull plot\nfine film great plot\n");
    project
}

#[test]
fn an_engine_of_a_text_network_is_built_compared_packed_and_quantised() {
    let project = renamed([
        ("input_ids", "input_ids"),
        ("attention_mask", "attention_mask"),
        ("token_type_ids", "segment_ids:0"),
    ]);
    let outputs = ["-o", "mean=last_hidden_state:mean_tokens", "-o", "tokens=last_hidden_state"];
    let build = |more: &[&str]| project.run(&[&["engine", "build", "own.onnx"], &outputs[..], more].concat());
    let built = build(&["--json"]);
    let manifest = built.json();
    let takes: Vec<&Value> = manifest["inputs"].as_array().unwrap().iter().map(|input| &input["takes"]).collect();
    assert_eq!(takes, ["ids", "mask", "type_ids"], "{manifest}");
    let checks = &manifest["checks"][0];
    assert_eq!((&checks["samples_of"], &checks["batch_invariant"]), (&json!("random tokens"), &json!(true)));
    assert!(checks["parity"].as_array().unwrap().iter().all(|p| p["cosine"].as_f64().unwrap() > 0.999_999));

    let unnamed = build(&["--texts", "texts.txt"]);
    assert!(unnamed.code == Some(2) && unnamed.stderr.contains("name its `tokenizer.json`"), "{unnamed:?}");
    let real = build(&["--texts", "texts.txt", "--tokenizer", "tokenizer.json"]);
    assert!(real.stdout.contains("on 3 samples (texts of texts.txt)"), "{real:?}");
    let pictures = build(&["--pictures", "data/train"]);
    assert!(pictures.code == Some(2) && pictures.stderr.contains("this one takes texts"), "{pictures:?}");
    let shown = project.run(&["engine", "show", "own"]).stdout;
    assert!(shown.contains("`segment_ids:0` i64 [?], the type_ids of a text"), "{shown}");
    assert_eq!(project.run(&["engine", "pack", "own", "-o", "own.caft"]).code, Some(0));

    let int8 = build(&["--precision", "int8", "--provider", "cpu"]);
    assert!(int8.code == Some(2) && int8.stderr.contains("with `--texts`"), "{int8:?}");
    let int8 = ["--precision", "int8", "--texts", "texts.txt", "--tokenizer", "tokenizer.json", "--min-cosine", "0.5"];
    let int8 = build(&[&int8[..], &["--provider", "cpu"]].concat());
    assert!(int8.stdout.contains("held-out samples"), "{int8:?}");
}

#[test]
fn inputs_of_unusual_names_are_said() {
    let project = renamed([("input_ids", "a"), ("attention_mask", "b"), ("token_type_ids", "c")]);
    let build = ["engine", "build", "own.onnx", "-o", "tokens=last_hidden_state"];
    let unknown = project.run(&build);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.stderr.contains("has 3 inputs (`a`, `b`, `c`)"), "{unknown:?}");
    let some = project.run(&[&build[..], &["--input", "ids=a"]].concat());
    assert!(some.stderr.contains("what `b` or `c` of `own` take is not known"), "{some:?}");
    assert_eq!(project.run(&["engine", "ls", "--json"]).json(), json!([]));
    let slip = project.run(&[&build[..], &["--input", "idz=a"]].concat());
    assert!(slip.code == Some(2) && slip.stderr.contains("did you mean `ids`?"), "{slip:?}");
    let all = ["--input", "ids=a", "--input", "mask=b", "--input", "type_ids=c", "--json"];
    let manifest = project.run(&[&build[..], &all].concat()).json();
    assert!(manifest["checks"][0]["parity"][0]["cosine"].as_f64().unwrap() > 0.999_999, "{manifest}");
    // A recipe says the same.
    let model = "  backbone: {onnx: own.onnx, tokenizer: tokenizer.json, outputs: [last_hidden_state]}\n  neck: {kind: masked_mean}\n";
    let rows: String = (0..12).map(|i| format!("{} film\t{}\n", WORDS[i % 6], u8::from(i % 6 < 3))).collect();
    project.write("rows.tsv", &rows);
    let data = "data:\n  kind: tsv\n  train: {path: rows.tsv}\n  test: {fraction: 0.25}\n  header: false\n  columns: [words, label]\n  text: words\n  label: label\n";
    project.write("own.yaml", &format!("model:\n{model}{data}"));
    let unsaid = project.run(&["run", "own.yaml"]);
    assert!(unsaid.code == Some(2) && unsaid.stderr.contains("`preprocess.inputs`"), "{unsaid:?}");
    let said = "++data.preprocess={inputs: {ids: a, mask: b, type_ids: c}}";
    let ran = project.run(&["run", "own.yaml", "train.epochs=2", said]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
