//! The cache under processes that are killed and processes that meet: real children, real signals.
//!
//! A child is this test program again, asked for [`child`] alone with [`FOLDER`] set.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use caft::base::progress::Silent;
use caft::base::random::Stream;
use caft::base::{DType, Digest, Home};
use caft::cache::{Column, ColumnSpec, Limits, Store};

const FOLDER: &str = "CAFT_TEST_CACHE_FOLDER";
/// Which rows a child adds and in which order, as `start..end`, or `end..start` for backwards.
const ROWS: &str = "CAFT_TEST_CACHE_ROWS";
/// Set to a number for more kills than the suite does.
const KILLS: &str = "CAFT_TEST_KILLS";

const TOTAL: usize = 600;
const ROW: usize = 64;

fn column(folder: &Path) -> Column {
    let spec = ColumnSpec {
        key: Digest::of(b"killed"),
        ingredients: serde_json::Map::new(),
        row_shape: vec![ROW],
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
fn fill(folder: &Path, rows: &[usize], pause: Duration) {
    let column = column(folder);
    let digests: Vec<Digest> = rows.iter().map(|&i| digest(i)).collect();
    let limits = Limits { bytes: 16 * ROW * 2, age: Duration::from_millis(5) };
    let mut writer = column.writer_with(limits).unwrap();
    for at in column.missing(&digests) {
        std::thread::sleep(pause);
        writer.push(digests[at], &row(rows[at])).unwrap();
    }
    writer.finish().unwrap();
}

/// Not a test: what a child process does.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let rows = std::env::var(ROWS).unwrap();
    let (from, to) = rows.split_once("..").map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).unwrap();
    let rows: Vec<usize> = if from < to { (from..to).collect() } else { (to..from).rev().collect() };
    fill(folder.as_ref(), &rows, Duration::from_micros(200));
}

fn spawn(folder: &Path, rows: &str) -> Child {
    let name = format!("{}::child", module_path!().split_once("::").unwrap().1);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&name, "--exact", "--test-threads=1"]).env(FOLDER, folder).env(ROWS, rows);
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
    fill(folder.path(), &(0..TOTAL).collect::<Vec<_>>(), Duration::ZERO);
    rows(folder.path())
}

#[test]
fn a_cache_whose_writers_are_killed_ends_with_the_rows_of_an_uninterrupted_run() {
    let folder = tempfile::tempdir().unwrap();
    let kills: u64 = std::env::var(KILLS).map_or(10, |kills| kills.parse().unwrap());
    let random = Stream::named(std::process::id().into(), "kills");
    let mut stored = 0;
    for kill in 0..kills {
        let mut child = spawn(folder.path(), &format!("0..{TOTAL}"));
        std::thread::sleep(Duration::from_micros(20_000 + random.below(kill, 60_000)));
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
