//! What a run was asked for: the values of its recipe, and those that it left to the defaults.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::base::file;
use crate::plan::PLAN;

/// A recipe or a plan is not longer.
const LONGEST: u64 = 64 << 20;

/// Every value of a recipe's YAML by the path of its key, such as `train.optimizer.lr`.
pub fn of_recipe(recipe: &str) -> BTreeMap<String, Value> {
    flat(serde_yaml::from_str(recipe).unwrap_or_default())
}

/// Every value that the recipe of a run's folder says.
pub fn said(directory: &Path) -> BTreeMap<String, Value> {
    file::read_text(&directory.join("recipe.yaml"), LONGEST).map(|text| of_recipe(&text)).unwrap_or_default()
}

/// Every value of the plan in a run's folder, also those that the recipe did not say.
pub fn filled_in(directory: &Path) -> BTreeMap<String, Value> {
    let text = file::read_text(&directory.join(PLAN), LONGEST).ok();
    let plan: Option<Value> = text.and_then(|text| serde_json::from_str(&text).ok());
    flat(plan.and_then(|mut plan| Some(plan.get_mut("plan")?.take())).unwrap_or_default())
}

/// The values of nested maps by the paths of their keys; lists are values.
pub fn flat(value: Value) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    flatten("", value, &mut all);
    all
}

/// A value as text: texts without quotes, all else as in JSON.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

fn flatten(path: &str, value: Value, all: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                flatten(&if path.is_empty() { key } else { format!("{path}.{key}") }, value, all);
            }
        }
        Value::Null if path.is_empty() => {}
        other => drop(all.insert(path.into(), other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_and_what_is_filled_in_have_the_same_paths() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("recipe.yaml"), "train: {epochs: 3, optimizer: {lr: 0.1}}\nname: x\n")
            .unwrap();
        let plan = r#"{"plan": {"train": {"epochs": 3, "optimizer": {"kind": "adamw", "lr": 0.1}}}, "classes": ["a"]}"#;
        std::fs::write(folder.path().join(PLAN), plan).unwrap();
        assert_eq!(said(folder.path())["train.optimizer.lr"], 0.1);
        assert_eq!(plain(&said(folder.path())["name"]), "x");
        let filled = filled_in(folder.path());
        assert_eq!((filled.len(), plain(&filled["train.optimizer.kind"])), (3, "adamw".into()));
        assert!(said(Path::new("nowhere")).is_empty() && filled_in(Path::new("nowhere")).is_empty());
    }
}
