//! The cache under processes that are killed and processes that meet: real children, real signals.
//!
//! A child is this test program again, asked for [`child`] alone with [`FOLDER`] set.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use caft::base::progress::Silent;
use caft::base::random::Stream;
use caft::base::{DType, Digest, Error, Home};
use caft::cache::{Column, ColumnSpec, Limits, Store};

const FOLDER: &str = "CAFT_TEST_CACHE_FOLDER";
/// Which rows a child adds and in which order, as `start..end`, or `end..start` for backwards.
const ROWS: &str = "CAFT_TEST_CACHE_ROWS";
/// Where a child writes the error that it ends with.
const ERROR: &str = "CAFT_TEST_CACHE_ERROR";
/// Set to a number for more kills than the suite does.
const KILLS: &str = "CAFT_TEST_KILLS";

const TOTAL: usize = 600;
const ROW: usize = 64;

fn column(folder: &Path) -> Column {
    let spec = ColumnSpec {
        key: Digest::of(b"killed"),
        ingredients: serde_json::Map::new(),
        row_shape: vec![ROW],
        ragged: false,
        dtype: DType::F16,
        made_by: "test".into(),
    };
    Store::open(&Home::at(folder)).unwrap().column(&spec, &Silent).unwrap()
}

fn digest(i: usize) -> Digest {
    Digest::of(&i.to_le_bytes())
}

fn row(i: usize) -> Vec<f32> {
    let stream = Stream::new(i as u64, 0);
    (0..ROW as u64).map(|at| stream.normal(at)).collect()
}

/// Adds the rows that are missing, slowly, as an engine would, in shards of 16 rows.
fn fill(folder: &Path, rows: &[usize], pause: Duration) -> Result<(), Error> {
    let column = column(folder);
    let digests: Vec<Digest> = rows.iter().map(|&i| digest(i)).collect();
    let limits = Limits { bytes: 16 * ROW * 2, age: Duration::from_millis(5) };
    let mut writer = column.writer_with(limits)?;
    for at in column.missing(&digests) {
        std::thread::sleep(pause);
        writer.push(digests[at], &row(rows[at]))?;
    }
    writer.finish().map(drop)
}

/// Not a test: what a child process does.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let rows = std::env::var(ROWS).unwrap();
    let (from, to) = rows.split_once("..").map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).unwrap();
    let rows: Vec<usize> = if from < to { (from..to).collect() } else { (to..from).rev().collect() };
    match (fill(folder.as_ref(), &rows, Duration::from_micros(200)), std::env::var_os(ERROR)) {
        (Err(error), Some(file)) => {
            let cause = std::error::Error::source(&error).unwrap();
            std::fs::write(file, format!("{error}: {cause}; {}", error.hint_text().unwrap_or_default())).unwrap();
        }
        (outcome, _) => outcome.unwrap(),
    }
}

fn child_name() -> String {
    format!("{}::child", module_path!().split_once("::").unwrap().1)
}

fn spawn(folder: &Path, rows: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&child_name(), "--exact", "--test-threads=1"]).env(FOLDER, folder).env(ROWS, rows);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Every row, by its number, as the bits that are read.
fn rows(folder: &Path) -> BTreeMap<usize, Vec<u32>> {
    let column = column(folder);
    let all: Vec<Digest> = (0..TOTAL).map(digest).collect();
    let missing = column.missing(&all);
    let present: Vec<usize> = (0..TOTAL).filter(|i| !missing.contains(i)).collect();
    let reader = column.reader(&present.iter().map(|&i| all[i]).collect::<Vec<_>>()).unwrap();
    let mut out = vec![0.0; ROW];
    let mut read = |at: usize| {
        reader.read(&[at], &mut out).unwrap();
        out.iter().map(|value| value.to_bits()).collect()
    };
    present.iter().enumerate().map(|(at, &i)| (i, read(at))).collect()
}

fn uninterrupted() -> BTreeMap<usize, Vec<u32>> {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), &(0..TOTAL).collect::<Vec<_>>(), Duration::ZERO).unwrap();
    rows(folder.path())
}

