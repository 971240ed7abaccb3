//! `caft engine export`: a framework's own exporter, driven in the user's own Python.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Surroundings, short};
use crate::backbone::{Entry, Export, catalogue};
use crate::base::Error;
use crate::base::progress::{Unit, work};
use crate::cli::{Globals, print, print_json};
use crate::engine::verify::Scratch;
use crate::graph::onnx::proto::ModelProto;
use crate::graph::onnx::splice::{self, UNFOLDED};
use crate::graph::onnx::{self, inspect};

/// The script that the interpreter runs; it checks what it needs first.
const SCRIPT: &str = include_str!("export.py");
/// The frameworks whose exporter is driven.
const FRAMEWORKS: [&str; 7] = ["torchvision", "timm", "hf", "open_clip", "ultralytics", "torchhub", "github"];

/// Export a model of torchvision, timm, transformers, OpenCLIP, Ultralytics or a repository to an ONNX file, in your own
/// Python environment.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `torchvision:resnet50`, `timm:vit_small_patch16_224`, `hf:owner/repo`, `open_clip:RN50`, `ultralytics:yolov8n.pt`,
    /// `torchhub:owner/repo:function`, or a name of the catalogue.
    model: String,
    /// `default` for the published weights, `random`, or a file: safetensors, or a state dict of PyTorch.
    #[arg(long, default_value = "default", value_name = "WEIGHTS")]
    weights: String,
    /// The Python interpreter that has the framework; `CAFT_PYTHON` or `python3` if not given.
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Height and width of pictures, in place of the entry's (or 224).
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    image_size: Option<u32>,
    /// For training all of the network (`mode: full` and `scratch`): nothing is folded, so that each BatchNorm and Dropout
    /// stays.
    #[arg(long)]
    train: bool,
    /// With the model's own output too, as `logits`, for `model.full`.
    #[arg(long)]
    whole: bool,
    /// The seed of random weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Let what comes with the model run: the code of a torch.hub repository, or weights that are published as a pickle.
    #[arg(long)]
    trust: bool,
    /// A checkout of the repository whose code makes the network.
    #[arg(long, value_name = "FOLDER")]
    code: Option<PathBuf>,
    /// The file to write; the model's name with `.onnx`, or with `--train` `_train.onnx`, in this folder if not given.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What the script prints last.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    done: bool,
    refused: Option<String>,
    hint: Option<String>,
    failed: Option<String>,
}

