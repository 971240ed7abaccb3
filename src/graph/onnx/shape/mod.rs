//! What is known of a model's tensors without running it: element types, sizes, and the values of shape
//! arithmetic.
//!
//! Sizes follow from the inputs' through the operators of image and text networks; the first axis of every
//! input counts as the batch, and sizes that are multiples of it are kept as such, so that a shape
//! holds for every batch. An operator that is not known here makes its outputs unknown, unless the
//! model itself describes them; the runtime can then still be asked. Nothing here fails: what is wrong in
//! a model is the runtime's to refuse.

mod dim;
mod flops;
mod layout;
mod spatial;
mod value;

use std::collections::HashMap;

pub use dim::{Dim, broadcast, product, rest_of};
pub use flops::flops;
pub use value::Number;

use super::cut::default_opset;
use super::proto::{DataType, DimensionValue, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// What is known of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// The element type; `Undefined` if not known.
    pub element: DataType,
    /// The sizes of its axes; `None` if not even the rank is known.
    pub dims: Option<Vec<Dim>>,
    /// The values in row-major order, for the few numbers of shape arithmetic.
    pub values: Option<Vec<Number>>,
}

impl Fact {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { element: DataType::Undefined, dims: None, values: None };

    /// A tensor of known element type and perhaps shape.
    pub fn new(element: DataType, dims: Option<Vec<Dim>>) -> Self {
        Self { element, dims, values: None }
    }

    /// The shape without the first axis.
    pub fn row_shape(&self) -> Option<Vec<Option<usize>>> {
        let (_, row) = self.dims.as_ref()?.split_first()?;
        Some(row.iter().map(|dim| dim.known()).collect())
    }

    /// Of a constant.
    pub fn of_constant(tensor: &TensorProto) -> Self {
        let dims = tensor.dims.iter().map(|&d| Dim::Known(d)).collect();
        let values = Number::all_of(tensor);
        Self { element: tensor.data_type(), dims: Some(dims), values }
    }
}

/// What is known of every tensor of a graph, by name.
pub type Facts = HashMap<String, Fact>;

/// What is known of every tensor of a model's graph.
pub fn infer(model: &ModelProto) -> Facts {
    let Some(graph) = &model.graph else { return Facts::new() };
    let opset = default_opset(model).unwrap_or(1);
    let mut facts = begin(graph);
    let described = Described::of(graph);
    for node in &graph.node {
        step(&mut facts, &described, node, opset);
    }
    facts
}

/// The facts of inputs and constants.
pub fn begin(graph: &GraphProto) -> Facts {
    let mut facts = Facts::new();
    for input in &graph.input {
        let mut fact = of_description(input);
        if let Some(first) = fact.dims.as_mut().and_then(|dims| dims.first_mut()) {
            *first = Dim::BATCH;
        }
        facts.insert(input.name.clone(), fact);
    }
    for sparse in &graph.sparse_initializer {
        if let Some(values) = &sparse.values {
            let dims = sparse.dims.iter().map(|&d| Dim::Known(d)).collect();
            facts.insert(values.name.clone(), Fact::new(values.data_type(), Some(dims)));
        }
    }
    // Older files list initialisers among the inputs too; the constant is what counts.
    facts.extend(graph.initializer.iter().map(|t| (t.name.clone(), Fact::of_constant(t))));
    facts
}

/// What the model itself says of its inner tensors.
pub struct Described<'a>(HashMap<&'a str, &'a ValueInfoProto>);

impl<'a> Described<'a> {
    /// The descriptions of a graph.
    pub fn of(graph: &'a GraphProto) -> Self {
        Self(graph.value_info.iter().chain(&graph.output).map(|v| (v.name.as_str(), v)).collect())
    }
}

/// Adds the facts of a node's outputs.
pub fn step(facts: &mut Facts, described: &Described<'_>, node: &NodeProto, opset: i64) {
    let mut found = outputs(facts, node, opset);
    found.resize(node.output.len(), Fact::UNKNOWN);
    for (name, mut fact) in node.output.iter().zip(found) {
        if name.is_empty() {
            continue;
        }
        if let Some(value) = described.0.get(name.as_str()) {
            let says = of_description(value);
            if fact.element == DataType::Undefined {
                fact.element = says.element;
            }
            // Its first size is that of the batch it was exported with.
            let row_only = |mut dims: Vec<Dim>| {
                dims.iter_mut().take(1).for_each(|first| *first = Dim::Unknown);
                dims
            };
            fact.dims = fact.dims.or_else(|| says.dims.map(row_only));
        }
        facts.insert(name.clone(), fact);
    }
}

