//! The run directory `runs/<name>/<id>/`: finding it, holding it, listing all.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::record::{RECORD, RunRecord, Status};
use crate::base::{Digest, Error, Result};

/// Hexadecimal digits of a run's id in its folder's name.
const ID_DIGITS: usize = 16;
const LOCK: &str = ".lock";

/// One run directory, held by this process: nobody else runs the same plan at the same time.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    _lock: File,
}

impl RunDirectory {
    /// Takes the directory of a run, made if it is missing. With `fresh`, and where the run has already
    /// finished, a new attempt below it.
    ///
    /// # Errors
    /// Another process runs it; the folder cannot be written.
    pub fn take(runs: &Path, name: &str, id: &Digest, fresh: bool) -> Result<Self> {
        let first = first_attempt(runs, name, id);
        let mut path = first.clone();
        if fresh {
            let mut number = 2;
            while path.join(RECORD).exists() {
                path = first.join(format!("attempt-{number}"));
                number += 1;
            }
        }
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        let lock_path = path.join(LOCK);
        let lock = File::create(&lock_path).map_err(Error::io("create", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                Err(Error::bad_input(format!("another process is running `{}`", path.display()))
                    .hint("wait for it, or give this run another `name` or seed"))
            }
            Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path: lock_path, source }),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// The record of a run of this id, if one has finished.
pub fn finished(runs: &Path, name: &str, id: &Digest) -> Option<RunRecord> {
    let record = read_record(&first_attempt(runs, name, id)).ok()?;
    (record.status == Status::Finished).then_some(record)
}

/// The folder of a plan's first attempt.
pub fn first_attempt(runs: &Path, name: &str, id: &Digest) -> PathBuf {
    runs.join(name).join(id.short(ID_DIGITS))
}

/// The record of a run directory, where a `running` that no process holds is `interrupted`.
///
/// # Errors
/// Those of [`RunRecord::read`].
pub fn read_record(directory: &Path) -> Result<RunRecord> {
    let mut record = RunRecord::read(directory)?;
    if record.status == Status::Running {
        let held = File::open(directory.join(LOCK))
            .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)));
        if !held {
            record.status = Status::Interrupted;
        }
    }
    Ok(record)
}

/// All runs below a folder, the newest first. Folders without a readable record are passed over.
///
/// # Errors
/// The folder exists and cannot be read.
pub fn list(runs: &Path) -> Result<Vec<RunRecord>> {
    list_all(runs).map(|(found, _)| found)
}

/// As [`list`], with what is wrong with the runs whose record cannot be read.
///
/// # Errors
/// Those of [`list`].
pub fn list_all(runs: &Path) -> Result<(Vec<RunRecord>, Vec<Error>)> {
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    for name in subfolders(runs)? {
        for run in subfolders(&name)? {
            let attempts = subfolders(&run)?;
            for path in std::iter::once(run).chain(attempts).filter(|path| path.join(RECORD).exists()) {
                match read_record(&path) {
                    Ok(record) => found.push(record),
                    Err(error) => damaged.push(error),
                }
            }
        }
    }
    found.sort_by(|a, b| b.started_secs.cmp(&a.started_secs).then_with(|| a.path.cmp(&b.path)));
    Ok((found, damaged))
}

/// The run that a word names: a path to its directory, an id (or its beginning, at least 4 digits), or a
/// name, which means its newest finished run.
///
/// # Errors
/// None fits, or an id's beginning fits several.
pub fn find(runs: &Path, word: &str) -> Result<RunRecord> {
    if Path::new(word).join(RECORD).exists() {
        return read_record(Path::new(word));
    }
    let all = list(runs)?;
    if let Some(record) = all.iter().find(|r| r.name == word && r.status == Status::Finished) {
        return Ok(record.clone());
    }
    let by_id: Vec<&RunRecord> = all.iter().filter(|r| word.len() >= 4 && r.id.to_string().starts_with(word)).collect();
    match by_id[..] {
        [record] => Ok(record.clone()),
        [first, .., last] if first.id != last.id => {
            Err(Error::bad_input(format!("`{word}` is the beginning of several runs' ids")).hint("give more digits"))
        }
        // Attempts of one plan: the newest.
        [newest, ..] => Ok(newest.clone()),
        [] => {
            let names = crate::base::suggest::did_you_mean(word, all.iter().map(|r| r.name.as_str()));
            Err(Error::bad_input(format!("no run `{word}` in `{}`{names}", runs.display()))
                .hint("`caft runs` lists them; a run is named by its folder, its id, or its recipe's name"))
        }
    }
}

/// Like [`find`], for a run that must be finished.
///
/// # Errors
/// Those of [`find`]; the run is not finished.
pub fn find_finished(runs: &Path, word: &str) -> Result<RunRecord> {
    let record = find(runs, word)?;
    if record.status == Status::Finished {
        return Ok(record);
    }
    Err(Error::bad_input(format!("run `{}` is not finished", record.path))
        .hint("run its recipe again; it goes on from where it stopped"))
}

fn subfolders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", folder)(error)),
    };
    let mut folders: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::record::Activations;

    fn record(name: &str, id: Digest, status: Status) -> RunRecord {
        RunRecord {
            name: name.into(),
            id,
            path: String::new(),
            status,
            main_metric: None,
            metrics: std::collections::BTreeMap::new(),
            activations: Activations::default(),
            skipped: 0,
            stored: std::collections::BTreeMap::new(),
            stages: std::collections::BTreeMap::new(),
            peak_bytes: None,
            started_secs: 5,
            precision_cost: None,
            error: None,
        }
    }

    #[test]
    fn a_run_is_held_by_one_and_found_by_path_id_and_name() {
        let runs = tempfile::tempdir().unwrap();
        let id = Digest::of(b"plan");
        let held = RunDirectory::take(runs.path(), "cats", &id, false).unwrap();
        assert_eq!(RunDirectory::take(runs.path(), "cats", &id, false).unwrap_err().exit_code(), 2);
        record("cats", id, Status::Running).write(held.path()).unwrap();
        let path = held.path().to_path_buf();
        drop(held);
        assert_eq!(read_record(&path).unwrap().status, Status::Interrupted);

        record("cats", id, Status::Finished).write(&path).unwrap();
        let second = RunDirectory::take(runs.path(), "cats", &id, true).unwrap();
        assert!(second.path().ends_with("attempt-2"));
        assert_eq!(list(runs.path()).unwrap().len(), 1);
        for word in ["cats", &id.short(6), path.to_str().unwrap()] {
            assert_eq!(find(runs.path(), word).unwrap().id, id);
        }
        let error = find(runs.path(), "cat").unwrap_err();
        assert!(error.to_string().contains("did you mean `cats`?"), "{error}");
    }
}
