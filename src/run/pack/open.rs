//! Opening a pack that nobody has vouched for.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::manifest::{
    ENDING, FORMAT, MANIFEST, Manifest, PackedTargets, RECIPE, ROWS, Rows, TAIL, below, files_of_run, mask_name,
};
use crate::base::{Cancel, Digest, Error, Home, Result, file};
use crate::data::TargetKind;
use crate::engine::pack as packed_engine;
use crate::graph::Weights;
use crate::graph::import::Tail;
use crate::plan::{Plan, ResolvedPlan};
use crate::resource::unpack::{Limits, unpack as unzip};
use crate::run::context::Context;
use crate::run::directory;
use crate::run::lock::{LOCK, Lock};
use crate::run::record::{RECORD, RunRecord};
use crate::run::tail;
use crate::run::training::{BEST, CHECKPOINT};

/// The folder of opened packs in caft's own.
const PACKS: &str = "packs";
/// More files than this are no pack.
const MOST_FILES: usize = 100_000;
/// Texts in a pack are not longer.
const LONGEST: u64 = 4 << 30;

/// A pack that was checked.
#[derive(Debug, Clone)]
pub struct Opened {
    /// What is in it.
    pub manifest: Manifest,
    /// The folder that it was taken apart into.
    pub folder: PathBuf,
    /// The run's directory.
    pub run: PathBuf,
    /// Whether that was there before.
    pub was_there: bool,
    /// The names of the engines that are on the shelf now.
    pub engines: Vec<String>,
    /// Rows with activations.
    pub rows: usize,
}

/// Takes a pack apart: the run goes among the runs, its engines on the shelf, its activations into a folder of the
/// pack's own. Before that every file is compared with its digest, and the plan with the run's id; there is no file but
/// those of a pack, and none leaves its folder.
///
/// # Errors
/// It is no pack, is damaged or hostile; nothing is kept then.
pub fn open(archive: &Path, context: &Context<'_>) -> Result<Opened> {
    let packs = context.home.folder(PACKS)?;
    let temporary = file::temporary_beside(&packs.join(MANIFEST));
    let opened = take_apart(archive, &temporary, &packs, context);
    // Nothing is left of it once it is in its place.
    let _ = fs::remove_dir_all(&temporary);
    opened
}

fn take_apart(archive: &Path, temporary: &Path, packs: &Path, context: &Context<'_>) -> Result<Opened> {
    let shown = archive.display().to_string();
    let wrong = |what: &str| Error::bad_input(format!("`{shown}` {what}")).hint("nothing of it was kept");
    let limits = Limits { files: MOST_FILES, ratio: 2, ..Limits::default() };
    unzip(archive, "", temporary, limits, context.cancel, |_| ()).map_err(|error| match error {
        Error::Interrupted => Error::Interrupted,
        Error::Io { .. } => error,
        other => wrong("is not a packed run").because(other),
    })?;
    let text =
        file::read_text(&temporary.join(MANIFEST), 64 << 20).map_err(|e| wrong("is not a packed run").because(e))?;
    let manifest: Manifest = serde_yaml::from_str(&text).map_err(|e| wrong("has no manifest of a pack").because(e))?;
    check_files(&manifest, temporary, context.cancel).map_err(|error| match error {
        Error::Interrupted => Error::Interrupted,
        other => wrong("is not what its manifest says").because(other),
    })?;
    let plan =
        check_run(&manifest, &temporary.join("run")).map_err(|e| wrong("holds a run that is none").because(e))?;
    let rows = match manifest.columns.is_empty() {
        true => 0,
        false => {
            let rows: Rows = read(&temporary.join(ROWS))?;
            check_rows(&rows, &manifest, &plan).map_err(|e| wrong("has rows that do not fit its run").because(e))?;
            if plan.plan.model.backbone.tail.is_some() {
                let tail = tail::of_file(&plan.plan, &temporary.join(TAIL));
                tail.map_err(|e| wrong("lacks the part of the backbone that is trained").because(e))?;
            }
            rows.targets.len(plan.classes.len())
        }
    };
    let mut engines = Vec::new();
    for name in manifest.files.keys().filter(|name| is_engine(name)) {
        let built = packed_engine::unpack(context.home, &temporary.join(name), &shown, context.cancel)?;
        engines.push(built.manifest.name);
    }
    let run = directory::first_attempt(&context.runs, &manifest.name, &manifest.id);
    let was_there = run.join(RECORD).exists();
    if !was_there {
        let beside = file::temporary_beside(&run);
        copy_run(&temporary.join("run"), &beside)?;
        file::place_folder(&beside, &run, || run.join(RECORD).exists())?;
    }
    let folder = packs.join(Digest::of(text.as_bytes()).short(32));
    file::place_folder(temporary, &folder, || folder.join(MANIFEST).exists())?;
    Ok(Opened { manifest, folder, run, was_there, engines, rows })
}

