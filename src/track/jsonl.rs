//! `metrics.jsonl`: one JSON object per line, `{"step": 3, "time": 1700000000.25, "train/loss": 0.25}`. The time is
//! in seconds since 1970; a value that is not finite is `null`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::base::{Error, Result, file};

/// The file's name in a run directory.
const NAME: &str = "metrics.jsonl";

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The step, such as an epoch.
    pub step: u64,
    /// Seconds since 1970.
    pub time: f64,
    /// The values by name: numbers, or null where a value was not finite.
    #[serde(flatten)]
    pub values: Map<String, Value>,
}

/// The records of a run directory; none if it has no `metrics.jsonl`. A line that is not whole, such as
/// the last one after a kill, is passed over.
///
/// # Errors
/// The file cannot be read.
pub fn read(run_dir: &Path) -> Result<Vec<Record>> {
    let path = run_dir.join(NAME);
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        bytes => bytes.map_err(Error::io("read", &path))?,
    };
    Ok(bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// `metrics.jsonl`, open for appending.
pub(super) struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens the file and cuts the records from step `first` on.
    pub fn open(run_dir: &Path, first: u64) -> Result<Self> {
        let path = run_dir.join(NAME);
        let mut kept = read(run_dir)?;
        kept.retain(|record| record.step < first);
        let lines: String = kept.iter().map(line).collect();
        file::write_bytes(&path, lines.as_bytes())?;
        let file = File::options().append(true).open(&path).map_err(Error::io("open", &path))?;
        Ok(Self { path, file })
    }

    pub fn append(&mut self, step: u64, time: f64, values: &[(&str, f64)]) -> Result<()> {
        let values = values.iter().map(|(name, value)| (name.to_string(), Value::from(*value))).collect();
        // One write, so that another process never reads half a line.
        let line = line(&Record { step, time, values });
        self.file.write_all(line.as_bytes()).map_err(Error::io("write", &self.path))
    }

    pub fn finish(self) -> Result<()> {
        self.file.sync_all().map_err(Error::io("write", &self.path))
    }
}

fn line(record: &Record) -> String {
    let text = serde_json::to_string(record).unwrap_or_else(|e| unreachable!("plain data serialises: {e}"));
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cut_by_a_kill_is_dropped_and_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let whole = "{\"step\":0,\"time\":1.5,\"a\":1.0}\n{\"step\":1,\"time\":2.5,\"a\":2.0}\n";
        std::fs::write(folder.path().join(NAME), format!("{whole}{{\"step\":2,\"ti")).unwrap();
        let mut metrics = MetricsFile::open(folder.path(), 5).unwrap();
        metrics.append(2, 3.5, &[("a", 3.0)]).unwrap();
        metrics.finish().unwrap();
        let text = std::fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert_eq!(text, format!("{whole}{{\"step\":2,\"time\":3.5,\"a\":3.0}}\n"));
    }
}
