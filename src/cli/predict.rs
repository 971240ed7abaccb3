//! `caft predict`: new pictures or texts through a finished run or an exported file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use super::runs::RunsDir;
use super::surroundings::Surroundings;
use super::table::Table;
use super::{Globals, print};
use crate::base::{Error, file};
use crate::postprocess::{Answer, PixelClasses};
use crate::run::{Predicted, Predictor, inputs};

/// More than this is not read of a file of lines.
const LARGEST: u64 = 1 << 30;

/// Classify new pictures or texts with a finished run, through the same preprocess and engine, or with an exported
/// file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run (its folder, its id or its beginning, or its recipe's name for the newest one), or a file that
    /// `caft export` wrote.
    run: String,
    #[command(flatten)]
    words: Words,
    /// How predictions are written.
    #[arg(long, value_enum, default_value_t = Written::Table)]
    format: Written,
    /// The file that predictions are written to; standard output by default.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The folder that masks are written to, of a run on masks: 8-bit grey PNG files of class numbers, named after their
    /// pictures.
    #[arg(long, value_name = "FOLDER")]
    masks: Option<PathBuf>,
    /// The size of masks.
    #[arg(long, value_enum, default_value_t = Size::Original, requires = "masks")]
    size: Size,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    place: RunsDir,
}

/// Inputs as a user names them.
#[derive(Debug, clap::Args)]
pub struct Words {
    /// Pictures or folders of them, or texts if the run was trained on texts; the two texts of a pair with a tab
    /// between them.
    inputs: Vec<String>,
    /// A file with one more input in each line, or `-` for the standard input.
    #[arg(long, value_name = "FILE")]
    lines: Option<PathBuf>,
}

/// The size of masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Size {
    /// That of each picture; what a crop keeps from the network is 255.
    Original,
    /// What the model gives, as an exported file does.
    Model,
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Written {
    /// For people.
    Table,
    /// A line for each with commas, under a line of headings.
    Csv,
    /// A JSON object for each, one a line.
    Jsonl,
}

impl Words {
    /// The inputs of the command line, then those of the file.
    ///
    /// # Errors
    /// There is none, or the file cannot be read.
    pub fn all(&self) -> Result<Vec<String>> {
        let mut words = self.inputs.clone();
        let text = match &self.lines {
            None if words.is_empty() => {
                return Err(Error::bad_input("there is no input")
                    .hint("name files, folders or texts, or `--lines FILE`")
                    .into());
            }
            None => return Ok(words),
            Some(path) if path.as_os_str() == "-" => std::io::read_to_string(std::io::stdin().lock())
                .map_err(|e| Error::bad_input("the standard input is not UTF-8 text").because(e))?,
            Some(path) => file::read_text(path, LARGEST)?,
        };
        words.extend(text.lines().filter(|line| !line.trim().is_empty()).map(String::from));
        Ok(words)
    }
}

/// Inputs that are predicted at a time.
const BLOCK: usize = 1024;