fn of_description(value: &ValueInfoProto) -> Fact {
    let Some(tensor) = value.tensor() else { return Fact::UNKNOWN };
    let size = |value: &Option<DimensionValue>| match value {
        Some(DimensionValue::Value(size)) if *size >= 0 => Dim::Known(*size),
        _ => Dim::Unknown,
    };
    let dims = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(|d| size(&d.value)).collect());
    Fact::new(tensor.elem_type(), dims)
}

/// A node with the facts of its inputs.
pub(super) struct Known<'a> {
    node: &'a NodeProto,
    inputs: Vec<Option<&'a Fact>>,
    opset: i64,
}

impl<'a> Known<'a> {
    pub(super) fn new(facts: &'a Facts, node: &'a NodeProto, opset: i64) -> Self {
        let inputs = node.input.iter().map(|name| facts.get(name)).collect();
        Self { node, inputs, opset }
    }

    fn input(&self, place: usize) -> Option<&'a Fact> {
        self.inputs.get(place).copied().flatten()
    }

    fn given(&self, place: usize) -> bool {
        self.node.input_name(place).is_some()
    }

    fn element(&self, place: usize) -> DataType {
        self.input(place).map_or(DataType::Undefined, |fact| fact.element)
    }

    pub(super) fn dims(&self, place: usize) -> Option<&'a [Dim]> {
        self.input(place)?.dims.as_deref()
    }

    /// The values of an integer input.
    pub(super) fn ints(&self, place: usize) -> Option<Vec<Dim>> {
        self.input(place)?.values.as_ref()?.iter().map(|number| number.int()).collect()
    }

    /// The values of an integer input that are all known.
    fn known_ints(&self, place: usize) -> Option<Vec<i64>> {
        self.ints(place)?.into_iter().map(|dim| dim.at(1).filter(|_| !dim.is_batch())).collect()
    }

    /// What newer operators take as an input and older ones as an attribute.
    pub(super) fn ints_input_or_attribute(&self, place: usize, attribute: &str) -> Option<Vec<i64>> {
        if self.given(place) { self.known_ints(place) } else { self.node.ints(attribute).map(<[i64]>::to_vec) }
    }
}

/// An axis that may count from the end.
pub fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis.checked_add(rank as i64)? } else { axis };
    usize::try_from(axis).ok().filter(|axis| *axis < rank)
}

fn outputs(facts: &Facts, node: &NodeProto, opset: i64) -> Vec<Fact> {
    let known = Known::new(facts, node, opset);
    let same = known.element(0);
    if !node.is_standard() {
        return match node.op_type.as_str() {
            // Fused operators of ONNX Runtime that keep their first input's shape.
            "Gelu" | "FastGelu" | "QuickGelu" | "BiasGelu" => one(same, known.dims(0).map(<[_]>::to_vec)),
            _ => Vec::new(),
        };
    }
    let first = || known.dims(0).map(<[Dim]>::to_vec);
    match node.op_type.as_str() {
        "Constant" => value::constant(&known),
        "Shape" | "Size" | "ConstantOfShape" | "Range" | "Clip" | "Cast" | "CastLike" | "Floor" | "Ceil" | "Round"
        | "Sqrt" | "Neg" | "Abs" | "Identity" | "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Pow" | "Min" | "Max"
        | "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" | "And" | "Or" | "Xor" | "Not" | "Where"
        | "Sum" | "Mean" | "PRelu" | "BitShift" => value::arithmetic(&known),
        "Reshape" | "Flatten" | "Transpose" | "Concat" | "Split" | "Slice" | "Gather" | "GatherElements"
        | "GatherND" | "Squeeze" | "Unsqueeze" | "Expand" | "Tile" | "Pad" | "DepthToSpace" | "SpaceToDepth" => {
            layout::infer(&known)
        }
        "Conv" | "ConvInteger" | "QLinearConv" | "ConvTranspose" | "MaxPool" | "AveragePool" | "LpPool"
        | "GlobalAveragePool" | "GlobalMaxPool" | "Resize" | "Upsample" => spatial::infer(&known),
        "MatMul" => one(same, matmul(known.dims(0), known.dims(1))),
        "MatMulInteger" => one(DataType::Int32, matmul(known.dims(0), known.dims(1))),
        "QLinearMatMul" => one(known.element(7), matmul(known.dims(0), known.dims(3))),
        "Gemm" => one(same, gemm(&known)),
        "Einsum" => one(same, einsum(&known)),
        "QuantizeLinear" => {
            let element = if known.given(2) { known.element(2) } else { DataType::Uint8 };
            one(element, first())
        }
        "DequantizeLinear" => one(known.element(1), first()),
        "DynamicQuantizeLinear" => vec![
            Fact::new(DataType::Uint8, first()),
            Fact::new(DataType::Float, Some(Vec::new())),
            Fact::new(DataType::Uint8, Some(Vec::new())),
        ],
        "ArgMax" | "ArgMin" => one(DataType::Int64, reduce_axes(&known, &[node.int_or("axis", 0)])),
        "TopK" => {
            let dims = first().map(|mut dims| {
                let axis = axis_of(node.int_or("axis", -1), dims.len());
                let k = known.ints(1).and_then(|k| k.first().copied()).unwrap_or(Dim::Unknown);
                axis.into_iter().for_each(|axis| dims[axis] = k);
                dims
            });
            vec![Fact::new(same, dims.clone()), Fact::new(DataType::Int64, dims)]
        }
        reduce if reduce.starts_with("Reduce") => one(same, reduced(&known)),
        "IsNaN" | "IsInf" => one(DataType::Bool, first()),
        "BatchNormalization"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "LayerNormalization"
        | "RMSNormalization"
        | "LpNormalization"
        | "LRN"
        | "MeanVarianceNormalization"
        | "Relu"
        | "LeakyRelu"
        | "Elu"
        | "Selu"
        | "Celu"
        | "Sigmoid"
        | "HardSigmoid"
        | "HardSwish"
        | "Swish"
        | "Mish"
        | "Tanh"
        | "Softplus"
        | "Softsign"
        | "Gelu"
        | "Erf"
        | "Exp"
        | "Log"
        | "Reciprocal"
        | "Sin"
        | "Cos"
        | "Tan"
        | "Sign"
        | "ThresholdedRelu"
        | "Softmax"
        | "LogSoftmax"
        | "Hardmax"
        | "Dropout"
        | "CumSum"
        | "Trilu"
        | "ScatterND"
        | "ScatterElements" => one(same, first()),
        _ => Vec::new(),
    }
}

