//! What is in a model: its inputs and outputs, the tree of its blocks, and where it may be cut.

mod cuts;
mod vocabulary;

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::batch::free_batch;
use super::cut::default_opset;
use super::proto::{DataType, GraphProto, ModelProto, NodeProto};
use super::select::Select;
use super::shape::{self, Dim, Fact, Facts};
use super::walk::for_each_use;
use crate::base::Result;
use cuts::likely_cuts;
pub use vocabulary::vocabulary;

/// What is in a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The tool that made it, with its version.
    pub producer: String,
    /// The version of the standard operators.
    pub opset: i64,
    /// The number of nodes.
    pub nodes: usize,
    /// Weights in all: elements of its float and quantised constants.
    pub parameters: u64,
    /// Floating-point operations for one sample, of convolutions and matrix products.
    pub flops: u64,
    /// Nodes whose operations could not be counted, because their sizes are not known.
    pub uncounted: usize,
    /// The inputs.
    pub inputs: Vec<Port>,
    /// The outputs.
    pub outputs: Vec<Port>,
    /// The blocks, by the scopes in the names of nodes.
    pub tree: Block,
    /// Where it may well be cut.
    pub cuts: Vec<LikelyCut>,
}

/// An input or output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Port {
    /// The tensor's name.
    pub name: String,
    /// The element type.
    pub element: String,
    /// The shape; see [`show`].
    pub shape: String,
}

/// A scope of nodes.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Block {
    /// The last part of its path; empty for the whole.
    pub name: String,
    /// The operator, if the block is a single node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The last tensor it makes that others use.
    pub tensor: String,
    /// That tensor's shape; see [`show`].
    pub shape: String,
    /// Its weights; one shared by several blocks counts in the first.
    pub parameters: u64,
    /// Its floating-point operations for one sample.
    pub flops: u64,
    /// The blocks inside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Block>,
}

/// A tensor at which a model may well be cut.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LikelyCut {
    /// A name for the output: `pooled`, `cls`, `tokens`, `c2` to `c5`.
    pub name: String,
    /// The tensor.
    pub tensor: String,
    /// What to take from it.
    pub select: Select,
    /// The shape of one row of what is taken; see [`show`].
    pub shape: String,
}

/// A shape as people write it: `[batch, 197, 768]`; `?` is not known without running.
pub fn show(dims: Option<&[Dim]>) -> String {
    let Some(dims) = dims else { return "?".into() };
    let size = |dim: &Dim| match dim {
        Dim::Known(size) => size.to_string(),
        &Dim::BATCH => "batch".into(),
        Dim::Batch(outer, inner) => format!("{}·batch", outer.saturating_mul(*inner)),
        Dim::Unknown => "?".into(),
    };
    format!("[{}]", dims.iter().map(size).collect::<Vec<_>>().join(", "))
}

/// Looks into a model. Where the sizes of its input are open, `row` fills them in: the shape of one row.
///
/// # Errors
/// The model does not name the version of its operators.
pub fn summarise(model: &ModelProto, row: Option<&[usize]>) -> Result<Summary> {
    let opset = default_opset(model)?;
    let empty = GraphProto::default();
    let graph = model.graph.as_ref().unwrap_or(&empty);
    let facts = facts(model, row)?;
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let port = |name: &str| {
        let fact = facts.get(name).cloned().unwrap_or(Fact::UNKNOWN);
        let element = format!("{:?}", fact.element).to_lowercase();
        Port { name: name.into(), element, shape: show(fact.dims.as_deref()) }
    };
    let counted: Vec<Option<u64>> = graph.node.iter().map(|node| shape::flops(&facts, node)).collect();
    Ok(Summary {
        producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_string(),
        opset,
        nodes: graph.node.len(),
        parameters: super::parameters(model),
        flops: counted.iter().flatten().sum(),
        uncounted: counted.iter().filter(|count| count.is_none()).count(),
        inputs: graph.input.iter().filter(|v| !constants.contains(v.name.as_str())).map(|v| port(&v.name)).collect(),
        outputs: graph.output.iter().map(|v| port(&v.name)).collect(),
        tree: tree(graph, &facts, &counted),
        cuts: likely_cuts(graph, &facts),
    })
}

/// Floating-point operations for one sample, of convolutions and matrix products whose sizes are known; `row` as in
/// [`summarise`].
///
/// # Errors
/// The model does not name the version of its operators.
pub fn flops(model: &ModelProto, row: Option<[usize; 3]>) -> Result<u64> {
    let facts = facts(model, row.as_ref().map(<[usize; 3]>::as_slice))?;
    let nodes = model.graph.iter().flat_map(|graph| &graph.node);
    Ok(nodes.filter_map(|node| shape::flops(&facts, node)).sum())
}

