//! `caft check`, `plan`, `recipe`, `models` and `schema`, as a user sees them.

use std::time::Instant;

use super::sandbox::Sandbox;

const CATS: &str = "\
# Cats.
extends: [linear_probe]
model:
  backbone: {name: vit_small_patch14_focus, outputs: [cls]}
  head: {kind: linear}
data:
  kind: image_folder
  train: {path: cats/train}
  valid: {fraction: 0.1}
train:
  epochs: 5
";

#[test]
fn a_valid_recipe_says_so() {
    let sandbox = Sandbox::new();
    sandbox.file("cats.yaml", CATS);
    assert_eq!(sandbox.shows(&["check", "cats.yaml"]), "exit 0\ncats.yaml: valid\n");
    assert_eq!(sandbox.shows(&["check", "--quiet", "cats.yaml"]), "exit 0\n");
    assert_eq!(
        sandbox.shows(&["check", "linear_probe", "quickstart", "configs/elpv.yaml"]),
        "exit 0\n\
         linear_probe: valid, for other recipes to extend (it names neither a backbone nor data)\n\
         quickstart: valid\n\
         configs/elpv.yaml: valid\n"
    );
}

#[test]
fn settings_of_a_loss_without_a_kind_are_those_of_the_loss_that_the_targets_call_for() {
    let sandbox = Sandbox::new();
    sandbox.file("cats.yaml", CATS);
    let planned = |words: &[&str]| {
        let words: Vec<&str> = [&["plan", "cats.yaml"], words].concat();
        let shown = sandbox.shows(&words);
        let from = shown.find("loss").unwrap_or_default();
        shown[from..].lines().take(6).collect::<Vec<_>>().join("\n")
    };
    let smooth = planned(&["train.loss.label_smoothing=0.1"]);
    assert!(smooth.contains("cross_entropy") && smooth.contains("0.1"), "{smooth}");
    let embedded = planned(&["model.head.kind=embedding", "train.loss.temperature=0.2"]);
    assert!(embedded.contains("supervised_contrastive") && embedded.contains("0.2"), "{embedded}");
    let wrong = sandbox.shows(&["check", "cats.yaml", "train.loss.label_smothing=0.1"]);
    assert!(wrong.contains("did you mean `label_smoothing`"), "{wrong}");
}

