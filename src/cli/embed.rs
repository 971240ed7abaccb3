//! `caft embed`: embeddings of files, folders or a run's own data, as a file that other programs read.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::json;

use super::predict::Words;
use super::runs::RunsDir;
use super::surroundings::Surroundings;
use super::{Globals, load, print, print_json};
use crate::base::Error;
use crate::export::embeddings::Format;
use crate::run::embed::{Inputs, Layer, Taken, embed};
use crate::run::{Predictor, inputs};

/// Write the embeddings of pictures or texts to a file that `caft search` and other programs read.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run (its folder, its id, or its recipe's name), or a file that `caft export` wrote.
    run: String,
    #[command(flatten)]
    words: Words,
    /// Embed all rows of the run's own data, with their labels.
    #[arg(long, conflicts_with_all = ["inputs", "lines"])]
    data: bool,
    /// Embed all rows of the data of another recipe, with their labels.
    #[arg(long, value_name = "RECIPE", conflicts_with_all = ["inputs", "lines", "data"])]
    data_of: Option<PathBuf>,
    /// Embed one field alone, by the backbone that it has of its own: `image` or `text` of a run with towers or on pairs.
    #[arg(long)]
    field: Option<String>,
    /// The file to write, by its ending `.npy`, `.parquet` or `.safetensors`; it must not be there yet.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Where in the network embeddings are taken: by default what the head gives if it is trained to embed, else what
    /// enters it.
    #[arg(long, value_enum)]
    layer: Option<LayerArg>,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    place: RunsDir,
}

/// Where in the network embeddings are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LayerArg {
    /// The outputs of the frozen backbone, joined.
    Cut,
    /// What enters the head.
    Neck,
    /// What the head gives.
    Head,
}

impl LayerArg {
    /// The layer it names.
    pub fn layer(self) -> Layer {
        match self {
            Self::Cut => Layer::Cut,
            Self::Neck => Layer::Neck,
            Self::Head => Layer::Head,
        }
    }
}

/// Samples of words: of whole rows, or of one field.
///
/// # Errors
/// Those of [`inputs::expand`] and [`Predictor::samples_of`].
pub fn given(words: Vec<String>, field: Option<&str>, predictor: &Predictor) -> crate::base::Result<Inputs> {
    let Some(field) = field else {
        let ids = inputs::expand(words, predictor)?;
        return Ok(Inputs { samples: predictor.samples(&ids)?, ids, labels: Vec::new() });
    };
    let ids = inputs::expand_of(words, field, predictor)?;
    Ok(Inputs { samples: predictor.samples_of(field, &ids)?, ids, labels: Vec::new() })
}

impl Args {
    /// Embeds, and prints where the file is.
    ///
    /// # Errors
    /// There is no such run, an input cannot be read, or the file is there already.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        Format::of(&self.output)?;
        if self.output.exists() {
            let text = format!("`{}` is there already", self.output.display());
            return Err(Error::bad_input(text).hint("delete it or name another file").into());
        }
        let here = Surroundings::new(globals, self.offline)?;
        let context = here.context(&self.place.runs_dir);
        let mut predictor = Predictor::of(&self.run, &context)?;
        let given = if self.data || self.data_of.is_some() {
            let data = self.data_of.as_deref().map(load::data).transpose()?;
            Inputs::of_data(&predictor, data.as_ref(), &context)?
        } else {
            given(self.words.all()?, self.field.as_deref(), &predictor)?
        };
        let layer = self.layer.map_or_else(|| Layer::of(&predictor), LayerArg::layer);
        let taken = Taken { layer, field: self.field.as_deref(), run: &self.run };
        let embeddings = embed(&mut predictor, given, taken, &context)?;
        embeddings.write(&self.output)?;
        let (rows, width) = (embeddings.len(), embeddings.width);
        if globals.json {
            print_json(&json!({"file": self.output, "rows": rows, "width": width}))?;
        } else {
            print(&format!("{rows} embeddings of {width} numbers in `{}`\n", self.output.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
