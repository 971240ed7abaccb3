//! The path from files to stored activations, measured: as a whole, and its two great parts alone.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::activations::Task;
use super::context::Context;
use super::engine::{self, Columns};
use super::pump::{Done, with_engine};
use super::resolve::{Resolved, resolve, sample_digests};
use crate::base::progress::Silent;
use crate::base::random::Stream;
use crate::base::{Error, Home, Result, file};
use crate::cache::{Column, Store};
use crate::data::{Dataset, OnError, Row};
use crate::engine::Engine;
use crate::engine::verify::may_batch;
use crate::plan::Plan;
use crate::resource::DigestTable;
use crate::sample::pipeline::{Batch, Buffers, Item, Options, stream};
use crate::sample::{Encoding, Ready, Sample, Source};

/// How many samples went through, in how many seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Samples.
    pub samples: usize,
    /// Seconds that passed.
    pub secs: f64,
    /// Seconds that this process's threads were at work, together, where the system tells.
    pub core_secs: Option<f64>,
}

/// When something began.
struct Begin {
    at: Instant,
    core_secs: Option<f64>,
}

impl Begin {
    fn now() -> Self {
        Self { core_secs: core_secs(), at: Instant::now() }
    }

    fn end(&self, samples: usize) -> Rate {
        let core_secs = core_secs().zip(self.core_secs).map(|(now, then)| now - then);
        Rate { samples, secs: self.at.elapsed().as_secs_f64(), core_secs }
    }
}

/// Seconds that this process's threads have been at work since it began, in hundredths; only Linux tells.
fn core_secs() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in parentheses, may have spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

impl Rate {
    /// Samples per second.
    pub fn per_second(self) -> f64 {
        self.samples as f64 / self.secs.max(1e-9)
    }

    /// Seconds of a core for a sample.
    pub fn core_secs_each(self) -> Option<f64> {
        self.core_secs.map(|secs| secs / self.samples.max(1) as f64)
    }
}

/// A plan that is ready to be measured.
pub struct Extraction<'a> {
    resolved: Resolved,
    columns: Columns,
    engine: Box<dyn Engine>,
    batch_size: usize,
    threads: usize,
    context: &'a Context<'a>,
}

impl<'a> Extraction<'a> {
    /// Resolves the plan and opens its engine, with so many threads for all that is measured.
    ///
    /// # Errors
    /// Those of a run; the plan has several backbones or no samples.
    pub fn new(plan: &Plan, threads: usize, context: &'a Context<'a>) -> Result<Self> {
        let resolved = resolve(plan, context)?;
        if !resolved.others.is_empty() {
            return Err(Error::bad_input("one backbone is measured, and this recipe has several"));
        }
        if resolved.dataset.rows.is_empty() {
            return Err(Error::bad_input("the data have no rows to measure on"));
        }
        let (columns, _) = engine::columns(&resolved, context)?;
        let mut engine = columns.open(&resolved.source)?;
        let probe = |seed| resolved.source.ready.probe(seed, 0);
        let built = &columns.engine;
        let batches = may_batch(built, &mut *engine, &probe, &resolved.source.engine.describe())?;
        let batch_size = if batches { plan.engine.batch_size } else { 1 };
        Ok(Self { resolved, columns, engine, batch_size, threads, context })
    }

    /// The precision and the provider, and how many samples there are.
    pub fn describe(&self) -> String {
        let engine = &self.resolved.plan.plan.engine;
        let (precision, provider) = (engine.precision.name(), self.resolved.source.engine.choice.info.name);
        let backbone = &self.resolved.plan.plan.model.backbone.name;
        format!("`{backbone}` in {precision} on {provider}, {} samples", self.resolved.dataset.rows.len())
    }

