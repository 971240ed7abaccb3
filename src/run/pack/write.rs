//! Packing a finished run.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::manifest::{
    FORMAT, MANIFEST, Manifest, PackedColumn, PackedFile, PackedTargets, ROWS, Rows, TAIL, below, files_of_run,
    mask_name,
};
use crate::base::progress::{Event, Unit, work};
use crate::base::{DType, Digest, Error, Home, Result, file};
use crate::cache::{Column, Store};
use crate::data::Targets;
use crate::engine::pack as packed_engine;
use crate::engine::verify::Scratch;
use crate::graph::onnx;
use crate::plan::ResolvedPlan;
use crate::resource::archive;
use crate::run::calibration;
use crate::run::context::Context;
use crate::run::engine::{self, Columns, Source};
use crate::run::record::RunRecord;
use crate::run::resolve::{Resolved, resolve};
use crate::sample::image::augment::view_digest;

/// Rows that are copied at a time.
const BLOCK: usize = 256;

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
/// Some of the activations are not stored any more; those of the file system.
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
    let files = paths.iter().map(|(name, path)| (name.as_str(), path.as_path()));
    archive::write(to, Some((MANIFEST, &text)), files)?;
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
    let mut put = |(input, sample, views): (&str, usize, bool), column: &Column, digests: &[Digest]| -> Result<()> {
        let spec = column.spec();
        // Integers with scales do not come back as the same integers; the values they stand for do.
        let dtype = if spec.dtype == DType::I8 { DType::F32 } else { spec.dtype };
        let (key, row_shape, ragged) = (spec.key, spec.row_shape.clone(), spec.ragged);
        let packed = PackedColumn { input: input.into(), sample, key, row_shape, ragged, dtype, views };
        copy(column, digests, &store.column(&packed.spec(&manifest.name), context.progress)?, context)?;
        manifest.columns.push(packed);
        Ok(())
    };
    for (sample, (tower, columns)) in towers.iter().enumerate() {
        let digests: Vec<Digest> = kept.iter().map(|&row| tower.digests[row]).collect();
        columns.iter().try_for_each(|(input, column)| put((input, sample, false), column, &digests))?;
    }
    if let Some((_, views)) = plan.plan.augment() {
        let trained: HashSet<usize> = resolved.dataset.splits.train.iter().map(|row| *row as usize).collect();
        let trained = kept.iter().filter(|row| trained.contains(row)).map(|&row| resolved.digests[row]);
        let digests: Vec<Digest> =
            trained.flat_map(|digest| (1..views).map(move |number| view_digest(&digest, number))).collect();
        for ((input, _), column) in columns.iter().zip(columns.views()) {
            put((input, 0, true), column, &digests)?;
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
        Targets::Masks { of_row, .. } => {
            let masks = kept.iter().map(|&row| &of_row[row]);
            paths.extend(masks.clone().map(|mask| (mask_name(&mask.digest), mask.path.clone())));
            PackedTargets::Masks(masks.map(|mask| mask.digest).collect())
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
    if let Some(tail) = &resolved.tail {
        let mut model = onnx::read(&resolved.source.model.path)?;
        tail.keep_weights(&mut model);
        let path = scratch.file(TAIL);
        onnx::write(&model, &path)?;
        paths.insert(TAIL.into(), path);
    }
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