impl Opened {
    /// The recipe that was packed.
    pub fn recipe(&self) -> PathBuf {
        self.folder.join("run").join(RECIPE)
    }

    /// The rows with activations.
    ///
    /// # Errors
    /// The pack has none.
    pub(super) fn packed_rows(&self) -> Result<Rows> {
        if self.manifest.columns.is_empty() {
            return Err(Error::bad_input(format!("the pack of `{}` has no activations", self.manifest.name))
                .hint("make it with `caft pack --with-activations`, or run its recipe with backbone and data"));
        }
        read(&self.folder.join(ROWS))
    }

    /// What of the backbone a plan trains.
    ///
    /// # Errors
    /// The pack has no such part.
    pub(super) fn tail(&self, plan: &Plan) -> Result<Option<Tail>> {
        tail::of_file(plan, &self.folder.join(TAIL))
    }

    /// Where the columns of the activations are.
    pub(super) fn home(&self) -> Home {
        Home::at(&self.folder)
    }

    /// The lock of the packed run.
    ///
    /// # Errors
    /// Its folder was changed since it was opened.
    pub fn lock(&self) -> Result<Lock> {
        Lock::read(&self.folder.join("run").join(LOCK))
    }

    /// The plan of the packed run.
    pub(super) fn plan(&self) -> Result<ResolvedPlan> {
        ResolvedPlan::read(&self.folder.join("run"))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = file::read_text(path, LONGEST)?;
    serde_json::from_str(&text).map_err(|e| Error::bad_input(format!("`{}` is damaged", path.display())).because(e))
}

/// Whether a name is one that a pack's file may have.
fn is_known(name: &str) -> bool {
    let of_run = name.strip_prefix("run/").is_some_and(|name| files_of_run().iter().any(|known| known == name));
    let is_mask = name.strip_prefix("masks/").is_some_and(|name| name.parse::<Digest>().is_ok());
    of_run || is_mask || name == ROWS || name == TAIL || is_engine(name) || is_shard(name)
}

fn is_engine(name: &str) -> bool {
    let number = name.strip_prefix("engine-").and_then(|rest| rest.strip_suffix(packed_engine::ENDING));
    number.is_some_and(|number| number.strip_suffix('.').is_some_and(|n| n.len() < 4 && n.parse::<u8>().is_ok()))
}

/// `cache/1/<key>/<name>.safetensors`.
fn is_shard(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let is_hex = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit());
    match parts[..] {
        ["cache", "1", key, shard] => {
            key.parse::<Digest>().is_ok() && shard.strip_suffix(".safetensors").is_some_and(is_hex)
        }
        _ => false,
    }
}

/// Every file is named and known, and is what its digest says.
fn check_files(manifest: &Manifest, folder: &Path, cancel: &Cancel) -> Result<()> {
    if manifest.format != FORMAT {
        return Err(Error::bad_input(format!("it is of form {}; this caft reads {FORMAT}", manifest.format)));
    }
    if let Some(name) = manifest.files.keys().find(|name| !is_known(name)) {
        return Err(Error::bad_input(format!("it names `{name}`, which no pack has")));
    }
    for path in below(folder)? {
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        if name != MANIFEST && !manifest.files.contains_key(&name) {
            return Err(Error::bad_input(format!("it holds `{name}`, which its manifest does not name")));
        }
    }
    for (name, said) in &manifest.files {
        cancel.check()?;
        let path = folder.join(name);
        let bytes = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
        if bytes != said.bytes || Digest::of_file(&path)? != said.digest {
            return Err(Error::bad_input(format!("`{name}` is damaged")));
        }
    }
    Ok(())
}

