//! `caft bench cache`: how soon stored activations open, and how quickly training reads them, beside a plain
//! sequential read of the same files.

mod training;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::base::progress::Silent;
use crate::base::random::Stream;
use crate::base::{Cancel, DType, Digest, Home};
use crate::cache::{COMPACT_SHARD_BYTES, Column, ColumnSpec, Limits, Store};
use crate::cli::progress::Terminal;
use crate::cli::table::Table;
use crate::cli::{Globals, interrupt, print, print_json};
use crate::run::StoredRows;
use crate::train::{Features as _, read_batches, shuffled};

/// Measure the opening and the reading of stored activations.
///
/// Makes a column of its own, which takes twice its size on disk for a while, and deletes it at the end. Where the
/// system allows it, the files are dropped from memory before each reading. Rows are read as training reads them. Then
/// a process that may take 2 GiB of memory trains a linear head on them for an epoch.
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
    /// Only trains on so many rows below the folder: what the child process does.
    #[arg(long, value_name = "ROWS", hide = true, requires = "folder")]
    child: Option<usize>,
}

const BATCH: usize = 256;

impl Args {
    /// Measures and prints.
    ///
    /// # Errors
    /// Those of the cache, or standard output is closed.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        if let (Some(count), Some(folder)) = (self.child, &self.folder) {
            print_json(&training::train_here(&Stored::new(self.row, count, folder)?)?)?;
            return Ok(ExitCode::SUCCESS);
        }
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

/// A column that the bench fills.
struct Stored {
    home: PathBuf,
    store: Store,
    spec: ColumnSpec,
    count: usize,
}

impl Stored {
    fn new(row: u32, count: usize, home: &Path) -> Result<Self> {
        let spec = ColumnSpec {
            key: Digest::of(b"bench"),
            ingredients: Map::new(),
            row_shape: vec![row as usize],
            ragged: false,
            dtype: DType::F16,
            made_by: "bench".into(),
        };
        Ok(Self { home: home.to_path_buf(), store: Store::open(&Home::at(home))?, spec, count })
    }

    fn column(&self) -> Result<Column> {
        Ok(self.store.column(&self.spec, &Silent)?)
    }

    /// The rows as training has them, in blocks whatever their size.
    fn rows(&self, column: Column) -> Result<StoredRows> {
        let reader = column.reader_of(self.count, &digest)?;
        Ok(StoredRows::of(vec![("rows".into(), reader)]).by_blocks())
    }
}

struct Bench {
    stored: Stored,
    progress: Terminal,
    cancel: Cancel,
}

impl Bench {
    fn new(args: &Args, folder: &Path, progress: Terminal, cancel: Cancel) -> Result<Self> {
        let count = ((args.gigabytes * 1e9) as usize / (args.row as usize * DType::F16.size())).max(BATCH);
        Ok(Self { stored: Stored::new(args.row, count, folder)?, progress, cancel })
    }

    fn measure(&self) -> Result<Map<String, Value>> {
        let mut results = Map::new();
        let mut told = |name: &str, value: String| results.insert(name.into(), json!(value));
        let (took, written) = timed(|| self.fill())?;
        told("write", format!("{} rows, {}", self.stored.count, speed(written, took)));

        let (took, _) = timed(|| self.stored.column())?;
        told("open, as written", format!("{:.0} ms", took.as_secs_f64() * 1e3));
        let (name, trained) = self.train("train, as written")?;
        told(&name, trained);
        let compact = || Ok(self.stored.column()?.compact(COMPACT_SHARD_BYTES, &self.progress, &self.cancel)?);
        let (took, _) = timed(compact)?;
        told("compact", speed(written, took));
        let before = anonymous_memory();
        let (took, column) = timed(|| self.stored.column())?;
        let grown = anonymous_memory().zip(before).map(|(after, before)| after.saturating_sub(before));
        let grown = grown.map(|bytes| format!(", {:.1} MB", bytes as f64 / 1e6)).unwrap_or_default();
        told("open, compacted", format!("{:.1} ms{grown}", took.as_secs_f64() * 1e3));
        let (took, _) = timed(|| self.stored.rows(column))?;
        told("find all rows", format!("{:.0} ms", took.as_secs_f64() * 1e3));

        let mut plain = f64::INFINITY;
        for pass in ["first", "second"] {
            let dropped = self.drop_from_memory();
            let (took, bytes) = timed(|| self.read_plainly())?;
            plain = plain.min(took.as_secs_f64());
            told(&format!("plain sequential read, {pass}"), format!("{}{}", speed(bytes, took), whether(dropped)));
        }
        let rows = self.stored.rows(self.stored.column()?)?;
        for epoch in 0..2 {
            let dropped = self.drop_from_memory();
            let (took, bytes) = timed(|| self.read_shuffled(&rows, epoch))?;
            let share = 100.0 * plain / took.as_secs_f64();
            let text = format!("{}, {share:.0} % of plain{}", speed(bytes, took), whether(dropped));
            told(&format!("block shuffle, epoch {}", epoch + 1), text);
        }
        drop(rows);
        let (name, trained) = self.train("train, compacted")?;
        told(&name, trained);
        Ok(results)
    }

    /// Trains in a child process.
    fn train(&self, what: &str) -> Result<(String, String)> {
        self.drop_from_memory();
        let (trained, limit) = training::train_in_child(&self.stored)?;
        let memory = trained.anonymous_bytes.map_or("unknown".into(), |bytes| format!("{:.0} MB", bytes as f64 / 1e6));
        Ok((what.into(), format!("{:.1} s an epoch, {memory} of anonymous memory at most, {limit}", trained.secs)))
    }

    fn fill(&self) -> Result<u64> {
        let limits = Limits { age: Duration::from_secs(3600), ..Limits::default() };
        let mut writer = self.stored.column()?.writer_with(limits)?;
        // Making as many random numbers would take longer than storing them; rows are windows of these.
        let len = self.stored.spec.row_len();
        let noise: Vec<f32> = (0..len as u64 + 4096).map(|i| Stream::new(1, 2).normal(i)).collect();
        for row in 0..self.stored.count {
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

    fn read_shuffled(&self, rows: &StoredRows, epoch: u32) -> Result<u64> {
        let all: Vec<u32> = (0..rows.len() as u32).collect();
        let order = shuffled(&all, 0, epoch, rows.block_rows());
        read_batches(rows, &order, BATCH, &mut |_| self.cancel.check())?;
        Ok((self.stored.count * self.stored.spec.row_bytes()) as u64)
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = self.stored.store.folder().join(self.stored.spec.key.to_string());
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect()
    }

    /// Asks the system to forget the files, and says whether it could be asked.
    fn drop_from_memory(&self) -> bool {
        debug_assert!(self.stored.store.folder().starts_with(&self.stored.home), "only the bench's own files");
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
