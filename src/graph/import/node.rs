//! Nodes of the file become operators.

use std::collections::{HashMap, HashSet};

use super::Start;
use super::constant::{Constant, fold};
use super::fuse::{Fused, fuse};
use super::value::{Item, View, Views};
use crate::base::{Digest, Error, Result};
use crate::graph::onnx::describe;
use crate::graph::onnx::proto::NodeProto;
use crate::graph::onnx::shape::{Dim, Fact, Facts};
use crate::graph::op::{Activation, BinaryKind, Dropout, Gelu, Op, Relu};
use crate::graph::{Graph, Init, ValueId};

/// What names of parameters and of values begin with.
const PREFIX: &str = "backbone.";

/// Adds the nodes of a tail to a graph.
pub(super) struct Importer<'a> {
    pub views: Views<'a>,
    pub start: Start,
    pub facts: &'a Facts,
    pub opset: i64,
    items: HashMap<&'a str, Item>,
    /// Parameters by initialiser, shape and values, so that a weight which is used twice is one parameter.
    weights: HashMap<(String, Vec<usize>, Digest), ValueId>,
}

impl<'a> Importer<'a> {
    pub fn new(graph: &'a mut Graph, facts: &'a Facts, opset: i64, start: Start) -> Self {
        let views = Views { graph, name: String::new() };
        Self { views, start, facts, opset, items: HashMap::new(), weights: HashMap::new() }
    }

    /// Says what a tensor is.
    pub fn define(&mut self, tensor: &'a str, item: Item) {
        self.items.insert(tensor, item);
    }

    /// The view of a tensor.
    pub fn result(&self, tensor: &str) -> Option<&View> {
        match self.items.get(tensor) {
            Some(Item::View(view)) => Some(view),
            _ => None,
        }
    }

