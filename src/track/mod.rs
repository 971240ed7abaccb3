//! Rank 8: the numbers of a run as they come: `metrics.jsonl` and TensorBoard event files; finished runs for an MLflow
//! server ([`mlflow`]).
//!
//! Both lie in the run directory and both survive a kill: a [`Tracker`] hands every call to the operating
//! system before it returns. On resume what lies past the checkpoint is cut from `metrics.jsonl`, and a
//! new event file tells TensorBoard to drop it.

mod events;
mod hparams;
mod jsonl;
pub mod mlflow;
mod projector;
mod result;

use std::path::Path;

use crate::base::Result;

pub use hparams::{TrialEvents, write_hparams};
pub use jsonl::{Record, read};
pub use projector::write_embeddings;
pub use result::ResultEvents;

/// Writes scalars of a run, by step.
pub struct Tracker {
    metrics: jsonl::MetricsFile,
    events: events::EventFile,
}

impl Tracker {
    /// Begins to track in a run directory. With `resume_from_step` the records up to and including that
    /// step stay and the later ones are dropped; without, all are dropped.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn open(run_dir: &Path, resume_from_step: Option<u64>) -> Result<Self> {
        let first = resume_from_step.map_or(0, |step| step + 1);
        let metrics = jsonl::MetricsFile::open(run_dir, first)?;
        Ok(Self { metrics, events: events::EventFile::create(run_dir, first)? })
    }

    /// Records some values under a step. Names are `split/metric`, such as `train/loss`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn log(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let time = jsonl::now();
        self.metrics.append(step, time, values)?;
        self.events.append(step, time, values)
    }

    /// Makes what was logged durable.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(self) -> Result<()> {
        self.metrics.finish()?;
        self.events.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_has_each_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut tracker = Tracker::open(folder.path(), None).unwrap();
        for step in 1..=5 {
            tracker.log(step, &[("train/loss", 1.0 / step as f64), ("valid/accuracy", 0.5)]).unwrap();
        }
        drop(tracker);
        let mut tracker = Tracker::open(folder.path(), Some(3)).unwrap();
        tracker.log(4, &[("train/loss", f64::NAN)]).unwrap();
        tracker.finish().unwrap();
        let records = read(folder.path()).unwrap();
        assert_eq!(records.iter().map(|r| r.step).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(records[1].values["train/loss"], 0.5);
        assert_eq!(records[3].values["train/loss"], serde_json::Value::Null);
        let files = std::fs::read_dir(folder.path()).unwrap().flatten();
        let events = files.filter(|f| f.file_name().to_string_lossy().contains("tfevents")).count();
        assert_eq!(events, 2);

        Tracker::open(folder.path(), None).unwrap().finish().unwrap();
        assert_eq!(read(folder.path()).unwrap(), []);
    }
}
