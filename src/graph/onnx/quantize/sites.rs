//! Which nodes compute in 8-bit integers, and which tensors they need as such.

use std::collections::{HashMap, HashSet};

use crate::graph::onnx::proto::{DataType, GraphProto, ModelProto, NodeProto, TensorProto};
use crate::graph::onnx::shape::{self, Facts};

/// A node that may compute in 8-bit integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The node's name, or its output's where it has none.
    pub name: String,
    /// The tensor it makes.
    pub output: String,
    /// Whether it has weights: only such a site loses much.
    pub weighted: bool,
    /// The places of its inputs that are activations.
    pub(super) places: Vec<usize>,
    /// Its activations.
    pub(super) inputs: Vec<String>,
    /// The tensor that is quantised after it: its output, or that of the clipping activation behind it.
    pub(super) result: Option<String>,
    /// The result has the range of its input, which it only moves or takes the largest of.
    pub(super) keeps_range: bool,
}

impl Site {
    /// Whether 8 bits lose more in it than its inputs have lost: pools only move what they are given.
    pub fn can_lose(&self) -> bool {
        self.weighted || self.inputs.len() > 1
    }

    /// The tensors whose ranges are needed.
    pub fn tensors(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().chain(&self.result).map(String::as_str)
    }
}

/// A graph as its sites are looked for.
struct Surroundings<'a> {
    graph: &'a GraphProto,
    facts: Facts,
    constants: HashMap<&'a str, &'a TensorProto>,
    makers: HashMap<&'a str, &'a NodeProto>,
    users: HashMap<&'a str, Vec<&'a NodeProto>>,
    outputs: HashSet<&'a str>,
}

/// The sites of a model, in the order of its nodes: convolutions and products with weights, the additions and pools
/// between convolutions. Residual additions of transformers, norms, and products of two activations stay in
/// float: 8 bits are too few for them.
pub fn sites(model: &ModelProto) -> Vec<Site> {
    let Some(graph) = &model.graph else { return Vec::new() };
    let here = Surroundings::of(graph, shape::infer(model));
    let mut found: Vec<Site> = Vec::new();
    let mut results: HashSet<String> = HashSet::new();
    for node in &graph.node {
        if let Some(site) = here.site(node, &results) {
            results.extend(site.result.iter().cloned().chain([site.output.clone()]));
            found.push(site);
        }
    }
    found
}

impl<'a> Surroundings<'a> {
    fn of(graph: &'a GraphProto, facts: Facts) -> Self {
        let mut users: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
        for node in &graph.node {
            crate::graph::onnx::walk::for_each_use(node, &mut |name| users.entry(name).or_default().push(node));
        }
        let outputs = |node: &'a NodeProto| node.output.iter().map(move |name| (name.as_str(), node));
        Self {
            graph,
            facts,
            constants: graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect(),
            makers: graph.node.iter().flat_map(outputs).collect(),
            users,
            outputs: graph.output.iter().map(|value| value.name.as_str()).collect(),
        }
    }

    fn weight(&self, node: &NodeProto, place: usize, rank: Option<usize>) -> Option<&TensorProto> {
        let tensor = self.constants.get(node.input_name(place)?)?;
        let fits = rank.map_or(tensor.dims.len() >= 3, |rank| tensor.dims.len() == rank);
        (tensor.data_type() == DataType::Float && fits && tensor.raw_data.is_some()).then_some(*tensor)
    }

    /// A float tensor that varies with the input.
    fn is_activation(&self, name: &str) -> bool {
        let float = self.facts.get(name).is_some_and(|fact| fact.element == DataType::Float);
        let given = self.makers.contains_key(name) || self.graph.input.iter().any(|value| value.name == name);
        float && given && !self.constants.contains_key(name)
    }

    fn site(&self, node: &NodeProto, results: &HashSet<String>) -> Option<Site> {
        if !node.is_standard() || node.output.len() != 1 {
            return None;
        }
        let output = &node.output[0];
        let (places, weighted): (&[usize], bool) = match node.op_type.as_str() {
            "Conv" => (self.weight(node, 1, None).map(|_| &[0][..])?, true),
            "MatMul" => (self.weight(node, 1, Some(2)).map(|_| &[0][..])?, true),
            "Gemm" => {
                let plain = node.float("alpha").unwrap_or(1.0) == 1.0 && node.int_or("transA", 0) == 0;
                let bias = node.float("beta").unwrap_or(1.0) == 1.0
                    && node.input_name(2).is_none_or(|_| self.weight(node, 2, Some(1)).is_some());
                (self.weight(node, 1, Some(2)).filter(|_| plain && bias).map(|_| &[0][..])?, true)
            }
            "Add" if self.is_residual(node, results) => (&[0, 1], false),
            "MaxPool" if results.contains(self.before_activation(&node.input[0])) => (&[0], false),
            "GlobalAveragePool"
                if results.contains(self.before_activation(&node.input[0])) && self.feeds_a_conv(output) =>
            {
                (&[0], false)
            }
            _ => return None,
        };
        let biased = matches!(node.op_type.as_str(), "Conv")
            && node.input_name(2).is_some_and(|_| self.weight(node, 2, Some(1)).is_none());
        let inputs: Vec<String> = places.iter().map(|&place| node.input[place].clone()).collect();
        if biased || !inputs.iter().all(|name| self.is_activation(name)) {
            return None;
        }
        Some(Site {
            name: if node.name.is_empty() { output.clone() } else { node.name.clone() },
            output: output.clone(),
            weighted,
            places: places.to_vec(),
            inputs,
            result: if matches!(node.op_type.as_str(), "MatMul" | "Gemm") { None } else { self.result(output) },
            keeps_range: node.is("MaxPool"),
        })
    }

    /// Both sides are maps of one shape, and a convolution's result is one of them.
    fn is_residual(&self, node: &NodeProto, results: &HashSet<String>) -> bool {
        let [left, right] = &node.input[..] else { return false };
        let shape = |name: &str| self.facts.get(name).and_then(|fact| fact.dims.clone()).filter(|dims| dims.len() == 4);
        let made = |name: &str| results.contains(self.before_activation(name));
        left != right && shape(left).is_some() && shape(left) == shape(right) && (made(left) || made(right))
    }

    fn feeds_a_conv(&self, name: &str) -> bool {
        self.users.get(name).is_some_and(|users| !users.is_empty() && users.iter().all(|user| user.is("Conv")))
    }

    /// What a clipping activation made the tensor of; else the tensor.
    fn before_activation<'n>(&'n self, name: &'n str) -> &'n str {
        match self.makers.get(name) {
            Some(node) if clips(node) => node.input.first().map_or(name, String::as_str),
            _ => name,
        }
    }

    /// The tensor to quantise after a site: none where it leaves the model, or goes to what computes in float.
    fn result(&self, output: &'a str) -> Option<String> {
        let users = self.users.get(output)?;
        let name = match users[..] {
            [only] if clips(only) && !self.outputs.contains(output) => only.output.first()?.as_str(),
            _ => output,
        };
        let friendly = |user: &&NodeProto| {
            matches!(user.op_type.as_str(), "Conv" | "Add" | "MaxPool" | "GlobalAveragePool" | "Relu" | "Clip")
        };
        let users = self.users.get(name)?;
        (!self.outputs.contains(name) && users.iter().all(friendly)).then(|| name.to_string())
    }
}

/// An activation that only cuts off: quantising does it by the way.
fn clips(node: &NodeProto) -> bool {
    node.is("Relu") || node.is("Clip")
}