impl Args {
    /// Exports, checks the file, and says what to do with it.
    ///
    /// # Errors
    /// The model is unknown, the environment lacks something (the error says what to install), the exporter
    /// fails, or its file is not what the catalogue expects.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, false)?;
        let (export, entry) = self.what()?;
        let name = entry.map_or_else(|| plain_name(&export.model), |entry| entry.name.clone());
        let end = if self.train { "_train" } else { "" };
        let out = self.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}{end}.onnx")));
        // A long export must not end with a folder that is not there.
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return Err(Error::bad_input(format!("there is no folder `{}` to write to", folder.display())).into());
        }
        let scratch = Scratch::beside(&out)?;
        let file = scratch.file("model.onnx");
        let request = self.request(&export, entry, &file)?;
        work(&here.progress, "exporting", None, Unit::Samples, || self.ask(&request))?;
        // Read whole and written anew: one file where it fits, and only if it is a model.
        let mut model = onnx::read(&file)?;
        check(&model, entry)?;
        if self.train {
            splice::set_metadata(&mut model, UNFOLDED, "true".into());
        }
        onnx::write(&model, &out)?;
        let size = entry.and_then(Entry::image_size).unwrap_or(224);
        let size = self.image_size.map_or(size, |size| size as usize);
        let summary = inspect::summarise(&model, Some(&[3, size, size]))?;
        if globals.json {
            print_json(
                &json!({"file": out, "name": name, "parameters": summary.parameters, "outputs": summary.outputs}),
            )?;
            return Ok(ExitCode::SUCCESS);
        }
        let outputs: Vec<String> = summary.outputs.iter().map(|port| format!("{} {}", port.name, port.shape)).collect();
        let shown = out.display();
        let mut text = format!(
            "{shown}: {} parameters, operator set {}\noutputs: {}\n",
            short(summary.parameters),
            summary.opset,
            outputs.join(", ")
        );
        let licence = entry.map(|entry| format!("licence: {}\n", entry.licence));
        let ultralytics =
            || "licence: AGPL-3.0, or Ultralytics' own: what is made with it comes under it\n".to_string();
        text += &licence.or_else(|| export.model.starts_with("ultralytics:").then(ultralytics)).unwrap_or_default();
        text += &match entry {
            Some(entry) if self.train => {
                let what = if self.whole { "full" } else { "backbone" };
                format!("in a recipe: {what}: {{name: {}, onnx: {shown}, mode: full}}\n", entry.name)
            }
            Some(entry) => format!(
                "next: caft engine build {0} --onnx {shown}\nin a recipe: backbone: {{name: {0}, onnx: {shown}}}\n",
                entry.name
            ),
            None => format!("next: caft engine inspect {shown}\n"),
        };
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    /// How the model is exported, and the catalogue's entry for it if there is one.
    fn what(&self) -> Result<(Export, Option<&'static Entry>), Error> {
        let catalogue = catalogue()?;
        let word = &self.model;
        let (export, entry) = if word.contains(':') {
            let of = |entry: &&Entry| entry.weights.export.as_ref().is_some_and(|export| export.model == *word);
            let entry = catalogue.entries().find(of);
            let bare =
                || Export { model: word.clone(), weights: None, part: None, modules: indexmap::IndexMap::default() };
            (entry.and_then(|entry| entry.weights.export.clone()).unwrap_or_else(bare), entry)
        } else {
            let entry = catalogue.get(word)?;
            let none = || {
                Error::bad_input(format!("the catalogue knows no way to export `{word}`"))
                    .hint(format!("its ONNX file is published: `caft engine build {word}` fetches it"))
            };
            (entry.weights.export.clone().ok_or_else(none)?, Some(entry))
        };
        let framework = export.model.split(':').next().unwrap_or_default();
        if FRAMEWORKS.contains(&framework) && export.model.len() > framework.len() + 1 {
            return Ok((export, entry));
        }
        let model = &export.model;
        Err(Error::bad_input(format!("`{model}` is not exported by caft")).hint(match entry {
            Some(_) => format!("`caft models show {word}` lists the outputs that the file has to have"),
            None => "write `torchvision:NAME`, `timm:NAME`, `hf:OWNER/REPO`, `open_clip:NAME`, `ultralytics:NAME.pt`, \
                     `torchhub:OWNER/REPO:FUNCTION`, or a name of `caft models`"
                .into(),
        }))
    }

    fn request(&self, export: &Export, entry: Option<&Entry>, file: &Path) -> Result<Value, Error> {
        let weights = match self.weights.as_str() {
            word @ ("default" | "random") => word.to_string(),
            path => {
                let path = Path::new(path);
                let whole = path.canonicalize().map_err(Error::io("read", path))?;
                whole.to_str().map(str::to_string).ok_or_else(|| Error::bad_input("the path is not UTF-8"))?
            }
        };
        let code = self.code.as_ref().map(|code| code.canonicalize().map_err(Error::io("read", code))).transpose()?;
        let file = std::path::absolute(file).map_err(Error::io("create", file))?;
        let mut tensors = entry.iter().flat_map(|entry| entry.outputs.values()).map(|output| output.tensor.as_str());
        Ok(json!({
            "model": export.model,
            "weights": weights,
            "named": export.weights,
            "part": export.part,
            "modules": export.modules,
            "output": tensors.next().unwrap_or("output"),
            "input": entry.and_then(|entry| entry.input.as_ref()).map_or("image", |input| &input.name),
            "size": self.image_size.unwrap_or(entry.and_then(|entry| entry.input.as_ref()).map_or(224, |input| input.size)),
            "seed": self.seed,
            "entry": entry.map(|entry| &entry.name),
            "trust": self.trust,
            "code": code,
            "train": self.train,
            "whole": self.whole,
            "out": file,
        }))
    }

    /// Runs the script.
    fn ask(&self, request: &Value) -> Result<(), Error> {
        let python = self.python.clone().map(PathBuf::into_os_string);
        let python = python.or_else(|| std::env::var_os("CAFT_PYTHON")).unwrap_or_else(|| OsString::from("python3"));
        let shown = python.to_string_lossy();
        let output =
            Command::new(&python).args(["-c", SCRIPT, &request.to_string()]).stdin(Stdio::null()).output().map_err(
                |error| {
                    Error::bad_input(format!("`{shown}` cannot be run"))
                        .hint("name a Python interpreter that has the framework with `--python`")
                        .because(error)
                },
            )?;
        let said = String::from_utf8_lossy(&output.stdout);
        let answer = said.lines().last().and_then(|line| serde_json::from_str::<Answer>(line).ok());
        let errors = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = errors.lines().rev().take(8).collect();
        let cause = last.into_iter().rev().collect::<Vec<_>>().join("\n");
        match answer.unwrap_or_default() {
            Answer { done: true, .. } => Ok(()),
            Answer { refused: Some(what), hint, .. } => {
                let error = Error::bad_input(what);
                Err(match hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                })
            }
            Answer { failed: Some(what), .. } => {
                Err(Error::failed(format!("the exporter failed: {what}")).because(cause))
            }
            _ => Err(Error::failed(format!("`{shown}` ended without an answer")).because(cause)),
        }
    }
}

