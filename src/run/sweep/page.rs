//! The page of a sweep, and what TensorBoard shows of it, from the table in its folder.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::ranking::{self, Ranked};
use super::table::{Outcome, TABLE, Table, Trial};
use crate::base::{Error, Result, file};
use crate::report::Report;
use crate::report::sweep::{Choice, Given, Sweep, trials};
use crate::run::report::REPORT;
use crate::sweep::Goal;
use crate::track::{TrialEvents, write_hparams};

/// What a sweep's table does not say, in its folder.
const ABOUT: &str = "sweep.json";
/// TensorBoard's folder in that of a sweep.
const HPARAMS: &str = "tensorboard";
/// Digits of a trial's id in its folder's name.
const DIGITS: usize = 12;

/// The contents of `sweep.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The recipe's name.
    pub name: String,
    /// The metric that trials are compared by.
    pub metric: String,
    /// Whether more of it is better.
    pub goal: Goal,
    /// The run directories of the best.
    pub runs: Vec<String>,
}

/// Whether a folder is that of a sweep.
pub fn is_sweep(folder: &Path) -> bool {
    folder.join(TABLE).is_file() && folder.join(ABOUT).is_file()
}

/// Writes the page, TensorBoard's folder and what they are made of beside the table.
///
/// # Errors
/// Those of the file system.
pub fn write(folder: &Path, about: &About, table: &Table) -> Result<PathBuf> {
    let json =
        serde_json::to_string_pretty(about).map_err(|e| Error::failed("a sweep does not serialise").because(e))?;
    file::write_bytes(&folder.join(ABOUT), json.as_bytes())?;
    let all = table.trials();
    track(&folder.join(HPARAMS), about, &all)?;
    let path = folder.join(REPORT);
    file::write_bytes(&path, page(vec![gathered(folder, about, &all)])?.as_bytes())?;
    Ok(path)
}

/// What a page shows of the sweep in a folder.
///
/// # Errors
/// It is no sweep's folder, or its files are damaged.
pub fn gather(folder: &Path) -> Result<Sweep> {
    let path = folder.join(ABOUT);
    let about: About = serde_json::from_str(&file::read_text(&path, 16 << 20)?)
        .map_err(|e| Error::failed(format!("`{}` is damaged", path.display())).because(e))?;
    Ok(gathered(folder, &about, &Table::open(folder, false)?.trials()))
}

/// The page of some sweeps.
///
/// # Errors
/// The data do not serialise.
pub fn page(sweeps: Vec<Sweep>) -> Result<String> {
    let title = match &sweeps[..] {
        [sweep] => format!("sweep of {}", sweep.name),
        sweeps => format!("{} sweeps", sweeps.len()),
    };
    let made_secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    Report { title, made_secs, caft: env!("CARGO_PKG_VERSION").into(), sweeps, runs: Vec::new() }.to_html()
}

fn gathered(folder: &Path, about: &About, all: &[(Trial, Option<Outcome>)]) -> Sweep {
    let ended: Vec<Given> = all.iter().filter_map(|(trial, outcome)| given(trial, outcome.as_ref()?, about)).collect();
    let id = folder.file_name().unwrap_or_default().to_string_lossy().trim_start_matches("sweep-").to_string();
    let mut sweep = Sweep {
        name: about.name.clone(),
        id,
        metric: about.metric.clone(),
        maximize: about.goal == Goal::Maximize,
        runs: about.runs.clone(),
        ..Sweep::default()
    };
    if ended.len() < all.len() {
        sweep.notes.push(format!("{} trials have not ended yet.", all.len() - ended.len()));
    }
    trials(&ended, sweep.maximize, &mut sweep);
    let ranking = ranking::rank(all, &about.metric, about.goal);
    sweep.seconds = ranking.iter().map(|ranked| ranked.seconds).sum();
    sweep.choices = ranking.iter().map(|ranked| choice(&sweep, ranked)).collect();
    sweep
}

fn given(trial: &Trial, outcome: &Outcome, about: &About) -> Option<Given> {
    let (settings, replica) = (trial.settings.clone(), trial.replica.clone());
    Some(match outcome {
        Outcome::Ended { metrics, curve, stopped, .. } => Given {
            settings,
            replica,
            value: metrics.get(&about.metric).copied(),
            curve: curve.clone(),
            stopped: *stopped,
            error: None,
        },
        Outcome::Failed { error } => {
            Given { settings, replica, value: None, curve: Vec::new(), stopped: false, error: Some(error.clone()) }
        }
    })
}

fn choice(sweep: &Sweep, ranked: &Ranked) -> Choice {
    Choice {
        shown: sweep.shown(&ranked.settings),
        numbers: sweep.numbers(&ranked.settings),
        mean: ranked.mean.filter(|mean| mean.is_finite()),
        interval: ranked.interval.filter(|interval| interval.is_finite()).map(|interval| {
            // What the rounding of a mean leaves of equal values.
            let noise = 1e-12 * ranked.mean.unwrap_or(0.0).abs();
            if interval < noise { 0.0 } else { interval }
        }),
        values: ranked.values.iter().copied().filter(|value| value.is_finite()).collect(),
        stopped: ranked.stopped,
        error: ranked.errors.first().cloned(),
    }
}

fn track(folder: &Path, about: &About, all: &[(Trial, Option<Outcome>)]) -> Result<()> {
    // Repetitions of one choice are one group.
    let group = |trial: &Trial| {
        let json = serde_json::to_string(&trial.settings).unwrap_or_default();
        crate::base::Digest::of(json.as_bytes()).short(DIGITS)
    };
    let named: Vec<(String, String, &Trial, &Outcome)> = all
        .iter()
        .filter_map(|(trial, outcome)| Some((trial.id.short(DIGITS), group(trial), trial, outcome.as_ref()?)))
        .collect();
    let events: Vec<TrialEvents<'_>> = named
        .iter()
        .map(|(name, group, trial, outcome)| {
            let settings = trial.settings.iter().chain(&trial.replica);
            let (curve, best): (&[f64], _) = match outcome {
                Outcome::Ended { curve, metrics, .. } => (curve, metrics.get(&about.metric).copied()),
                Outcome::Failed { .. } => (&[], None),
            };
            let values = settings.map(|setting| (setting.path.as_str(), &setting.value)).collect();
            TrialEvents { name, group, values, curve, best, ended_well: matches!(outcome, Outcome::Ended { .. }) }
        })
        .collect();
    write_hparams(folder, &about.name, &about.metric, &events)
}
