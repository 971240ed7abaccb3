//! `caft models`: the catalogue of backbones.

use std::process::ExitCode;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use indicatif::HumanBytes;

use super::Globals;
use super::surroundings::Surroundings;
use super::table::Table;
use crate::backbone::{Entry, Output, Proof, Task, catalogue};
use crate::engine::exchange::{ListedOutput, Place};
use crate::sample::Transform;
use crate::sample::image::ImagePreprocess;

/// List the catalogue of backbones, or show one.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Only those whose features serve a task.
    #[arg(long, value_parser = PossibleValuesParser::new(Task::ALL.map(Task::name)))]
    task: Option<String>,
    /// The prebuilt engines of an address in place of the catalogue: a folder, `git+https://host/repo.git`, or
    /// `hf:owner/repo`.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<Place>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show everything about one backbone.
    Show {
        /// Its name, such as `vit_base_patch16_224`.
        name: String,
    },
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no backbone of that name, or standard output cannot be written.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        match &self.action {
            Some(Action::Show { name }) => {
                let entry = catalogue()?.get(name)?;
                if globals.json { super::print_json(entry)? } else { super::print(&show(entry))? }
            }
            None => match &self.from {
                Some(place) => self.list_from(place, globals)?,
                None => self.list(globals)?,
            },
        }
        Ok(ExitCode::SUCCESS)
    }

    fn list_from(&self, place: &Place, globals: &Globals) -> Result<()> {
        let here = Surroundings::new(globals, false)?;
        let mut index = place.index(&here.fetcher())?;
        if let Some(wanted) = &self.task {
            index.engines.retain(|listed| listed.tasks.iter().any(|task| task.name() == wanted));
        }
        if globals.json {
            return super::print_json(&index.engines);
        }
        let mut table = Table::new(["name", "outputs", "precision", "size", "licence", "family", "file"]);
        for listed in &index.engines {
            let outputs: Vec<String> = listed.outputs.iter().map(listed_output).collect();
            table.row([
                listed.name.clone(),
                outputs.join(", "),
                listed.precision.clone(),
                HumanBytes(listed.size).to_string(),
                listed.licence.clone().unwrap_or_else(|| "not known".into()),
                listed.family.clone().unwrap_or_default(),
                listed.file.clone(),
            ]);
        }
        super::print(&format!("{table}\nkeep one: caft engine pull {place} NAME\n"))
    }

    fn list(&self, globals: &Globals) -> Result<()> {
        let serves = |entry: &&Entry| {
            self.task.as_ref().is_none_or(|wanted| entry.tasks.iter().any(|task| task.name() == wanted))
        };
        let entries: Vec<&Entry> = catalogue()?.entries().filter(serves).collect();
        if globals.json {
            return super::print_json(&entries);
        }
        let mut table = Table::new(["name", "output size", "architecture", "source", "tasks", "description"]);
        for entry in &entries {
            let tasks: Vec<&str> = entry.tasks.iter().map(|task| task.name()).collect();
            table.row([
                entry.name.clone(),
                entry.outputs.values().next().map(row_shape).unwrap_or_default(),
                entry.architecture.clone(),
                source(entry).into(),
                tasks.join(", "),
                entry.description.clone(),
            ]);
        }
        super::print(&table.to_string())
    }
}

fn listed_output(output: &ListedOutput) -> String {
    let size = |size: &Option<usize>| size.map_or("?".into(), |size| size.to_string());
    let shape = output.shape.as_ref().map(|shape| shape.iter().map(size).collect::<Vec<_>>().join("×"));
    format!("{} {}", output.name, shape.unwrap_or_else(|| "?".into()))
}

/// Where the weights come from, in a word.
fn source(entry: &Entry) -> &'static str {
    match (&entry.weights.onnx, entry.proof) {
        (Some(_), Proof::Built) => "fetched",
        (Some(_), _) => "fetched, unproven",
        (None, Proof::Unproven) => "export, unproven",
        (None, _) => "export",
    }
}

/// The steps of a preprocess in words.
pub(super) fn show_preprocess(preprocess: &ImagePreprocess) -> String {
    let mut steps = Vec::new();
    if let Some(resize) = &preprocess.resize {
        let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_string();
        let (mode, filter) = (serde_json::json!(resize.mode), serde_json::json!(resize.filter));
        let antialias = if resize.antialias { "antialias" } else { "no antialias" };
        steps.push(format!("resize {} ({}, {}, {antialias})", resize.size, word(mode), word(filter)));
    }
    steps.extend(preprocess.crop.map(|crop| format!("crop {crop}")));
    steps.push(format!("mean {:?}, std {:?}", preprocess.mean, preprocess.std));
    steps.join("; ")
}

/// `197×768`, and with `tokens` in front where a row is as long as its sample.
fn row_shape(output: &Output) -> String {
    let tokens = output.per_token.then(|| "tokens".to_string());
    tokens.into_iter().chain(output.shape.iter().map(ToString::to_string)).collect::<Vec<_>>().join("×")
}

fn show(entry: &Entry) -> String {
    let tasks: Vec<&str> = entry.tasks.iter().map(|task| task.name()).collect();
    let mut text = format!("{} ({}, {})\n{}\n\n", entry.name, entry.family, entry.architecture, entry.description);
    let mut line = |key: &str, value: String| text += &format!("{key:<11} {value}\n");
    line("tasks", tasks.join(", "));
    line("licence", entry.licence.clone());
    if let Some(onnx) = &entry.weights.onnx {
        line("weights", onnx.to_string());
    }
    if let Some(export) = &entry.weights.export {
        let weights = export.weights.as_ref().map(|weights| format!(" ({weights})")).unwrap_or_default();
        line("export from", format!("{}{weights}", export.model));
    }
    let proof = match entry.proof {
        Proof::Unproven => "none: no engine has been built from it yet",
        Proof::Exported => "exported with random weights: shapes and values are the framework's",
        Proof::Built => "built from the published file",
    };
    line("proof", proof.into());
    match &entry.preprocess {
        Transform::Image(steps) => {
            let input = entry.input.as_ref().map(|input| format!("`{}` [batch, 3, {1}, {1}]", input.name, input.size));
            line("input", input.unwrap_or_default());
            line("preprocess", show_preprocess(steps));
        }
        Transform::Text(steps) => {
            line("input", format!("`{}` [batch, tokens]", steps.inputs.ids));
            line("preprocess", format!("at most {} tokens", steps.max_tokens));
        }
    }
    if let Some(tokenizer) = &entry.tokenizer {
        line("tokenizer", tokenizer.to_string());
    }
    text += "\n";
    let mut table = Table::new(["output", "shape", "tensor", "taken"]);
    for (name, output) in &entry.outputs {
        let select = serde_json::to_value(output.select).unwrap_or_default();
        let taken = select["kind"].as_str().unwrap_or_default().to_string();
        table.row([name.clone(), row_shape(output), output.tensor.clone(), taken]);
    }
    text += &table.to_string();
    if !entry.blocks.is_empty() {
        let blocks: Vec<&str> = entry.blocks.keys().map(String::as_str).collect();
        text += &format!("\nblocks      {}\n", blocks.join(", "));
    }
    text
}