impl Args {
    /// Writes the class of each input with the probabilities of all.
    ///
    /// # Errors
    /// There is no such finished run, or an input cannot be read.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, self.offline)?;
        let context = here.context(&self.place.runs_dir);
        let mut predictor = Predictor::of(&self.run, &context)?;
        let words = inputs::expand(self.words.all()?, &predictor)?;
        let classes = predictor.classes().to_vec();
        let mut masks = match (&self.masks, predictor.postprocess().is_some()) {
            (None, _) => None,
            (Some(folder), true) => Some(MaskFiles { folder, names: HashSet::new() }),
            (Some(_), false) => {
                return Err(Error::bad_input("`--masks` is for runs on masks, and this one gives none").into());
            }
        };
        let mut text = String::new();
        let (mut all, mut begun) = (Vec::new(), None);
        for block in words.chunks(BLOCK) {
            let samples = predictor.samples(block)?;
            for (one, samples) in predictor.predict(&samples, block, &context)?.into_iter().zip(&samples) {
                if let (Some(masks), Some(Answer::Pixels(pixels)), Some(picture)) =
                    (&mut masks, &one.answer, samples.first())
                {
                    let own = (self.size == Size::Original).then(|| predictor.in_own_size(picture, pixels));
                    masks.write(&one.input, own.transpose()?.as_ref().unwrap_or(pixels))?;
                }
                match self.format {
                    _ if globals.json => all.push(one),
                    Written::Table => all.push(one),
                    Written::Jsonl => text += &(serde_json::to_string(&one)? + "\n"),
                    Written::Csv => {
                        if begun.is_none() {
                            text += &csv_line(headings(&one, &classes).iter().map(String::as_str))?;
                            begun = Some(());
                        }
                        let numbers = one.probability.iter().chain(&one.probabilities).chain(&one.values);
                        let numbers: Vec<String> = numbers.map(|p| p.to_string()).collect();
                        let cells = std::iter::once(one.input.as_str()).chain(one.label.as_deref());
                        text += &csv_line(cells.chain(numbers.iter().map(String::as_str)))?;
                    }
                }
            }
            self.put(&mut text, false)?;
        }
        if globals.json {
            text = serde_json::to_string_pretty(&serde_json::json!({"classes": classes, "predictions": all}))? + "\n";
        } else if self.format == Written::Table {
            let first = predictor.what();
            text = if all.iter().any(|one| one.label.is_none()) {
                let mut table = Table::new([first, "values"]);
                for one in all {
                    let values: Vec<String> = one.values.iter().map(|value| format!("{value:.4}")).collect();
                    table.row([one.input, values.join(" ")]);
                }
                table.to_string()
            } else {
                let mut table = Table::new([first, "label", "probability"]);
                for one in all {
                    let probability = one.probability.map(|p| format!("{p:.4}")).unwrap_or_default();
                    table.row([one.input, one.label.unwrap_or_default(), probability]);
                }
                table.to_string()
            };
        }
        self.put(&mut text, true)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Prints what there is, or writes the file once all is there.
    fn put(&self, text: &mut String, is_end: bool) -> Result<()> {
        match &self.output {
            None => print(&std::mem::take(text)),
            Some(path) if is_end => Ok(file::write_bytes(path, text.as_bytes())?),
            Some(_) => Ok(()),
        }
    }
}

/// Where masks are written.
struct MaskFiles<'a> {
    folder: &'a Path,
    names: HashSet<String>,
}

impl MaskFiles<'_> {
    /// Writes the mask of a picture, under the picture's name.
    fn write(&mut self, picture: &str, mask: &PixelClasses) -> Result<()> {
        let stem = Path::new(picture).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let path = self.folder.join(format!("{stem}.png"));
        if !self.names.insert(stem) {
            let what = format!("two pictures would have the mask `{}`", path.display());
            return Err(Error::bad_input(what).hint("name the pictures of one folder at a time").into());
        }
        Ok(file::write_bytes(&path, &mask.to_png()?)?)
    }
}

/// The headings of a prediction's cells: `input`, then `label`, `probability` and the classes, or the values' names;
/// numbers of an embedding have their place for a name.
fn headings(one: &Predicted, classes: &[String]) -> Vec<String> {
    let mut all = vec!["input".to_string()];
    all.extend(one.label.is_some().then(|| "label".to_string()));
    all.extend(one.probability.is_some().then(|| "probability".to_string()));
    let numbers = one.probabilities.len().max(one.values.len());
    let is_embedding = numbers != classes.len();
    all.extend((0..numbers).map(|i| if is_embedding { i.to_string() } else { classes[i].clone() }));
    all
}

fn csv_line<'a>(cells: impl Iterator<Item = &'a str>) -> Result<String> {
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(cells)?;
    Ok(String::from_utf8(out.into_inner()?)?)
}
