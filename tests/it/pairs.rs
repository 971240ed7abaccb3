//! Rows whose fields belong together: queries and answers, triplets, pictures and texts in one space.

use serde_json::{Value, json};

use super::project::Project;
use super::text;

const WORDS: [&str; 6] = ["good", "fine", "great", "bad", "poor", "dull"];
const TEXT: &str = "{onnx: text.onnx, tokenizer: tokenizer.json, outputs: [last_hidden_state]}";
const IMAGE: &str = "{onnx: backbone.onnx, outputs: [/Flatten_output_0]}";
const TRAIN: [&str; 4] =
    ["train.epochs=60", "train.batch_size=12", "train.optimizer.lr=0.01", "train.optimizer.weight_decay=0"];

/// A project with a table of queries, their answers and a wrong one, and one of pictures and captions.
fn project() -> Project {
    let project = text::project();
    let (mut texts, mut pictures) = (String::from("query,answer,wrong,weight\n"), String::from("photo,caption\n"));
    for number in 0..text::ROWS {
        let (word, other) = (WORDS[number % 6], WORDS[(number + 1 + number / 6) % 6]);
        let wrong = if other == word { "film" } else { other };
        let tail = " film".repeat(1 + number / 6);
        texts += &format!("{word}{tail},{word} plot,{wrong} plot,{}\n", number % 3);
        let caption = if number % 6 < 3 { "good film" } else { "bad plot" };
        pictures += &format!("p/{number}.png,{caption}\n");
    }
    project.write("texts.csv", &texts);
    project.write("pictures.csv", &pictures);
    let recipe = |model: &str, data: &str| {
        format!(
            "extends: [retrieval_pairs]\nmodel:\n{model}data:\n  kind: csv\n  test: {{fraction: 0.25}}\n  label: {{kind: pairs}}\n{data}"
        )
    };
    let neck = "  neck: {kind: masked_mean}\n";
    let one = format!("  backbone: {TEXT}\n{neck}");
    project.write("answers.yaml", &recipe(&one, "  train: {path: texts.csv}\n  text: [query, answer]\n"));
    let fields = "  train: {path: texts.csv}\n  text: {q: query, a: answer, w: wrong}\n";
    project.write("triplets.yaml", &recipe(&one, fields));
    let two = format!("  towers:\n    image: {IMAGE}\n    text: {TEXT}\n{neck}");
    let steps = "  preprocess: {resize: {size: 32, mode: exact}, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25], max_tokens: 16}\n";
    let fields = format!("  train: {{path: pictures.csv}}\n  image: photo\n  text: caption\n{steps}");
    project.write("captions.yaml", &recipe(&two, &fields));
    project
}

