//! `caft reproduce`: a run again, from its lock.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use super::recipe::reviewed;
use super::runs::RunsDir;
use super::surroundings::Surroundings;
use super::table::Table;
use super::{Globals, load, print, print_json, say};
use crate::base::{Error, file, visible_line};
use crate::recipe::foreign::Review;
use crate::run::directory;
use crate::run::lock::{LOCK, Lock, Origin};
use crate::run::pack::{self, is_pack};
use crate::run::reproduce::{ReproduceRequest, Reproduced, reproduce, reproduce_packed};

/// Repeat a run from its `caft.lock`: fetch or rebuild what it was made of, check every digest, train, and compare. On
/// the same kind of machine, with the same program, results must be the same bit for bit; elsewhere metrics must agree
/// within a tolerance. Says what differs when they do not, and then ends with exit code 1.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run (its folder, its id, or its recipe's name), a `caft.lock`, or a file that `caft pack --with-activations`
    /// wrote, to train on the activations inside.
    run: String,
    /// Where the data are on this machine, such as `data.train.path=DIR`: changes to the locked recipe.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Run although the data, the backbone or the recipe are not those of the lock.
    #[arg(long)]
    anyway: bool,
    /// How far a metric may be from the locked one on another kind of machine: absolute up to 1, relative above.
    #[arg(long, default_value_t = 0.01, value_parser = tolerance)]
    tolerance: f64,
    /// How many stored activations are computed again and compared.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    recheck: u32,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    place: RunsDir,
}

fn tolerance(text: &str) -> Result<f64, String> {
    let found = text.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0);
    found.ok_or_else(|| "not a number from 0 on".into())
}

impl Args {
    /// Repeats the run and prints how it compares.
    ///
    /// # Errors
    /// There is no such run or lock; those of the run's stages.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, self.offline)?;
        let context = here.context(&self.place.runs_dir);
        let asked = Path::new(&self.run);
        let opened = is_pack(asked).then(|| pack::open(asked, &context)).transpose()?;
        let lock = match &opened {
            Some(opened) => opened.lock()?,
            None => self.lock()?,
        };
        if lock.recipe.is_null() {
            return Err(Error::bad_input("the lock has no recipe: it was written by an older caft")
                .hint("run the recipe again, and reproduce that run")
                .into());
        }
        let folder = std::env::temp_dir().join(format!("caft-reproduce-{}", std::process::id()));
        // The file's name is the run's, unless the recipe says one.
        let name = lock.recipe["name"].as_str().filter(|name| is_plain(name)).unwrap_or("reproduced");
        let path = folder.join(format!("{name}.yaml"));
        file::write_bytes(&path, serde_yaml::to_string(&lock.recipe)?.as_bytes())?;
        let planned = load::load(&path, &self.overrides);
        // Left behind, it does no harm.
        let _ = std::fs::remove_dir_all(&folder);
        let planned = planned?;
        let recipe = planned.loaded.to_yaml();
        // A lock by itself may be anybody's.
        if asked.is_file() && opened.is_none() && !globals.quiet && !globals.json {
            say(&format!("the recipe of `{}`\n{}", asked.display(), reviewed(&Review::of(&recipe, &self.run)?)));
        }
        let request = ReproduceRequest {
            lock: &lock,
            plan: &planned.plan,
            recipe: &recipe,
            unchanged: self.overrides.is_empty(),
            anyway: self.anyway,
            tolerance: self.tolerance,
            rechecked: self.recheck as usize,
        };
        let reproduced = match &opened {
            Some(opened) => reproduce_packed(&request, opened, &context),
            None => reproduce(&request, &context).map_err(|error| self.elsewhere(error)),
        }?;
        if globals.json {
            print_json(&reproduced)?
        } else {
            print(&shown(&reproduced))?
        }
        Ok(if reproduced.agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// What a file that is not there most likely means.
    fn elsewhere(&self, error: Error) -> Error {
        match &error {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                let run = visible_line(&self.run).into_owned();
                Error::bad_input(format!("what the lock of `{run}` names is not all here")).because(error).hint(format!(
                    "if it is elsewhere, say where: `caft reproduce {run} data.train.path=DIR`, or `data.root=DIR`, or \
                     `model.backbone.onnx=FILE`"
                ))
            }
            _ => error,
        }
    }

    fn lock(&self) -> Result<Lock> {
        let path = Path::new(&self.run);
        if path.is_file() {
            return Ok(Lock::read(path)?);
        }
        let record = directory::find_finished(&self.place.runs_dir, &self.run)?;
        Ok(Lock::read(&PathBuf::from(&record.path).join(LOCK))?)
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

fn shown(reproduced: &Reproduced) -> String {
    let mut text = String::new();
    for origin in Origin::ALL {
        let differ = reproduced.differences.iter().filter(|difference| difference.origin == origin);
        let lines: Vec<String> =
            differ.map(|d| format!("{}: {} then, {} now", d.what, d.values[0], d.values[1])).collect();
        let lines = if lines.is_empty() { "the same".to_string() } else { lines.join("; ") };
        text += &format!("  {:<10}{lines}\n", origin.name());
    }
    for rechecked in &reproduced.rechecked {
        let (rows, output, error) = (rechecked.rows, &rechecked.output, rechecked.relative_error);
        text += &format!("  {rows} activations of `{output}` computed again: relative error {error:.1e}\n");
    }
    let Some(run) = &reproduced.run else {
        return text + "not run: this is not what the lock names (`--anyway` runs it all the same)\n";
    };
    let mut table = Table::new(["metric", "locked", "found", ""]);
    for metric in &reproduced.metrics {
        let found = metric.found.map_or_else(|| "—".to_string(), |found| format!("{found:.6}"));
        let verdict = if metric.agrees { "" } else { "differs" };
        table.row([metric.name.clone(), format!("{:.6}", metric.wanted), found, verdict.into()]);
    }
    if let Some([locked, found]) = &reproduced.weights {
        let verdict = if locked == found || !reproduced.bitwise { "" } else { "differs" };
        table.row(["weights".into(), locked.short(8), found.short(8), verdict.into()]);
    }
    text += &table.to_string();
    text += &match (reproduced.bitwise, reproduced.agrees, reproduced.same_weights) {
        (true, true, Some(_)) => "the same bit for bit: metrics and weights\n".to_string(),
        (true, true, None) => "the same bit for bit\n".into(),
        (true, false, _) => "not the same, on the same kind of machine: results must be the same bit for bit\n".into(),
        (false, true, _) => format!("the same within {}, the tolerance for what differs above\n", reproduced.tolerance),
        (false, false, _) => format!("not the same: compared with a tolerance of {}\n", reproduced.tolerance),
    };
    text + &format!("  {run}\n")
}
