//! `caft.lock`: the digests and versions that a run was made of, and the metrics it ended with, so that
//! a repetition can say what is the same and what differs.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::{Digest, Error, Result, file};

/// The lock's file name.
pub const LOCK: &str = "caft.lock";

/// The contents of `caft.lock`, written as YAML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The run's id: the digest of its resolved plan.
    pub id: Digest,
    /// What ran.
    pub tool: Tool,
    /// Where it ran.
    pub machine: Machine,
    /// Digest of the source model, before it was cut.
    pub weights: Digest,
    /// Digest of the dataset's manifest: ordered rows, targets, splits.
    pub dataset: Digest,
    /// Keys of the cache's columns, by output.
    pub columns: BTreeMap<String, Digest>,
    /// The inference runtime with its version.
    pub runtime: String,
    /// All seeds, as they were used.
    pub seeds: BTreeMap<String, u64>,
    /// The metrics that a repetition should find.
    pub metrics: BTreeMap<String, f64>,
}

/// The program and what it was built with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// caft's version.
    pub caft: String,
    /// Digest of the list of all dependencies with their versions (`Cargo.lock`).
    pub dependencies: Digest,
}

/// What of a machine can change the last bits of a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The operating system, such as `linux`.
    pub os: String,
    /// The processor's architecture, such as `x86_64`.
    pub architecture: String,
    /// Vector extensions that the matrix products use, widest last.
    pub features: Vec<String>,
}

impl Tool {
    /// This program.
    pub fn this() -> Self {
        let dependencies = Digest::of(include_bytes!("../../Cargo.lock"));
        Self { caft: env!("CARGO_PKG_VERSION").into(), dependencies }
    }
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        Self { os: std::env::consts::OS.into(), architecture: std::env::consts::ARCH.into(), features: features() }
    }
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<String> {
    let known = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
    ];
    known.iter().filter(|(_, here)| *here).map(|(name, _)| (*name).to_string()).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<String> {
    Vec::new()
}

impl Lock {
    /// Writes the lock into a run directory.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let text = serde_yaml::to_string(self).map_err(|e| Error::failed("a lock does not serialise").because(e))?;
        file::write_bytes(&directory.join(LOCK), text.as_bytes())
    }

    /// Reads a lock.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let text = file::read_text(path, 16 << 20)?;
        serde_yaml::from_str(&text)
            .map_err(|e| Error::bad_input(format!("`{}` is not a lock", path.display())).because(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock {
            id: Digest::of(b"plan"),
            tool: Tool::this(),
            machine: Machine::this(),
            weights: Digest::of(b"weights"),
            dataset: Digest::of(b"dataset"),
            columns: BTreeMap::from([("cls".into(), Digest::of(b"cls"))]),
            runtime: "onnxruntime 1.31.1".into(),
            seeds: BTreeMap::from([("train".into(), u64::MAX)]),
            metrics: BTreeMap::from([("test/accuracy".into(), 0.1 + 0.2)]),
        };
        lock.write(folder.path()).unwrap();
        assert_eq!(Lock::read(&folder.path().join(LOCK)).unwrap(), lock);
    }
}
