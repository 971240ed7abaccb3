//! `caft engine inspect`: what is in a model.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::{Model, Surroundings, short, svg};
use crate::backbone::Entry;
use crate::base::file;
use crate::cli::table::Table;
use crate::cli::{Globals, print, print_json};
use crate::graph::onnx::inspect::{Block, Port, Summary, summarise, takes_tokens};
use crate::graph::onnx::{self, Select};
use crate::resource::Resource;

/// Show what is in a model: inputs, outputs, blocks, and where it may be cut.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A catalogue name, an ONNX file, or an address of one.
    model: String,
    /// Your own ONNX file of the catalogue entry, such as `caft engine export` makes.
    #[arg(long, value_name = "FILE")]
    onnx: Option<Resource>,
    /// How deep blocks are shown.
    #[arg(long, default_value_t = 3, value_name = "LEVELS")]
    depth: usize,
    /// Height and width of pictures, where the model leaves them open.
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// How many tokens a text has, where the model leaves it open.
    #[arg(long, value_name = "TOKENS", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65536))]
    tokens: u32,
    /// Also draw the blocks into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
}

impl Args {
    /// Prints what is in the model.
    ///
    /// # Errors
    /// The model cannot be found or read; the drawing cannot be written.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let here = Surroundings::new(globals, self.offline)?;
        let model = Model::find(&self.model, self.onnx.as_ref(), &here.fetcher())?;
        let size = self.image_size.or(model.entry.and_then(Entry::image_size));
        let graph = onnx::read(&model.file.path)?;
        let of_texts = takes_tokens(&graph);
        let row = if of_texts { Some(vec![self.tokens as usize]) } else { size.map(|size| vec![3, size, size]) };
        let summary = summarise(&graph, row.as_deref())?;
        if let Some(path) = &self.svg {
            file::write_bytes(path, svg::draw(&model.name, &summary).as_bytes())?;
        }
        if globals.json {
            print_json(&summary)?;
        } else {
            let sample = if of_texts { format!("a text of {} tokens", self.tokens) } else { "one sample".into() };
            print(&text(&model.name, &summary, &sample, self.depth))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(name: &str, summary: &Summary, sample: &str, depth: usize) -> String {
    let Summary { producer, opset, nodes, parameters, flops, uncounted, .. } = summary;
    let made = if producer.is_empty() { String::new() } else { format!(" by {producer}") };
    let mut text = format!("{name}: {nodes} nodes of operator set {opset}{made}\n");
    let port = |port: &Port| format!("{} {} {}", port.name, port.element, port.shape);
    let ports = |ports: &[Port]| ports.iter().map(port).collect::<Vec<_>>().join("\n         ");
    text += &format!("inputs   {}\noutputs  {}\n", ports(&summary.inputs), ports(&summary.outputs));
    let open = match uncounted {
        0 => String::new(),
        count => format!(" (without {count} nodes whose sizes are open; try --image-size)"),
    };
    let (parameters, flops, products) = (short(*parameters), short(*flops), short(*flops / 2));
    text += &format!("{parameters} parameters, {flops} FLOPs ({products} multiply-adds) for {sample}{open}\n\n");

    let mut table = Table::new(["block", "output", "parameters", "flops", "cut"]);
    rows(&summary.tree, 0, depth, summary, &mut table);
    text += &table.to_string();
    if summary.cuts.is_empty() {
        return text;
    }
    text += "\nlikely cuts\n";
    let mut table = Table::new(["name", "shape", "tensor", "select"]);
    for cut in &summary.cuts {
        table.row([cut.name.clone(), cut.shape.clone(), cut.tensor.clone(), show_select(cut.select)]);
    }
    text + &table.to_string()
}

fn rows(block: &Block, level: usize, depth: usize, summary: &Summary, table: &mut Table<5>) {
    let alone = block.children.len() == 1 && level > 0;
    for child in &block.children {
        // A block of one operator says it all.
        if alone && child.operator.is_some() && marks(child, summary).next().is_none() {
            continue;
        }
        // Single operators without weights would drown the blocks.
        if child.operator.is_some() && child.parameters == 0 && marks(child, summary).next().is_none() {
            continue;
        }
        let operator = child.operator.as_ref().filter(|op| **op != child.name);
        let name = match operator {
            Some(operator) => format!("{}{} ({operator})", "  ".repeat(level), child.name),
            None => format!("{}{}", "  ".repeat(level), child.name),
        };
        // The deepest block that makes the tensor carries the mark.
        let deeper = level + 1 < depth
            && child.children.iter().any(|inner| inner.tensor == child.tensor && shown(inner, summary));
        let cuts = if deeper { String::new() } else { marks(child, summary).collect::<Vec<_>>().join(", ") };
        table.row([name, child.shape.clone(), short(child.parameters), short(child.flops), cuts]);
        if level + 1 < depth {
            rows(child, level + 1, depth, summary, table);
        }
    }
}

fn shown(block: &Block, summary: &Summary) -> bool {
    block.operator.is_none() || block.parameters > 0 || marks(block, summary).next().is_some()
}

/// The likely cuts at a block's last tensor.
pub(super) fn marks<'a>(block: &'a Block, summary: &'a Summary) -> impl Iterator<Item = &'a str> {
    summary.cuts.iter().filter(|cut| cut.tensor == block.tensor).map(|cut| cut.name.as_str())
}

/// A selection in the form that `caft engine build --output` takes.
pub(super) fn show_select(select: Select) -> String {
    match select {
        Select::Token { index } => format!("token={index}"),
        Select::Tokens { from } => format!("tokens={from}"),
        Select::MeanTokens { from, to: None } => format!("mean_tokens={from}"),
        Select::MeanTokens { from, to: Some(to) } => format!("mean_tokens={from}..{to}"),
        plain => plain.kind().into(),
    }
}