fn run(project: &Project, recipe: &str, more: &[&str]) -> Value {
    let ran = project.run(&[&["run", recipe, "--json"], &TRAIN[..], more].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.json()
}

fn metric(record: &Value, name: &str) -> f64 {
    record["metrics"][name].as_f64().unwrap_or_else(|| panic!("{name}: {record}"))
}

#[test]
fn queries_learn_to_find_their_answers() {
    let project = project();
    let untrained = run(&project, "answers.yaml", &["train.epochs=1", "train.optimizer.lr=1e-9"]);
    let record = run(&project, "answers.yaml", &[]);
    assert!(metric(&record, "test/recall_at_1") > 0.9, "{record}");
    assert!(metric(&record, "test/mrr_at_10") > metric(&untrained, "test/mrr_at_10"), "{untrained}");
    assert_eq!(record["activations"]["computed"], 0, "the engine is that of the other run");
    let own = run(&project, "answers.yaml", &["++model.head.projections=own", "++train.loss.symmetric=true"]);
    assert_ne!(own["id"], record["id"]);
    // Questions among answers, by an index of the one field and queries of the other.
    let embedded = project.run(&["embed", "answers", "--data", "--field", "answer", "-o", "answers.npy", "--json"]);
    assert_eq!((embedded.code, embedded.json()["width"].as_u64()), (Some(0), Some(128)), "{embedded:?}");
    let found = project.run(&["search", "answers.npy", "poor film film", "--field", "query", "--top", "1", "--json"]);
    let rows = project.path("texts.csv");
    let line: usize = found.json()[0]["id"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    let text = std::fs::read_to_string(rows).unwrap();
    assert!(text.lines().nth(line - 1).unwrap().contains("poor plot"), "{found:?}");
    let whole = project.run(&["embed", "answers", "good film\tgood plot", "-o", "x.npy"]);
    assert!(whole.code == Some(2) && whole.stderr.contains("--field"), "{whole:?}");
    let measured = project.run(&["eval", "answers", "--json", "--metrics", "recall_at_1,map_at_r"]).json();
    assert!(measured["metrics"]["recall_at_1"].as_f64().unwrap() > 0.9, "{measured}");
}

#[test]
fn triplets_are_trained_with_the_negatives_that_are_given() {
    let project = project();
    for loss in ["{kind: triplet, margin: 0.5}", "{kind: multiple_negatives_ranking}"] {
        let record = run(&project, "triplets.yaml", &[&format!("train.loss={loss}")]);
        assert!(metric(&record, "test/recall_at_1") > 0.9, "{loss}: {record}");
    }
    // The first of the parts need not be the first of the columns.
    let order = "data.label={kind: pairs, fields: [a, q, w]}";
    let turned = run(&project, "triplets.yaml", &[order, "train.epochs=5"]);
    assert_eq!(turned["activations"]["computed"], 0);
    let drawn = run(&project, "triplets.yaml", &["data.weight=weight", "train.sampler={kind: weighted}"]);
    assert_ne!(drawn["metrics"]["train/loss"], turned["metrics"]["train/loss"]);
}

#[test]
fn pictures_and_texts_meet_in_one_space() {
    let project = project();
    let record = run(&project, "captions.yaml", &["++train.loss.symmetric=true"]);
    assert!(metric(&record, "test/recall_at_1") > 0.9, "{record}");
    let images = project.run(&["embed", "captions", "p", "--field", "image", "-o", "images.npy", "--json"]);
    assert_eq!(images.json()["rows"], text::ROWS, "{images:?}");
    for (words, warm) in [("good film", true), ("bad plot", false)] {
        let found = project.run(&["search", "images.npy", words, "--field", "text", "--top", "5", "--json"]).json();
        for one in found.as_array().unwrap() {
            let number: usize = one["id"].as_str().unwrap()[2..].trim_end_matches(".png").parse().unwrap();
            assert_eq!(number % 6 < 3, warm, "{words}: {found}");
        }
    }
    let index = project.run(&["embed", "captions", "--data", "--field", "image", "-o", "rows.npy"]);
    assert_eq!(index.code, Some(0), "{index:?}");
    let asked = project.run(&["embed", "captions", "--data", "--field", "text", "-o", "texts.npy"]);
    assert_eq!(asked.code, Some(0), "{asked:?}");
    let measured = project.run(&["search", "rows.npy", "texts.npy", "--measure", "--json"]).json();
    assert_eq!(measured["queries"], json!(text::ROWS), "{measured}");
}

/// What a run or an exported file makes of some inputs.
fn embedded(project: &Project, words: &[&str]) -> Value {
    let file = format!("{}.npy", words.len());
    let _ = std::fs::remove_file(project.path(&file));
    let made = project.run(&[&["embed"], words, &["-o", &file]].concat());
    assert_eq!(made.code, Some(0), "{made:?}");
    let found = project.run(&["search", &file, "--measure", "--json"]);
    assert_eq!(found.code, Some(2), "no two rows have one label: {found:?}");
    let values = std::fs::read(project.path(&file)).unwrap();
    // The header of the form's first version is padded to 64 bytes in all.
    let begin = 10 + usize::from(u16::from_le_bytes([values[8], values[9]]));
    let number = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    json!(values[begin..].chunks_exact(4).map(number).collect::<Vec<f32>>())
}

fn assert_near(a: &Value, b: &Value) {
    let numbers = |value: &Value| value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<f64>>();
    let (a, b) = (numbers(a), numbers(b));
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-3), "{a:?} {b:?}");
}

