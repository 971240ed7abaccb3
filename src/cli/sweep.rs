//! `caft sweep`: many trials of a recipe, and the best of them as a recipe of its own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use super::runs::RunsDir;
use super::surroundings::Surroundings;
use super::table::TextTable;
use super::{Globals, print, print_json};
use crate::base::suggest::key_segment;
use crate::base::{Error, file};
use crate::recipe::{self, Overrides};
use crate::run::pack::{self, is_pack};
use crate::run::sweep::{self, Ranked, Request, Swept};
use crate::sweep::is_expression;

/// Try many values of a recipe's keys and keep the best.
///
/// What varies stands in the recipe's `sweep` section, in a sweep file of Weights & Biases or Ludwig (then the recipe is
/// `--base`), or in words such as `train.epochs=5,10,20` and `train.optimizer.lr=log_uniform(1e-5,1e-1)`. A sweep
/// that was stopped goes on, and several processes share one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The recipe, or a sweep file; or a file that `caft pack --with-activations` wrote, to train on the activations
    /// inside.
    file: PathBuf,
    /// What varies, and changes to the recipe as for `caft run`.
    #[arg(value_name = "KEY=VALUE")]
    words: Vec<String>,
    /// The recipe that a sweep file varies.
    #[arg(long, value_name = "RECIPE")]
    base: Option<PathBuf>,
    /// A short name that the sweep uses for a key, such as `rate=train.optimizer.lr`.
    #[arg(long, value_name = "NAME=KEY")]
    alias: Vec<String>,
    /// How many of the best become runs of their own.
    #[arg(long, value_name = "N")]
    keep: Option<u32>,
    /// Try trials again that failed before.
    #[arg(long)]
    retry_failed: bool,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    place: RunsDir,
    /// Hydra's flag; a sweep always is one.
    #[arg(long, short, hide = true)]
    multirun: bool,
}

impl Args {
    /// Runs the sweep and prints its table.
    ///
    /// # Errors
    /// Those of the recipe, of the sweep and of the cut; failing trials are lines of the table.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let (recipe, sweep) = match &self.base {
            Some(base) => (base, Some(self.file.clone())),
            None if is_sweep_file(&self.file) => {
                let file = self.file.display();
                return Err(Error::bad_input(format!("`{file}` says what to try, but of no recipe"))
                    .hint(format!("name it: `caft sweep {file} --base RECIPE`"))
                    .into());
            }
            None => (&self.file, None),
        };
        let here = Surroundings::new(globals, self.offline)?;
        let context = here.context(&self.place.runs_dir);
        let opened = if is_pack(recipe) { Some(pack::open(recipe, &context)?) } else { None };
        let recipe = opened.as_ref().map_or_else(|| recipe.clone(), |opened| opened.recipe());
        let words: Vec<String> = self.words.iter().map(|word| swept_word(word)).collect();
        let overrides = Overrides { sweep, ..Overrides::from_environment(&words) };
        let loaded = recipe::load(&recipe, &overrides)?;
        let names = self.alias.iter().map(|alias| name_of(alias)).collect::<crate::base::Result<Vec<_>>>()?;
        let request = Request {
            loaded: &loaded,
            names: &names,
            retry_failed: self.retry_failed,
            keep: self.keep,
            pack: opened.as_ref(),
        };
        let swept = match sweep::sweep(&request, &context) {
            Err(Error::Interrupted) => {
                super::say("interrupted; the trials that ended are kept, and the same command goes on from there\n");
                return Ok(ExitCode::from(130));
            }
            other => other?,
        };
        if globals.json {
            print_json(&swept)?;
        } else {
            print(&shown(&swept))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The sweep that `caft run --multirun` is.
    pub fn of_run(recipe: &Path, words: &[String], offline: bool, place: &RunsDir) -> Self {
        Self {
            file: recipe.to_path_buf(),
            words: words.to_vec(),
            base: None,
            alias: Vec::new(),
            keep: None,
            retry_failed: false,
            offline,
            place: RunsDir { runs_dir: place.runs_dir.clone() },
            multirun: true,
        }
    }
}

/// Whether a word gives its key several values.
pub(super) fn varies(word: &str) -> bool {
    word.split_once('=').is_some_and(|(key, value)| {
        is_expression(value) && !key.trim_start_matches('+').starts_with("sweep.") && !key.starts_with('~')
    })
}

/// A word whose value varies becomes a parameter of the sweep.
fn swept_word(word: &str) -> String {
    match word.split_once('=') {
        Some((key, value)) if varies(word) => {
            let key = key.trim_start_matches('+');
            let value = serde_json::Value::from(value);
            format!("sweep.parameters.{}={value}", key_segment(key))
        }
        _ => word.to_string(),
    }
}

/// `name=key.path` in its halves.
fn name_of(alias: &str) -> crate::base::Result<(String, String)> {
    match alias.split_once('=') {
        Some((name, path)) if !name.is_empty() && crate::recipe::KeyPath::parse(path).is_some() => {
            Ok((name.into(), path.into()))
        }
        _ => Err(Error::bad_input(format!("`{alias}` is not a name and its key, such as `rate=train.optimizer.lr`"))),
    }
}

/// Whether a file has what a sweep file has and a recipe does not.
fn is_sweep_file(path: &Path) -> bool {
    let Ok(text) = file::read_text(path, recipe::yaml::LIMITS.bytes) else { return false };
    let keys = |key: &str| text.lines().any(|line| line.starts_with(key) && line[key.len()..].starts_with(':'));
    keys("parameters") && !keys("model") && !keys("data") && !keys("extends")
}

