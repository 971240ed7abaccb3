//! Packed runs: one file that another machine uses without the backbone, without the data, or without both.
//!
//! A pack is a zip archive without compression. `pack.yaml`, its first file, names all others with their digests:
//!
//! | file | what it is |
//! | --- | --- |
//! | `run/…` | recipe, plan, lock, record, metrics and checkpoint of the run |
//! | `engine-N.caft-engine` | with the engines: those of the run, packed by themselves |
//! | `rows.json` | with the activations: of every row the digests of its samples, its target and its split |
//! | `cache/1/…` | with the activations: the rows of the run's columns, in the cache's own format |
//!
//! Nothing inside is believed before it was checked: see [`open`]. The activations of a pack are never put among
//! those of this machine, whose keys say what produced them; they stay in the pack's own folder, `packs/` in caft's.

mod open;
mod train;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

pub use open::{Opened, is_pack, open};
pub use train::train;

use super::context::Context;
use super::engine::{self, Columns, Source};
use super::record::RunRecord;
use super::resolve::{Resolved, resolve};
use super::{calibration, lock, record, training};
use crate::base::progress::{Event, Unit, work};
use crate::base::{DType, Digest, Error, Home, Result, file};
use crate::cache::{Column, ColumnSpec, Store};
use crate::data::Targets;
use crate::engine::pack as packed_engine;
use crate::engine::verify::Scratch;
use crate::plan::{PLAN, ResolvedPlan};

/// The ending of a pack's name.
pub const ENDING: &str = "caft-run";
/// The file that names all others.
const MANIFEST: &str = "pack.yaml";
/// The rows of a pack with activations.
const ROWS: &str = "rows.json";
/// The form of a pack.
const FORMAT: u32 = 1;
/// Rows that are copied at a time.
const BLOCK: usize = 256;
/// The recipe in a run's folder.
const RECIPE: &str = "recipe.yaml";

/// The files of a run that are packed, where it has them; the first five it must have.
fn files_of_run() -> [String; 7] {
    let checkpoint = format!("{}/{}", training::CHECKPOINT, training::BEST);
    [RECIPE, PLAN, lock::LOCK, record::RECORD, &checkpoint, "metrics.jsonl", "confusion.json"].map(String::from)
}

/// The contents of `pack.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of this file.
    pub format: u32,
    /// The run's name.
    pub name: String,
    /// The run's id.
    pub id: Digest,
    /// caft's version that packed it.
    pub caft: String,
    /// The columns of the activations, in the order of the inputs of what is trained.
    #[serde(default)]
    pub columns: Vec<PackedColumn>,
    /// All other files of the pack.
    pub files: BTreeMap<String, PackedFile>,
}

/// A file of a pack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedFile {
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub digest: Digest,
}

/// A column of a pack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedColumn {
    /// The input of what is trained that it is for.
    pub input: String,
    /// Which of the samples of a row it is of.
    pub sample: usize,
    /// Its key.
    pub key: Digest,
    /// The shape of a row, or of a token.
    pub row_shape: Vec<usize>,
    /// Whether a row is a list of tokens.
    #[serde(default)]
    pub ragged: bool,
    /// How values are stored.
    pub dtype: DType,
}

impl PackedColumn {
    fn spec(&self, made_by: &str) -> ColumnSpec {
        let Self { key, row_shape, ragged, dtype, .. } = self.clone();
        ColumnSpec { key, ingredients: serde_json::Map::new(), row_shape, ragged, dtype, made_by: made_by.into() }
    }
}

/// The contents of `rows.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// By sample of a row, the digest in every row.
    pub digests: Vec<Vec<Digest>>,
    /// What the rows are labelled with.
    pub targets: PackedTargets,
    /// How likely each row is to be drawn, where the data say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<f32>>,
    /// Numbers of training rows.
    pub train: Vec<u32>,
    /// Numbers of validation rows.
    pub valid: Vec<u32>,
    /// Numbers of test rows.
    pub test: Vec<u32>,
}

/// Targets without their names, which are in the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackedTargets {
    /// A class per row.
    Classes(Vec<u32>),
    /// The labels of every row.
    MultiLabel(Vec<Vec<u32>>),
    /// `[rows, values]`.
    Values(Vec<f32>),
    /// `[rows, fields]`: equal numbers are of equal samples.
    Pairs(Vec<u32>),
}

/// What goes into a pack beside the run itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct PackRequest {
    /// The rows of the cache, so that others train without backbone and data.
    pub activations: bool,
    /// The engines, so that others predict without the backbone's source.
    pub engines: bool,
}

