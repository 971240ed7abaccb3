//! What is remembered of a run, in `run.json`: its state, metrics, and what it cost.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::cost::PrecisionCost;
use crate::base::{DType, Digest, Error, Result, file};

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A process works on it.
    Running,
    /// It was stopped before its end; the same command goes on with it.
    Interrupted,
    /// It ended with an error; the same command tries again from what is stored.
    Failed,
    /// It ended well.
    Finished,
}

/// Rows that the run needed, and where they came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activations {
    /// Samples that went through the engine in this run.
    pub computed: u64,
    /// Samples whose activations were all stored before.
    pub reused: u64,
}

/// How an output of the cut is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// The element type.
    pub dtype: DType,
    /// What it lost: the root mean square of the differences, relative to that of the values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
}

/// One run, as `run.json` in its directory holds it and as `caft runs --json` prints it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The recipe's name.
    pub name: String,
    /// The digest of the resolved plan.
    pub id: Digest,
    /// The run directory. Filled in when the record is read, so that a moved folder stays right.
    #[serde(default)]
    pub path: String,
    /// The state.
    pub status: Status,
    /// The metric that the run is judged by, such as `test/accuracy`.
    pub main_metric: Option<String>,
    /// Final metrics by `split/metric`.
    pub metrics: BTreeMap<String, f64>,
    /// Backbone passes made and saved.
    pub activations: Activations,
    /// Rows left out because they are bad; `skipped.jsonl` lists them.
    #[serde(default)]
    pub skipped: u64,
    /// How each output of the cut is stored.
    #[serde(default)]
    pub stored: BTreeMap<String, Stored>,
    /// Wall time of each stage in seconds, of the process that ran it to its end.
    pub stages: BTreeMap<String, f64>,
    /// The most memory that the process had taken once it had trained, in bytes, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
    /// When the run began, in seconds since 1970.
    pub started_secs: u64,
    /// What its precision cost, where that is not fp32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision_cost: Option<PrecisionCost>,
    /// The error that ended it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The record's file name.
pub const RECORD: &str = "run.json";

impl RunRecord {
    /// The record of a run that begins now.
    pub fn begin(name: &str, id: Digest, folder: &Path) -> Self {
        Self {
            name: name.into(),
            id,
            path: folder.display().to_string(),
            status: Status::Running,
            main_metric: None,
            metrics: BTreeMap::new(),
            activations: Activations::default(),
            skipped: 0,
            stored: BTreeMap::new(),
            stages: BTreeMap::new(),
            peak_bytes: None,
            started_secs: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            precision_cost: None,
            error: None,
        }
    }

    /// Reads the record of a run directory.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(RECORD);
        let text = file::read_text(&path, 16 << 20)?;
        let mut record: Self = serde_json::from_str(&text)
            .map_err(|e| Error::failed(format!("`{}` is damaged", path.display())).because(e))?;
        record.path = directory.display().to_string();
        Ok(record)
    }

    /// What the precision cost of the main metric, where that was measured.
    pub fn precision_cost_in_words(&self) -> Option<String> {
        self.precision_cost.as_ref()?.in_words(self.main_metric.as_ref()?)
    }

    /// Writes the record into a run directory.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::failed("a run record does not serialise").because(e))?;
        file::write_bytes(&directory.join(RECORD), text.as_bytes())
    }
}
