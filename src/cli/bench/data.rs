//! `caft bench data`: photographs per second through decode, resize, crop and normalise, beside a PyTorch
//! `DataLoader` with torchvision's transforms.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::base::Cancel;
use crate::base::home::Home;
use crate::base::progress::Silent;
use crate::cli::table::Table;
use crate::cli::{Globals, print, print_json};
use crate::data::{self, DataConfig, LoadContext};
use crate::resource::Fetcher;
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

/// Prints the seconds of each pass as JSON.
const PYTHON: &str = r#"
import json, sys, time
import torch
from torchvision import transforms
from torchvision.datasets import ImageFolder
folder, workers, passes, batch, size, crop, mean, std = json.loads(sys.argv[1])
steps = [transforms.Resize(size), transforms.CenterCrop(crop), transforms.ToTensor(), transforms.Normalize(mean, std)]
data = ImageFolder(folder, transforms.Compose(steps))
loader = torch.utils.data.DataLoader(data, batch_size=batch, num_workers=workers, persistent_workers=True)
seconds = []
for _ in range(passes + 1):
    begin = time.perf_counter()
    images = sum(len(labels) for _, labels in loader)
    seconds.append(time.perf_counter() - begin)
print(json.dumps({"images": images, "seconds": seconds[1:], "version": torch.__version__}))
"#;

impl Args {
    /// Measures and prints.
    ///
    /// # Errors
    /// The folder has no photographs, one cannot be decoded, or Python fails.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let (images, seconds) = self.caft()?;
        let ours = images as f64 / median(seconds);
        let threads = self.threads;
        let mut result = json!({"images": images, "threads": threads, "caft": {"images_per_second": ours}});
        let mut table = Table::new(["", "images/s", "ratio"]);
        table.row([format!("caft, {threads} threads"), format!("{ours:.1}"), String::new()]);
        if let Some(python) = &self.python {
            let (theirs, version) = self.torch(python)?;
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

    /// The number of photographs and the seconds of each pass.
    fn caft(&self) -> Result<(usize, Vec<f64>)> {
        let config: DataConfig =
            serde_json::from_value(json!({"kind": "image_folder", "train": {"path": self.folder}}))?;
        let (home, cancel) = (Home::from_environment()?, Cancel::default());
        let fetcher = Fetcher::new(&home, &Silent, &cancel, true);
        let data = data::load(&config, &LoadContext { fetcher: &fetcher, home: &home, seed: 0 })?;
        let rows = data.rows.iter().enumerate();
        let items: Vec<Item<'_>> =
            rows.map(|(index, row)| Item { index, sample: &row.samples[0], origin: &row.origin }).collect();
        let resize = Resize { size: RESIZE, mode: ResizeMode::Shortest, filter: Filter::Bilinear, antialias: true };
        let steps =
            ImagePreprocess { resize: Some(resize), crop: Some(CROP), scale: 1.0 / 255.0, mean: MEAN, std: STD };
        let options = Options { batch_size: BATCH, threads: self.threads.into(), cancel: &cancel, skip_bad: false };
        let mut seconds = Vec::new();
        for _ in 0..=self.passes {
            let begin = Instant::now();
            prepare(&items, &steps, &options, |_| Ok(()))?;
            seconds.push(begin.elapsed().as_secs_f64());
        }
        seconds.remove(0);
        Ok((items.len(), seconds))
    }

    /// PyTorch's photographs per second, and its version.
    fn torch(&self, python: &Path) -> Result<(f64, String)> {
        let task = json!([self.folder, self.threads, self.passes, BATCH, RESIZE, CROP, MEAN, STD]);
        let output = Command::new(python)
            .args(["-c", PYTHON, &task.to_string()])
            .output()
            .with_context(|| format!("cannot start `{}`", python.display()))?;
        if !output.status.success() {
            let last = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_string();
            bail!("`{}` failed: {last}", python.display());
        }
        let told: Value = serde_json::from_slice(&output.stdout).context("Python's answer is not JSON")?;
        let seconds: Vec<f64> = serde_json::from_value(told["seconds"].clone())?;
        // torchvision leaves out files that caft reads, such as GIFs, so each has its own count.
        let Some(images) = told["images"].as_u64().filter(|_| !seconds.is_empty()) else {
            bail!("Python's answer lacks a number of photographs");
        };
        Ok((images as f64 / median(seconds), told["version"].as_str().unwrap_or_default().to_string()))
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
