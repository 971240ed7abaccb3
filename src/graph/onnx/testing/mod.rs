//! Tiny models of real topologies, with seeded weights, for tests. Nodes are named by scopes and shapes are
//! computed as PyTorch's exporter does it.

mod blocks;
mod cnn;
pub mod families;
mod text;
mod tokens;
mod vit;

pub use cnn::tiny_cnn;
pub use text::{tiny_text, tiny_tokenizer};
pub use vit::{Vit, frozen_vit, tiny_vit, vit_base_like, vit_like};

use super::make::{self, Size};
use super::proto::{AttributeProto, DataType, GraphProto, ModelProto, OperatorSetIdProto, TensorProto};
use crate::base::random::Stream;

/// Builds a graph node by node.
pub struct Builder {
    graph: GraphProto,
    scopes: Vec<String>,
    names: super::cut::Names,
    seed: u64,
    opset: i64,
}

impl Builder {
    /// An empty graph for a version of the operators; weights are a function of the seed and their names.
    pub fn new(name: &str, opset: i64, seed: u64) -> Self {
        let graph = GraphProto { name: name.into(), ..GraphProto::default() };
        let names = super::cut::Names::of(&graph);
        Self { graph, scopes: Vec::new(), names, seed, opset }
    }

    /// Adds an f32 input.
    pub fn input(&mut self, name: &str, shape: Vec<Size>) -> String {
        self.input_of(name, DataType::Float, shape)
    }

    /// Adds an input of a type.
    pub fn input_of(&mut self, name: &str, element: DataType, shape: Vec<Size>) -> String {
        self.graph.input.push(make::value_info(name, element, Some(shape)));
        self.names.fresh(name)
    }

    /// Declares a tensor an f32 output; its name becomes `name`.
    pub fn output(&mut self, tensor: &str, name: &str, shape: Vec<Size>) {
        self.graph.node.push(make::node("Identity", &[tensor], &[name], Vec::new()));
        self.graph.output.push(make::value_info(name, DataType::Float, Some(shape)));
    }

    /// Runs `body` with a scope added to the names of nodes and weights.
    pub fn scope<T>(&mut self, name: &str, body: impl FnOnce(&mut Self) -> T) -> T {
        self.enter(name.into());
        let result = body(self);
        self.leave();
        result
    }

    fn enter(&mut self, scope: String) {
        self.scopes.push(scope);
    }

    fn leave(&mut self) {
        self.scopes.pop();
    }

    /// A weight `mean + deviation * normal`.
    pub fn weight(&mut self, name: &str, shape: &[usize], mean: f32, deviation: f32) -> String {
        let mut path = self.scopes.clone();
        path.push(name.into());
        let name = self.names.fresh(&path.join("."));
        let stream = Stream::named(self.seed, &name);
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count as u64).map(|i| mean + deviation * stream.normal(i)).collect();
        self.graph.initializer.push(TensorProto::from_f32(&name, shape, &values));
        name
    }

    /// An integer constant, as a node like the exporter's.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let tensor = TensorProto::from_i64("", &[values.len()], values);
        self.op("Constant", &[], vec![make::tensor("value", tensor)])
    }

    /// A float constant, as a node like the exporter's.
    pub fn floats(&mut self, values: &[f32]) -> String {
        let tensor = TensorProto::from_f32("", &[values.len()], values);
        self.op("Constant", &[], vec![make::tensor("value", tensor)])
    }

    /// A scalar integer constant.
    pub fn int(&mut self, value: i64) -> String {
        let tensor = TensorProto::from_i64("", &[], &[value]);
        self.op("Constant", &[], vec![make::tensor("value", tensor)])
    }

    /// A scalar float constant.
    pub fn float(&mut self, value: f32) -> String {
        let tensor = TensorProto::from_f32("", &[], &[value]);
        self.op("Constant", &[], vec![make::tensor("value", tensor)])
    }

    /// Adds a node; gives the name of its output, such as `/blocks.0/attn/MatMul_output_0`.
    pub fn op(&mut self, op_type: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let path: String = self.scopes.iter().map(|scope| format!("/{scope}")).collect();
        let node_name = self.names.fresh(&format!("{path}/{op_type}"));
        let output = self.names.fresh(&format!("{node_name}_output_0"));
        let mut node = make::node(op_type, inputs, &[&output], attributes);
        node.name = node_name;
        self.graph.node.push(node);
        output
    }

    /// Adds a node of several outputs; gives their names.
    pub fn op_of(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        outputs: usize,
        attributes: Vec<AttributeProto>,
    ) -> Vec<String> {
        let first = self.op(op_type, inputs, attributes);
        let stem = first.trim_end_matches('0').to_string();
        let more: Vec<String> = (1..outputs).map(|at| self.names.fresh(&format!("{stem}{at}"))).collect();
        if let Some(node) = self.graph.node.last_mut() {
            node.output.extend(more.iter().cloned());
        }
        std::iter::once(first).chain(more).collect()
    }

    /// `Shape` and `Gather`: one size of a tensor, as a scalar.
    pub fn size_of(&mut self, tensor: &str, axis: i64) -> String {
        let shape = self.op("Shape", &[tensor], Vec::new());
        let axis = self.int(axis);
        self.op("Gather", &[&shape, &axis], vec![make::int("axis", 0)])
    }

    /// A shape made of scalars and constants, as a vector.
    pub fn shape_of(&mut self, parts: &[Part<'_>]) -> String {
        let parts: Vec<String> = parts
            .iter()
            .map(|part| match part {
                Part::Size(size) => self.ints(&[*size]),
                Part::Tensor(name) => self.unsqueeze(name, 0),
            })
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.op("Concat", &parts, vec![make::int("axis", 0)])
    }

    /// A tensor with a new axis of one; since version 13 of the operators the axis is an input.
    pub fn unsqueeze(&mut self, tensor: &str, axis: i64) -> String {
        if self.opset < 13 {
            return self.op("Unsqueeze", &[tensor], vec![make::ints("axes", &[axis])]);
        }
        let axes = self.ints(&[axis]);
        self.op("Unsqueeze", &[tensor, &axes], Vec::new())
    }

    /// The model.
    pub fn finish(self) -> ModelProto {
        ModelProto {
            ir_version: 8,
            producer_name: "caft tests".into(),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: self.opset }],
            graph: Some(self.graph),
            ..ModelProto::default()
        }
    }
}

/// One entry of a shape that is computed while the model runs.
pub enum Part<'a> {
    /// A constant.
    Size(i64),
    /// A scalar tensor.
    Tensor(&'a str),
}