/// The run is finished, its name stays below the runs, its plan has its id, and its files can be read.
fn check_run(manifest: &Manifest, run: &Path) -> Result<ResolvedPlan> {
    let name = &manifest.name;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || name.len() > 200 || name.starts_with(['.', '-']) || !name.chars().all(is_plain) {
        return Err(Error::bad_input(format!("`{name}` is not the name of a run")));
    }
    let plan = ResolvedPlan::read(run)?;
    let (record, lock) = (RunRecord::read(run)?, Lock::read(&run.join(LOCK))?);
    Weights::load(&run.join(CHECKPOINT).join(BEST))?;
    file::read_text(&run.join(RECIPE), 64 << 20)?;
    let ids = [plan.id(), record.id, lock.id];
    if ids.iter().any(|id| *id != manifest.id) || record.name != *name || plan.plan.name != *name {
        return Err(Error::bad_input("its plan, its record and its lock are of different runs")
            .hint("it may be packed by another version of caft, whose ids are others"));
    }
    Ok(plan)
}

/// Every number is in its bounds.
fn check_rows(rows: &Rows, manifest: &Manifest, plan: &ResolvedPlan) -> Result<()> {
    let bad = |what: &str| Err(Error::bad_input(what.to_string()));
    let width = plan.classes.len();
    let count = rows.targets.len(width);
    if rows.digests.is_empty() || rows.digests.iter().any(|digests| digests.len() != count) {
        return bad("there are not as many targets as rows");
    }
    if manifest.columns.iter().any(|column| column.sample >= rows.digests.len()) {
        return bad("a column is of a sample that no row has");
    }
    let fits = match (&rows.targets, plan.target) {
        (PackedTargets::Classes(classes), TargetKind::Classes) => classes.iter().all(|class| (*class as usize) < width),
        (PackedTargets::MultiLabel(labels), TargetKind::MultiLabel) => {
            labels.iter().flatten().all(|label| (*label as usize) < width)
        }
        (PackedTargets::Values(values), TargetKind::Values) => {
            values.len() == count * width && values.iter().all(|value| value.is_finite())
        }
        (PackedTargets::Pairs(samples), TargetKind::Pairs) => width >= 2 && samples.len() == count * width,
        (PackedTargets::Masks(masks), TargetKind::Masks) => {
            let is_there =
                |mask: &Digest| manifest.files.get(&mask_name(mask)).is_some_and(|file| file.digest == *mask);
            masks.iter().all(is_there)
        }
        _ => false,
    };
    if !fits {
        return bad("a target is none of the run's");
    }
    let is_weight = |weight: &f32| weight.is_finite() && *weight >= 0.0;
    if rows.weights.as_ref().is_some_and(|weights| weights.len() != count || !weights.iter().all(is_weight)) {
        return bad("a weight is none");
    }
    let mut seen = HashSet::new();
    let mut splits = rows.train.iter().chain(&rows.valid).chain(&rows.test);
    if !splits.all(|row| (*row as usize) < count && seen.insert(*row)) {
        return bad("a split names a row twice, or one that there is not");
    }
    Ok(())
}

fn copy_run(from: &Path, to: &Path) -> Result<()> {
    for name in files_of_run().iter().filter(|name| from.join(name).exists()) {
        let (from, to) = (from.join(name), to.join(name));
        let folder = to.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        fs::copy(&from, &to).map_err(Error::io("write", &to))?;
    }
    Ok(())
}

/// Whether a path is that of a pack, by its ending.
pub fn is_pack(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == ENDING) && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_files_of_a_pack_are_known() {
        let key = "ab".repeat(32);
        for good in ["run/plan.json", "run/checkpoint/best.safetensors", "rows.json", "engine-0.caft-engine"] {
            assert!(is_known(good), "{good}");
        }
        assert!(is_known(&format!("cache/1/{key}/0a1b.safetensors")));
        let shards = [
            format!("cache/1/{key}/../x.safetensors"),
            format!("cache/1/{key}/column.json"),
            format!("cache/2/{key}/a.safetensors"),
        ];
        let others = ["run/report.html", "../x", "/etc/passwd", "engine-x.caft-engine", "run/../x", "run/.lock"];
        for bad in shards.iter().map(String::as_str).chain(others) {
            assert!(!is_known(bad), "{bad}");
        }
    }
}
