//! Training from a column in a process of its own, with little memory: how much of it it takes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{BATCH, Stored, anonymous_memory};
use crate::base::Cancel;
use crate::graph::Targets;
use crate::recipe;
use crate::train::{self, Data, Session, TrainConfig};

/// Bytes of memory that the process may take.
const LIMIT: u64 = 2 << 30;
/// Classes of the head that is trained.
const CLASSES: u32 = 10;

/// What training took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trained {
    /// Wall-clock time of opening the column and of one epoch of a linear head.
    pub secs: f64,
    /// The most resident memory that no file is behind, where the system tells.
    pub anonymous_bytes: Option<u64>,
}

/// Trains one epoch in this process.
pub fn train_here(stored: &Stored) -> Result<Trained> {
    let begin = Instant::now();
    let done = AtomicBool::new(false);
    let watch = || {
        let mut most = None;
        while !done.load(Ordering::Relaxed) {
            most = most.max(anonymous_memory());
            std::thread::sleep(Duration::from_millis(10));
        }
        most
    };
    std::thread::scope(|scope| {
        let watcher = scope.spawn(watch);
        let trained = epoch(stored);
        done.store(true, Ordering::Relaxed);
        let anonymous_bytes = watcher.join().ok().flatten();
        trained.map(|()| Trained { secs: begin.elapsed().as_secs_f64(), anonymous_bytes })
    })
}

fn epoch(stored: &Stored) -> Result<()> {
    let rows = stored.rows(stored.column()?)?;
    let train: Vec<u32> = (0..stored.count as u32).collect();
    let classes: Vec<u32> = train.iter().map(|row| row % CLASSES).collect();
    let inputs = rows.specs().to_vec();
    let graph = train::build_graph(&Default::default(), &Default::default(), &inputs, CLASSES as usize)?;
    let data = Data::new(&rows, Targets::Classes(&classes), &train, &[]);
    let recipe = recipe::TrainConfig { epochs: 1, batch_size: BATCH as u32, ..recipe::TrainConfig::default() };
    let config = TrainConfig { recipe, metrics: Vec::new(), order_seed: 0, seed: 0 };
    let cancel = Cancel::default();
    train::train(&graph, &data, &config, Session { cancel: &cancel, checkpoint: None, on_epoch: &mut |_| Ok(()) })?;
    Ok(())
}

/// Trains one epoch in a child process that may have little memory; says which limit held it.
pub fn train_in_child(stored: &Stored) -> Result<(Trained, String)> {
    let group = Group::new();
    let mut command = Command::new("sh");
    let limit = match &group {
        Some(group) => {
            command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(group.folder.join("cgroup.procs"));
            format!("in a cgroup of {} GiB", LIMIT >> 30)
        }
        None => {
            let kilobytes = LIMIT >> 10;
            command.args(["-c", &format!("ulimit -d {kilobytes} && exec \"$0\" \"$@\"")]);
            format!("under `ulimit -d` of {} GiB, for no cgroup can be made here", LIMIT >> 30)
        }
    };
    let this = std::env::current_exe().context("where this program is")?;
    command.arg(this).args(["bench", "cache", "--row", &stored.spec.row_len().to_string()]);
    command.args(["--child", &stored.count.to_string(), "--folder"]).arg(&stored.home);
    let output = command.stderr(Stdio::inherit()).output().context("a child process")?;
    if !output.status.success() {
        bail!("training in a child process, {limit}, ended with {}", output.status);
    }
    Ok((serde_json::from_slice(&output.stdout).context("what the child process printed")?, limit))
}

/// A control group with a limit on memory, removed when dropped.
struct Group {
    folder: PathBuf,
}

impl Group {
    /// A new one, where this user may make one.
    fn new() -> Option<Self> {
        let name = format!("caft-bench-{}", std::process::id());
        let versions = [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];
        versions.into_iter().find_map(|(parent, file)| {
            let folder = Path::new(parent).join(&name);
            std::fs::create_dir(&folder).ok()?;
            let group = Self { folder };
            // Elsewhere than in a file system of control groups a folder would hold nothing.
            let limit = group.folder.join(file);
            (limit.exists() && std::fs::write(limit, LIMIT.to_string()).is_ok()).then_some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It is empty once the child has ended; one that stays does no harm.
        let _ = std::fs::remove_dir(&self.folder);
    }
}
