//! The table of a sweep's trials: lines of JSON in one file, only ever appended.
//!
//! | `event` | what it says |
//! | --- | --- |
//! | `claim` | a process trains this trial, until a time; a later claim of its own prolongs it |
//! | `ended` | the trial's metrics at its best epoch, and its curve |
//! | `failed` | the error that ended it |
//!
//! A line is written under the file's lock, in which the lines of others were read before, so that two processes
//! never take one trial. A claim that ran out, or whose process is gone from this machine, counts for nothing; a
//! torn last line of a killed process counts for none.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::base::{Digest, Error, Result};
use crate::sweep::Setting;

/// The table's file name.
pub const TABLE: &str = "trials.jsonl";
/// Locked by the process that makes the page and the runs of the best.
const ENDING: &str = ".ending";
/// How long a claim holds without a word of its process.
const LEASE: Duration = Duration::from_secs(120);

/// A trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The digest of its resolved plan.
    #[serde(rename = "trial")]
    pub id: Digest,
    /// The identity of the space that it was drawn from.
    pub space: Digest,
    /// Its values.
    pub settings: Vec<Setting>,
    /// Which repetition it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replica: Vec<Setting>,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Outcome {
    /// Well, or given up early.
    Ended {
        /// The metrics of its best epoch.
        #[serde(with = "crate::run::sweep::table::measured")]
        metrics: BTreeMap<String, f64>,
        /// That epoch, from 1.
        best_epoch: u32,
        /// The sweep's metric after each epoch.
        #[serde(with = "crate::run::sweep::table::curve")]
        curve: Vec<f64>,
        /// Whether it was given up before its last epoch.
        stopped: bool,
        /// Seconds of training; trials that are trained together each count their share.
        seconds: f64,
    },
    /// With an error.
    Failed {
        /// The error.
        error: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Outcome {
        #[serde(flatten)]
        trial: Trial,
        #[serde(flatten)]
        outcome: Outcome,
    },
    Claim {
        event: ClaimEvent,
        #[serde(flatten)]
        trial: Trial,
        by: String,
        until_secs: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ClaimEvent {
    Claim,
}

/// What is known of one trial.
struct Known {
    trial: Trial,
    outcome: Option<Outcome>,
    claim: Option<(String, u64)>,
}

/// The table of one sweep.
pub struct Table {
    path: PathBuf,
    by: String,
    /// Bytes of the file that were read.
    read: u64,
    order: Vec<Digest>,
    known: BTreeMap<Digest, Known>,
    held: Vec<Trial>,
    renewed: Instant,
    retry_failed: bool,
}

impl Table {
    /// Opens the table of a folder, made if it is missing. With `retry_failed`, trials that failed before count as
    /// not tried.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(folder: &Path, retry_failed: bool) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let mut table = Self {
            path: folder.join(TABLE),
            by: format!("{}/{}", machine(), std::process::id()),
            read: 0,
            order: Vec::new(),
            known: BTreeMap::new(),
            held: Vec::new(),
            renewed: Instant::now(),
            retry_failed: false,
        };
        table.refresh()?;
        if retry_failed {
            for known in table.known.values_mut() {
                known.outcome.take_if(|outcome| matches!(outcome, Outcome::Failed { .. }));
            }
            table.retry_failed = true;
        }
        Ok(table)
    }

    /// Reads what others wrote.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn refresh(&mut self) -> Result<()> {
        match File::open(&self.path) {
            Ok(mut file) => self.read_on(&mut file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io("open", &self.path)(error)),
        }
    }

    fn read_on(&mut self, file: &mut File) -> Result<()> {
        let mut bytes = Vec::new();
        let reading = || -> std::io::Result<()> {
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_end(&mut bytes)?;
            Ok(())
        };
        let mut reading = reading;
        reading().map_err(Error::io("read", &self.path))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        for line in bytes[..whole].split(|byte| *byte == b'\n') {
            if let Ok(line) = serde_json::from_slice::<Line>(line) {
                self.take(line);
            }
        }
        Ok(())
    }

    fn take(&mut self, line: Line) {
        let (trial, outcome, claim) = match line {
            Line::Outcome { trial, outcome } => (trial, Some(outcome), None),
            Line::Claim { trial, by, until_secs, .. } => (trial, None, Some((by, until_secs))),
        };
        let known = self.known.entry(trial.id).or_insert_with(|| {
            self.order.push(trial.id);
            Known { trial, outcome: None, claim: None }
        });
        known.claim = claim;
        if outcome.is_some() {
            known.outcome = outcome;
        }
    }

    /// Trials that ended, well or not.
    pub fn ended(&self) -> usize {
        self.known.values().filter(|known| known.outcome.is_some()).count()
    }

    /// Whether a trial ended, well or not.
    pub fn has_ended(&self, id: &Digest) -> bool {
        self.known.get(id).is_some_and(|known| known.outcome.is_some())
    }

    /// Every trial that was ever begun, in order, with how it ended.
    pub fn trials(&self) -> Vec<(Trial, Option<Outcome>)> {
        self.order.iter().map(|id| &self.known[id]).map(|known| (known.trial.clone(), known.outcome.clone())).collect()
    }

    /// Takes those of the trials that nobody trains or has trained.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn claim(&mut self, trials: &[Trial]) -> Result<Vec<Trial>> {
        let mut taken: Vec<Trial> = Vec::new();
        self.locked(|table, now| {
            for trial in trials {
                let free = match table.known.get(&trial.id) {
                    None => true,
                    Some(Known { outcome: Some(_), .. }) => false,
                    Some(Known { claim: Some((by, until)), .. }) => *until < now || is_gone(by),
                    Some(Known { claim: None, .. }) => true,
                };
                if free && taken.iter().all(|other| other.id != trial.id) {
                    taken.push(trial.clone());
                }
            }
            Ok(taken.iter().map(|trial| table.claim_line(trial, now)).collect())
        })?;
        self.held.extend(taken.iter().cloned());
        self.renewed = Instant::now();
        Ok(taken)
    }

    /// Prolongs the claims that are held, once in a while.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn renew(&mut self) -> Result<()> {
        if self.held.is_empty() || self.renewed.elapsed() < LEASE / 3 {
            return Ok(());
        }
        self.renewed = Instant::now();
        self.locked(|table, now| Ok(table.held.iter().map(|trial| table.claim_line(trial, now)).collect()))
    }

    /// Records how a trial ended, and lets it go.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn record(&mut self, trial: &Trial, outcome: Outcome) -> Result<()> {
        self.held.retain(|held| held.id != trial.id);
        self.locked(|_, _| Ok(vec![Line::Outcome { trial: trial.clone(), outcome }]))
    }

    /// Does something that only one process of a sweep at a time may do, while the others go on with the table.
    ///
    /// # Errors
    /// Those of the file system and of `body`.
    pub fn exclusively<T>(&self, body: impl FnOnce() -> Result<T>) -> Result<T> {
        let path = self.path.with_file_name(ENDING);
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        file.lock().map_err(Error::io("lock", &path))?;
        body()
    }

    fn claim_line(&self, trial: &Trial, now: u64) -> Line {
        let until_secs = now + LEASE.as_secs();
        Line::Claim { event: ClaimEvent::Claim, trial: trial.clone(), by: self.by.clone(), until_secs }
    }

    /// Under the file's lock: reads what is new, then appends what `lines` gives.
    fn locked(&mut self, lines: impl FnOnce(&mut Self, u64) -> Result<Vec<Line>>) -> Result<()> {
        let path = self.path.clone();
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(Error::io("open", &path))?;
        file.lock().map_err(Error::io("lock", &path))?;
        self.read_on(&mut file)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let lines = lines(self, now)?;
        if lines.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        let length = file.metadata().map_err(Error::io("read", &path))?.len();
        if length > self.read {
            // The torn line of a process that was killed.
            text.push('\n');
        }
        for line in &lines {
            text += &serde_json::to_string(line).map_err(|e| Error::failed("a trial does not serialise").because(e))?;
            text.push('\n');
        }
        file.write_all(text.as_bytes()).map_err(Error::io("write", &path))?;
        self.read_on(&mut file)
    }
}

