//! `caft run`: a recipe, from its file to a run directory.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use super::runs::{RunsDir, main_metric};
use super::surroundings::Surroundings;
use super::{Globals, load, print, print_json};
use crate::base::Error;
use crate::data::TargetKind;
use crate::graph::Task;
use crate::plan::ResolvedPlan;
use crate::run::pack::{self, is_pack};
use crate::run::record::RunRecord;
use crate::run::report::to_mlflow;
use crate::run::skipped::SKIPPED;
use crate::run::{self, Finished};
use crate::sample::Modality;
use crate::track::mlflow::{self, Sent};

/// Run a recipe: compute what is not stored yet, train, evaluate.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The recipe's file, or the name of a shipped one; or a file that `caft pack --with-activations` wrote, to train on
    /// the activations inside.
    recipe: PathBuf,
    /// Changes to the recipe: `key.path=value` sets, `++key.path=value` adds, `~key.path` deletes.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Train again, in a new folder beside the finished run, even if nothing changed.
    #[arg(long)]
    fresh: bool,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
    /// Run a sweep over the words with several values, such as `train.epochs=5,10,20`; the same as `caft sweep`.
    #[arg(long, short)]
    multirun: bool,
    /// Send the finished run to this MLflow server, such as `http://localhost:5000`.
    #[arg(long, value_name = "URL")]
    mlflow: Option<String>,
    /// Not of this command: training needs all rows.
    #[arg(long, value_name = "I/N", hide = true)]
    shard: Option<String>,
    #[command(flatten)]
    place: RunsDir,
}

impl Args {
    /// Runs the recipe and prints what came out and where.
    ///
    /// # Errors
    /// Those of the recipe and of every stage.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        if let Some(shard) = &self.shard {
            let recipe = self.recipe.display();
            return Err(Error::bad_input("`caft run` trains, which needs all rows").hint(format!(
                "`caft cache fill {recipe} --shard {shard}` computes a part of them on each machine; `caft run {recipe}` then \
                 finds all of them"
            ))
            .into());
        }
        if self.multirun {
            return super::sweep::Args::of_run(&self.recipe, &self.overrides, self.offline, &self.place).run(globals);
        }
        self.mlflow.as_deref().map(mlflow::check).transpose()?;
        let here = Surroundings::new(globals, self.offline)?;
        let context = here.context(&self.place.runs_dir);
        let opened = if is_pack(&self.recipe) { Some(pack::open(&self.recipe, &context)?) } else { None };
        let recipe = opened.as_ref().map_or_else(|| self.recipe.clone(), |opened| opened.recipe());
        let planned = load::load(&recipe, &self.overrides).inspect_err(|_| {
            if let Some(word) = self.overrides.iter().find(|word| super::sweep::varies(word)) {
                super::say(&format!("`{word}` gives several values; `--multirun` or `caft sweep` tries each\n"));
            }
        })?;
        if planned.loaded.recipe.sweep.is_some() {
            let recipe = self.recipe.display();
            return Err(Error::bad_input(format!("`{recipe}` is a sweep"))
                .hint(format!("`caft sweep {recipe}` runs it; `caft run {recipe} ~sweep` runs it once as it is"))
                .into());
        }
        let yaml = planned.loaded.to_yaml();
        let finished = match &opened {
            Some(opened) => pack::train(opened, &planned.plan, &yaml, &context, self.fresh),
            None => run::run(&planned.plan, &yaml, &context, self.fresh),
        };
        let finished = match finished {
            Err(Error::Interrupted) => {
                super::say("interrupted; what was computed is stored, and the same command goes on from there\n");
                return Ok(ExitCode::from(130));
            }
            other => other?,
        };
        if let Some(server) = &self.mlflow {
            // The run is finished and kept whatever the server says.
            match to_mlflow(&finished.record, server) {
                Ok(Sent { page, files: 0 }) => super::say(&format!("sent to {page}\n")),
                Ok(Sent { page, files }) => super::say(&format!("sent to {page} with {files} files\n")),
                Err(error) => {
                    let path = &finished.record.path;
                    super::say(&format!(
                        "the run is finished and kept in {path}, but not sent; the same command sends it\n"
                    ));
                    super::draw_error(&error.into());
                }
            }
        }
        if globals.json {
            print_json(&finished.record)?;
        } else {
            print(&summary(&finished))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What came out and where, in a few lines.
fn summary(finished: &Finished) -> String {
    let RunRecord { name, path, metrics, activations, .. } = &finished.record;
    let mut text = match main_metric(&finished.record) {
        Some(metric) => format!("{name}: {metric}\n"),
        None => format!("{name}\n"),
    };
    let others = metrics.iter().filter(|(metric, _)| Some(*metric) != finished.record.main_metric.as_ref());
    let others: Vec<String> = others.map(|(metric, value)| format!("{metric} {value:.4}")).collect();
    if !others.is_empty() {
        text += &format!("  {}\n", others.join(", "));
    }
    if let Some(line) = finished.record.precision_cost_in_words() {
        text += &format!("  {line}\n");
    }
    if finished.was_there {
        text += "  this very run is finished already and nothing was computed; `--fresh` trains it again\n";
    } else {
        text += &format!("  activations: {} computed, {} reused\n", activations.computed, activations.reused);
    }
    if finished.record.skipped > 0 {
        text += &format!("  {} bad rows were left out; {path}/{SKIPPED} lists them\n", finished.record.skipped);
    }
    text += &format!("  {path}\n");
    // What cannot be read is told by whatever is tried next.
    if let Ok(plan) = ResolvedPlan::read(Path::new(path)) {
        text += &format!("  {}\n", next(&plan, path));
    }
    text
}

/// What a user may want to do with such a run.
fn next(plan: &ResolvedPlan, path: &str) -> String {
    let fields = plan.plan.data.fields();
    let (what, input) = match &fields[..] {
        [one] if one.modality == Modality::Text => ("texts", "TEXT…"),
        [_] => ("pictures", "FILE…"),
        _ => ("rows", "--lines FILE"),
    };
    match (plan.target, plan.plan.train.loss().task()) {
        (TargetKind::Pairs, _) => {
            let field = fields.last().map_or("FIELD", |field| &field.name);
            format!(
                "find by embeddings with: caft embed {path} --data --field {field} -o INDEX.npy; caft search INDEX.npy …"
            )
        }
        (_, Task::Embedding) => format!("embed new {what} with: caft embed {path} {input} -o INDEX.npy"),
        (TargetKind::Masks, _) => format!("segment new pictures with: caft predict {path} FILE… --masks FOLDER"),
        (_, Task::Values) => format!("predict of new {what} with: caft predict {path} {input}"),
        (_, Task::Classes | Task::MultiLabel) => format!("classify new {what} with: caft predict {path} {input}"),
    }
}
