//! `caft cache verify`, `gc` and `compact`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::{Work, bytes, short};
use crate::base::{Error, Home};
use crate::cache::{COMPACT_SHARD_BYTES, Garbage, GcRules};
use crate::cli::{Globals, load, print, print_json};
use crate::run::{self, Context, Rechecked};

/// Check every stored byte against its checksum.
///
/// Damaged shards are set aside, and the next run computes their rows again. Exits with 1 if there are any. With
/// `--recipe` some stored samples of that recipe are computed again as well, of every tower and view, and the difference
/// is printed.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The first digits of the keys of the columns to check; all columns if none is given.
    keys: Vec<String>,
    /// A recipe whose samples are computed again
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// How many samples are computed again
    #[arg(long, value_name = "COUNT", default_value_t = 16, requires = "recipe")]
    sample: usize,
}

/// Delete columns by age, use or size, and what killed processes left behind.
///
/// Without `--yes` it only says what it would delete.
#[derive(Debug, clap::Args)]
pub struct Gc {
    /// Columns to delete whatever their age, by the first digits of their keys.
    keys: Vec<String>,
    /// Columns that were not used for so many days.
    #[arg(long, value_name = "DAYS")]
    unused_for: Option<f64>,
    /// Columns that were made so many days ago.
    #[arg(long, value_name = "DAYS")]
    older_than: Option<f64>,
    /// The columns used the longest time ago, until the rest is at most so large: `500MB`, `20GB`.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Delete.
    #[arg(long)]
    yes: bool,
}

/// Merge small shards, drop duplicate rows, and write an index that opens at once.
#[derive(Debug, clap::Args)]
pub struct Compact {
    /// The first digits of the keys of the columns to compact; all columns if none is given.
    keys: Vec<String>,
}

impl Verify {
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let work = Work::new(globals)?;
        let mut code = ExitCode::SUCCESS;
        let mut all = Vec::new();
        for info in work.columns(&self.keys)? {
            let verified = work.store.verify(&info, &work.progress, &work.cancel)?;
            if !verified.damaged.is_empty() {
                code = ExitCode::FAILURE;
            }
            if globals.json {
                all.push(json!({"key": info.spec.key, "verified": verified}));
                continue;
            }
            let (rows, shards) = (verified.rows, verified.shards);
            print(&format!("{}  {rows} rows in {shards} shards are good, {}\n", short(&info), bytes(verified.bytes)))?;
            for (path, why) in &verified.damaged {
                print(&format!("  damaged and set aside: {} ({why})\n", path.display()))?;
            }
        }
        let rechecked = self.recipe.as_ref().map(|recipe| self.recheck(recipe, &work)).transpose()?;
        if rechecked.iter().flatten().any(|result| !result.is_good()) {
            code = ExitCode::FAILURE;
        }
        if globals.json {
            print_json(&json!({"columns": all, "recomputed": rechecked}))?;
            return Ok(code);
        }
        for result in rechecked.iter().flatten() {
            let Rechecked { output, view, rows, largest_difference, relative_error, tolerance, .. } = result;
            let view = if *view > 0 { format!(", view {view},") } else { String::new() };
            let verdict = if result.is_good() { "good" } else { "NOT what is stored" };
            print(&format!(
                "{}  `{output}`{view} computed again for {rows} samples: {verdict}, relative error {relative_error:.1e} (at most \
                 {tolerance:.0e}), largest difference {largest_difference:.1e}\n",
                result.key.short(12)
            ))?;
        }
        Ok(code)
    }

    fn recheck(&self, recipe: &Path, work: &Work) -> Result<Vec<Rechecked>> {
        let planned = load::load(recipe, &[])?;
        let home = Home::from_environment()?;
        let (progress, cancel) = (&work.progress, &work.cancel);
        let context = Context { home: &home, runs: PathBuf::from("runs"), progress, cancel, offline: false };
        Ok(run::recheck(&planned.plan, &context, self.sample.max(1))?)
    }
}

impl Gc {
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let work = Work::new(globals)?;
        let rules = GcRules {
            unused_for: self.unused_for.map(days).transpose()?,
            older_than: self.older_than.map(days).transpose()?,
            max_bytes: self.max_size,
        };
        let mut garbage = work.store.garbage(&rules)?;
        for info in self.keys.iter().map(|key| work.store.find(key)) {
            let info = info?;
            garbage.retain(|item| !item.path.starts_with(&info.folder));
            garbage.push(Garbage { bytes: info.bytes + info.waste, path: info.folder, why: "named".into() });
        }
        if self.yes {
            garbage.iter().try_for_each(|item| work.store.delete(&item.path))?;
        }
        if globals.json {
            print_json(&json!({"deleted": self.yes, "garbage": garbage}))?;
            return Ok(ExitCode::SUCCESS);
        }
        for item in &garbage {
            print(&format!("{:>12}  {}  ({})\n", bytes(item.bytes), item.path.display(), item.why))?;
        }
        let total = bytes(garbage.iter().map(|item| item.bytes).sum());
        print(&match (garbage.is_empty(), self.yes) {
            (true, _) => "nothing to delete\n".into(),
            (false, true) => format!("deleted {total}\n"),
            (false, false) => format!("{total} would be deleted; `--yes` deletes\n"),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Compact {
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let work = Work::new(globals)?;
        let mut all = Vec::new();
        for info in work.columns(&self.keys)? {
            let done = work.open(&info)?.compact(COMPACT_SHARD_BYTES, &work.progress, &work.cancel)?;
            if globals.json {
                all.push(json!({"key": info.spec.key, "compacted": done}));
                continue;
            }
            let ([before, after], [large, small]) = (done.shards, done.bytes);
            let (rows, dropped) = (done.rows, done.dropped);
            let text = format!("{rows} rows, {before} → {after} shards, {} → {}", bytes(large), bytes(small));
            print(&format!("{}  {text}, {dropped} duplicates dropped\n", short(&info)))?;
        }
        if globals.json {
            print_json(&all)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn days(days: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(days * 86400.0)
        .map_err(|_| Error::bad_input(format!("`{days}` is not a number of days")))
}

/// Bytes from `1500`, `500MB`, `20GB`, `1.5TiB`.
fn size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit: u64 = match unit.trim().to_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(format!("`{unit}` is not a unit; `MB`, `GB`, `TB`, `MiB`, `GiB` and `TiB` are")),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
    Ok((number * unit as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("1500"), Ok(1500));
        assert_eq!(size("1.5GB"), Ok(1_500_000_000));
        assert_eq!(size("2 GiB"), Ok(2 << 30));
        assert!(size("2 XB").is_err() && size("GB").is_err() && size("-1").is_err());
        assert!(days(-1.0).is_err() && days(f64::NAN).is_err());
    }
}
