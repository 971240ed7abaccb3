//! A folder with a tiny backbone, pictures and recipes, in which the program runs as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use caft::base::Cancel;
use caft::base::home::Home;
use caft::base::progress::Silent;
use caft::engine::runtime;
use caft::graph::onnx;
use caft::resource::Fetcher;

/// A project in a temporary folder, with a home of its own.
pub struct Project {
    folder: tempfile::TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

impl Ran {
    /// Standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Project {
    /// A project with `per_class` pictures of each of two classes in `data/train`, as many in `data/test`,
    /// and `recipe.yaml` for them.
    pub fn new(per_class: usize) -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap() };
        onnx::write(&onnx::testing::tiny_cnn(), &project.path("backbone.onnx")).unwrap();
        for split in ["train", "test"] {
            for (class, warm) in [("cold", false), ("warm", true)] {
                for number in 0..per_class {
                    project.picture(&format!("data/{split}/{class}/{number:03}.png"), warm, number);
                }
            }
        }
        project.write("recipe.yaml", RECIPE);
        project
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A reddish or a bluish picture; no two numbers give the same.
    pub fn picture(&self, name: &str, warm: bool, number: usize) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let seed = caft::base::random::Stream::named(number as u64, name);
        let picture = image::RgbImage::from_fn(40, 30, |x, y| {
            let noise = |channel: u64| (seed.below(u64::from(y * 40 + x) * 3 + channel, 90)) as u8;
            let (red, blue) = if warm { (160, 0) } else { (0, 160) };
            image::Rgb([red + noise(0), noise(1), blue + noise(2)])
        });
        picture.save(path).unwrap();
    }

    /// Writes `rows.csv`: of each picture whether it is warm and cold, its degrees and its split.
    pub fn table(&self) {
        let mut table = "file,warm,cold,degrees,split\n".to_string();
        for split in ["train", "test"] {
            for number in 0..12 {
                table += &format!("data/{split}/warm/{number:03}.png,1,0,{},{split}\n", 30 + number % 3);
                table += &format!("data/{split}/cold/{number:03}.png,0,1,{},{split}\n", -10 - number % 3);
            }
        }
        self.write("rows.csv", &table);
    }

    /// A recipe for that table, by its label, with more of the model's keys.
    pub fn table_recipe(label: &str, rest: &str) -> String {
        format!(
            "name: table\nextends: [linear_probe]\nmodel:\n  backbone: {{onnx: backbone.onnx, outputs: [/Flatten_output_0]}}\n{rest}\n\
             data:\n  kind: csv\n  train: {{path: rows.csv}}\n  image: file\n  label: {label}\n  \
             test: {{column: {{name: split, is: test}}}}\n  preprocess: {{resize: {{size: 32, mode: exact}}, mean: [0.5, 0.5, 0.5], \
             std: [0.25, 0.25, 0.25]}}\ntrain: {{epochs: 60, batch_size: 8, optimizer: {{kind: adamw, lr: 2.0e-2}}}}\n"
        )
    }

    /// The program, in this project and with its home.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_caft"));
        command
            .current_dir(self.folder.path())
            .args(arguments)
            .env("CAFT_HOME", self.path("home"))
            .env("CAFT_ORT_DYLIB", onnx_runtime())
            .env_remove("HF_ENDPOINT");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).output().unwrap())
    }
}

pub fn ran(output: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { stdout: text(output.stdout), stderr: text(output.stderr), code: output.status.code() }
}

/// The pinned runtime of the user's own home, so that a project's home need not fetch it again.
pub fn onnx_runtime() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let home = Home::from_environment().unwrap();
        runtime::ensure(&Fetcher::new(&home, &Silent, &Cancel::default(), false)).unwrap().path
    })
}

const RECIPE: &str = "
name: warmth
extends: [linear_probe]
model:
  backbone: {onnx: backbone.onnx, outputs: [/Flatten_output_0]}
data:
  kind: image_folder
  train: {path: data/train}
  test: {path: data/test}
  valid: {fraction: 0.25}
  preprocess: {resize: {size: 32, mode: exact}, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
train: {epochs: 40, batch_size: 8, optimizer: {kind: adamw, lr: 2.0e-2}}
";
