//! Where a model is likely to be cut.

use std::collections::{HashMap, HashSet};

use super::{LikelyCut, scopes, show};
use crate::graph::onnx::proto::{DataType, GraphProto, NodeProto};
use crate::graph::onnx::select::Select;
use crate::graph::onnx::shape::{Dim, Fact, Facts};

/// The last pooled vector, the last token tensor, and the last feature map of each size.
pub(super) fn likely_cuts(graph: &GraphProto, facts: &Facts) -> Vec<LikelyCut> {
    let float = |fact: &&Fact| matches!(fact.element, DataType::Float | DataType::Float16 | DataType::Bfloat16);
    // Tensors of the main path: a row for each sample and sizes that are known.
    let tensors: Vec<(usize, &str, Vec<i64>)> = graph
        .node
        .iter()
        .enumerate()
        .filter_map(|(i, node)| {
            let output = node.output.first()?;
            let dims = facts.get(output).filter(float)?.dims.as_ref()?;
            let (first, row) = dims.split_first()?;
            let row = row.iter().map(|dim| dim.known().map(|size| size as i64)).collect::<Option<_>>()?;
            (*first == Dim::BATCH).then_some((i, output.as_str(), row))
        })
        .collect();
    let mut cuts = Vec::new();
    let mut add = |name: &str, tensor: &str, row: &[i64], select: Select| {
        let sizes: Vec<Option<usize>> = row.iter().map(|&size| usize::try_from(size).ok()).collect();
        if let Ok(shape) = select.row_shape(&sizes) {
            let dims: Vec<Dim> = shape.iter().map(|size| size.map_or(Dim::Unknown, |s| Dim::Known(s as i64))).collect();
            cuts.push(LikelyCut { name: name.into(), tensor: tensor.into(), select, shape: show(Some(&dims)) });
        }
    };
    let height = graph.input.iter().filter_map(|v| facts.get(&v.name)?.dims.as_ref()?.get(2)?.known()).next();
    let maps = feature_maps(graph, &tensors, height);
    // A single size is the patches of a transformer, not a stage.
    let tokens = tensors.iter().any(|(_, _, row)| row.len() == 2);
    for (level, tensor, row) in maps.iter().filter(|_| !tokens || maps.len() > 1) {
        add(&format!("c{level}"), tensor, row, Select::All);
    }
    // The last norm or residual sum over tokens.
    let token = |row: &[i64]| row.len() == 2 && row[0] > 1 && row[1] > 1;
    let ends_block = |node: &NodeProto| node.is("Add") || node.is("LayerNormalization");
    let last = tensors.iter().rfind(|(i, _, row)| token(row) && ends_block(&graph.node[*i]));
    if let Some((_, tensor, row)) = last {
        add("tokens", tensor, row, Select::All);
        // A class token stands before the square of patches.
        let side = ((row[0] - 1) as f64).sqrt().round() as i64;
        if row[0] > 4 && side * side == row[0] - 1 {
            add("cls", tensor, row, Select::Token { index: 0 });
            add("patch_mean", tensor, row, Select::MeanTokens { from: 1, to: None });
        } else {
            add("mean", tensor, row, Select::MeanTokens { from: 0, to: None });
        }
    }
    // What is left of the last map once its places are pooled, and the vector that enters the last classifier.
    let of_map = |node: &NodeProto| {
        let pools = ["Flatten", "Reshape", "Squeeze", "ReduceMean"].contains(&node.op_type.as_str());
        let input = node.input.first().and_then(|input| facts.get(input)?.dims.as_ref());
        pools && input.is_some_and(|dims| dims.len() == 4)
    };
    let flat = tensors.iter().rfind(|(i, _, row)| row.len() == 1 && of_map(&graph.node[*i]));
    let classifier = graph.node.iter().rfind(|node| node.is("Gemm") || node.is("MatMul"));
    let vector = tensors.iter().rfind(|(_, name, row)| {
        row.len() == 1 && classifier.is_some_and(|node| node.input.first().is_some_and(|input| input == name))
    });
    if let Some((_, tensor, row)) = flat.or(vector) {
        add("pooled", tensor, row, Select::All);
        if let Some((_, last, row)) = vector.filter(|(_, last, _)| last != tensor) {
            add("penultimate", last, row, Select::All);
        }
        return cuts;
    }
    // A pooled map before the last one is a gate inside of a block.
    let deepest = maps.last().filter(|_| !tokens);
    let end = deepest.and_then(|(_, last, _)| tensors.iter().position(|(_, name, _)| name == last)).unwrap_or(0);
    if let Some((_, tensor, row)) = tensors[end..].iter().rfind(|(_, _, row)| matches!(row[..], [_, 1, 1])) {
        add("pooled", tensor, row, Select::Flatten);
    } else if let Some((_, tensor, row)) = deepest {
        add("pooled", tensor, row, Select::Gap);
    }
    cuts
}

