//! Holds the import ranks and the module docs of `src/`.

use std::path::{Path, PathBuf};

const RANKS: [&[&str]; 11] = [
    &["base"],
    &["graph", "resource", "sample"],
    &["neck", "head", "loss", "optim", "metric", "sampler", "data", "backbone", "postprocess", "sweep"],
    &["recipe"],
    &["plan"],
    &["engine"],
    &["cache"],
    &["train"],
    &["export", "report", "track"],
    &["run"],
    &["cli"],
];

fn rank(module: &str) -> usize {
    RANKS.iter().position(|names| names.contains(&module)).unwrap_or_else(|| panic!("src/{module} has no rank"))
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The modules named behind `crate::` in a source text, in paths and in braces.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in text.split("crate::").skip(1) {
        let names = match rest.strip_prefix('{') {
            Some(group) => group.split_once('}').map_or(group, |(inside, _)| inside).to_string(),
            None => rest.to_string(),
        };
        let mut items: Vec<&str> = names.split(',').collect();
        if !rest.starts_with('{') {
            items.truncate(1);
        }
        for item in items {
            let name: String = item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if RANKS.iter().any(|names| names.contains(&name.as_str())) {
                found.push(name);
            }
        }
    }
    found
}

#[test]
fn modules_import_only_from_lower_ranks() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&source).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap();
        if module.ends_with(".rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for import in imports(&text) {
            if import != module && rank(&import) >= rank(module) {
                wrong.push(format!("{} imports {import}", relative.display()));
            }
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{} does not begin with a module doc", relative.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_are_found_in_paths_and_braces() {
    let text = "use crate::base::{Error};\nuse crate::{plan, cache::Store};\nlet x = crate::run::go();";
    assert_eq!(imports(text), ["base", "plan", "cache", "run"]);
}