/// Whether a model takes the tokens of texts: integers `[batch, tokens]`, and nothing else.
pub fn takes_tokens(model: &ModelProto) -> bool {
    let Some(graph) = &model.graph else { return false };
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let mut inputs = graph.input.iter().filter(|input| !constants.contains(input.name.as_str())).peekable();
    let of_tokens = |input: &super::proto::ValueInfoProto| {
        let Some(tensor) = input.tensor() else { return false };
        matches!(tensor.elem_type(), DataType::Int64 | DataType::Int32)
            && tensor.shape.as_ref().is_some_and(|shape| shape.dim.len() == 2)
    };
    inputs.peek().is_some() && inputs.all(of_tokens)
}

/// The height and width of the pictures that a model takes, where it says so and they are equal.
pub fn picture_size(model: &ModelProto) -> Option<usize> {
    let shape = model.graph.as_ref()?.input.first()?.tensor()?.shape.as_ref()?;
    match shape.dim.iter().map(super::proto::Dimension::fixed).collect::<Vec<_>>()[..] {
        [_, Some(3), Some(height), Some(width)] if height == width => Some(height),
        _ => None,
    }
}

/// What is known of every tensor of a model, with the open sizes of its input filled in by `row`, and as if a
/// batch that the export froze were freed.
///
/// # Errors
/// The model does not name the version of its operators.
pub fn facts(model: &ModelProto, row: Option<&[usize]>) -> Result<Facts> {
    let opset = default_opset(model)?;
    let of = |model: &ModelProto| model.graph.as_ref().map(|graph| facts_of(graph, opset, row)).unwrap_or_default();
    // The weights are shared with the clone.
    let mut freed = model.clone();
    Ok(if free_batch(&mut freed, opset).is_ok() { of(&freed) } else { of(model) })
}

fn facts_of(graph: &GraphProto, opset: i64, row: Option<&[usize]>) -> Facts {
    let mut facts = shape::begin(graph);
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs = graph.input.iter().filter(|v| !constants.contains(v.name.as_str()));
    for (input, row) in inputs.flat_map(|input| row.map(|row| (input, row))) {
        let Some(dims) = facts.get_mut(&input.name).and_then(|fact| fact.dims.as_mut()) else { continue };
        if dims.len() == row.len() + 1 {
            let open = dims[1..].iter_mut().zip(row).filter(|(dim, _)| **dim == Dim::Unknown);
            open.for_each(|(dim, size)| *dim = Dim::Known(*size as i64));
        }
    }
    let described = shape::Described::of(graph);
    graph.node.iter().for_each(|node| shape::step(&mut facts, &described, node, opset));
    facts
}

/// The scopes of a node. Exporters write them into its name (`/layer1/layer1.0/conv1/Conv`), its metadata, or
/// only the names of its weights (`layer1.0.conv1.weight`).
fn scopes(node: &NodeProto, weights: &HashSet<&str>) -> Option<Vec<String>> {
    let named: Vec<&str> = node.name.split('/').filter(|part| !part.is_empty()).collect();
    if let Some((_, scopes)) = named.split_last().filter(|_| node.name.contains('/')) {
        return Some(scopes.iter().map(ToString::to_string).collect());
    }
    let of_metadata = node.metadata_props.iter().find(|entry| entry.key == "pkg.torch.onnx.name_scopes");
    if let Some(entry) = of_metadata {
        let scopes = entry.value.trim_matches(['[', ']']).split(',').map(|part| part.trim().trim_matches(['\'', '"']));
        let mut scopes: Vec<String> = scopes.filter(|part| !part.is_empty()).map(Into::into).collect();
        scopes.pop();
        return Some(scopes);
    }
    let weight = node.input.iter().find(|name| weights.contains(name.as_str()) && name.contains('.'))?;
    let mut scopes: Vec<String> = weight.split('.').map(Into::into).collect();
    scopes.pop();
    Some(scopes)
}

