//! The stage that runs the engine over every sample whose activations are not stored yet.

use std::collections::HashSet;

use super::record::Activations;
use crate::base::progress::{Event, Unit, work};
use crate::base::{Cancel, Digest, Error, Progress, Result};
use crate::cache::Column;
use crate::data::Dataset;
use crate::engine::{Engine, InputTensor};
use crate::sample::Sample;
use crate::sample::image::ImagePreprocess;
use crate::sample::pipeline::{self, Batch};

/// What the stage works on.
pub struct Task<'a> {
    /// The rows.
    pub dataset: &'a Dataset,
    /// The digest of each row's sample.
    pub digests: &'a [Digest],
    /// The columns, in the order of the engine's outputs.
    pub columns: &'a mut [Column],
    /// What the network expects of a picture.
    pub preprocess: &'a ImagePreprocess,
    /// Samples in one pass.
    pub batch_size: usize,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
    /// Checked between batches.
    pub cancel: &'a Cancel,
}

impl Task<'_> {
    /// The first row of every distinct sample that a column lacks.
    pub fn missing(&self) -> Vec<usize> {
        let mut seen = HashSet::new();
        let lacks = |digest: &Digest| self.columns.iter().any(|column| !column.contains(digest));
        (0..self.digests.len()).filter(|&row| seen.insert(self.digests[row]) && lacks(&self.digests[row])).collect()
    }

    /// Computes and stores what is missing. After an interruption what was computed stays stored.
    ///
    /// # Errors
    /// A sample that cannot be read, by its row; those of the engine and the cache.
    pub fn fill(&mut self, missing: &[usize], engine: &mut dyn Engine) -> Result<Activations> {
        let distinct: HashSet<&Digest> = self.digests.iter().collect();
        let reused = (distinct.len() - missing.len()) as u64;
        if missing.is_empty() {
            return Ok(Activations { computed: 0, reused });
        }
        let total = Some(missing.len() as u64);
        work(self.progress, "activations", total, Unit::Samples, || self.compute(missing, reused, engine))?;
        Ok(Activations { computed: missing.len() as u64, reused })
    }

    fn compute(&mut self, missing: &[usize], reused: u64, engine: &mut dyn Engine) -> Result<()> {
        let mut writers = self.columns.iter().map(Column::writer).collect::<Result<Vec<_>>>()?;
        let mut outputs = vec![Vec::new(); writers.len()];
        let samples: Vec<&Sample> = missing.iter().map(|&row| &self.dataset.rows[row].samples[0]).collect();
        let [channels, height, width] = self.preprocess.output_shape();
        let mut done = 0;
        let detail = if reused > 0 { format!("{reused} reused") } else { String::new() };
        let step = |batch: Batch<'_>| -> Result<()> {
            self.cancel.check()?;
            let shape = [batch.len(), channels, height, width];
            engine.run(&[InputTensor::F32 { shape: &shape, data: batch.data }], &mut outputs)?;
            for (writer, values) in writers.iter_mut().zip(&outputs) {
                let rows = values.chunks_exact(values.len() / batch.len());
                for (&position, row) in batch.indices.iter().zip(rows) {
                    writer.push(self.digests[missing[position]], row)?;
                }
            }
            done += batch.len() as u64;
            self.progress.event(Event::WorkAdvanced { done, detail: detail.clone() });
            Ok(())
        };
        let outcome = pipeline::run(&samples, self.preprocess, self.batch_size, self.cancel, step);
        // What was computed before an error or an interruption is kept.
        let stored = writers.into_iter().try_for_each(|writer| writer.finish().map(drop));
        outcome.map_err(|error| self.name_row(missing, error))?;
        stored
    }

    fn name_row(&self, missing: &[usize], error: pipeline::Failure) -> Error {
        match error {
            pipeline::Failure::Sample { position, error } => {
                let origin = &self.dataset.rows[missing[position]].origin;
                Error::bad_input(format!("cannot use the sample of `{origin}`")).because(error)
            }
            pipeline::Failure::Other(error) => error,
        }
    }
}
