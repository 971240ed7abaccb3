//! A drawing of a model's blocks, from the input down.

use super::inspect::marks;
use super::short;
use crate::graph::onnx::inspect::{Block, Port, Summary};

const WIDTH: usize = 560;
const HEIGHT: usize = 34;
const GAP: usize = 14;

/// What the column of weights takes.
const WEIGHTS: usize = 90;

/// One box of the drawing.
#[derive(Default)]
struct Row {
    indent: usize,
    title: String,
    shape: String,
    weights: String,
    cuts: String,
}

/// Draws two levels of blocks as boxes under each other, with shapes, weights and likely cuts.
pub fn draw(name: &str, summary: &Summary) -> String {
    let port = |port: &Port| Row { title: port.name.clone(), shape: port.shape.clone(), ..Row::default() };
    let mut rows: Vec<Row> = summary.inputs.iter().map(port).collect();
    // What only wraps the network would hide a level of it.
    let mut whole = &summary.tree;
    while let [only] = &blocks(whole, summary).collect::<Vec<_>>()[..]
        && blocks(only, summary).next().is_some()
    {
        whole = only;
    }
    for child in blocks(whole, summary) {
        rows.push(row(child, 0, summary));
        rows.extend(blocks(child, summary).map(|inner| row(inner, 1, summary)));
    }
    rows.extend(summary.outputs.iter().map(port));

    let height = 60 + rows.len() * (HEIGHT + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"20\" y=\"28\" font-size=\"16\">{}: {} parameters, {} FLOPs</text>\n",
        WIDTH + 40,
        escape(name),
        short(summary.parameters),
        short(summary.flops)
    );
    for (i, row) in rows.iter().enumerate() {
        let (x, y) = (20 + row.indent * 24, 44 + i * (HEIGHT + GAP));
        let width = WIDTH - row.indent * 24;
        let middle = y + HEIGHT / 2 + 4;
        let fill = if row.cuts.is_empty() { "#eef2f7" } else { "#fff3d6" };
        if i > 0 {
            let line = 20 + WIDTH / 2;
            svg += &format!("<path d=\"M{line} {} V{y}\" stroke=\"#8a97a8\"/>\n", y - GAP);
        }
        svg += &format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{HEIGHT}\" rx=\"5\" fill=\"{fill}\" stroke=\"#8a97a8\"/>\n\
             <text x=\"{}\" y=\"{middle}\">{}</text>\n\
             <text x=\"{}\" y=\"{middle}\" text-anchor=\"end\" fill=\"#445\">{}</text>\n\
             <text x=\"{}\" y=\"{middle}\" text-anchor=\"end\" fill=\"#445\">{}</text>\n",
            x + 10,
            escape(&row.title),
            20 + WIDTH - 10,
            escape(&row.weights),
            20 + WIDTH - WEIGHTS,
            escape(&row.shape)
        );
        if !row.cuts.is_empty() {
            svg += &format!(
                "<text x=\"{}\" y=\"{middle}\" text-anchor=\"middle\" fill=\"#9a5b00\">✂ {}</text>\n",
                20 + WIDTH / 2,
                escape(&row.cuts)
            );
        }
    }
    svg + "</svg>\n"
}

/// Blocks, and single operators that carry a likely cut.
fn blocks<'a>(block: &'a Block, summary: &'a Summary) -> impl Iterator<Item = &'a Block> {
    block.children.iter().filter(|child| child.operator.is_none() || marks(child, summary).next().is_some())
}

fn row(block: &Block, indent: usize, summary: &Summary) -> Row {
    Row {
        indent,
        title: block.name.clone(),
        shape: block.shape.clone(),
        weights: if block.parameters == 0 { String::new() } else { short(block.parameters) },
        cuts: marks(block, summary).collect::<Vec<_>>().join(", "),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