/// Packs a finished run into a file, which appears whole or not at all.
///
/// # Errors
/// Activations of a run that trains a part of its backbone, or of views; some are not stored any more; those of the
/// file system.
pub fn pack(record: &RunRecord, request: PackRequest, to: &Path, context: &Context<'_>) -> Result<Manifest> {
    let directory = Path::new(&record.path);
    let plan = ResolvedPlan::read(directory)?;
    let scratch = Scratch::beside(to)?;
    let mut manifest = Manifest {
        format: FORMAT,
        name: record.name.clone(),
        id: record.id,
        caft: env!("CARGO_PKG_VERSION").into(),
        columns: Vec::new(),
        files: BTreeMap::new(),
    };
    let mut paths: BTreeMap<String, PathBuf> = files_of_run()
        .into_iter()
        .map(|name| (format!("run/{name}"), directory.join(name)))
        .filter(|(_, path)| path.exists())
        .collect();
    if request.engines {
        pack_engines(&plan, &scratch, &mut paths, context)?;
    }
    if request.activations {
        pack_rows(&plan, &scratch, (&mut manifest, &mut paths), context)?;
    }
    for (name, path) in &paths {
        let bytes = fs::metadata(path).map_err(Error::io("read", path))?.len();
        manifest.files.insert(name.clone(), PackedFile { bytes, digest: Digest::of_file(path)? });
    }
    let text = serde_yaml::to_string(&manifest).map_err(|e| Error::failed("a pack does not serialise").because(e))?;
    file::write_atomic(to, |out| {
        let mut zip = ZipWriter::new(out);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .large_file(true);
        zip.start_file(MANIFEST, options).map_err(io::Error::other)?;
        io::Write::write_all(&mut zip, text.as_bytes())?;
        for (name, path) in &paths {
            zip.start_file(name, options).map_err(io::Error::other)?;
            io::copy(&mut File::open(path)?, &mut zip)?;
        }
        zip.finish().map_err(io::Error::other)?;
        Ok(())
    })?;
    Ok(manifest)
}

fn pack_engines(
    plan: &ResolvedPlan,
    scratch: &Scratch,
    paths: &mut BTreeMap<String, PathBuf>,
    context: &Context<'_>,
) -> Result<()> {
    if plan.plan.model.backbone.tail.is_some() {
        return Err(Error::bad_input("a part of the backbone is trained, and an engine alone does not predict then")
            .hint("`caft export` writes the whole network as one file"));
    }
    let fields = plan.plan.model.towers.keys().map(|field| Some(field.as_str()));
    let fields: Vec<Option<&str>> = if plan.towers.is_empty() { vec![None] } else { fields.collect() };
    for (number, (plan, field)) in std::iter::once(plan).chain(&plan.towers).zip(fields).enumerate() {
        let source = Source::fetch(&plan.plan, context)?;
        let built = engine::build_engine(plan, &source, &|| calibration::again(plan, field, context), context)?;
        let name = format!("engine-{number}.{}", packed_engine::ENDING);
        let path = scratch.file(&name);
        packed_engine::pack(&built, context.fetcher().digests()?, &path)?;
        paths.insert(name, path);
    }
    Ok(())
}