/// A name of this machine.
fn machine() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    name.map_or_else(|| "machine".into(), |name| name.trim().replace('/', "_"))
}

/// Whether a claim is of a process of this machine that no longer runs.
fn is_gone(by: &str) -> bool {
    let Some((name, process)) = by.rsplit_once('/') else { return false };
    let processes = Path::new("/proc");
    name == machine() && processes.join("self").exists() && !processes.join(process).exists()
}

/// Curves, in which a value that is not finite is null.
pub mod curve {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(curve: &[f64], to: S) -> Result<S::Ok, S::Error> {
        curve.iter().map(|x| x.is_finite().then_some(*x)).collect::<Vec<_>>().serialize(to)
    }

    /// # Errors
    /// It is not a list of numbers.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let values = Vec::<Option<f64>>::deserialize(from)?;
        Ok(values.into_iter().map(|x| x.unwrap_or(f64::NAN)).collect())
    }
}

/// Metrics by name, in which a value that is not finite is null.
pub mod measured {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(metrics: &BTreeMap<String, f64>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(metrics.iter().map(|(name, x)| (name, x.is_finite().then_some(*x))))
    }

    /// # Errors
    /// It is not a map of numbers.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let metrics = BTreeMap::<String, Option<f64>>::deserialize(from)?;
        Ok(metrics.into_iter().map(|(name, x)| (name, x.unwrap_or(f64::NAN))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(name: &str) -> Trial {
        let settings = vec![Setting { path: "train.optimizer.lr".into(), value: name.into() }];
        Trial { id: Digest::of(name.as_bytes()), space: Digest::of(b"space"), settings, replica: Vec::new() }
    }

    fn ended(value: f64) -> Outcome {
        let metrics = BTreeMap::from([("valid/accuracy".to_string(), value)]);
        Outcome::Ended { metrics, best_epoch: 2, curve: vec![f64::NAN, value], stopped: false, seconds: 0.5 }
    }

    #[test]
    fn no_trial_is_taken_twice() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = Table::open(folder.path(), false).unwrap();
        let mut two = Table::open(folder.path(), false).unwrap();
        assert_eq!(one.claim(&[trial("a"), trial("b"), trial("a")]).unwrap().len(), 2);
        let taken = two.claim(&[trial("b"), trial("c")]).unwrap();
        assert_eq!(taken, [trial("c")]);
        one.record(&trial("a"), ended(0.5)).unwrap();
        one.record(&trial("d"), ended(f64::INFINITY)).unwrap();
        assert!(one.has_ended(&trial("d").id), "what is not finite is written as null");
        one.record(&trial("b"), Outcome::Failed { error: "no".into() }).unwrap();
        assert!(two.claim(&[trial("a"), trial("b")]).unwrap().is_empty());
        let mut again = Table::open(folder.path(), true).unwrap();
        assert_eq!(again.claim(&[trial("a"), trial("b")]).unwrap(), [trial("b")], "failed ones may be tried again");
        assert_eq!(Table::open(folder.path(), false).unwrap().ended(), 3);
        let first = &one.trials()[0];
        assert!(matches!(&first.1, Some(Outcome::Ended { curve, .. }) if curve[0].is_nan() && curve[1] == 0.5));
    }

    #[test]
    fn claims_of_the_dead_and_torn_lines_count_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut dead = Table::open(folder.path(), false).unwrap();
        dead.by = format!("{}/4194305", machine());
        dead.claim(&[trial("a")]).unwrap();
        let mut late = Table::open(folder.path(), false).unwrap();
        late.by = "elsewhere/1".into();
        late.claim(&[trial("b")]).unwrap();
        let path = folder.path().join(TABLE);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"event\": \"ended\", \"tri").unwrap();
        let mut table = Table::open(folder.path(), false).unwrap();
        assert_eq!(table.claim(&[trial("a"), trial("b"), trial("c")]).unwrap(), [trial("a"), trial("c")]);
        table.record(&trial("c"), ended(1.0)).unwrap();
        assert_eq!(Table::open(folder.path(), false).unwrap().ended(), 1);
    }
}