#[test]
fn each_field_is_exported_as_a_file_of_its_own() {
    let project = project();
    let run = run(&project, "captions.yaml", &["train.epochs=5"])["path"].as_str().unwrap().to_string();
    for (folder, more) in [("tensor", &[][..]), ("pixels", &["--input", "pixels"]), ("half", &["--precision", "fp16"])]
    {
        let said = project.run(&[&["export", &run, "-o", folder, "--json"], more].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(said.json().as_array().unwrap().len(), 2, "{said:?}");
        for one in said.json().as_array().unwrap() {
            assert!(one["comparisons"][0]["cosine"].as_f64().unwrap() > 0.999, "{one}");
        }
        for (field, words) in [("image", ["p/0.png", "p/3.png"]), ("text", ["good film", "bad plot film"])] {
            let file = format!("{folder}/{field}/model.onnx");
            let live = embedded(&project, &[&run, words[0], words[1], "--field", field]);
            let alone = embedded(&project, &[&file, words[0], words[1]]);
            if folder != "half" {
                assert_near(&live, &alone);
            }
            let beside = if field == "text" { "tokenizer.json" } else { "preprocessor_config.json" };
            assert!(project.path(&format!("{folder}/{field}")).join(beside).exists());
        }
    }
    // Files alone serve to search: pictures by one, texts by the other.
    let index = project.run(&["embed", "tensor/image/model.onnx", "p", "-o", "index.npy"]);
    assert_eq!(index.code, Some(0), "{index:?}");
    let found = project.run(&["search", "index.npy", "good film", "--run", "tensor/text/model.onnx", "--json"]);
    assert_eq!(found.code, Some(0), "{found:?}");
    // Fields that share everything are one file.
    let run = self::run(&project, "answers.yaml", &["train.epochs=2"])["path"].as_str().unwrap().to_string();
    let said = project.run(&["export", &run, "-o", "answers", "--json"]);
    assert_eq!((said.code, said.json()["model"].as_str()), (Some(0), Some("answers/model.onnx")), "{said:?}");
    let words = ["good film", "bad plot"];
    let live = embedded(&project, &[&run, words[0], words[1], "--field", "answer"]);
    assert_near(&live, &embedded(&project, &["answers/model.onnx", words[0], words[1]]));
    let nothing = project.run(&["predict", &run, "good film\tgood plot"]);
    assert!(nothing.code == Some(2) && nothing.stderr.contains("caft embed"), "{nothing:?}");
    let packed = project.run(&["pack", &run, "-o", "answers.caft-run", "--with-activations"]);
    assert_eq!(packed.code, Some(0), "{packed:?}");
    let again = project.run(&["run", "answers.caft-run", "train.epochs=3", "--json"]);
    assert_eq!(again.code, Some(0), "{again:?}");
}

#[test]
fn wrong_recipes_of_pairs_are_told_what_to_write() {
    let project = project();
    let told = |words: &[&str], expected: &str| {
        let ran = project.run(&[&["plan"], words].concat());
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(expected), "{expected}: {ran:?}");
    };
    told(&["answers.yaml", "model.head={kind: linear}"], "rows that are pairs need the head `embedding`");
    told(&["answers.yaml", "train.loss={kind: supervised_contrastive}"], "of pairs take `multiple_negatives_ranking`");
    told(&["answers.yaml", "train.loss={kind: triplet}"], "needs three fields");
    told(&["answers.yaml", "train.sampler={kind: pk}"], "draws rows by their class");
    told(&["answers.yaml", "data.text=query"], "pairs need rows of two fields or more");
    told(&["answers.yaml", "metrics=[accuracy]"], "`accuracy` does not measure embeddings");
    told(&["answers.yaml", "data.label={kind: pairs, fields: [query, anser]}"], "did you mean `answer`?");
    told(&["answers.yaml", "data.label={kind: pairs, column: x}"], "labelled by nothing");
    told(&["answers.yaml", "train.sampler={kind: weighted}"], "name a column with the rows' own as `data.weight`");
    told(&["captions.yaml", "++model.backbone={onnx: text.onnx, outputs: [x]}"], "stand in place of `model.backbone`");
    let unsaid = project.run(&["run", "answers.yaml", "data.label=label"]);
    assert!(unsaid.code == Some(2) && unsaid.stderr.contains("belong together, `label: {kind: pairs}`"), "{unsaid:?}");
    let bad = project.run(&["run", "answers.yaml", "data.weight=query", "train.sampler={kind: weighted}"]);
    assert!(bad.code == Some(2) && bad.stderr.contains("texts.csv:2: `good film`"), "{bad:?}");
}
