//! Networks of texts: what crosses a cut inside them, beside what they are trained on.
//!
//! All texts have as many tokens, those that are shorter by padding, so that every tensor has one shape. What is made
//! of the inputs without weights, such as ids of tokens and masks of attention, is computed below the cut, however it is
//! spelled, and crosses it like any other tensor; the trained part begins where weights do.

use std::collections::{HashMap, HashSet};

use crate::base::{Error, Result};
use crate::graph::onnx::proto::{ModelProto, NodeProto};
use crate::graph::onnx::{OutputSpec, Select};
use crate::graph::op::{MaskedMean, Reshape};
use crate::graph::{Graph, ValueId};

/// The end of the name of a value that says which tokens of another are real: `[tokens]`, 1 or 0.
pub const MASK: &str = ".mask";

/// What is known of the texts that a network takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    /// The tokens of every text, padding included.
    pub tokens: usize,
    /// The network's input that is 1 for a token and 0 for padding.
    pub mask: Option<String>,
}

/// The outputs with all tokens where a mean of them is wanted, and which these are: padding is no part of a mean.
///
/// # Errors
/// A part of the tokens is wanted, or a mean and there is no mask.
pub(super) fn without_means(outputs: &[OutputSpec], texts: &Texts) -> Result<(Vec<OutputSpec>, Vec<bool>)> {
    let mut specs = outputs.to_vec();
    let mut pooled = vec![false; specs.len()];
    for (spec, pooled) in specs.iter_mut().zip(&mut pooled) {
        match spec.select {
            Select::MeanTokens { from: 0, to: None } if texts.mask.is_some() => {
                (spec.select, *pooled) = (Select::All, true);
            }
            Select::MeanTokens { .. } | Select::Tokens { .. } => {
                let (name, kind) = (&spec.name, spec.select.kind());
                return Err(Error::bad_input(format!(
                    "the output `{name}` (`{kind}`) cannot be told from padding where texts are trained on"
                ))
                .hint("it needs a network with a mask among its inputs, and all of the tokens"));
            }
            _ => {}
        }
    }
    Ok((specs, pooled))
}

/// Lets whoever reads `Where(IsNaN(x), c, x)`, which newer exporters put behind a softmax, read `x`: a text has a token
/// at least, so that no row of scores is masked wholly.
pub(super) fn drop_guards(model: &mut ModelProto) {
    let Some(graph) = &mut model.graph else { return };
    let of: HashMap<String, String> = graph
        .node
        .iter()
        .filter(|node| node.is("IsNaN"))
        .filter_map(|node| Some((node.output.first()?.clone(), node.input_name(0)?.to_string())))
        .collect();
    let mut guarded: HashMap<String, String> = HashMap::new();
    for node in &mut graph.node {
        for input in &mut node.input {
            if let Some(plain) = guarded.get(input) {
                input.clone_from(plain);
            }
        }
        let guards = node.is("Where") && node.input_name(2).is_some();
        if guards && node.input_name(0).and_then(|name| of.get(name)).map(String::as_str) == node.input_name(2) {
            guarded.extend(node.output.first().cloned().zip(node.input_name(2).map(String::from)));
        }
    }
    for op_type in ["Where", "IsNaN"] {
        let read: HashSet<String> = graph.node.iter().flat_map(|node| node.input.iter().cloned()).collect();
        let asked_for: HashSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
        let idle = |name: &String| !read.contains(name) && !asked_for.contains(name.as_str());
        graph.node.retain(|node| !(node.is(op_type) && node.output.iter().all(idle)));
    }
}

/// Whether a node takes one of two numbers in each place.
pub(super) fn chooses(node: &NodeProto, dynamic: &HashSet<&str>) -> bool {
    let fixed = |place: usize| node.input_name(place).is_some_and(|name| !dynamic.contains(name));
    node.is("Where") && fixed(1) && fixed(2)
}

/// The mean of the real tokens of a value `[tokens, dim]`.
pub(super) fn pool(graph: &mut Graph, name: &str, tokens: ValueId, mask: ValueId) -> Result<ValueId> {
    graph.node(name, MaskedMean, &[tokens, mask])
}

/// The mask of the tokens of an output, under the name by which necks find it.
pub(super) fn mask_of(graph: &mut Graph, output: &str, mask: ValueId) -> Result<ValueId> {
    let dims = graph.shape(mask).dims.clone();
    graph.node(&format!("{output}{MASK}"), Reshape { dims }, &[mask])
}
