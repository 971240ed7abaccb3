//! How quick engines were on this machine, so that a plan can tell how long a run will take.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::home::Home;
use crate::base::{Digest, Error, Result};
use crate::plan::ResolvedPlan;

/// Fewer samples than this tell more about the start of an engine than about its rate.
const FEWEST: u64 = 16;
/// More of the file than this is not read.
const LARGEST: u64 = 16 << 20;

/// The file of rates in the home: one JSON object a line, the newest last.
pub struct History {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Line {
    engine: Digest,
    samples: u64,
    secs: f64,
}

impl History {
    /// The history of a home.
    ///
    /// # Errors
    /// The home cannot be made.
    pub fn open(home: &Home) -> Result<Self> {
        Ok(Self { path: home.folder("history")?.join("passes.jsonl") })
    }

    /// Remembers a pass over so many samples.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&self, plan: &ResolvedPlan, samples: u64, secs: f64) -> Result<()> {
        if samples < FEWEST {
            return Ok(());
        }
        let line = serde_json::to_string(&Line { engine: engine(plan), samples, secs })
            .map_err(|e| Error::failed("a line of the history does not serialise").because(e))?;
        let mut file =
            OpenOptions::new().create(true).append(true).open(&self.path).map_err(Error::io("open", &self.path))?;
        // One write call a line, so that processes do not mix their lines.
        file.write_all((line + "\n").as_bytes()).map_err(Error::io("write", &self.path))
    }

    /// Samples per second of the last pass of this engine here. A damaged line counts as none.
    pub fn rate(&self, plan: &ResolvedPlan) -> Option<f64> {
        let text = crate::base::file::read_text(&self.path, LARGEST).ok()?;
        let wanted = engine(plan);
        let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let found = lines.into_iter().find(|line| line.engine == wanted && line.secs > 0.0)?;
        Some(found.samples as f64 / found.secs)
    }
}

/// What decides how quick a pass is.
fn engine(plan: &ResolvedPlan) -> Digest {
    crate::base::KeyWriter::new("rate")
        .json("weights", &plan.weights)
        .json("outputs", &plan.cut())
        .json("preprocess", &plan.plan.model.backbone.preprocess)
        .field("numeric_class", &plan.numeric_class)
        .field("runtime", &plan.runtime)
        .finish()
}