fn tree(graph: &GraphProto, facts: &Facts, counted: &[Option<u64>]) -> Block {
    let mut weights: HashMap<&str, u64> = super::cut::weights(graph).collect();
    let names: HashSet<&str> = weights.keys().copied().collect();
    let mut constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut root = Block::default();
    let mut last: Vec<String> = Vec::new();
    for (node, flops) in graph.node.iter().zip(counted) {
        // What is made of constants alone (a weight by another name, or from int8) is a weight of what takes it.
        let mut fixed = true;
        for_each_use(node, &mut |name| fixed &= name.is_empty() || constants.contains(name));
        if fixed && (node.is("Constant") || !node.input.is_empty()) {
            let count: u64 = node.input.iter().filter_map(|name| weights.remove(name.as_str())).sum();
            weights.extend(node.output.first().filter(|_| count > 0).map(|output| (output.as_str(), count)));
            constants.extend(node.output.iter().map(String::as_str));
            continue;
        }
        // A node without a scope of its own belongs to what stands before it.
        let path = scopes(node, &names).unwrap_or_else(|| last.clone());
        let mut own = 0;
        for_each_use(node, &mut |name| own += weights.remove(name).unwrap_or(0));
        let output = node.output.first().map_or("", String::as_str);
        let fact = facts.get(output);
        let shape = show(fact.and_then(|f| f.dims.as_deref()));
        // Shape arithmetic is not what a block is about.
        let computes = fact.is_none_or(|f| !matches!(f.element, DataType::Int64 | DataType::Int32 | DataType::Bool));
        let mut block = &mut root;
        for depth in 0..=path.len() {
            block.parameters += own;
            block.flops += flops.unwrap_or(0);
            if computes {
                (block.tensor, block.shape) = (output.to_string(), shape.clone());
            }
            let Some(name) = path.get(depth) else { break };
            let place = block.children.iter().position(|child| child.name == *name && child.operator.is_none());
            let place = place.unwrap_or_else(|| {
                block.children.push(Block { name: name.clone(), ..Block::default() });
                block.children.len() - 1
            });
            block = &mut block.children[place];
        }
        if computes {
            let operator = Some(node.op_type.clone());
            let name = node.name.rsplit('/').next().unwrap_or_default().to_string();
            let leaf = Block {
                name,
                operator,
                tensor: output.into(),
                shape,
                parameters: own,
                flops: flops.unwrap_or(0),
                ..Block::default()
            };
            block.children.push(leaf);
        }
        last = path;
    }
    root
}

#[cfg(test)]
mod tests {
    use super::super::testing::{tiny_cnn, tiny_vit, vit_base_like};
    use super::*;

    #[test]
    fn blocks_follow_the_scopes_and_count_each_weight_once() {
        let summary = summarise(&tiny_cnn(), None).unwrap();
        let names: Vec<&str> = summary.tree.children.iter().map(|block| block.name.as_str()).collect();
        assert_eq!(names[..3], ["stem", "layer1", "layer2"]);
        let layer2 = &summary.tree.children[2];
        assert_eq!((layer2.tensor.as_str(), layer2.shape.as_str()), ("/layer2/Relu_output_0", "[batch, 16, 8, 8]"));
        // Convolutions 8·16·9 + 16·16·9 + 8·16, and a scale and a shift of 16 for each of three norms.
        assert_eq!(layer2.parameters, 1152 + 2304 + 128 + 3 * 32);
        assert_eq!(summary.tree.parameters, summary.parameters);
        assert_eq!(layer2.flops, 2 * 64 * (1152 + 2304 + 128));
        assert_eq!((summary.tree.flops, summary.uncounted), (summary.flops, 0));
        assert_eq!(summary.inputs[0].shape, "[batch, 3, 32, 32]");
    }

    #[test]
    fn likely_cuts_are_found() {
        let cuts = |model: &ModelProto| {
            let cuts = summarise(model, None).unwrap().cuts;
            cuts.into_iter().map(|c| (c.name, c.tensor, c.shape)).collect::<Vec<_>>()
        };
        let is = |name: &str, tensor: &str, shape: &str| (name.to_string(), tensor.to_string(), shape.to_string());
        assert_eq!(
            cuts(&tiny_cnn()),
            [is("c2", "/layer2/Relu_output_0", "[16, 8, 8]"), is("pooled", "/Flatten_output_0", "[16]")]
        );
        // Without what pools the last map, its mean is suggested, and no gate of a block before it.
        let mut trunk = tiny_cnn();
        let graph = trunk.graph.as_mut().unwrap();
        let end = graph.node.iter().position(|node| node.output == ["/layer2/Relu_output_0"]).unwrap();
        graph.node.truncate(end + 1);
        graph.output[0].name = "/layer2/Relu_output_0".into();
        graph.output[0].r#type = None;
        let map = "/layer2/Relu_output_0";
        assert_eq!(cuts(&trunk), [is("c2", map, "[16, 8, 8]"), is("pooled", map, "[16]")]);
        let norm = "/norm/Add_1_output_0";
        assert_eq!(
            cuts(&tiny_vit()),
            [is("tokens", norm, "[17, 16]"), is("cls", norm, "[16]"), is("patch_mean", norm, "[16]")]
        );
        assert!(cuts(&vit_base_like()).contains(&is("cls", norm, "[768]")));
    }
}
