//! `caft export`: a finished run as one ONNX file.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use super::runs::RunsDir;
use super::surroundings::Surroundings;
use super::table::Table;
use super::{Globals, print, print_json};
use crate::export::{Activation, Input};
use crate::recipe::Precision;
use crate::run::directory;
use crate::run::export::{ExportRequest, Exported, export};

/// Write a finished run as one ONNX file, backbone and head together, with Hugging Face's configuration beside it; of a
/// run on pairs one for each field, in a folder of its name, unless all fields go through the same network.
/// It is compared with the live run before it is put in place.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run: its folder, its id (or its beginning), or its recipe's name for the newest one.
    run: String,
    /// The folder that the files go to; the run's own by default.
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// What is made of the head's outputs inside the file.
    #[arg(long, value_enum, default_value_t = ActivationArg::None)]
    activation: ActivationArg,
    /// What the file takes.
    #[arg(long, value_enum, default_value_t = InputArg::Tensor)]
    input: InputArg,
    /// The precision of the backbone's weights; by default what the run's engine is kept in.
    #[arg(long, value_enum)]
    precision: Option<PrecisionArg>,
    /// How many samples of the run's data are compared.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    samples: u32,
    /// Compare on these pictures (or texts) in place of the run's data.
    #[arg(long, value_name = "INPUT", num_args = 1..)]
    compare: Vec<String>,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    place: RunsDir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ActivationArg {
    /// Logits, as Hugging Face's pipelines expect.
    None,
    /// Probabilities that sum to 1.
    Softmax,
    /// A probability for each output.
    Sigmoid,
    /// Vectors of length one.
    L2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum InputArg {
    /// The network's own input, scaled and normalised.
    Tensor,
    /// 8-bit pixels `[batch, height, width, 3]` of the network's size.
    Pixels,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PrecisionArg {
    /// 32-bit floats.
    Fp32,
    /// 16-bit floats.
    Fp16,
    /// 8-bit integers.
    Int8,
}

impl Args {
    /// Exports, and prints where the file is and how it compares.
    ///
    /// # Errors
    /// There is no such finished run, or the export differs from it.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, self.offline)?;
        let context = here.context(&self.place.runs_dir);
        let record = directory::find_finished(&self.place.runs_dir, &self.run)?;
        let request = ExportRequest {
            folder: self.output.clone(),
            activation: match self.activation {
                ActivationArg::None => Activation::None,
                ActivationArg::Softmax => Activation::Softmax,
                ActivationArg::Sigmoid => Activation::Sigmoid,
                ActivationArg::L2 => Activation::L2,
            },
            input: match self.input {
                InputArg::Tensor => Input::Tensor,
                InputArg::Pixels => Input::Pixels,
            },
            precision: self.precision.map(|precision| match precision {
                PrecisionArg::Fp32 => Precision::Fp32,
                PrecisionArg::Fp16 => Precision::Fp16,
                PrecisionArg::Int8 => Precision::Int8,
            }),
            samples: self.samples as usize,
            files: self.compare.clone(),
        };
        let exported = export(&record, &request, &context)?;
        match &exported[..] {
            [one] if globals.json => print_json(one)?,
            _ if globals.json => print_json(&exported)?,
            _ => print(&exported.iter().map(summary).collect::<Vec<_>>().join("\n"))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn summary(exported: &Exported) -> String {
    let mut text = format!("{} ({:.1} MB)\n", exported.model.display(), exported.bytes as f64 / 1e6);
    let mut table = Table::new(["compared on", "samples", "largest difference", "outputs up to", "agreement"]);
    for comparison in &exported.comparisons {
        let same = comparison.same_prediction.map(|same| format!("{same} of {} the same", comparison.samples));
        let cosine = comparison.cosine.map(|cosine| format!("cosine {cosine:.5} or better"));
        table.row([
            comparison.runtime.clone(),
            comparison.samples.to_string(),
            format!("{:.2e}", comparison.max_difference),
            format!("{:.2e}", comparison.largest),
            same.or(cosine).unwrap_or_default(),
        ]);
    }
    text += &table.to_string();
    exported.notes.iter().for_each(|note| text += &format!("{note}\n"));
    text
}
