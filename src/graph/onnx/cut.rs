//! Cutting: from a model to the part of it that some tensors need, with the reductions that are stored
//! in place of the tensors appended.

use std::collections::{HashMap, HashSet};

use super::batch::free_batch;
use super::make::{self, Size};
use super::pool::steady_means;
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
/// everything else is gone. A batch that the export froze is freed, see [`free_batch`], and means over places
/// get a form that does not depend on the batch, see [`steady_means`].
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
    steady_means(&mut model, opset, &outputs.iter().map(|spec| spec.tensor.as_str()).collect::<Vec<_>>());
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

/// The number of weights of a model: the elements of its initialisers that are floats, or quantised floats.
/// Constants of shape arithmetic (integers of 32 and 64 bits) are none, nor are the running statistics of norms.
pub fn parameters(model: &ModelProto) -> u64 {
    model.graph.as_ref().map_or(0, |graph| weights(graph).map(|(_, count)| count).sum())
}

/// The weights of a graph, as [`parameters`] counts them: name and number of elements.
pub(super) fn weights(graph: &GraphProto) -> impl Iterator<Item = (&str, u64)> {
    let norms = graph.node.iter().filter(|node| node.is("BatchNormalization"));
    let statistics: HashSet<&str> = norms.flat_map(|node| node.input.iter().skip(3).map(String::as_str)).collect();
    let counts = |t: &&TensorProto| !matches!(t.data_type(), DataType::Int64 | DataType::Int32 | DataType::Bool);
    let weights = graph.initializer.iter().filter(counts).filter(move |t| !statistics.contains(t.name.as_str()));
    weights.map(|t| (t.name.as_str(), t.element_count().unwrap_or(0) as u64))
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
        let exact = matches!(element, DataType::Int64 | DataType::Int32 | DataType::Bool);
        if exact || matches!(element, DataType::Float16 | DataType::Bfloat16 | DataType::Double) {
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

    pub(super) fn taken(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    pub(super) fn take(&mut self, name: &str) {
        self.0.insert(name.to_string());
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
pub(super) fn rename(graph: &mut GraphProto, from: &str, to: &str) {
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
        let mut node = make::node("Identity", &[&self.current], &[output], Vec::new());
        // A node of the source may be called like its output.
        node.name = format!("{output}/cut");
        self.graph.node.push(node);
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::{AttributeType, DimensionValue, ValueInfoProto};
    use super::super::testing::{Builder, tiny_cnn, tiny_vit};
    use super::*;

    const NORM: &str = "/norm/Add_1_output_0";

    fn spec(name: &str, tensor: &str, select: Select) -> OutputSpec {
        OutputSpec { name: name.into(), tensor: tensor.into(), select }
    }

    fn fails(model: ModelProto, specs: &[OutputSpec]) -> String {
        let error = cut(model, specs).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn only_what_the_tensors_need_is_kept() {
        let model = cut(tiny_cnn(), &[spec("c4", "/layer1/Relu_output_0", Select::All)]).unwrap();
        let graph = model.graph.unwrap();
        assert!(graph.node.iter().all(|n| !n.name.starts_with("/layer2") && !n.name.starts_with("/fc")));
        assert!(graph.initializer.iter().all(|t| !t.name.starts_with("layer2") && !t.name.starts_with("fc")));
        assert_eq!(graph.input.len(), 1);
        let first = |value: &ValueInfoProto| value.tensor().unwrap().shape.clone().unwrap().dim[0].clone();
        assert_eq!(first(&graph.input[0]).value, Some(DimensionValue::Param("batch".into())));
        assert_eq!(first(&graph.input[0]), first(&graph.output[0]));
        assert_eq!((graph.output.len(), graph.output[0].name.as_str()), (1, "c4"));
    }

    #[test]
    fn reductions_take_the_form_of_the_operator_set() {
        for (opset, slice_inputs) in [(9, 1), (17, 4)] {
            let mut model = tiny_vit();
            model.opset_import[0].version = opset;
            let model = cut(model, &[spec("mean", NORM, Select::MeanTokens { from: 1, to: None })]).unwrap();
            let graph = model.graph.unwrap();
            let slice = graph.node.iter().rfind(|n| n.is("Slice")).unwrap();
            assert_eq!(slice.input.len(), slice_inputs);
        }
    }

    #[test]
    fn a_name_that_the_model_uses_makes_room() {
        let model = cut(tiny_vit(), &[spec(NORM, NORM, Select::Token { index: 0 })]).unwrap();
        let graph = model.graph.unwrap();
        let makers = graph.node.iter().filter(|n| n.output.iter().any(|o| o == NORM)).count();
        assert_eq!((makers, graph.output[0].name.as_str()), (1, NORM));
        assert!(graph.node.iter().any(|n| n.output == [format!("{NORM}_inner")]));
        assert!(fails(tiny_vit(), &[spec("image", NORM, Select::All)]).contains("like an input"));
    }

    #[test]
    fn a_tensor_that_cannot_be_cut_is_refused() {
        assert_eq!(
            fails(tiny_vit(), &[spec("x", "/norm/Add_1_output_1", Select::All)]),
            "the model has no tensor `/norm/Add_1_output_1`; did you mean `/norm/Add_1_output_0`?"
        );
        assert_eq!(
            fails(tiny_vit(), &[spec("x", "/norm/Add_1", Select::All)]),
            "the model has no tensor `/norm/Add_1`; that is a node, and its output is `/norm/Add_1_output_0`"
        );
        assert!(fails(tiny_vit(), &[spec("x", "norm.weight", Select::All)]).ends_with("is a constant of the model"));
        assert_eq!(
            fails(tiny_vit(), &[spec("x", "/norm/Constant_output_0", Select::All)]),
            "the tensor `/norm/Constant_output_0` does not depend on any input of the model"
        );
        assert!(fails(tiny_vit(), &[]).contains("at least one"));
        let twice = [spec("x", NORM, Select::All), spec("x", NORM, Select::Token { index: 0 })];
        assert!(fails(tiny_vit(), &twice).contains("called `x`"));
    }

    #[test]
    fn control_flow_is_kept_whole_or_refused() {
        let mut b = Builder::new("if", 13, 0);
        let x = b.input("x", vec!["n".into(), 4.into()]);
        let condition = b.weight("condition", &[], 0.0, 1.0);
        let outer = b.op("Relu", &[&x], Vec::new());
        let branch = |op: &str| GraphProto {
            node: vec![make::node(op, &[&outer], &[&format!("in_{op}")], Vec::new())],
            output: vec![make::value_info(&format!("in_{op}"), DataType::Float, None)],
            ..Default::default()
        };
        let attribute = |name: &str, graph| AttributeProto {
            name: name.into(),
            g: Some(graph),
            r#type: AttributeType::Graph.into(),
            ..Default::default()
        };
        let branches = vec![attribute("then_branch", branch("Abs")), attribute("else_branch", branch("Neg"))];
        let y = b.op("If", &[&condition], branches);
        let model = b.finish();
        let kept = cut(model.clone(), &[spec("y", &y, Select::All)]).unwrap().graph.unwrap();
        assert!(kept.node.iter().any(|n| n.is("Relu")), "what a branch captures is kept");
        assert_eq!(
            fails(model, &[spec("y", "in_Abs", Select::All)]),
            "the tensor `in_Abs` lies inside the control flow of the node `/If` (If); a model cannot be cut there"
        );
    }

    #[test]
    fn functions_that_are_not_called_go() {
        let mut model = tiny_cnn();
        let function = |name: &str, calls: &str| FunctionProto {
            name: name.into(),
            domain: "own".into(),
            node: vec![NodeProto { op_type: calls.into(), domain: "own".into(), ..Default::default() }],
            ..Default::default()
        };
        model.functions = vec![function("A", "B"), function("B", "Relu"), function("C", "A")];
        let graph = model.graph.as_mut().unwrap();
        let relu = graph.node.iter_mut().find(|n| n.op_type == "Relu").unwrap();
        (relu.op_type, relu.domain) = ("A".into(), "own".into());
        let model = cut(model, &[spec("c4", "/layer1/Relu_output_0", Select::All)]).unwrap();
        assert_eq!(model.functions.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["A", "B"]);
    }
}
