//! `caft plan FILE`: what a run would do, with the source of every value. Nothing is fetched or run.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use super::Globals;
use crate::backbone::catalogue;
use crate::base::home::Home;
use crate::base::progress::Silent;
use crate::base::{Cancel, Place};
use crate::plan::Plan;
use crate::recipe::{self, KeyPath, Overrides, Provenance};
use crate::run::{self, Context, Forecast};

/// Print what a run would do, and where each value comes from.
///
/// The plan is made offline: nothing is fetched, nothing runs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A recipe file, or the name of one that comes with caft.
    recipe: PathBuf,
    /// Overrides: `key.path=value`, `++key.path=value`, `~key.path`.
    #[arg(value_name = "KEY=VALUE")]
    words: Vec<String>,
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// Everything that is wrong with the recipe.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let loaded = recipe::load(&self.recipe, &Overrides::from_environment(&self.words))?;
        let provenance = &loaded.provenance;
        let plan = Plan::new(&loaded.recipe, catalogue()?, provenance.file(), &|path| provenance.nearest(path))?;
        let value = serde_json::to_value(&plan)?;
        if globals.json {
            let mut sources = serde_json::Map::new();
            leaves(&value, &KeyPath::default(), &mut |path, _| {
                sources.insert(path.to_string(), source(path, provenance).into());
            });
            super::print_json(&json!({
                "plan": value, "sources": sources, "per_sample": per_sample(&plan), "forecast": forecast(&plan)?,
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut lines = Vec::new();
        draw(&value, &KeyPath::default(), provenance, &mut lines);
        // Values that are very long do not push all comments to the right.
        let width = lines.iter().map(|(line, _)| line.chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
        let text: String = lines
            .iter()
            .map(|(line, source)| match source {
                Some(source) => format!("{line:<width$}  # {source}\n"),
                None => format!("{line}\n"),
            })
            .collect();
        super::print(&text)?;
        if !globals.quiet {
            super::print(&format!("\n{}", cost(&plan)))?;
            super::print(&(forecast(&plan)?.lines().join("\n") + "\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What the run would cost, as far as it is known here and now.
fn forecast(plan: &Plan) -> Result<Forecast> {
    let home = Home::from_environment()?;
    let cancel = Cancel::default();
    let context = Context { home: &home, runs: PathBuf::new(), progress: &Silent, cancel: &cancel, offline: true };
    let entry = catalogue()?.get(&plan.model.backbone.name).ok();
    let values = |output: &str| Some(entry?.outputs.get(output)?.shape.iter().product::<usize>() as u64);
    Ok(run::forecast(plan, &context, &values)?)
}

/// Calls `visit` with every value that has no values inside.
fn leaves(value: &Value, path: &KeyPath, visit: &mut dyn FnMut(&KeyPath, &Value)) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, inner)| leaves(inner, &path.key(key), visit));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(index, inner)| leaves(inner, &path.index(index), visit));
        }
        leaf => visit(path, leaf),
    }
}

/// The plan as YAML lines, each leaf with its source; lists and maps of scalars stay on one line.
fn draw(value: &Value, path: &KeyPath, provenance: &Provenance, lines: &mut Vec<(String, Option<String>)>) {
    let Value::Object(map) = value else { return };
    let indent = "  ".repeat(path.0.len());
    for (key, inner) in map {
        let path = path.key(key);
        match inner {
            Value::Object(nested) if !nested.is_empty() => {
                lines.push((format!("{indent}{key}:"), None));
                draw(inner, &path, provenance, lines);
            }
            Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
                lines.push((format!("{indent}{key}:"), None));
                for (index, item) in items.iter().enumerate() {
                    lines.push((format!("{indent}- {}", flow(item)), Some(source(&path.index(index), provenance))));
                }
            }
            leaf => lines.push((format!("{indent}{key}: {}", flow(leaf)), Some(source(&path, provenance)))),
        }
    }
}

/// A value on one line of YAML.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let inner: Vec<String> = map.iter().map(|(key, value)| format!("{key}: {}", flow(value))).collect();
            format!("{{{}}}", inner.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Null => "~".into(),
        Value::String(text) => {
            let plain = |c: char| c.is_alphanumeric() || "_-./=@+".contains(c);
            let word = text.chars().all(plain) && text.chars().any(char::is_alphabetic);
            let reserved = ["true", "false", "null"].contains(&text.to_lowercase().as_str());
            if word && !reserved { text.clone() } else { value.to_string() }
        }
        Value::Number(number) => match number.as_f64() {
            // A 32-bit float is shown with the digits that it has.
            Some(value) if number.is_f64() && f64::from(value as f32) == value => (value as f32).to_string(),
            _ => number.to_string(),
        },
        Value::Bool(flag) => flag.to_string(),
    }
}