fn one(element: DataType, dims: Option<Vec<Dim>>) -> Vec<Fact> {
    vec![Fact::new(element, dims)]
}

fn matmul(a: Option<&[Dim]>, b: Option<&[Dim]>) -> Option<Vec<Dim>> {
    let (a, b) = (a?, b?);
    let (a_outer, a_rows) = match a {
        [] => return None,
        [_] => (&a[..0], None),
        [outer @ .., rows, _] => (outer, Some(*rows)),
    };
    let (b_outer, b_columns) = match b {
        [] => return None,
        [_] => (&b[..0], None),
        [outer @ .., _, columns] => (outer, Some(*columns)),
    };
    let mut dims = broadcast(a_outer, b_outer);
    dims.extend(a_rows);
    dims.extend(b_columns);
    Some(dims)
}

fn gemm(known: &Known<'_>) -> Option<Vec<Dim>> {
    let pick = |place: usize, attribute: &str, axis: usize| {
        let dims = known.dims(place)?;
        let axis = if known.node.int_or(attribute, 0) == 0 { axis } else { 1 - axis };
        dims.get(axis).copied()
    };
    Some(vec![pick(0, "transA", 0)?, pick(1, "transB", 1)?])
}

fn einsum(known: &Known<'_>) -> Option<Vec<Dim>> {
    let equation: String = known.node.text("equation")?.chars().filter(|c| !c.is_whitespace()).collect();
    let (terms, result) = equation.split_once("->")?;
    let mut sizes: HashMap<char, Dim> = HashMap::new();
    for (place, term) in terms.split(',').enumerate() {
        let dims = known.dims(place)?;
        if term.chars().count() != dims.len() {
            return None;
        }
        for (letter, dim) in term.chars().zip(dims) {
            let size = sizes.entry(letter).or_insert(*dim);
            *size = size.broadcast(*dim);
        }
    }
    result.chars().map(|letter| sizes.get(&letter).copied()).collect()
}

fn reduced(known: &Known<'_>) -> Option<Vec<Dim>> {
    let rank = known.dims(0)?.len() as i64;
    if known.given(1) && known.known_ints(1).is_none() {
        return None;
    }
    let axes = known.ints_input_or_attribute(1, "axes").filter(|axes| !axes.is_empty());
    match axes {
        Some(axes) => reduce_axes(known, &axes),
        None if known.node.int_or("noop_with_empty_axes", 0) == 1 => known.dims(0).map(<[_]>::to_vec),
        None => reduce_axes(known, &(0..rank).collect::<Vec<_>>()),
    }
}

fn reduce_axes(known: &Known<'_>, axes: &[i64]) -> Option<Vec<Dim>> {
    let dims = known.dims(0)?;
    let axes: Vec<usize> = axes.iter().map(|&axis| axis_of(axis, dims.len())).collect::<Option<_>>()?;
    let keep = known.node.int_or("keepdims", 1) != 0;
    let reduced = |(i, dim): (usize, &Dim)| match (axes.contains(&i), keep) {
        (false, _) => Some(*dim),
        (true, true) => Some(Dim::Known(1)),
        (true, false) => None,
    };
    Some(dims.iter().enumerate().filter_map(reduced).collect())
}