/// The table, and where the best is.
fn shown(swept: &Swept) -> String {
    let ranking = &swept.ranking;
    let mut paths: Vec<&str> = Vec::new();
    for setting in ranking.iter().flat_map(|ranked| &ranked.settings) {
        if !paths.contains(&setting.path.as_str()) {
            paths.push(&setting.path);
        }
    }
    let repeated = ranking.iter().any(|ranked| ranked.values.len() > 1);
    let mut headings = vec![swept.metric.clone()];
    headings.extend(repeated.then(|| "trials".to_string()));
    headings.extend(paths.iter().map(|path| path.rsplit_once('.').map_or(*path, |(_, last)| last).to_string()));
    headings.extend(["epoch".into(), "time".into(), String::new()]);
    let mut table = TextTable::new(headings);
    const SHOWN: usize = 20;
    for ranked in ranking.iter().take(SHOWN) {
        table.row(row(ranked, &paths, repeated));
    }
    let mut text = table.to_string();
    if ranking.len() > SHOWN {
        let _ = writeln!(text, "… and {} more; `--json` prints all", ranking.len() - SHOWN);
    }
    let mut failures: Vec<(&str, usize)> = Vec::new();
    for error in ranking.iter().filter(|ranked| ranked.mean.is_none()).filter_map(|ranked| ranked.errors.first()) {
        match failures.iter_mut().find(|(known, _)| known == error) {
            Some((_, count)) => *count += 1,
            None => failures.push((error, 1)),
        }
    }
    let failed = ranking.iter().filter(|ranked| ranked.mean.is_none()).count();
    let trials = if swept.trained == 1 { "trial" } else { "trials" };
    let _ = write!(text, "{} {trials} trained, {} were there before", swept.trained, swept.reused);
    let _ = match failed {
        0 => writeln!(text),
        1 => writeln!(text, ", 1 choice failed:"),
        _ => writeln!(text, ", {failed} choices failed:"),
    };
    for (error, count) in failures.iter().take(5) {
        let _ = writeln!(text, "  {count} with: {error}");
    }
    if failures.len() > 5 {
        let _ = writeln!(text, "  … and {} other errors; `--json` prints all", failures.len() - 5);
    }
    if let Some(target) = swept.reached {
        let _ = writeln!(text, "no more were tried: `{}` has reached its target of {target}", swept.metric);
    }
    for (why, count) in swept.alone.iter().filter(|_| swept.trained > 1) {
        let themselves = if *count == 1 { "itself" } else { "themselves" };
        let _ = writeln!(text, "  {count} of them by {themselves}, not together with others: {why}");
    }
    if let Some(best) = &swept.best {
        let _ = writeln!(text, "the best as a recipe: {}", best.display());
    }
    for run in &swept.runs {
        let _ = writeln!(text, "  {run}");
    }
    let _ = writeln!(text, "the page: {}", swept.report.display());
    text
}

fn row(ranked: &Ranked, paths: &[&str], repeated: bool) -> Vec<String> {
    let metric = match (ranked.mean, ranked.interval) {
        (Some(mean), Some(interval)) => format!("{mean:.4} ± {interval:.4}"),
        (Some(mean), None) => format!("{mean:.4}"),
        (None, _) => "failed".into(),
    };
    let mut cells = vec![metric];
    cells.extend(repeated.then(|| ranked.values.len().to_string()));
    for path in paths {
        let setting = ranked.settings.iter().chain(&ranked.others).find(|setting| setting.path == *path);
        cells.push(setting.map_or_else(String::new, |setting| match setting.value.as_f64() {
            Some(number) if setting.value.is_f64() => short(number),
            _ => setting.in_words(),
        }));
    }
    let epochs: Vec<String> = ranked.best_epochs.iter().take(3).map(u32::to_string).collect();
    let more = if ranked.best_epochs.len() > 3 { ", …" } else { "" };
    cells.push(epochs.join(", ") + more);
    cells.push(format!("{:.2} s", ranked.seconds));
    cells.push(match ranked.errors.len() {
        _ if ranked.mean.is_none() => String::new(),
        0 if ranked.stopped => "given up".into(),
        0 => String::new(),
        failed => format!("{failed} more failed"),
    });
    cells
}

/// Four digits without needless zeros, the way people write them.
fn short(x: f64) -> String {
    let trimmed = |digits: &str| match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => digits.to_string(),
    };
    if x == 0.0 || (1e-3..1e5).contains(&x.abs()) {
        let places = (3 - x.abs().max(1e-9).log10().floor() as i32).clamp(0, 6) as usize;
        return trimmed(&format!("{x:.places$}"));
    }
    let text = format!("{x:.3e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{}e{exponent}", trimmed(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0.01, 1e-4, 0.0123456, 12345.6, 0.5, 0.0, 2.5e6, -0.1].map(short);
        assert_eq!(shown, ["0.01", "1e-4", "0.01235", "12346", "0.5", "0", "2.5e6", "-0.1"]);
    }

    #[test]
    fn words_that_vary_become_parameters() {
        assert_eq!(swept_word("train.epochs=5,10"), "sweep.parameters.\"train.epochs\"=\"5,10\"");
        assert_eq!(swept_word("lr=log_uniform(1e-5,1e-1)"), "sweep.parameters.lr=\"log_uniform(1e-5,1e-1)\"");
        for plain in ["train.epochs=5", "metrics=[accuracy, macro_f1]", "~train.seed", "sweep.method=grid"] {
            assert_eq!(swept_word(plain), plain);
        }
    }
}
