//! Cutting: from a model to the part of it that some tensors need, with the reductions that are stored
//! in place of the tensors appended.

use std::collections::{HashMap, HashSet};

use super::batch::free_batch;
use super::make::{self, Size};
use super::proto::{AttributeProto, DataType, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto};
use super::select::{OutputSpec, Select};
use super::shape;
use super::walk::{for_each_use, subgraphs};
use crate::base::suggest::did_you_mean;
use crate::base::{Error, Result};

/// Cuts a model at named tensors.
///
/// The result has one output per spec, in their order, of f32 and with a first axis named `batch`. It
/// keeps the inputs, nodes, constants and functions that these need, the operator sets and the metadata;
/// everything else is gone. A batch that the export froze is freed, see [`free_batch`].
///
/// # Errors
/// - no outputs, or two of one name;
/// - a tensor that does not exist (with the nearest name), that is a constant, that does not depend on an
///   input, or that lies inside the branch or loop of a node, which is named;
/// - a selection that does not fit the tensor's shape;
/// - a frozen batch that cannot be freed, with the node that prevents it.
pub fn cut(mut model: ModelProto, outputs: &[OutputSpec]) -> Result<ModelProto> {
    let opset = default_opset(&model)?;
    let mut graph = model.graph.take().unwrap_or_default();
    let producers = producers(&graph);
    for (i, spec) in outputs.iter().enumerate() {
        check_tensor(&graph, &producers, &spec.tensor)?;
        if spec.name.is_empty() || outputs[..i].iter().any(|other| other.name == spec.name) {
            return Err(Error::bad_input(format!("two outputs of a cut are called `{}`, or it is empty", spec.name)));
        }
    }
    if outputs.is_empty() {
        return Err(Error::bad_input("a cut needs at least one output"));
    }

    let needed = needed(&graph, &producers, outputs);
    let old_outputs = std::mem::take(&mut graph.output);
    keep(&mut graph, &needed);
    if graph.input.is_empty() {
        let tensor = &outputs[0].tensor;
        return Err(Error::bad_input(format!("the tensor `{tensor}` does not depend on any input of the model")));
    }
    graph.value_info.extend(old_outputs.into_iter().filter(|v| needed.tensors.contains(v.name.as_str())));
    keep_functions(&mut model.functions, &graph);
    // The training graphs speak of nodes that may be gone.
    model.training_info.clear();
    // Older files list every initialiser among the inputs too; from version 4 on they need not.
    model.ir_version = model.ir_version.max(4);
    model.graph = Some(graph);
    free_batch(&mut model, opset)?;
    append_outputs(&mut model, opset, outputs)?;
    Ok(model)
}

/// The version of the standard operator set that a model uses.
///
/// # Errors
/// It names none.
pub fn default_opset(model: &ModelProto) -> Result<i64> {
    let standard = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    model
        .opset_import
        .iter()
        .find(|set| standard(&set.domain))
        .map(|set| set.version)
        .ok_or_else(|| Error::bad_input("the model does not say which version of the ONNX operators it uses"))
}

/// Which node makes a tensor.
fn producers(graph: &GraphProto) -> HashMap<String, usize> {
    let outputs = |(i, node): (usize, &NodeProto)| node.output.iter().map(move |o| (o.clone(), i)).collect::<Vec<_>>();
    graph.node.iter().enumerate().flat_map(outputs).filter(|(name, _)| !name.is_empty()).collect()
}

fn check_tensor(graph: &GraphProto, producers: &HashMap<String, usize>, tensor: &str) -> Result<()> {
    if producers.contains_key(tensor) {
        return Ok(());
    }
    let constant = graph.initializer.iter().any(|t| t.name == tensor)
        || graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref()).any(|t| t.name == tensor);
    if constant {
        return Err(Error::bad_input(format!("the tensor `{tensor}` is a constant of the model")));
    }
    if graph.input.iter().any(|v| v.name == tensor) {
        return Ok(());
    }
    if let Some(node) = graph.node.iter().find(|node| subgraphs(node).any(|inner| makes(inner, tensor))) {
        return Err(Error::bad_input(format!(
            "the tensor `{tensor}` lies inside the control flow of {}; a model cannot be cut there",
            describe(node)
        ))
        .hint("cut at a tensor before or after that node"));
    }
    if let Some(output) =
        graph.node.iter().find(|n| n.name == tensor && !tensor.is_empty()).and_then(|n| n.output.first())
    {
        return Err(Error::bad_input(format!(
            "the model has no tensor `{tensor}`; that is a node, and its output is `{output}`"
        )));
    }
    let names = producers.keys().map(String::as_str).chain(graph.input.iter().map(|v| v.name.as_str()));
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    let suggestion = did_you_mean(tensor, names);
    Err(Error::bad_input(format!("the model has no tensor `{tensor}`{suggestion}"))
        .hint("`caft engine inspect MODEL` shows the tensors of a model"))
}

