//! `caft bench cache`: how soon stored activations open, and how quickly training reads them, beside a plain
//! sequential read of the same files.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::base::random::Stream;
use crate::base::{Cancel, DType, Digest, Home};
use crate::cache::{COMPACT_SHARD_BYTES, Column, ColumnSpec, Limits, Store};
use crate::cli::progress::Terminal;
use crate::cli::table::Table;
use crate::cli::{Globals, interrupt, print, print_json};
use crate::train::epoch_order;

/// Measure the opening and the reading of stored activations.
///
/// Makes a column of its own, which takes twice its size on disk for a while, and deletes it at the end. Where the
/// system allows it, the files are dropped from memory before each reading.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Gigabytes of rows to store
    #[arg(long, default_value_t = 8.0)]
    gigabytes: f64,
    /// Values of a row, stored as f16
    #[arg(long, default_value_t = 768, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    row: u32,
    /// The folder to work in; a temporary one below the home if not given
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

const BATCH: usize = 256;
/// Bytes of a block of the shuffle, as in training.
const BLOCK: usize = 8 << 20;

impl Args {
    /// Measures and prints.
    ///
    /// # Errors
    /// Those of the cache, or standard output is closed.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let cancel = Cancel::default();
        interrupt::handle(&cancel)?;
        let parent = match &self.folder {
            Some(folder) => folder.clone(),
            None => Home::from_environment()?.folder("cache")?,
        };
        let folder = parent.join(format!(".tmp-bench-{}", std::process::id()));
        let bench = Bench::new(self, &folder, Terminal::new(globals.verbosity()), cancel)?;
        let results = bench.measure();
        // The results matter more than what is left behind; `gc` finds it.
        let _ = std::fs::remove_dir_all(&folder);
        let results = results?;
        if globals.json {
            print_json(&results)?;
        } else {
            let mut table = Table::new(["what", "measured"]);
            results.into_iter().for_each(|(name, value)| table.row([name, value.as_str().unwrap_or_default().into()]));
            print(&table.to_string())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

struct Bench {
    folder: PathBuf,
    store: Store,
    spec: ColumnSpec,
    rows: usize,
    progress: Terminal,
    cancel: Cancel,
}

impl Bench {
    fn new(args: &Args, folder: &Path, progress: Terminal, cancel: Cancel) -> Result<Self> {
        let spec = ColumnSpec {
            key: Digest::of(b"bench"),
            ingredients: Map::new(),
            row_shape: vec![args.row as usize],
            dtype: DType::F16,
            made_by: "bench".into(),
        };
        let rows = ((args.gigabytes * 1e9) as usize / spec.row_bytes()).max(BATCH);
        let store = Store::open(&Home::at(folder))?;
        Ok(Self { folder: folder.to_path_buf(), store, spec, rows, progress, cancel })
    }

    fn column(&self) -> Result<Column> {
        Ok(self.store.column(&self.spec, &self.progress)?)
    }

    fn digests(&self) -> Vec<Digest> {
        (0..self.rows).map(digest).collect()
    }

    fn measure(&self) -> Result<Map<String, Value>> {
        let mut results = Map::new();
        let mut told = |name: &str, value: String| results.insert(name.into(), json!(value));
        let (took, written) = timed(|| self.fill())?;
        told("write", format!("{} rows, {}", self.rows, speed(written, took)));

        let digests = self.digests();
        let (took, _) = timed(|| Ok(self.column()?.reader(&digests)?))?;
        told("open, as written", format!("{:.0} ms", took.as_secs_f64() * 1e3));
        let (took, _) = timed(|| Ok(self.column()?.compact(COMPACT_SHARD_BYTES, &self.progress, &self.cancel)?))?;
        told("compact", speed(written, took));
        let (took, column) = timed(|| self.column())?;
        told("open, compacted", format!("{:.1} ms", took.as_secs_f64() * 1e3));
        let (took, reader) = timed(|| Ok(column.reader(&digests)?))?;
        told("find all rows", format!("{:.0} ms", took.as_secs_f64() * 1e3));
        drop((reader, column, digests));

        let mut plain = f64::INFINITY;
        for pass in ["first", "second"] {
            let dropped = self.drop_from_memory();
            let (took, bytes) = timed(|| self.read_plainly())?;
            plain = plain.min(took.as_secs_f64());
            told(&format!("plain sequential read, {pass}"), format!("{}{}", speed(bytes, took), whether(dropped)));
        }
        for epoch in 0..2 {
            let dropped = self.drop_from_memory();
            let reader = self.column()?.reader(&self.digests())?;
            let (took, bytes) = timed(|| self.read_shuffled(&reader, epoch))?;
            let share = 100.0 * plain / took.as_secs_f64();
            let text = format!("{}, {share:.0} % of plain{}", speed(bytes, took), whether(dropped));
            told(&format!("block shuffle, epoch {}", epoch + 1), text);
        }
        if let Some(bytes) = anonymous_memory() {
            told("anonymous memory", format!("{:.0} MB", bytes as f64 / 1e6));
        }
        Ok(results)
    }

    fn fill(&self) -> Result<u64> {
        let limits = Limits { age: Duration::from_secs(3600), ..Limits::default() };
        let mut writer = self.column()?.writer_with(limits)?;
        // Making as many random numbers would take longer than storing them; rows are windows of these.
        let len = self.spec.row_len();
        let noise: Vec<f32> = (0..len as u64 + 4096).map(|i| Stream::new(1, 2).normal(i)).collect();
        for row in 0..self.rows {
            if row % 1024 == 0 {
                self.cancel.check()?;
            }
            writer.push(digest(row), &noise[row % 4096..][..len])?;
        }
        Ok(writer.finish()?.bytes)
    }

    fn read_plainly(&self) -> Result<u64> {
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        for path in self.files() {
            let mut file = std::fs::File::open(path)?;
            loop {
                self.cancel.check()?;
                match file.read(&mut buffer)? {
                    0 => break,
                    read => bytes += read as u64,
                }
            }
        }
        Ok(bytes)
    }

    fn read_shuffled(&self, reader: &crate::cache::RowReader, epoch: u32) -> Result<u64> {
        let rows: Vec<u32> = (0..self.rows as u32).collect();
        let order = epoch_order(&rows, 0, epoch, Some(BLOCK / self.spec.row_bytes()));
        let mut batch = vec![0.0; BATCH * self.spec.row_len()];
        for rows in order.chunks(BATCH) {
            self.cancel.check()?;
            reader.read(rows, &mut batch[..rows.len() * self.spec.row_len()])?;
        }
        Ok((self.rows * self.spec.row_bytes()) as u64)
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = self.store.folder().join(self.spec.key.to_string());
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect()
    }

    /// Asks the system to forget the files, and says whether it could be asked.
    fn drop_from_memory(&self) -> bool {
        debug_assert!(self.store.folder().starts_with(&self.folder), "only the bench's own files");
        #[cfg(target_os = "linux")]
        return self.files().iter().all(|path| {
            let Ok(file) = std::fs::File::open(path) else { return false };
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).is_ok()
        });
        #[cfg(not(target_os = "linux"))]
        return false;
    }
}

fn digest(row: usize) -> Digest {
    Digest::of(&(row as u64).to_le_bytes())
}

fn timed<T>(body: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let begin = Instant::now();
    let result = body()?;
    Ok((begin.elapsed(), result))
}

fn speed(bytes: u64, took: Duration) -> String {
    format!("{:.2} GB/s", bytes as f64 / took.as_secs_f64() / 1e9)
}

fn whether(dropped: bool) -> &'static str {
    if dropped { ", from disk" } else { ", perhaps from memory" }
}

/// Resident memory of this process that is not backed by files, where the system tells.
fn anonymous_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