/// Where the plan has a value from: the recipe's key of the same path, or those it is made of.
fn source(path: &KeyPath, provenance: &Provenance) -> String {
    let text = path.to_string();
    let written = |path: &str| provenance.place(path).filter(|place| *place != Place::Default);
    let first = |paths: &[&str]| paths.iter().find_map(|path| written(path)).map(|place| place.to_string());
    let or_default = |paths: &[&str]| first(paths).unwrap_or_else(|| "default".into());
    let backbone = || first(&["model.backbone.onnx"]).unwrap_or_else(|| "catalogue".into());
    match text.as_str() {
        "name" => first(&["name"]).unwrap_or_else(|| "the file's name".into()),
        "seeds.data" => or_default(&["data.seed", "seed"]),
        "seeds.order" => or_default(&["train.order_seed", "seed"]),
        "seeds.augment" => or_default(&["data.augment.seed", "seed"]),
        "seeds.train" => or_default(&["train.seed", "seed"]),
        "model.backbone.name" => or_default(&["model.backbone.name", "model.backbone.onnx"]),
        "model.backbone.family" | "model.backbone.licence" => "catalogue".into(),
        _ if text.starts_with("model.backbone.source") => backbone(),
        _ if text.starts_with("model.backbone.outputs") => {
            first(&["model.backbone.outputs"]).unwrap_or_else(|| "the backbone's first".into())
        }
        _ => match text.strip_prefix("model.backbone.preprocess") {
            Some(step) => first(&[format!("data.preprocess{step}").as_str()]).unwrap_or_else(backbone),
            None => outwards(path, &written),
        },
    }
}

/// The place of a value, or of the nearest value around it that is not a map: a resource may be written
/// as text and planned as a map, one neck be planned as a list of one.
fn outwards(path: &KeyPath, written: &dyn Fn(&str) -> Option<Place>) -> String {
    let exact = written(&path.to_string());
    let parent = || {
        let inside = path.0.iter().position(|segment| matches!(segment, recipe::Segment::Index(_)))?;
        let list = KeyPath(path.0[..inside].to_vec());
        let rest = KeyPath([&path.0[..inside], &path.0[inside + 1..]].concat());
        written(&rest.to_string()).or_else(|| written(&list.to_string()))
    };
    exact.or_else(parent).map_or_else(|| "default".into(), |place| place.to_string())
}

/// The size of what is stored of one sample, output by output, where the catalogue knows it.
fn per_sample(plan: &Plan) -> Value {
    let entry = catalogue().ok().and_then(|catalogue| catalogue.get(&plan.model.backbone.name).ok());
    let size = plan.cache.dtype.size();
    let output = |spec: &crate::graph::onnx::OutputSpec| {
        let shape = &entry?.outputs.get(&spec.name)?.shape;
        let values: usize = shape.iter().product();
        Some(json!({"output": spec.name, "shape": shape, "bytes": values * size}))
    };
    plan.model.backbone.outputs.iter().filter_map(output).collect()
}

fn cost(plan: &Plan) -> String {
    let outputs = per_sample(plan);
    let outputs = outputs.as_array().map(Vec::as_slice).unwrap_or_default();
    if outputs.is_empty() {
        return "stored of each sample: known once the model has been read\n".into();
    }
    let total: u64 = outputs.iter().filter_map(|output| output["bytes"].as_u64()).sum();
    let parts: Vec<String> = outputs
        .iter()
        .map(|output| format!("{} {}", output["output"].as_str().unwrap_or_default(), output["shape"]))
        .collect();
    format!(
        "stored of each sample: {} in {}, {} ({} for 1,000 samples)\n",
        parts.join(" and "),
        plan.cache.dtype.name(),
        indicatif::HumanBytes(total),
        indicatif::HumanBytes(total * 1000)
    )
}