    /// Adds the nodes, which are in an order of evaluation. `kept` are the tensors that are asked for.
    ///
    /// # Errors
    /// A node that cannot be trained, by name and operator.
    pub fn run(&mut self, nodes: &[&'a NodeProto], kept: &HashSet<&str>) -> Result<(), (usize, Error)> {
        let failed = |i: usize, error: Error| {
            (i, Error::bad_input(format!("{} cannot be trained", describe(nodes[i]))).because(error))
        };
        let mut open = Vec::new();
        for (i, node) in nodes.iter().enumerate() {
            if !self.fold(node).map_err(|e| failed(i, e))? {
                open.push(i);
            }
        }
        let scalar = |name: &str| self.known(name).and_then(Constant::scalar);
        let dims = |name: &str| self.known(name).map(|c| (c.dims.clone(), c.weight.is_some()));
        let rank = |name: &str| self.facts.get(name).and_then(|f| f.dims.as_ref()).map(Vec::len);
        let mut plan = fuse(nodes, &open, kept, &scalar, &dims, &rank);
        for i in open {
            if plan.absorbed.contains(&i) {
                continue;
            }
            let node = nodes[i];
            self.views.name = format!("{PREFIX}{}", node.output.first().map_or("", String::as_str));
            let done = match plan.fused.remove(&i) {
                Some(fused) => self.fused(&fused).and_then(|view| self.put(node, view)),
                None => self.node(node),
            };
            done.map_err(|e| failed(i, e))?;
        }
        Ok(())
    }

    /// Computes a node that is known without running; gives whether it was, or is shape arithmetic.
    fn fold(&mut self, node: &'a NodeProto) -> Result<bool> {
        let Some(output) = node.output.first() else { return Ok(true) };
        let fact = self.facts.get(output);
        let sized = fact.is_some_and(|fact| fact.values.is_some());
        let inputs: Vec<Option<&Constant>> = node.input.iter().map(|name| self.known(name)).collect();
        let all = node.input.iter().zip(&inputs).all(|(name, known)| name.is_empty() || known.is_some());
        if !(all || sized) {
            return Ok(false);
        }
        let mut folded = fold(node, &inputs, fact)?;
        if let Some(folded) = folded.as_mut().filter(|_| moves_only(&node.op_type)) {
            folded.weight = inputs.first().copied().flatten().and_then(|c| c.weight.clone());
        }
        if let Some(folded) = folded {
            self.items.insert(output, Item::Constant(folded));
            return Ok(true);
        }
        // Numbers that depend on the batch: whoever needs them looks at the sizes they give.
        if sized || all && node.op_type == "Shape" { Ok(true) } else { Ok(false) }
    }

    /// What is known of a tensor without running.
    pub fn known(&self, tensor: &str) -> Option<&Constant> {
        match self.items.get(tensor) {
            Some(Item::Constant(constant)) => Some(constant),
            _ => None,
        }
    }

    /// A constant input of a node.
    pub fn constant(&self, node: &NodeProto, place: usize) -> Option<&Constant> {
        node.input_name(place).and_then(|name| self.known(name))
    }

    /// An input of a node that is computed.
    pub fn view(&self, node: &NodeProto, place: usize) -> Result<View> {
        let name = node.input_name(place).unwrap_or_default();
        self.named_view(name)
    }

    pub fn named_view(&self, name: &str) -> Result<View> {
        self.result(name).cloned().ok_or_else(|| match self.items.contains_key(name) {
            true => Error::bad_input(format!("its input `{name}` is a constant")),
            false => Error::bad_input(format!("its input `{name}` is not of f32, or not made of the trained tensors")),
        })
    }

    /// The axes of a node's output.
    pub fn sizes(&self, output: &str) -> Result<Vec<Dim>> {
        let dims = self.facts.get(output).and_then(|fact: &Fact| fact.dims.clone());
        dims.ok_or_else(|| Error::bad_input(format!("the shape of `{output}` is not known before it runs")))
    }

    /// Names a node's first output.
    pub fn put(&mut self, node: &'a NodeProto, view: View) -> Result<()> {
        self.put_at(node, 0, view);
        Ok(())
    }

    pub fn put_at(&mut self, node: &'a NodeProto, place: usize, view: View) {
        if let Some(name) = node.output.get(place).filter(|name| !name.is_empty()) {
            self.items.insert(name, Item::View(view));
        }
    }

    /// Adds an operator.
    pub fn emit(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId> {
        let name = self.views.graph.fresh_name(&self.views.name);
        self.views.graph.node(&name, op, inputs)
    }

    /// A constant as a value: a parameter if it is a weight. `drawn` is what it is when weights are drawn anew.
    pub fn weight(&mut self, constant: &Constant, drawn: Init, decay: bool) -> Result<ValueId> {
        let values = constant.floats();
        let Some(name) = &constant.weight else {
            let name = self.views.fresh("constant");
            return self.views.graph.constant(&name, &constant.dims, values);
        };
        let digest = Digest::of(bytemuck::cast_slice(&values));
        let key = (name.clone(), constant.dims.clone(), digest);
        if let Some(id) = self.weights.get(&key) {
            return Ok(*id);
        }
        let name = self.views.graph.fresh_name(&format!("{PREFIX}{name}"));
        let id = self.views.graph.parameter(&name, &constant.dims, self.start.init(values, drawn), decay)?;
        self.weights.insert(key, id);
        Ok(id)
    }

    /// A constant as a buffer.
    pub fn buffer(&mut self, constant: &Constant, drawn: f32) -> Result<ValueId> {
        let fallback = self.views.fresh("buffer");
        let name = constant.weight.as_ref().map_or(fallback, |name| format!("{PREFIX}{name}"));
        let name = self.views.graph.fresh_name(&name);
        let init = self.start.init(constant.floats(), Init::Fill(drawn));
        self.views.graph.buffer(&name, &constant.dims, init)
    }

    fn fused(&mut self, fused: &Fused) -> Result<View> {
        match fused {
            Fused::Unary { x, op } => {
                let x = self.named_view(x)?;
                self.unary(&x, op.clone())
            }
            Fused::LayerNorm { x, scale, bias, eps } => {
                let x = self.named_view(x)?;
                self.layer_norm(&x, Some(scale), Some(bias), *eps)
            }
            Fused::Linear { x, weight, bias } => self.linear(x, weight, bias),
            Fused::Attention { q, k, v, mask, scale } => self.attention([q, k, v], mask.as_deref(), *scale),
        }
    }

    /// An operator on each element, in whatever order they are.
    pub fn unary(&mut self, x: &View, op: impl Into<Op>) -> Result<View> {
        Ok(View { id: self.emit(op, &[x.id])?, axes: x.axes.clone() })
    }

    fn node(&mut self, node: &'a NodeProto) -> Result<()> {
        let number = |name: &str, default: f32| node.float(name).unwrap_or(default);
        if !node.is_standard() && !matches!(node.op_type.as_str(), "Gelu" | "FastGelu" | "QuickGelu") {
            return Err(Error::bad_input(format!("operators of `{}` have no backward", node.domain)));
        }
        let op: Op = match node.op_type.as_str() {
            "Identity" | "Cast" => {
                let view = self.view(node, 0)?;
                return self.put(node, view);
            }
            "Relu" => Relu.into(),
            "Gelu" if node.text("approximate") != Some("tanh") => Gelu.into(),
            "Gelu" | "FastGelu" if node.input_name(1).is_none() => Activation::GeluTanh.into(),
            "QuickGelu" => Activation::QuickGelu.into(),
            "Sigmoid" => Activation::Sigmoid.into(),
            "HardSigmoid" => Activation::HardSigmoid { alpha: number("alpha", 0.2), beta: number("beta", 0.5) }.into(),
            "HardSwish" => Activation::HardSwish.into(),
            "Swish" if number("alpha", 1.0) == 1.0 => Activation::Silu.into(),
            "Tanh" => Activation::Tanh.into(),
            "Erf" => Activation::Erf.into(),
            "LeakyRelu" => Activation::LeakyRelu { alpha: number("alpha", 0.01) }.into(),
            "Sqrt" => Activation::Sqrt.into(),
            "Exp" => Activation::Exp.into(),
            "Clip" => self.clip(node)?,
            "Pow" => match self.constant(node, 1).and_then(Constant::scalar) {
                Some(exponent) => Activation::Pow { exponent }.into(),
                None => return Err(Error::bad_input("its exponent is not one number")),
            },
            "Dropout" => {
                let rate = self.constant(node, 1).and_then(Constant::scalar).unwrap_or(number("ratio", 0.5));
                // Files for inference say so by leaving `training_mode` out.
                let trains = self.opset < 12 || self.constant(node, 2).and_then(Constant::scalar) == Some(1.0);
                Dropout { rate: if trains { rate } else { 0.0 } }.into()
            }
            "Add" => return self.binary(node, BinaryKind::Add),
            "Sub" => return self.binary(node, BinaryKind::Sub),
            "Mul" => return self.binary(node, BinaryKind::Mul),
            "Div" => return self.binary(node, BinaryKind::Div),
            "Expand" => return self.expand(node),
            "Conv" => return self.conv(node),
            "ConvTranspose" => return self.conv_transpose(node),
            "Pad" => return self.pad(node),
            "Resize" => return self.resize(node),
            "Gemm" => return self.gemm(node),
            "MatMul" => return self.matmul(node),
            "BatchNormalization" => return self.batch_norm(node),
            "LayerNormalization" => return self.layer_normalization(node),
            "MaxPool" | "AveragePool" => return self.pool(node),
            "GlobalAveragePool" | "GlobalMaxPool" | "ReduceMean" | "ReduceMax" => return self.reduce(node),
            "Softmax" => return self.softmax(node),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => return self.regroup(node),
            "Transpose" => return self.transpose(node),
            "Concat" => return self.concat(node),
            "Slice" => return self.slice(node),
            "Split" => return self.split(node),
            "Gather" if self.constant(node, 0).is_some() => return self.embedding(node),
            "Gather" => return self.gather(node),
            "Where" => return self.choice(node),
            other => return Err(Error::bad_input(format!("the operator `{other}` has no backward here"))),
        };
        let x = self.view(node, 0)?;
        let view = self.unary(&x, op)?;
        self.put(node, view)
    }

    fn clip(&self, node: &NodeProto) -> Result<Op> {
        let bound = |place: usize, name: &str, default: f32| match node.input_name(place) {
            Some(_) => self.constant(node, place).and_then(Constant::scalar),
            None => Some(node.float(name).unwrap_or(default)),
        };
        match (bound(1, "min", f32::NEG_INFINITY), bound(2, "max", f32::INFINITY)) {
            (Some(min), Some(max)) => Ok(Activation::Clip { min, max }.into()),
            _ => Err(Error::bad_input("its bounds are not known")),
        }
    }
}

/// Whether an operator leaves the elements of a weight as they are.
fn moves_only(op_type: &str) -> bool {
    matches!(
        op_type,
        "Identity" | "Cast" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Transpose" | "Slice" | "Gather"
    )
}