fn makes(graph: &GraphProto, tensor: &str) -> bool {
    graph
        .node
        .iter()
        .any(|node| node.output.iter().any(|o| o == tensor) || subgraphs(node).any(|inner| makes(inner, tensor)))
}

/// A node for people: its name, or its operator and output where it has none.
pub fn describe(node: &NodeProto) -> String {
    match node.output.first() {
        _ if !node.name.is_empty() => format!("the node `{}` ({})", node.name, node.op_type),
        Some(output) => format!("the {} node that makes `{output}`", node.op_type),
        None => format!("a {} node", node.op_type),
    }
}

struct Needed {
    nodes: HashSet<usize>,
    tensors: HashSet<String>,
}

fn needed(graph: &GraphProto, producers: &HashMap<String, usize>, outputs: &[OutputSpec]) -> Needed {
    let mut needed = Needed { nodes: HashSet::new(), tensors: HashSet::new() };
    let mut open: Vec<String> = outputs.iter().map(|spec| spec.tensor.clone()).collect();
    while let Some(tensor) = open.pop() {
        if let Some(&node) = producers.get(&tensor).filter(|node| !needed.nodes.contains(node)) {
            needed.nodes.insert(node);
            for_each_use(&graph.node[node], &mut |name| open.push(name.to_string()));
        }
        needed.tensors.insert(tensor);
    }
    needed
}

fn keep(graph: &mut GraphProto, needed: &Needed) {
    let Needed { nodes, tensors } = needed;
    let mut index = 0..;
    graph.node.retain(|_| index.next().is_some_and(|i| nodes.contains(&i)));
    graph.initializer.retain(|t| tensors.contains(&t.name));
    graph.sparse_initializer.retain(|s| s.values.as_ref().is_some_and(|t| tensors.contains(&t.name)));
    let constants: HashSet<&str> = graph
        .initializer
        .iter()
        .map(|t| t.name.as_str())
        .chain(graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref()).map(|t| t.name.as_str()))
        .collect();
    graph.input.retain(|v| tensors.contains(&v.name) && !constants.contains(v.name.as_str()));
    graph.value_info.retain(|v| tensors.contains(&v.name));
    graph.quantization_annotation.retain(|a| tensors.contains(&a.tensor_name));
}

/// Drops functions that are no longer called, also by other functions.
fn keep_functions(functions: &mut Vec<FunctionProto>, graph: &GraphProto) {
    fn calls<'a>(nodes: &'a [NodeProto], out: &mut Vec<&'a NodeProto>) {
        for node in nodes {
            out.push(node);
            subgraphs(node).for_each(|inner| calls(&inner.node, out));
        }
    }
    let is =
        |f: &FunctionProto, n: &NodeProto| (&f.domain, &f.name, &f.overload) == (&n.domain, &n.op_type, &n.overload);
    let mut called = vec![false; functions.len()];
    let mut open = Vec::new();
    calls(&graph.node, &mut open);
    while let Some(node) = open.pop() {
        for (function, called) in functions.iter().zip(&mut called) {
            if !*called && is(function, node) {
                *called = true;
                calls(&function.node, &mut open);
            }
        }
    }
    let mut called = called.into_iter();
    functions.retain(|_| called.next().unwrap_or(true));
}

/// Appends the nodes of every selection and declares the outputs.
fn append_outputs(model: &mut ModelProto, opset: i64, outputs: &[OutputSpec]) -> Result<()> {
    let facts = shape::infer(model);
    let Some(graph) = &mut model.graph else { return Ok(()) };
    let mut names = Names::of(graph);
    let mut renamed = HashMap::new();
    for spec in outputs {
        if !names.taken(&spec.name) {
            continue;
        }
        if graph.input.iter().any(|v| v.name == spec.name) {
            let name = &spec.name;
            return Err(Error::bad_input(format!("an output of a cut cannot be called `{name}` like an input")));
        }
        let fresh = names.fresh(&format!("{}_inner", spec.name));
        rename(graph, &spec.name, &fresh);
        renamed.insert(spec.name.as_str(), fresh);
    }
    for spec in outputs {
        let fact = facts.get(&spec.tensor);
        let row = fact
            .and_then(|f| f.row_shape())
            .map(|row| spec.select.row_shape(&row))
            .transpose()
            .map_err(|error| Error::bad_input(format!("output `{}` of the cut: {error}", spec.name)))?;
        let current = renamed.get(spec.tensor.as_str()).unwrap_or(&spec.tensor).clone();
        let mut chain = Chain { graph: &mut *graph, names: &mut names, opset, prefix: &spec.name, current };
        let element = fact.map_or(DataType::Undefined, |f| f.element);
        if matches!(element, DataType::Float16 | DataType::Bfloat16 | DataType::Double) {
            chain.then("Cast", &[], vec![make::int("to", DataType::Float as i64)]);
        }
        chain.select(spec.select);
        chain.end_as(&spec.name);
        let shape =
            row.map(|row| std::iter::once(Size::from("batch")).chain(row.into_iter().map(Size::from)).collect());
        graph.output.push(make::value_info(&spec.name, DataType::Float, shape));
    }
    Ok(())
}

