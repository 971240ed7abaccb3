//! Rank 1: ONNX files, and the trainable graph.
//!
//! A [`Graph`] is what stands above the cut: nodes in ONNX's operators, with inputs that have a row per
//! sample, parameters that are trained, buffers that are fitted or tracked, and constants. Necks and heads
//! are functions that add nodes; [`Execution`] runs a graph forwards and backwards; [`mod@print`] gives its ONNX
//! form. Each operator is one file under [`op`].

mod arithmetic;
pub mod bf16;
pub mod execution;
mod gemm;
pub mod import;
mod lift;
pub mod onnx;
pub mod op;
pub mod panels;
pub mod parallel;
mod part;
pub mod print;
mod real;
mod shape;
mod target;
mod weights;

pub use arithmetic::Arithmetic;
pub use execution::Execution;
pub use gemm::{Matrix, gemm, gemm_alone};
pub use lift::Layout;
pub use op::Op;
pub use real::Real;
pub use shape::Shape;
pub use target::{Targets, Task};
pub use weights::{Tensor, Weights};

use part::Part;

use crate::base::random::Stream;
use crate::base::{Error, Result};

/// A value of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(usize);

impl ValueId {
    /// Its place in [`Graph::values`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// A value: what it is called, its shape, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Unique in the graph, such as `head.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Given with each batch.
    Input,
    /// Trained.
    Parameter {
        /// What it is before training.
        init: Init,
        /// Whether weight decay applies: to weights, not to biases and norms.
        decay: bool,
    },
    /// Not trained by gradients, but part of the weights: fitted before training, or tracked during it.
    Buffer {
        /// What it is before it is fitted.
        init: Init,
    },
    /// Part of the graph.
    Constant(Vec<f32>),
    /// Computed by the node of this number.
    Node(usize),
}

/// What a parameter is before training. Random numbers are a function of (seed, the parameter's name,
/// element), the same in every trainer.
#[derive(Debug, Clone, PartialEq)]
pub enum Init {
    /// The same number everywhere.
    Fill(f32),
    /// Uniform between minus and plus this bound.
    Uniform(f32),
    /// Normal with this standard deviation.
    Normal(f32),
    /// These values.
    Values(Vec<f32>),
}

impl Init {
    /// PyTorch's default of linear and convolution layers, for weights and biases alike: Kaiming's uniform
    /// with `a = √5`, which is ±1/√fan_in.
    pub fn fan_in(fan_in: usize) -> Self {
        Self::Uniform(1.0 / (fan_in.max(1) as f32).sqrt())
    }

    fn draw(&self, seed: u64, name: &str, elements: usize) -> Vec<f32> {
        let stream = Stream::named(seed, &format!("weights/{name}"));
        let each = |f: &dyn Fn(u64) -> f32| (0..elements as u64).map(f).collect();
        match self {
            Self::Fill(value) => vec![*value; elements],
            Self::Uniform(bound) => each(&|i| (2.0 * stream.uniform(i) - 1.0) * bound),
            Self::Normal(deviation) => each(&|i| stream.normal(i) * deviation),
            Self::Values(values) => values.clone(),
        }
    }
}

/// An operator applied to values; it computes one value.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The operator.
    pub op: Op,
    /// What it reads, in its order.
    pub inputs: Vec<ValueId>,
    /// What it computes.
    pub output: ValueId,
}

/// A statistic that the trainer computes over the training rows before the first epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The value whose last dimension is measured; computed from inputs and earlier fits alone.
    pub value: ValueId,
    /// The buffer `[last dimension]` that becomes the mean.
    pub mean: ValueId,
    /// The buffer `[last dimension]` that becomes `1 / sqrt(variance + eps)`.
    pub inverse_deviation: ValueId,
    /// Added to the variance.
    pub eps: f64,
}

/// Statistics of the targets that the trainer puts in before the first epoch, each `[values]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TargetFit {
    /// The buffer that becomes the mean of each value over the training rows.
    pub mean: ValueId,
    /// The buffer that becomes its standard deviation; 1 for a value that never varies.
    pub deviation: ValueId,
}

/// The trainable part of a network; see the [module](self). Nodes are in an order in which each reads only
/// what earlier ones computed, because [`Graph::node`] takes values that exist.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    values: Vec<Value>,
    nodes: Vec<Node>,
    inputs: Vec<ValueId>,
    outputs: Vec<(String, ValueId)>,
    fits: Vec<Fit>,
    target_fit: Option<TargetFit>,
    /// Which of several parts is being built.
    part: Option<Part>,
}

impl Graph {
    /// A graph of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an input with rows of `dims`.
    ///
    /// # Errors
    /// The name is taken, or the shape is too large.
    pub fn input(&mut self, name: &str, dims: &[usize]) -> Result<ValueId> {
        let id = self.value(name, Shape::rows(dims), Origin::Input)?;
        self.inputs.push(id);
        Ok(id)
    }

    /// Adds a parameter, to which weight decay applies if `decay`.
    ///
    /// # Errors
    /// The name is taken, unless by the same of another [`Graph::part`], or the shape is too large.
    pub fn parameter(&mut self, name: &str, dims: &[usize], init: Init, decay: bool) -> Result<ValueId> {
        let (name, shared) = self.name_of_weight(name, dims)?;
        shared.map_or_else(|| self.value(&name, Shape::fixed(dims), Origin::Parameter { init, decay }), Ok)
    }

    /// Adds a buffer.
    ///
    /// # Errors
    /// The name is taken, unless by the same of another [`Graph::part`], or the shape is too large.
    pub fn buffer(&mut self, name: &str, dims: &[usize], init: Init) -> Result<ValueId> {
        let (name, shared) = self.name_of_weight(name, dims)?;
        shared.map_or_else(|| self.value(&name, Shape::fixed(dims), Origin::Buffer { init }), Ok)
    }