/// A map of the main path.
#[derive(Clone, Copy)]
struct FeatureMap<'a> {
    /// The node that makes it.
    node: usize,
    tensor: &'a str,
    row: &'a [i64],
    /// How often the input's height was halved.
    level: u32,
}

/// The map of every size at which a stage ends, while the sizes fall, with how often the input's height was halved.
///
/// A stage ends at the last map of its size that is all that later nodes see of this size, and of these at one
/// between blocks rather than inside of one. Larger maps may still be in use, as in U-Nets.
fn feature_maps<'a>(
    graph: &GraphProto,
    tensors: &'a [(usize, &'a str, Vec<i64>)],
    height: Option<usize>,
) -> Vec<(u32, &'a str, &'a [i64])> {
    let Some(height) = height else { return Vec::new() };
    let mut all: Vec<FeatureMap<'_>> = Vec::new();
    for (node, tensor, row) in tensors {
        let [_, rows, columns] = row[..] else { continue };
        // Heads of an attention and windows have four axes too.
        let moves = ["Reshape", "Transpose", "Slice", "MatMul", "Softmax", "Split", "Gather", "Pad", "Unsqueeze"];
        if rows != columns || moves.contains(&graph.node[*node].op_type.as_str()) {
            continue;
        }
        if rows < 2 || columns < 2 || rows > height as i64 {
            continue;
        }
        let level = (height as f64 / rows as f64).log2().round() as u32;
        // Behind the smallest map a decoder begins.
        if all.last().is_some_and(|last| level < last.level && last.level >= 2) {
            break;
        }
        all.push(FeatureMap { node: *node, tensor, row, level });
    }
    let mut users: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, node) in graph.node.iter().enumerate() {
        node.input.iter().for_each(|name| users.entry(name).or_default().push(place));
    }
    let last_use = |tensor: &str| users.get(tensor).and_then(|places| places.last()).copied().unwrap_or(0);
    let weights: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let scopes: Vec<Vec<String>> = graph.node.iter().map(|node| scopes(node, &weights).unwrap_or_default()).collect();
    // How deep the innermost block is that has both the node and one that uses its output.
    let depth = |map: &FeatureMap<'_>| {
        let shared = |user: &usize| {
            let pairs = scopes[map.node].iter().zip(&scopes[*user]);
            pairs.take_while(|(a, b)| a == b).count()
        };
        users.get(map.tensor).map_or(0, |places| places.iter().map(shared).max().unwrap_or(0))
    };
    let mut levels: Vec<u32> = all.iter().map(|map| map.level).filter(|level| *level >= 2).collect();
    levels.dedup();
    let end_of = |level: u32| {
        let own: Vec<&FeatureMap<'_>> = all.iter().filter(|map| map.level == level).collect();
        let alone = |map: &&&FeatureMap<'_>| {
            own.iter().all(|other| other.node >= map.node || last_use(other.tensor) <= map.node)
        };
        let ends: Vec<&FeatureMap<'_>> = own.iter().filter(alone).copied().collect();
        let ends = if ends.is_empty() { own.clone() } else { ends };
        // The last of the outermost.
        let outermost = ends.iter().map(|map| depth(map)).min()?;
        ends.into_iter().rfind(|map| depth(map) == outermost).map(|map| (level, map.tensor, map.row))
    };
    levels.into_iter().filter_map(end_of).collect()
}