/// Names that tensors of a graph have.
pub(super) struct Names(HashSet<String>);

impl Names {
    pub(super) fn of(graph: &GraphProto) -> Self {
        fn collect(graph: &GraphProto, names: &mut HashSet<String>) {
            let values = graph.input.iter().chain(&graph.output).chain(&graph.value_info).map(|v| &v.name);
            names.extend(values.cloned());
            names.extend(graph.initializer.iter().map(|t| t.name.clone()));
            names.extend(graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref()).map(|t| t.name.clone()));
            for node in &graph.node {
                names.extend(node.output.iter().cloned());
                subgraphs(node).for_each(|inner| collect(inner, names));
            }
        }
        let mut names = HashSet::new();
        collect(graph, &mut names);
        Self(names)
    }

    fn taken(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// A name that nothing has yet; it is taken from now on.
    pub(super) fn fresh(&mut self, wish: &str) -> String {
        let candidates = (0..).map(|i| if i == 0 { wish.to_string() } else { format!("{wish}_{i}") });
        let name = candidates.into_iter().find(|name| !self.0.contains(name)).unwrap_or_default();
        self.0.insert(name.clone());
        name
    }
}

/// Gives a tensor another name wherever it is made, described or used, also in subgraphs.
fn rename(graph: &mut GraphProto, from: &str, to: &str) {
    let swap = |name: &mut String| {
        if name == from {
            *name = to.to_string();
        }
    };
    graph.initializer.iter_mut().for_each(|t| swap(&mut t.name));
    graph.sparse_initializer.iter_mut().filter_map(|s| s.values.as_mut()).for_each(|t| swap(&mut t.name));
    graph.output.iter_mut().chain(&mut graph.value_info).for_each(|v| swap(&mut v.name));
    graph.quantization_annotation.iter_mut().for_each(|a| swap(&mut a.tensor_name));
    for node in &mut graph.node {
        node.input.iter_mut().chain(&mut node.output).for_each(swap);
        for attribute in &mut node.attribute {
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|inner| rename(inner, from, to));
        }
    }
}

/// A chain of nodes appended to a graph, each taking what the last one made.
struct Chain<'a> {
    graph: &'a mut GraphProto,
    names: &'a mut Names,
    opset: i64,
    prefix: &'a str,
    current: String,
}

impl Chain<'_> {
    fn then(&mut self, op_type: &str, more: &[&str], attributes: Vec<AttributeProto>) {
        let output = self.names.fresh(&format!("{}/{op_type}", self.prefix));
        let mut inputs = vec![self.current.as_str()];
        inputs.extend(more);
        self.graph.node.push(make::node(op_type, &inputs, &[&output], attributes));
        self.current = output;
    }

    fn constant(&mut self, what: &str, dims: &[usize], values: &[i64]) -> String {
        let name = self.names.fresh(&format!("{}/{what}", self.prefix));
        self.graph.initializer.push(TensorProto::from_i64(&name, dims, values));
        name
    }

    fn select(&mut self, select: Select) {
        match select {
            Select::All => {}
            Select::Token { index } => {
                let index = self.constant("index", &[], &[index]);
                self.then("Gather", &[&index], vec![make::int("axis", 1)]);
            }
            Select::Tokens { from } => self.slice(from.into(), i64::MAX),
            Select::MeanTokens { from, to } => {
                if from > 0 || to.is_some() {
                    self.slice(from.into(), to.map_or(i64::MAX, i64::from));
                }
                self.channels_first(&[0, 2, 1]);
                self.pool();
            }
            Select::Gap => self.pool(),
            Select::GapLast => {
                self.channels_first(&[0, 3, 1, 2]);
                self.pool();
            }
            Select::Flatten => self.then("Flatten", &[], vec![make::int("axis", 1)]),
        }
    }

    /// A range of axis 1. Since version 10 of the operators, the range is inputs.
    fn slice(&mut self, from: i64, to: i64) {
        if self.opset < 10 {
            let range = vec![make::ints("starts", &[from]), make::ints("ends", &[to]), make::ints("axes", &[1])];
            return self.then("Slice", &[], range);
        }
        let starts = self.constant("starts", &[1], &[from]);
        let ends = self.constant("ends", &[1], &[to]);
        let axes = self.constant("axis", &[1], &[1]);
        self.then("Slice", &[&starts, &ends, &axes], Vec::new());
    }

    /// The mean over all axes behind the second, which vanish. Not by ReduceMean: how ONNX Runtime's sums
    /// are split, and so their last bit, depends there on the size of the batch.
    fn pool(&mut self) {
        self.then("GlobalAveragePool", &[], Vec::new());
        self.then("Flatten", &[], vec![make::int("axis", 1)]);
    }

    fn channels_first(&mut self, order: &[i64]) {
        self.then("Transpose", &[], vec![make::ints("perm", order)]);
    }

    fn end_as(self, output: &str) {
        self.graph.node.push(make::node("Identity", &[&self.current], &[output], Vec::new()));
    }
}