#[test]
fn a_cache_whose_writers_are_killed_ends_with_the_rows_of_an_uninterrupted_run() {
    let folder = tempfile::tempdir().unwrap();
    let kills: u64 = std::env::var(KILLS).map_or(100, |kills| kills.parse().unwrap());
    let random = Stream::named(std::process::id().into(), "kills");
    let mut stored = 0;
    for kill in 0..kills {
        let mut child = spawn(folder.path(), &format!("0..{TOTAL}"));
        std::thread::sleep(Duration::from_micros(15_000 + random.below(kill, 50_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        // What was stored stays, and nothing of it is damaged.
        let now = rows(folder.path()).len();
        assert!(now >= stored, "{now} of {stored} rows are left");
        stored = now;
        let damaged = walk(folder.path()).iter().filter(|name| name.ends_with(".damaged")).count();
        assert_eq!(damaged, 0);
    }
    assert!(spawn(folder.path(), &format!("0..{TOTAL}")).wait().unwrap().success());
    assert!(stored > 0, "no child lived long enough to store a row");
    assert_eq!(rows(folder.path()), uninterrupted());
}

#[test]
fn two_processes_that_fill_one_column_give_the_union() {
    let folder = tempfile::tempdir().unwrap();
    let half = TOTAL / 2;
    let children = [format!("0..{}", half + 50), format!("{TOTAL}..{}", half - 50)].map(|r| spawn(folder.path(), &r));
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(rows(folder.path()), uninterrupted());
    assert!(!walk(folder.path()).iter().any(|name| name.contains(".tmp-")), "nothing is left behind");
}

/// A limit on the size of files stands for a full disk where no small disk can be made: the write fails in
/// its middle in the same way. A shell sets the limit and ignores the signal that would come first.
#[cfg(unix)]
#[test]
fn a_write_that_fails_in_the_middle_is_a_clear_error_and_what_was_stored_stays() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), &(0..100).collect::<Vec<_>>(), Duration::ZERO).unwrap();
    let error = folder.path().join("error");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    command.args([&child_name(), "--exact", "--test-threads=1"]);
    command.env(FOLDER, folder.path()).env(ROWS, format!("0..{TOTAL}")).env(ERROR, &error);
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
    let error = std::fs::read_to_string(error).unwrap();
    assert!(error.starts_with("cannot write `") && error.contains("File too large"), "{error}");
    assert_eq!(rows(folder.path()).len(), 100);
    assert!(!walk(folder.path()).iter().any(|name| name.contains(".tmp-")), "nothing is left behind");
    fill(folder.path(), &(0..TOTAL).collect::<Vec<_>>(), Duration::ZERO).unwrap();
    assert_eq!(rows(folder.path()), uninterrupted());
}

/// A small file system of its own, where this user may mount one.
#[cfg(target_os = "linux")]
struct SmallDisk(tempfile::TempDir);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=128k", "tmpfs"];
        let status = Command::new("mount").args(mount).arg(folder.path()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success()).then_some(Self(folder))
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_and_a_read_only_one_are_clear_errors_and_what_was_stored_stays() {
    let Some(disk) = SmallDisk::mount() else { return };
    let folder = disk.0.path();
    let all: Vec<usize> = (0..TOTAL).collect();
    let error = fill(folder, &all, Duration::ZERO).unwrap_err();
    assert!(error.to_string().starts_with("cannot write `"));
    assert!(error.hint_text().unwrap().starts_with("the disk is full; what was stored before is good"));
    let (stored, whole) = (rows(folder), uninterrupted());
    assert!(!stored.is_empty() && stored.iter().all(|(i, row)| whole[i] == *row));

    let remount = |options: &str| Command::new("mount").args(["-o", options]).arg(folder).status().unwrap().success();
    assert!(remount("remount,ro"));
    assert_eq!(rows(folder), stored);
    let error = fill(folder, &all, Duration::ZERO).unwrap_err();
    assert!(error.to_string().starts_with("cannot write `"), "{error}");
    assert!(remount("remount,rw,size=1m"));
    fill(folder, &all, Duration::ZERO).unwrap();
    assert_eq!(rows(folder), whole);
}

/// A folder that is mounted at another place and unmounted while a writer adds rows there.
#[cfg(target_os = "linux")]
#[test]
fn a_mount_that_vanishes_is_a_clear_error_and_what_was_stored_stays() {
    let (disk, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mount = || {
        let status =
            Command::new("mount").arg("--bind").args([disk.path(), place.path()]).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !mount() {
        return;
    }
    let unmount = || assert!(Command::new("umount").arg("--lazy").arg(place.path()).status().unwrap().success());
    let stored = 100;
    fill(place.path(), &(0..stored).collect::<Vec<_>>(), Duration::ZERO).unwrap();
    let open = column(place.path());
    let mut writer = open.writer_with(Limits { bytes: 16 * ROW * 2, age: Duration::from_secs(60) }).unwrap();
    let reader = open.reader(&[digest(3)]).unwrap();
    writer.push(digest(stored), &row(stored)).unwrap();
    unmount();
    let error = (stored + 1..TOTAL).find_map(|i| writer.push(digest(i), &row(i)).err()).unwrap();
    assert!(error.to_string().ends_with("is gone"), "{error}");
    assert!(error.hint_text().unwrap().contains("unmounted"), "{error:?}");
    drop(writer);
    assert!(walk(place.path()).is_empty(), "nothing is written below the place where the disk was");
    let mut out = vec![0.0; ROW];
    reader.read(&[0], &mut out).unwrap();

    assert!(mount());
    assert_eq!(rows(place.path()).len(), stored);
    fill(place.path(), &(0..TOTAL).collect::<Vec<_>>(), Duration::ZERO).unwrap();
    assert_eq!(rows(place.path()), uninterrupted());
    unmount();
}

fn walk(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            names.extend(walk(&entry.path()));
        } else {
            names.push(entry.path().display().to_string());
        }
    }
    names
}