fn pack_rows(
    plan: &ResolvedPlan,
    scratch: &Scratch,
    (manifest, paths): (&mut Manifest, &mut BTreeMap<String, PathBuf>),
    context: &Context<'_>,
) -> Result<()> {
    if plan.plan.model.backbone.tail.is_some() {
        return Err(Error::bad_input("a part of the backbone is trained, which needs the backbone itself")
            .hint("pack the run without its activations"));
    }
    if plan.plan.augment().is_some() {
        return Err(Error::bad_input("activations of several views are not packed")
            .hint("pack the run without its activations"));
    }
    let resolved = resolve(&plan.plan, context)?;
    if resolved.plan.dataset != plan.dataset || resolved.plan.weights != plan.weights {
        return Err(Error::bad_input("the data or the backbone of this run changed since")
            .hint("run the recipe again, and pack that run"));
    }
    let (columns, _) = engine::columns(&resolved, context)?;
    let towers: Vec<(&Resolved, &Columns)> =
        std::iter::once((&resolved, &columns)).chain(resolved.others.iter().zip(columns.others())).collect();
    let is_stored = |row: &usize| {
        towers.iter().all(|(tower, columns)| columns.iter().all(|(_, column)| column.contains(&tower.digests[*row])))
    };
    let all: Vec<u32> = [&resolved.dataset.splits.train, &resolved.dataset.splits.valid, &resolved.dataset.splits.test]
        .into_iter()
        .flatten()
        .copied()
        .collect();
    let mut wanted: Vec<usize> = all.iter().map(|row| *row as usize).collect();
    wanted.sort_unstable();
    let kept: Vec<usize> = wanted.iter().copied().filter(is_stored).collect();
    let lacking = wanted.len() - kept.len();
    if kept.is_empty() {
        return Err(Error::bad_input("the activations of this run are not stored any more")
            .hint("`caft run --fresh` with its recipe computes them"));
    }
    if lacking > 0 {
        let what = format!("{lacking} of {} rows have no stored activations and are left out", wanted.len());
        context.progress.event(Event::Warning(what));
    }
    let home = Home::at(scratch.path());
    let store = Store::open(&home)?;
    for (sample, (tower, columns)) in towers.iter().enumerate() {
        let digests: Vec<Digest> = kept.iter().map(|&row| tower.digests[row]).collect();
        for (input, column) in columns.iter() {
            let spec = column.spec();
            // Integers with scales do not come back as the same integers; the values they stand for do.
            let dtype = if spec.dtype == DType::I8 { DType::F32 } else { spec.dtype };
            let packed = PackedColumn {
                input: input.to_string(),
                sample,
                key: spec.key,
                row_shape: spec.row_shape.clone(),
                ragged: spec.ragged,
                dtype,
            };
            copy(column, &digests, &store.column(&packed.spec(&manifest.name), context.progress)?, context)?;
            manifest.columns.push(packed);
        }
    }
    for path in below(store.folder())? {
        let name = path.strip_prefix(scratch.path()).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        if name.ends_with(".safetensors") {
            paths.insert(name, path);
        }
    }
    let mut position = vec![None; resolved.digests.len()];
    kept.iter().zip(0..).for_each(|(&row, at)| position[row] = Some(at));
    let split = |rows: &[u32]| rows.iter().filter_map(|&row| position[row as usize]).collect::<Vec<u32>>();
    let targets = match &resolved.dataset.targets {
        Targets::Classes { of_row, .. } => PackedTargets::Classes(kept.iter().map(|&row| of_row[row]).collect()),
        Targets::MultiLabel { of_row, .. } => {
            PackedTargets::MultiLabel(kept.iter().map(|&row| of_row[row].clone()).collect())
        }
        Targets::Values { names, of_row } => {
            let width = names.len();
            PackedTargets::Values(kept.iter().flat_map(|&row| &of_row[row * width..][..width]).copied().collect())
        }
        Targets::Pairs { names, of_row } => {
            let fields = names.len();
            PackedTargets::Pairs(kept.iter().flat_map(|&row| &of_row[row * fields..][..fields]).copied().collect())
        }
        Targets::Masks { .. } => {
            return Err(
                Error::bad_input("masks are not packed with activations").hint("pack the run without its activations")
            );
        }
    };
    let splits = &resolved.dataset.splits;
    let rows = Rows {
        digests: towers.iter().map(|(tower, _)| kept.iter().map(|&row| tower.digests[row]).collect()).collect(),
        targets,
        weights: resolved.dataset.weights.as_ref().map(|weights| kept.iter().map(|&row| weights[row]).collect()),
        train: split(&splits.train),
        valid: split(&splits.valid),
        test: split(&splits.test),
    };
    let path = scratch.file(ROWS);
    let text = serde_json::to_vec(&rows).map_err(|e| Error::failed("rows do not serialise").because(e))?;
    file::write_bytes(&path, &text)?;
    paths.insert(ROWS.into(), path);
    Ok(())
}

/// Copies the rows of some samples from one column to another, each once.
fn copy(from: &Column, digests: &[Digest], to: &Column, context: &Context<'_>) -> Result<()> {
    let mut seen = HashSet::new();
    let distinct: Vec<Digest> = digests.iter().copied().filter(|digest| seen.insert(*digest)).collect();
    let reader = from.reader(&distinct)?;
    let mut writer = to.writer()?;
    let width = reader.row_shape().iter().product::<usize>().max(1);
    let mut done = 0;
    work(context.progress, "packing activations", Some(distinct.len() as u64), Unit::Samples, || -> Result<()> {
        for block in (0..distinct.len()).collect::<Vec<usize>>().chunks(BLOCK) {
            context.cancel.check()?;
            for &row in block {
                let items = reader.lengths().map_or(1, |lengths| lengths[row] as usize);
                let mut values = vec![0.0; items * width];
                reader.read(&[row], &mut values)?;
                writer.push(distinct[row], &values)?;
            }
            done += block.len() as u64;
            context.progress.event(Event::WorkAdvanced { done, detail: String::new() });
        }
        Ok(())
    })?;
    writer.finish().map(drop)
}

/// All files below a folder.
fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let path = entry.map_err(Error::io("read", &folder))?.path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}
