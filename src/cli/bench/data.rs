//! `caft bench data`: photographs per second through decode, resize, crop and normalise, beside a PyTorch
//! `DataLoader` with torchvision's transforms.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::median;
use crate::base::Cancel;
use crate::base::home::Home;
use crate::base::progress::Silent;
use crate::cli::table::Table;
use crate::cli::{Globals, print, print_json};
use crate::data::{self, DataConfig, Dataset, LoadContext};
use crate::resource::Fetcher;
use crate::sample::Ready;
use crate::sample::image::{Filter, ImagePreprocess, Resize, ResizeMode};
use crate::sample::pipeline::{Item, Options, prepare};

/// Measure how many photographs per second are decoded, resized (shorter side 256, bilinear), cropped
/// (224) and normalised.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder of class folders with photographs
    folder: PathBuf,
    /// Threads of caft, and worker processes of PyTorch
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    threads: u8,
    /// Passes over the folder after one that warms up; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    passes: u8,
    /// A Python with torch and torchvision, to measure beside
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
}

const BATCH: usize = 32;
const RESIZE: u32 = 256;
const CROP: u32 = 224;
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Makes one pass per line of its input, and prints the number of photographs and the seconds.
const PYTHON: &str = r#"
import json, sys, time
import torch
from torchvision import transforms
from torchvision.datasets import ImageFolder
folder, workers, batch, size, crop, mean, std = json.loads(sys.argv[1])
steps = [transforms.Resize(size), transforms.CenterCrop(crop), transforms.ToTensor(), transforms.Normalize(mean, std)]
data = ImageFolder(folder, transforms.Compose(steps))
loader = torch.utils.data.DataLoader(data, batch_size=batch, num_workers=workers, persistent_workers=True)
print(torch.__version__, flush=True)
for _ in sys.stdin:
    begin = time.perf_counter()
    images = sum(len(labels) for _, labels in loader)
    print(json.dumps([images, time.perf_counter() - begin]), flush=True)
"#;

impl Args {
    /// Measures and prints.
    ///
    /// # Errors
    /// The folder has no photographs, one cannot be decoded, or Python fails.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let task = json!([self.folder, self.threads, BATCH, RESIZE, CROP, MEAN, STD]);
        let mut torch = self.python.as_deref().map(|python| Torch::start(python, &task)).transpose()?;
        let data = self.load()?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // Pass by pass in turn, so that what else the machine does slows both.
        for pass in 0..=self.passes {
            let rates = (self.pass(&data)?, torch.as_mut().map(Torch::pass).transpose()?);
            if pass > 0 {
                ours.push(rates.0);
                theirs.extend(rates.1);
            }
        }
        let (ours, threads, images) = (median(ours), self.threads, data.rows.len());
        let mut result = json!({"images": images, "threads": threads, "caft": {"images_per_second": ours}});
        let mut table = Table::new(["", "images/s", "ratio"]);
        table.row([format!("caft, {threads} threads"), format!("{ours:.1}"), String::new()]);
        if let Some(torch) = &torch {
            let (theirs, version) = (median(theirs), &torch.version);
            let ratio = ours / theirs;
            result["torch"] = json!({"images_per_second": theirs, "version": version});
            result["ratio"] = ratio.into();
            let name = format!("torch {version} DataLoader, {threads} workers");
            table.row([name, format!("{theirs:.1}"), format!("{ratio:.2}")]);
        }
        if globals.json {
            print_json(&result)?;
        } else {
            print(&format!("{images} photographs, {} passes\n{table}", self.passes))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn load(&self) -> Result<Dataset> {
        let config: DataConfig =
            serde_json::from_value(json!({"kind": "image_folder", "train": {"path": self.folder}}))?;
        let (home, cancel) = (Home::from_environment()?, Cancel::default());
        let fetcher = Fetcher::new(&home, &Silent, &cancel, true);
        Ok(data::load(&config, &LoadContext { fetcher: &fetcher, home: &home, seed: 0 })?)
    }

    /// Photographs per second of one pass.
    fn pass(&self, data: &Dataset) -> Result<f64> {
        let rows = data.rows.iter().enumerate();
        let items: Vec<Item<'_>> =
            rows.map(|(index, row)| Item { index, samples: &row.samples, origin: (&row.origin).into() }).collect();
        let resize = Resize { size: RESIZE, mode: ResizeMode::Shortest, filter: Filter::Bilinear, antialias: true };
        let steps =
            ImagePreprocess { resize: Some(resize), crop: Some(CROP), scale: 1.0 / 255.0, mean: MEAN, std: STD };
        let cancel = Cancel::default();
        let options = Options { batch_size: BATCH, threads: self.threads.into(), cancel: &cancel, skip_bad: false };
        let begin = Instant::now();
        prepare(&items, &Ready::Image(steps.clone()), &options, |_| Ok(()))?;
        Ok(items.len() as f64 / begin.elapsed().as_secs_f64())
    }
}

/// A Python that makes passes when asked; it ends with its input.
struct Torch {
    program: String,
    version: String,
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Torch {
    fn start(python: &Path, task: &Value) -> Result<Self> {
        let program = python.display().to_string();
        let mut child = Command::new(python)
            .args(["-c", PYTHON, &task.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{program}`"))?;
        let answers = BufReader::new(child.stdout.take().context("Python has no output")?);
        let mut torch = Self { program, version: String::new(), child, answers };
        torch.version = torch.answer()?;
        Ok(torch)
    }

    /// Photographs per second of one pass. (torchvision leaves out files that caft reads, such as GIFs, so each
    /// has its own count.)
    fn pass(&mut self) -> Result<f64> {
        writeln!(self.child.stdin.as_mut().context("Python has no input")?)?;
        let (images, seconds): (u64, f64) = serde_json::from_str(&self.answer()?).context("Python's answer is odd")?;
        Ok(images as f64 / seconds)
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("`{}` ended early; what it says is above", self.program);
        }
        Ok(line.trim().to_string())
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