    fn options(&self) -> Options<'_> {
        let skip_bad = self.resolved.plan.plan.data.common.on_error == OnError::Skip;
        Options { batch_size: self.batch_size, threads: self.threads, cancel: self.context.cancel, skip_bad }
    }

    /// The engine alone, on one ready batch again and again, for at least so many seconds.
    ///
    /// # Errors
    /// Those of decoding the batch and of the engine.
    pub fn engine(&mut self, seconds: f64) -> Result<Rate> {
        let mut first: Option<Batch> = None;
        let items = items(&self.resolved.dataset);
        let few = &items[..items.len().min(self.batch_size)];
        stream(few, &self.resolved.source.ready, &self.options(), &Buffers::default(), |batch| {
            first.get_or_insert(batch);
            Ok(())
        })?;
        let batch = first.ok_or_else(|| Error::bad_input("no sample can be read"))?;
        let copy = |batch: &Batch| Batch {
            indices: batch.indices.clone(),
            digests: Vec::new(),
            inputs: batch.inputs.clone(),
            failed: Vec::new(),
        };
        let cancel = self.context.cancel;
        with_engine(&mut *self.engine, |pump| {
            // Those that came back go in again, so that nothing is copied.
            let mut ready: Vec<Batch> = Vec::new();
            let (begin, mut samples) = (Begin::now(), 0);
            while begin.at.elapsed().as_secs_f64() < seconds {
                cancel.check()?;
                let next = ready.pop().unwrap_or_else(|| copy(&batch));
                pump.push(next, |done: Done| {
                    samples += done.batch.indices.len();
                    ready.push(done.batch);
                    Ok(())
                })?;
            }
            pump.drain(|done| {
                samples += done.batch.indices.len();
                Ok(())
            })?;
            Ok(begin.end(samples))
        })
    }

    /// Reading, decoding and resizing alone.
    ///
    /// # Errors
    /// A sample cannot be read.
    pub fn decoding(&self) -> Result<Rate> {
        let (buffers, mut samples, begin) = (Buffers::default(), 0, Begin::now());
        stream(&items(&self.resolved.dataset), &self.resolved.source.ready, &self.options(), &buffers, |batch| {
            samples += batch.indices.len();
            buffers.give(batch);
            Ok(())
        })?;
        Ok(begin.end(samples))
    }

    /// The whole path: digests of the files, their headers, decoding, the engine, and rows on disk, in a store that
    /// begins empty and is removed.
    ///
    /// # Errors
    /// Those of a run.
    pub fn whole(&mut self) -> Result<Rate> {
        let dataset = self.resolved.dataset.clone();
        let ready = self.resolved.source.ready.clone();
        self.fill(&dataset, &ready)
    }

    /// The whole path for made-up pictures that cost next to nothing to decode: raw pixels of the network's size.
    ///
    /// # Errors
    /// The samples are no pictures; those of a run.
    pub fn undecoded(&mut self, count: usize) -> Result<Rate> {
        let Ready::Image(steps) = &self.resolved.source.ready else {
            return Err(Error::bad_input("the samples are no pictures"));
        };
        // A square of the resize's size is not resized.
        let [_, height, width] = steps.output_shape().map(|size| size as u32);
        let (width, height) = steps.resize.as_ref().map_or((width, height), |resize| (resize.size, resize.size));
        let ready = Ready::Image(steps.clone());
        let folder = Temporary::new(self.context.home)?;
        let path = folder.0.join("pixels");
        raw_pictures(&path, (3 * height * width) as usize, count)?;
        let shared: Arc<Path> = path.into();
        let row = |number: usize| {
            let len = 3 * u64::from(height) * u64::from(width);
            let source = Source::Range { file: shared.clone(), offset: number as u64 * len, len };
            let samples = Sample { source, encoding: Encoding::PlanarRgb { width, height } }.into();
            Row { samples, origin: format!("picture {number}").into() }
        };
        let dataset = Dataset { rows: (0..count).map(row).collect(), ..self.resolved.dataset.clone() };
        self.fill(&dataset, &ready)
    }

    fn fill(&mut self, dataset: &Dataset, ready: &Ready) -> Result<Rate> {
        let folder = Temporary::new(self.context.home)?;
        let home = Home::at(folder.0.join("home"));
        let (context, plan) = (self.context, &self.resolved.plan.plan);
        let store = Store::open(&home)?;
        let columns: Vec<Column> = self
            .columns
            .iter()
            .map(|(_, column)| store.column(column.spec(), context.progress))
            .collect::<Result<_>>()?;
        let inner = Context { home: &home, runs: context.runs.clone(), progress: &Silent, ..*context };
        let on_error = plan.data.common.on_error;
        let begin = Begin::now();
        let table = DigestTable::open(&home)?;
        let digests = sample_digests(dataset, on_error, &table, &inner)?;
        table.save()?;
        let task = Task {
            dataset,
            digests: &digests,
            view: 0,
            columns: &columns,
            ready,
            store: &store,
            batch_size: self.batch_size,
            threads: self.threads,
            on_error,
            progress: &Silent,
            cancel: context.cancel,
        };
        let rows: Vec<usize> = (0..dataset.rows.len()).collect();
        let distinct = task.distinct(&rows);
        let outcome = task.fill(&distinct, &task.missing(&distinct), &mut *self.engine)?;
        Ok(begin.end(outcome.activations.computed as usize))
    }
}

fn items(dataset: &Dataset) -> Vec<Item<'_>> {
    let rows = dataset.rows.iter().enumerate();
    rows.map(|(index, row)| Item { index, samples: &row.samples, origin: (&row.origin).into() }).collect()
}

/// Writes random bytes for so many pictures, no two the same.
fn raw_pictures(path: &Path, size: usize, count: usize) -> Result<()> {
    let random = Stream::named(0, "raw pictures");
    let noise: Vec<u8> = (0..size.div_ceil(8) as u64).flat_map(|i| random.u64(i).to_le_bytes()).take(size).collect();
    file::write_atomic(path, |out| {
        for number in 0..count as u64 {
            let mut picture = noise.clone();
            picture[..8.min(size)].copy_from_slice(&number.to_le_bytes()[..8.min(size)]);
            std::io::Write::write_all(out, &picture)?;
        }
        Ok(())
    })
}

/// A folder below the home, on the disk that the cache is on; gone when dropped.
struct Temporary(std::path::PathBuf);

impl Temporary {
    fn new(home: &Home) -> Result<Self> {
        let folder = file::temporary_beside(&home.folder("cache")?.join("bench"));
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        Ok(Self(folder))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // A rest that cannot be removed does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn work_is_counted_in_core_seconds() {
        let begin = Begin::now();
        let mut sum = 0u64;
        while begin.at.elapsed().as_secs_f64() < 10.0 && begin.end(1).core_secs.unwrap() < 0.03 {
            sum = (0..1_000_000).fold(sum, |sum, i| std::hint::black_box(sum ^ i));
        }
        let rate = begin.end(2);
        assert!(rate.core_secs.unwrap() >= 0.03 && rate.core_secs_each().unwrap() >= 0.015, "{rate:?}");
        assert!((Rate { samples: 3, secs: 1.5, core_secs: None }.per_second() - 2.0).abs() < 1e-12);
    }

    #[test]
    fn no_two_raw_pictures_are_equal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pixels");
        raw_pictures(&path, 12, 3).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 36);
        assert!(bytes[..12] != bytes[12..24] && bytes[12..24] != bytes[24..]);
    }
}