/// The output without the lists of kinds and metrics, which grow.
fn elided(text: &str) -> String {
    let short = |line: &str| match (line.split_once("not one of"), line.rsplit_once("; did")) {
        (Some((head, _)), Some((_, tail))) if line.contains("neck") || line.contains("metrics") => {
            format!("{head}not one of …; did{tail}\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(short).collect()
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let sandbox = Sandbox::new().variable("CAFT__TRAIN__BATCH_SIZE", "many");
    sandbox.file("base.yaml", "train:\n  epochs: 0\n");
    sandbox.file(
        "cats.yaml",
        "\
extends: [base.yaml, linear_prob]
model:
  backbone: {name: vit_smal_patch14_focus, mode: frozn}
  head:
    kind: linear
    biass: true
  neck: [{kind: standardise}]
data:
  kind: csv
  label: {colum: x}
  test: {frac: 0.5}
metrics: [acuracy]
swep: {}
",
    );
    assert_eq!(
        elided(&sandbox.shows(&["check", "cats.yaml", "train.optimizer={kind: adamw, lr: fast}"])),
        "exit 2
! error: cats.yaml is not a valid recipe
!   base.yaml:2:11   train.epochs: 0 is less than the minimum of 1
!   cats.yaml:1:22   extends[1]: there is no recipe `linear_prob`; did you mean `linear_probe`?
!   cats.yaml:3:20   model.backbone.name: `vit_smal_patch14_focus` is not in the catalogue of backbones; did you mean `vit_small_patch14_focus`?
!   cats.yaml:3:50   model.backbone.mode: \"frozn\" is not one of `frozen`, `last_block`, `full` or `scratch`; did you mean `frozen`?
!   cats.yaml:6:5    model.head.biass: unknown field; did you mean `bias`?
!   cats.yaml:7:17   model.neck[0].kind: \"standardise\" is not one of …; did you mean `standardize`?
!   cats.yaml:10:11  data.label.colum: unknown field; did you mean `column`?
!   cats.yaml:11:10  data.test.frac: unknown field; allowed are `path`, `fraction`, `fold` and `column`
!   cats.yaml:12:11  metrics[0]: \"acuracy\" is not one of …; did you mean `accuracy`?
!   cats.yaml:13:1   swep: unknown field; did you mean `sweep`?
!   train.optimizer={kind: adamw, lr: fast} (command line): \"fast\" is not a number
!   CAFT__TRAIN__BATCH_SIZE=many (environment): \"many\" is not a whole number
"
    );
}

#[test]
fn rules_over_several_keys_have_places_too() {
    let sandbox = Sandbox::new();
    sandbox.file("cats.yaml", CATS.replace("[cls]", "[cls, pooled]"));
    let shown = sandbox.shows(&["check", "cats.yaml", "metrics=[mae]"]);
    assert!(shown.contains("cats.yaml:4:60  model.backbone.outputs[1]: "), "{shown}");
    assert!(shown.contains("metrics=[mae] (command line): "), "{shown}");
}

#[test]
fn what_does_not_fit_the_targets_is_refused_at_its_place() {
    let sandbox = Sandbox::new();
    let data = "data:\n  kind: csv\n  train: {path: t.csv}\n  label:\n    kind: values\n    column: age\n";
    let recipe = format!("model:\n  backbone: {{name: vit_small_patch14_focus}}\n  head: {{kind: cosine}}\n{data}");
    sandbox.file("age.yaml", &recipe);
    let shown = sandbox.shows(&["check", "age.yaml"]);
    assert!(shown.contains("age.yaml:3:16  model.head.kind: does not fit the targets, which are numbers"), "{shown}");
    let recipe = recipe.replace("cosine", "regression") + "train: {loss: {kind: focal}}\nmetrics: [rmse, accuracy]\n";
    sandbox.file("age.yaml", &recipe);
    let shown = sandbox.shows(&["check", "age.yaml"]);
    assert!(shown.contains("train.loss.kind: is for classes, and the outputs are numbers"), "{shown}");
    assert!(shown.contains("metrics[1]: `accuracy` does not measure numbers"), "{shown}");
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_line() {
    let sandbox = Sandbox::new();
    let utf16: Vec<u8> = "\u{feff}name: x".encode_utf16().flat_map(u16::to_le_bytes).collect();
    sandbox.file("utf16.yaml", utf16).file("latin1.yaml", b"name: caf\xe9").file("empty.yaml", "# nothing\n");
    sandbox.file("bare16.yaml", b"n\0a\0m\0e\0").file("list.yaml", "- a\n").file("folder/x", "");
    sandbox.file("large.yaml", vec![b'#'; 5 << 20]).file("cats.yaml", CATS);
    for (file, said) in [
        ("utf16.yaml", "! error: `utf16.yaml` is not UTF-8 text (byte 0)\n! hint: save it as UTF-8\n"),
        ("latin1.yaml", "! error: `latin1.yaml` is not UTF-8 text (byte 9)\n! hint: save it as UTF-8\n"),
        (
            "bare16.yaml",
            "! error: bare16.yaml is not a valid recipe\n\
             !   bare16.yaml:1:1  this is not UTF-8 text; save it as UTF-8\n",
        ),
        ("empty.yaml", "! error: empty.yaml is not a valid recipe\n!   empty.yaml:1:1  the file is empty\n"),
        (
            "list.yaml",
            "! error: list.yaml is not a valid recipe\n!   list.yaml:1:1  a recipe is a map of keys, not a list\n",
        ),
        ("folder", "! error: `folder` is a folder, not a file\n"),
        ("large.yaml", "! error: `large.yaml` has 5242880 bytes; at most 4194304 are read\n"),
        ("cat.yaml", "! error: there is no file `cat.yaml`; did you mean `cats.yaml`?\n"),
        (
            "quickstrat",
            "! error: there is no file `quickstrat`; did you mean `quickstart`?\n\
             ! hint: `caft recipe ls` lists the recipes that come with caft\n",
        ),
    ] {
        assert_eq!(sandbox.shows(&["check", file]), format!("exit 2\n{said}"), "{file}");
    }
}

#[test]
fn recipes_that_extend_each_other_show_the_circle() {
    let sandbox = Sandbox::new();
    sandbox.file("a.yaml", "extends: [b/b.yaml]\n").file("b/b.yaml", "seed: 1\nextends: [../a.yaml]\n");
    assert_eq!(
        sandbox.shows(&["check", "a.yaml"]),
        "exit 2\n\
         ! error: a.yaml is not a valid recipe\n\
         !   b/b.yaml:2:11  extends[0]: recipes extend each other in a circle: a.yaml → b/b.yaml → b/../a.yaml\n"
    );
    sandbox.file("c.yaml", "extends: [d.yaml, 1]\n").file("d.yaml", "extends: linear_probe\n");
    assert_eq!(
        sandbox.shows(&["check", "c.yaml"]),
        "exit 2\n\
         ! error: c.yaml is not a valid recipe\n\
         !   c.yaml:1:19  extends[1]: a number is not a recipe's name or path\n\
         !   d.yaml:1:10  extends: text is not a list of recipes, such as `[linear_probe]`\n"
    );
}

#[test]
fn problems_come_as_json_too() {
    let sandbox = Sandbox::new();
    sandbox.file("cats.yaml", CATS.replace("epochs", "epocs"));
    let (code, stdout, _) = sandbox.run(&["check", "--json", "cats.yaml"]);
    let value: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 2);
    assert_eq!(
        value[0]["problems"],
        serde_json::json!([{
            "path": "train.epocs",
            "message": "unknown field; did you mean `epochs`?",
            "place": "cats.yaml:11:3",
            "file": "cats.yaml",
            "line": 11,
            "column": 3
        }])
    );
}

#[test]
fn shipped_recipes_are_listed_shown_and_copied() {
    let sandbox = Sandbox::new();
    let (code, listed, _) = sandbox.run(&["recipe", "ls"]);
    assert_eq!(code, 0);
    assert!(listed.contains("recipes/linear_probe.yaml "), "{listed}");
    assert!(listed.contains("configs/quickstart.yaml "), "{listed}");
    let (_, text, _) = sandbox.run(&["recipe", "cat", "linear_probe"]);
    let file = std::fs::read_to_string("recipes/linear_probe.yaml").unwrap();
    assert_eq!(Some(text.as_str()), file.split_once('\n').map(|(_, body)| body), "the schema's path is left out");
    assert_eq!(
        sandbox.shows(&["recipe", "cp", "quickstart", "mine.yaml"]),
        "exit 0\nconfigs/quickstart.yaml → mine.yaml\n"
    );
    assert_eq!(
        sandbox.shows(&["recipe", "cp", "quickstart", "mine.yaml"]),
        "exit 2\n! error: `mine.yaml` exists\n! hint: `--force` replaces it\n"
    );
    assert_eq!(sandbox.shows(&["check", "mine.yaml"]), "exit 0\nmine.yaml: valid\n");
    assert_eq!(
        sandbox.shows(&["recipe", "cat", "linear_prob"]),
        "exit 2\n\
         ! error: there is no recipe or config `linear_prob`; did you mean `linear_probe`?\n\
         ! hint: `caft recipe ls` lists them\n"
    );
}

#[test]
fn every_shipped_recipe_is_valid_and_says_when_to_use_it() {
    let sandbox = Sandbox::new();
    let (_, listed, _) = sandbox.run(&["recipe", "ls", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    for shipped in listed.as_array().unwrap() {
        let path = shipped["path"].as_str().unwrap();
        assert!(shipped["about"].as_str().unwrap().len() > 40, "{path} has no comment that says when to use it");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.starts_with("# yaml-language-server: $schema=../schemas/recipe.schema.json\n"), "{path}");
        assert_eq!(sandbox.run(&["check", path]).0, 0, "{path}");
    }
}

#[test]
fn the_schema_is_printed() {
    let (code, text, _) = Sandbox::new().run(&["schema"]);
    assert_eq!(code, 0);
    assert!(text == std::fs::read_to_string("schemas/recipe.schema.json").unwrap());
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
}

#[test]
fn a_plan_shows_the_source_of_every_value() {
    let sandbox = Sandbox::new().variable("CAFT__TRAIN__BATCH_SIZE", "64");
    sandbox.file("cats.yaml", CATS);
    let (code, text, _) = sandbox.run(&["plan", "cats.yaml", "seed=3", "data.preprocess.resize.size=232"]);
    assert_eq!(code, 0);
    let line = |key: &str| {
        let found = text.lines().find(|line| line.trim_start().starts_with(key)).unwrap_or_default();
        found.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("name: cats"), "name: cats # the file's name");
    assert_eq!(line("order:"), "order: 3 # seed=3 (command line)");
    assert_eq!(line("epochs:"), "epochs: 5 # cats.yaml:11:11");
    assert_eq!(line("batch_size: 64"), "batch_size: 64 # CAFT__TRAIN__BATCH_SIZE=64 (environment)");
    assert_eq!(line("mean:"), "mean: [0.485, 0.456, 0.406] # catalogue");
    assert_eq!(line("weight_decay:"), "weight_decay: 0.5 # recipes/linear_probe.yaml:13:54");
    assert_eq!(line("on_error:"), "on_error: fail # default");
    assert!(text.contains("[HERE]/cats/train"), "{text}");
    assert!(text.contains("stored of each sample: cls [384] in f16, 768 B"), "{text}");

    let (code, json, _) = sandbox.run(&["plan", "--json", "cats.yaml"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(code, 0);
    assert_eq!(value["plan"]["train"]["epochs"], 5);
    assert_eq!(value["sources"]["train.epochs"], "cats.yaml:11:11");
    assert_eq!(value["per_sample"][0]["bytes"], 768);

    let (code, _, error) = sandbox.run(&["plan", "linear_probe"]);
    assert_eq!(code, 2);
    assert!(error.starts_with("error: `linear_probe` names neither a backbone nor data"), "{error}");
}

#[test]
fn an_entry_without_a_published_file_takes_ones_own() {
    let sandbox = Sandbox::new();
    sandbox.file("cats.yaml", CATS);
    // An engine of that name may be kept here.
    let bare = "model.backbone={name: resnet50, outputs: [pooled]}";
    assert_eq!(sandbox.shows(&["check", "cats.yaml", bare]), "exit 0\ncats.yaml: valid\n");
    assert!(sandbox.run(&["plan", "cats.yaml", bare]).1.contains("engine:resnet50"));
    let word = "model.backbone={name: resnet50, onnx: own.onnx, outputs: [pooled]}";
    assert_eq!(sandbox.shows(&["check", "cats.yaml", word]), "exit 0\ncats.yaml: valid\n");
    let (_, plan, _) = sandbox.run(&["plan", "cats.yaml", word]);
    assert!(plan.contains("[HERE]/own.onnx"), "{plan}");
    assert!(plan.contains("size: 232 "), "{plan}");
}

#[test]
fn models_are_listed_and_shown() {
    let sandbox = Sandbox::new();
    let (code, listed, _) = sandbox.run(&["models", "--task", "image_classification"]);
    assert_eq!(code, 0);
    assert!(listed.starts_with("NAME "), "{listed}");
    assert!(listed.contains("\nvit_small_patch14_focus "), "{listed}");
    let (_, shown, _) = sandbox.run(&["models", "show", "vit_small_patch14_focus"]);
    assert!(shown.contains("patch_tokens  256×384 "), "{shown}");
    let (_, json, _) = sandbox.run(&["models", "show", "vit_small_patch14_focus", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["outputs"]["cls"]["shape"], serde_json::json!([384]));
    assert_eq!(
        sandbox.shows(&["models", "show", "vit_smal_patch14_focus"]),
        "exit 2\n\
         ! error: `vit_smal_patch14_focus` is not in the catalogue of backbones; did you mean `vit_small_patch14_focus`?\n\
         ! hint: `caft models` lists the catalogue; any other network is named by `onnx:`\n"
    );
    assert_eq!(sandbox.run(&["models", "--task", "cooking"]).0, 2);
}

#[test]
fn hostile_recipes_are_one_error_and_no_crash() {
    let sandbox = Sandbox::new();
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for level in 1..20 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    let long = format!("{}: 1\n", "k".repeat(1 << 20));
    let quoted = format!("\"{}\": 1\n", "k".repeat(900));
    let many: String = (0..90_000).map(|number| format!("k{number}: 1\n")).collect();
    for (name, text) in [
        ("bomb", bomb),
        ("deep_flow", "[".repeat(100_000)),
        ("deep_map", "{a: ".repeat(100_000)),
        ("deep_block", (0..2000).map(|depth| " ".repeat(depth) + "a:\n").collect()),
        ("long_key", long),
        ("quoted_key", quoted),
        ("many_keys", many),
        ("anchor_in_itself", "model: &m {backbone: *m}\n".into()),
        ("merge_of_itself", "model: &m {<<: *m}\n".into()),
        ("control", "name: \u{7}\u{1b}[31m\n".into()),
        ("huge_number", format!("seed: {}\n", "9".repeat(100_000))),
        ("not_yaml", "%PDF-1.7\n\u{1}\u{2}\n".into()),
        ("key_is_a_map", "{a: 1}: 2\n".into()),
        ("tag", "model: !!python/object:os.system {}\n".into()),
    ] {
        let file = format!("{name}.yaml");
        sandbox.file(&file, text);
        let begin = Instant::now();
        let (code, _, error) = sandbox.run(&["check", &file]);
        assert_eq!(code, 2, "{name}: {error}");
        assert!(error.starts_with("error: "), "{name}: {error}");
        assert!(begin.elapsed().as_secs() < 10, "{name} took {:?}", begin.elapsed());
        assert!(error.len() < 40_000_000, "{name}");
    }
}