    /// Adds a constant.
    ///
    /// # Errors
    /// The name is taken, or the values do not fill the shape.
    pub fn constant(&mut self, name: &str, dims: &[usize], values: Vec<f32>) -> Result<ValueId> {
        if Shape::checked_elements(dims)? != values.len() {
            let n = values.len();
            return Err(Error::bad_input(format!("constant `{name}` has {n} values, not those of `{dims:?}`")));
        }
        self.value(&self.name_of_node(name), Shape::fixed(dims), Origin::Constant(values))
    }

    /// Applies an operator and names what it computes.
    ///
    /// # Errors
    /// The name is taken, or the operator cannot take these shapes.
    pub fn node(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId> {
        let op = op.into();
        let shapes: Vec<&Shape> = inputs.iter().map(|id| self.shape(*id)).collect();
        let shape = op
            .infer(&shapes)
            .map_err(|e| Error::bad_input(format!("`{name}` of the trained part cannot be built")).because(e))?;
        let output = self.value(&self.name_of_node(name), shape, Origin::Node(self.nodes.len()))?;
        self.nodes.push(Node { op, inputs: inputs.to_vec(), output });
        Ok(output)
    }

    /// Names a value as an output.
    pub fn output(&mut self, name: &str, value: ValueId) {
        self.outputs.push((name.into(), value));
    }

    /// Gives a value another name.
    ///
    /// # Errors
    /// The name is taken.
    pub fn rename(&mut self, value: ValueId, name: &str) -> Result<()> {
        if self.values[value.0].name != name {
            self.check_name(name)?;
            self.values[value.0].name = name.into();
        }
        Ok(())
    }

    /// The name, or if that is taken, one that begins with it.
    pub fn fresh_name(&self, name: &str) -> String {
        let taken = |name: &str| self.values.iter().any(|v| v.name == name);
        let numbered = (1..).map(|n| format!("{name}.{n}"));
        std::iter::once(name.to_string()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
    }

    /// Makes a value the only output.
    pub fn set_only_output(&mut self, name: &str, value: ValueId) {
        self.outputs = vec![(name.into(), value)];
    }

    /// Asks for a statistic to be fitted before training; one that is asked for twice is fitted as first asked for.
    pub fn fit(&mut self, fit: Fit) {
        if self.fits.iter().all(|other| other.mean != fit.mean) {
            self.fits.push(fit);
        }
    }

    /// Asks for the statistics of the targets.
    pub fn fit_targets(&mut self, fit: TargetFit) {
        self.target_fit = Some(fit);
    }

    /// Where the statistics of the targets go, if anywhere.
    pub fn target_fit(&self) -> Option<TargetFit> {
        self.target_fit
    }

    /// A value's shape.
    pub fn shape(&self, id: ValueId) -> &Shape {
        &self.values[id.0].shape
    }

    /// All values; a [`ValueId`] indexes them.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// All nodes, in an order of evaluation.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The inputs, in order.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// The outputs, in order.
    pub fn outputs(&self) -> &[(String, ValueId)] {
        &self.outputs
    }

    /// The statistics to fit, in order.
    pub fn fits(&self) -> &[Fit] {
        &self.fits
    }

    /// Parameters and buffers before training: what random numbers of `seed` make of their [`Init`].
    pub fn initial_weights(&self, seed: u64) -> Weights {
        let mut weights = Weights::default();
        for value in &self.values {
            if let Origin::Parameter { init, .. } | Origin::Buffer { init } = &value.origin {
                let values = init.draw(seed, &value.name, value.shape.elements());
                weights.insert(&value.name, value.shape.dims.clone(), values);
            }
        }
        weights
    }

    /// All values with what they are called by here.
    pub fn ids(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        self.values.iter().enumerate().map(|(i, value)| (ValueId(i), value))
    }

    /// What is trained, in order.
    pub fn parameters(&self) -> impl Iterator<Item = ValueId> {
        self.ids().filter(|(_, value)| matches!(value.origin, Origin::Parameter { .. })).map(|(id, _)| id)
    }

    /// How many numbers are trained.
    pub fn parameter_count(&self) -> usize {
        self.parameters().map(|id| self.shape(id).elements()).sum()
    }

    fn value(&mut self, name: &str, shape: Shape, origin: Origin) -> Result<ValueId> {
        Shape::checked_elements(&shape.dims)?;
        self.check_name(name)?;
        self.values.push(Value { name: name.into(), shape, origin });
        Ok(ValueId(self.values.len() - 1))
    }

    fn check_name(&self, name: &str) -> Result<()> {
        if self.values.iter().any(|v| v.name == name) {
            return Err(Error::bad_input(format!("the trained part has two values named `{name}`")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_weights_are_a_function_of_seed_and_name() {
        let mut graph = Graph::new();
        graph.parameter("head.weight", &[3, 4], Init::fan_in(4), true).unwrap();
        let weights = graph.initial_weights(7);
        let values = weights.get("head.weight", &[3, 4]).unwrap();
        assert!(values.iter().all(|x| x.abs() <= 0.5) && values.iter().any(|x| x.abs() > 0.1));
        assert_eq!(weights, graph.initial_weights(7));
        assert_ne!(weights, graph.initial_weights(8));
        assert_eq!(graph.parameter_count(), 12);
        assert!(graph.input("head.weight", &[1]).is_err());
        assert!(graph.input("x", &[usize::MAX, 2]).is_err());
    }
}
