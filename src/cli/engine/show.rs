//! An engine for people: what its manifest says, in words.

use indicatif::HumanBytes;

use super::inspect::show_select;
use super::short;
use crate::cli::models::show_preprocess;
use crate::cli::table::Table;
use crate::engine::manifest::{Calibrated, Checks, EngineFile};
use crate::engine::{Built, Manifest, shelf};
use crate::graph::onnx::Select;

/// Everything of an engine's manifest.
pub fn text(built: &Built) -> String {
    let manifest = &built.manifest;
    let family = manifest.family.as_ref().map(|family| format!(" ({family})")).unwrap_or_default();
    let mut text = format!("{}{family}\n{}\n\n", manifest.name, built.folder.display());
    let mut line = |key: &str, value: &str| text += &format!("{key:<11} {value}\n");
    line("id", &shelf::id(built));
    line("source", &manifest.source.address);
    line("", &format!("digest {}", manifest.source.digest));
    if let Some(origin) = &manifest.origin {
        line("from", origin);
    }
    line("licence", manifest.licence.as_deref().unwrap_or("not known"));
    if !manifest.tasks.is_empty() {
        line("tasks", &manifest.tasks.iter().map(|task| task.name()).collect::<Vec<_>>().join(", "));
    }
    for input in &manifest.inputs {
        let takes = input.takes.map(|takes| format!(", the {} of a text", takes.name())).unwrap_or_default();
        line("input", &format!("`{}` {} {}{takes}", input.name, input.dtype, row(Some(&input.shape))));
    }
    if let Some(preprocess) = &manifest.preprocess {
        line("preprocess", &show_preprocess(preprocess));
    }
    line("precision", &format!("{} on {} provider", manifest.precision, manifest.provider));
    if let Some(calibration) = &manifest.calibration {
        let Calibrated { method, samples, digest, .. } = calibration;
        line("calibrated", &format!("by {} on {samples} samples (digest {})", method.name(), digest.short(16)));
        line("", &quantised(calibration));
    }
    line("size", &format!("{} parameters, {} FLOPs a sample", short(manifest.parameters), short(manifest.flops)));
    let size = |(name, file): (&String, &EngineFile)| format!("{name} {}", HumanBytes(file.bytes));
    let files: Vec<String> = manifest.files.iter().map(size).collect();
    line("files", &format!("{}; operator set {}", files.join(", "), manifest.opset));
    line("digest", &manifest.digest().to_string());

    let mut table = Table::new(["output", "dtype", "shape", "tensor", "taken"]);
    for output in &manifest.outputs {
        table.row([
            output.name.clone(),
            output.dtype.clone(),
            row(output.shape.as_deref()),
            output.tensor.clone(),
            if output.select == Select::All { String::new() } else { show_select(output.select) },
        ]);
    }
    text += &format!("\n{table}");
    for checks in &manifest.checks {
        text += &format!("\n{}", agreement(manifest, checks));
    }
    text
}

/// What a quantisation cost, and what it left out.
pub fn quantised(calibrated: &Calibrated) -> String {
    let Calibrated { cosine, cosine_in_full, layers, float_layers, held_out, .. } = calibrated;
    let judged = format!("cosine {cosine:.5} with fp32 on {held_out} held-out samples");
    match float_layers.len() {
        0 => format!("{judged}, all {layers} layers in int8"),
        left => {
            let names = float_layers.join("`, `");
            format!("{judged}; {left} of {layers} layers stay in float (without them {cosine_in_full:.5}): `{names}`")
        }
    }
}

/// How an engine compares with its source, by one runtime.
pub fn agreement(manifest: &Manifest, checks: &Checks) -> String {
    let mut text = String::new();
    if !checks.parity.is_empty() {
        let mut table = Table::new(["output", "shape", "cosine", "max difference"]);
        for parity in &checks.parity {
            let shape = manifest.outputs.iter().find(|output| output.name == parity.output);
            table.row([
                parity.output.clone(),
                row(shape.and_then(|output| output.shape.as_deref())),
                format!("{:.9}", parity.cosine),
                format!("{:.1e}", parity.max_difference),
            ]);
        }
        let Checks { samples, samples_of, runtime, .. } = checks;
        text = format!("{table}compared with its source on {samples} samples ({samples_of}) by {runtime}\n");
    }
    text + &match checks.batch_invariant {
        true => format!("a sample's outputs are the same to the bit in every batch ({})\n", checks.runtime),
        false => {
            let culprit = checks.batch_culprit.as_ref().map(|node| format!(", from {node} on")).unwrap_or_default();
            let runtime = &checks.runtime;
            format!("a sample's outputs DEPEND ON ITS BATCH{culprit} ({runtime}), so runs give it one at a time\n")
        }
    }
}

fn row(shape: Option<&[Option<usize>]>) -> String {
    let size = |size: &Option<usize>| size.map_or("?".into(), |size| size.to_string());
    format!("[{}]", shape.map_or("?".into(), |shape| shape.iter().map(size).collect::<Vec<_>>().join(", ")))
}