/// Whether the file has what the catalogue's entry promises.
fn check(model: &ModelProto, entry: Option<&Entry>) -> Result<(), Error> {
    let Some(entry) = entry else { return Ok(()) };
    let graph = model.graph.as_ref();
    for (name, output) in &entry.outputs {
        if !graph.is_some_and(|graph| graph.output.iter().any(|value| value.name == output.tensor)) {
            let tensor = &output.tensor;
            return Err(Error::failed(format!("the exported file has no output `{tensor}`, which `{name}` is cut at"))
                .hint("this version of the framework names or splits its modules in another way"));
        }
    }
    Ok(())
}

/// `vit_small_patch16_224` of `timm:vit_small_patch16_224`, `repo` of `hf:owner/repo`.
fn plain_name(model: &str) -> String {
    let last = model.rsplit([':', '/']).next().unwrap_or(model);
    last.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(model: &str) -> Args {
        let (trust, code, weights) = (false, None, "random".into());
        let (train, whole) = (false, false);
        Args {
            model: model.into(),
            weights,
            python: None,
            image_size: None,
            seed: 0,
            train,
            whole,
            trust,
            code,
            out: None,
        }
    }

    #[test]
    fn the_catalogue_knows_what_an_export_is_called() {
        let (export, entry) = args("torchvision:resnet50").what().unwrap();
        assert_eq!((entry.unwrap().name.as_str(), export.modules["c5"].as_str()), ("resnet50", "layer4"));
        assert_eq!(args("resnet50").what().unwrap().0, export);
        let (bare, entry) = args("timm:resnet10t").what().unwrap();
        assert!(entry.is_none() && bare.modules.is_empty());
        let request = args("resnet50").request(&export, entry, Path::new("x.onnx")).unwrap();
        assert_eq!((&request["size"], &request["input"]), (&json!(224), &json!("image")));
        assert_eq!(plain_name("hf:owner/some repo"), "some_repo");
    }

    #[test]
    fn what_is_not_exported_is_said() {
        let said = |word: &str| args(word).what().unwrap_err();
        assert!(said("resnet5").to_string().contains("did you mean `resnet50`?"));
        assert!(said("keras:resnet50").hint_text().unwrap().contains("timm:NAME"));
        assert!(said("vit_small_patch14_focus").hint_text().unwrap().contains("is published"));
        assert!(said("timm:").to_string().contains("is not exported by caft"));
    }

    #[test]
    fn an_interpreter_that_is_none_is_told() {
        let args = Args { python: Some("no-such-python".into()), ..args("resnet50") };
        let error = args.ask(&json!({})).unwrap_err();
        assert!(error.to_string().contains("`no-such-python` cannot be run"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
