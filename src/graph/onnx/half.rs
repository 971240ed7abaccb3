//! 16-bit floats: a model that computes in fp16, but for what would overflow or lose too much there.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use half::f16;

use super::cut::{Names, rename};
use super::make;
use super::pool::drop_unused;
use super::proto::{DataType, GraphProto, ModelProto, NodeProto, TensorProto};
use super::shape::{self, Facts};
use super::walk::{for_each_use, subgraphs};
use crate::base::Result;

/// What a node does with the type of its floats.
enum Kind {
    /// It computes, and may do so in 16 bits.
    Compute,
    /// It moves values: those of these inputs keep their type.
    Follow(&'static [usize]),
    /// It stays in 32 bits: sums of many values, powers, roots and exponentials, and all that is not known here.
    Island,
}

fn kind(node: &NodeProto) -> Kind {
    if !node.is_standard() || subgraphs(node).next().is_some() {
        return Kind::Island;
    }
    match node.op_type.as_str() {
        "Conv" | "ConvTranspose" | "Gemm" | "MatMul" | "Add" | "Sub" | "Mul" | "Div" | "Neg" | "Abs" | "Min"
        | "Max" | "Sum" | "Relu" | "LeakyRelu" | "PRelu" | "Elu" | "Sigmoid" | "HardSigmoid" | "HardSwish"
        | "Swish" | "Tanh" | "Erf" | "Gelu" | "Clip" | "MaxPool" | "AveragePool" | "GlobalMaxPool"
        | "BatchNormalization" => Kind::Compute,
        "Identity" | "Reshape" | "Flatten" | "Transpose" | "Squeeze" | "Unsqueeze" | "Slice" | "Gather" | "Expand"
        | "Split" | "Tile" | "DepthToSpace" | "SpaceToDepth" | "Dropout" => Kind::Follow(&[0]),
        "Concat" => Kind::Follow(&[]),
        "Pad" => Kind::Follow(&[0, 2]),
        "Where" => Kind::Follow(&[1, 2]),
        _ => Kind::Island,
    }
}

/// Operators between the sums of a norm and their use, which stay in 32 bits with them.
fn is_elementwise(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Sqrt" | "Reciprocal" | "Neg" | "Max")
}

/// Operators for which the largest f16 does as well as any larger number: bounds, masks and fillings.
fn may_saturate(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "Clip" | "Where" | "Min" | "Max" | "Add" | "Pad")
}

/// Makes a model in fp32 compute in fp16: weights and activations are 16-bit floats, inputs and outputs stay as they
/// are. Norms' statistics, softmax, resizing, reductions and operators that are not known here stay in fp32,
/// and so does a node with a constant that f16 cannot hold. Gives the number of nodes that compute in fp16.
///
/// A weight that both kinds of nodes use is there twice; otherwise the model's weights become half as large.
///
/// # Errors
/// A constant whose bytes do not fit its shape.
pub fn to_half(model: &mut ModelProto) -> Result<usize> {
    let facts = shape::infer(model);
    let Some(graph) = &mut model.graph else { return Ok(0) };
    let nodes = std::mem::take(&mut graph.node);
    let mut converter = Converter::new(graph, &nodes, facts);
    for node in nodes {
        converter.node(node)?;
    }
    let Converter { half, nodes, constants, converted, mut names, .. } = converter;
    graph.node = nodes;
    graph.initializer.extend(constants);
    for value in graph.value_info.iter_mut().filter(|value| half.contains(&value.name)) {
        value.tensor_mut().into_iter().for_each(|tensor| tensor.elem_type = DataType::Float16.into());
    }
    for name in graph.output.iter().map(|value| value.name.clone()).collect::<Vec<_>>() {
        if half.contains(&name) {
            let inner = names.fresh(&format!("{name}/half"));
            let outputs = std::mem::take(&mut graph.output);
            rename(graph, &name, &inner);
            graph.output = outputs;
            graph.node.push(cast(&inner, &name, DataType::Float));
        }
    }
    drop_unused(graph, &[]);
    Ok(converted)
}

fn cast(from: &str, to: &str, element: DataType) -> NodeProto {
    // An output's name may be that of the node that made it before.
    let name = format!("{to}/Cast");
    NodeProto { name, ..make::node("Cast", &[from], &[to], vec![make::int("to", element as i64)]) }
}

struct Converter {
    facts: Facts,
    /// The constants in fp32, by name.
    single_constants: HashMap<String, TensorProto>,
    /// Tensors that are f16 now.
    half: HashSet<String>,
    /// Tensors that hold sums of norms, in fp32.
    statistics: HashSet<String>,
    /// The same values in the other type, by the tensor's name.
    others: HashMap<String, String>,
    names: Names,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    converted: usize,
}

impl Converter {
    fn new(graph: &GraphProto, nodes: &[NodeProto], facts: Facts) -> Self {
        let initialisers = graph.initializer.iter().map(|tensor| (tensor.name.clone(), tensor.clone()));
        let of_nodes = nodes
            .iter()
            .filter(|node| node.is("Constant"))
            .filter_map(|node| Some((node.output.first()?.clone(), node.attribute("value")?.t.clone()?)));
        let float = |(_, tensor): &(String, TensorProto)| tensor.data_type() == DataType::Float;
        let mut names = Names::of(graph);
        nodes.iter().flat_map(|node| &node.output).for_each(|name| names.take(name));
        Self {
            facts,
            single_constants: initialisers.chain(of_nodes).filter(float).collect(),
            half: HashSet::new(),
            statistics: HashSet::new(),
            others: HashMap::new(),
            names,
            nodes: Vec::new(),
            constants: Vec::new(),
            converted: 0,
        }
    }

    fn is_float(&self, name: &str) -> bool {
        self.facts.get(name).is_some_and(|fact| fact.element == DataType::Float)
    }

    fn node(&mut self, mut node: NodeProto) -> Result<()> {
        let statistic = |name: &String| self.statistics.contains(name);
        let reduces = node.is_standard() && node.op_type.starts_with("Reduce");
        if reduces || is_elementwise(&node) && node.input.iter().any(statistic) {
            // What is centred and divided by its deviation, or multiplied with its inverse, is a norm's result.
            let both = matches!(node.op_type.as_str(), "Div" | "Mul") && node.input.iter().all(statistic);
            if !both || node.input.first() == node.input.get(1) {
                self.statistics.extend(node.output.iter().cloned());
            }
            return self.single(node);
        }
        let places: Vec<usize> = match kind(&node) {
            Kind::Island => return self.single(node),
            Kind::Compute => (0..node.input.len()).filter(|&place| self.is_float(&node.input[place])).collect(),
            Kind::Follow([]) => (0..node.input.len()).collect(),
            Kind::Follow(places) => places.iter().copied().filter(|&place| node.input_name(place).is_some()).collect(),
        };
        let varies = |&place: &usize| !self.single_constants.contains_key(&node.input[place]);
        let is_half = |&place: &usize| self.half.contains(&node.input[place]);
        let computes = matches!(kind(&node), Kind::Compute);
        let wanted = if computes {
            node.output.first().is_some_and(|output| self.is_float(output)) && places.iter().any(varies)
        } else {
            places.iter().any(is_half)
        };
        if !wanted || !self.fits(&node, &places)? {
            return self.single(node);
        }
        for place in places {
            node.input[place] = self.as_half(&node.input[place].clone())?;
        }
        self.half.extend(node.output.iter().filter(|name| !name.is_empty()).cloned());
        self.converted += usize::from(computes);
        self.nodes.push(node);
        Ok(())
    }

    /// Whether f16 holds the node's constants.
    fn fits(&self, node: &NodeProto, places: &[usize]) -> Result<bool> {
        let largest = f16::MAX.to_f32();
        for constant in places.iter().filter_map(|&place| self.single_constants.get(&node.input[place])) {
            let values = constant.to_f32()?;
            let too_large = !may_saturate(node) && values.iter().any(|value| value.abs() > largest);
            // An epsilon or a divisor that becomes zero is another number; a small weight among others is not.
            let vanishes = values.len() == 1 && values.iter().any(|&v| v != 0.0 && f16::from_f32(v) == f16::ZERO);
            if too_large || vanishes {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Keeps a node in fp32.
    fn single(&mut self, mut node: NodeProto) -> Result<()> {
        let mut used: Vec<String> = Vec::new();
        for_each_use(&node, &mut |name| used.push(name.to_string()));
        for name in used.into_iter().filter(|name| self.half.contains(name)).collect::<HashSet<_>>() {
            let single = self.as_single(&name);
            node.input.iter_mut().filter(|input| **input == name).for_each(|input| input.clone_from(&single));
            for attribute in &mut node.attribute {
                attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|inner| rename(inner, &name, &single));
            }
        }
        self.nodes.push(node);
        Ok(())
    }

    fn as_single(&mut self, name: &str) -> String {
        if let Some(other) = self.others.get(name) {
            return other.clone();
        }
        let other = self.names.fresh(&format!("{name}/single"));
        self.nodes.push(cast(name, &other, DataType::Float));
        self.others.insert(name.into(), other.clone());
        other
    }

    fn as_half(&mut self, name: &str) -> Result<String> {
        if self.half.contains(name) {
            return Ok(name.into());
        }
        if let Some(other) = self.others.get(name) {
            return Ok(other.clone());
        }
        let other = self.names.fresh(&format!("{name}/half"));
        match self.single_constants.get(name) {
            Some(constant) => {
                let rounded = |value: f32| {
                    let value =
                        if value.is_finite() { value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()) } else { value };
                    f16::from_f32(value)
                };
                let values: Vec<f16> = constant.to_f32()?.into_iter().map(rounded).collect();
                let raw = Bytes::copy_from_slice(bytemuck::cast_slice(&values));
                let dims = constant.shape()?;
                self.constants.push(TensorProto::from_raw(&other, DataType::Float16, &dims, raw));
            }
            None => self.nodes.push(cast(name, &other, DataType::Float16)),
        }
        self.others.insert(name.into(), other.clone());
        Ok(other)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, tiny_cnn, tiny_vit};
    use super::*;

    fn types(model: &ModelProto) -> HashMap<String, DataType> {
        shape::infer(model).into_iter().map(|(name, fact)| (name, fact.element)).collect()
    }

    fn weight_bytes(model: &ModelProto) -> usize {
        model.graph.iter().flat_map(|graph| &graph.initializer).map(|t| t.raw().unwrap().len()).sum()
    }

    #[test]
    fn products_are_in_fp16_and_statistics_are_not() {
        let mut model = tiny_vit();
        let before = weight_bytes(&model);
        assert!(to_half(&mut model).unwrap() > 20);
        // The small remainder are integers and constants that both kinds of nodes use.
        assert!(weight_bytes(&model) * 10 < before * 6);
        let types = types(&model);
        let graph = model.graph.unwrap();
        let mut made: HashSet<&str> = graph.input.iter().map(|value| value.name.as_str()).collect();
        made.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
        for node in &graph.node {
            assert!(node.input.iter().all(|name| name.is_empty() || made.contains(name.as_str())), "{node:?}");
            made.extend(node.output.iter().map(String::as_str));
            let inputs: Vec<DataType> = node.input.iter().filter_map(|name| types.get(name)).copied().collect();
            match node.op_type.as_str() {
                "MatMul" | "Conv" => assert!(inputs.iter().all(|t| *t == DataType::Float16), "{node:?}"),
                "Softmax" | "ReduceMean" | "Pow" | "Sqrt" => assert_eq!(inputs[0], DataType::Float, "{node:?}"),
                "Add" | "Mul" | "Sub" | "Div" => assert_eq!(inputs[0], inputs[1], "{node:?}"),
                _ => {}
            }
        }
        assert_eq!(graph.output[0].tensor().unwrap().elem_type(), DataType::Float);
        assert_eq!(types["tokens"], DataType::Float);
    }

    #[test]
    fn what_f16_cannot_hold_stays_or_saturates() {
        let mut b = Builder::new("range", 13, 0);
        let x = b.input("x", vec!["N".into(), 4.into()]);
        let (low, high) = (b.float(0.0), b.float(3.0e38));
        let clipped = b.op("Clip", &[&x, &low, &high], Vec::new());
        let (large, tiny) = (b.float(1.0e6), b.float(1.0e-12));
        let scaled = b.op("Mul", &[&clipped, &large], Vec::new());
        let divided = b.op("Div", &[&scaled, &tiny], Vec::new());
        b.output(&divided, "y", vec!["N".into(), 4.into()]);
        let mut model = b.finish();
        assert_eq!(to_half(&mut model).unwrap(), 1, "only the clip");
        let graph = model.graph.unwrap();
        let bound = graph.initializer.iter().find(|t| t.name.starts_with(&high)).unwrap();
        assert_eq!(bound.to_f32().unwrap(), [65504.0]);
    }

    #[test]
    fn captured_tensors_of_branches_are_cast() {
        let mut b = Builder::new("branch", 13, 0);
        let x = b.input("x", vec!["N".into(), 4.into()]);
        let y = b.op("Relu", &[&x], Vec::new());
        let mut inner = GraphProto { name: "inner".into(), ..GraphProto::default() };
        inner.node.push(make::node("Sigmoid", &[&y], &["z"], Vec::new()));
        inner.output.push(make::value_info("z", DataType::Float, None));
        let mut branch = make::int("then_branch", 0);
        branch = super::super::proto::AttributeProto { g: Some(inner), i: None, ..branch };
        let condition = b.op("IsNaN", &[&y], Vec::new());
        let z = b.op("If", &[&condition], vec![branch]);
        b.output(&z, "out", vec!["N".into(), 4.into()]);
        let mut model = b.finish();
        to_half(&mut model).unwrap();
        let nodes = model.graph.unwrap().node;
        let branch = nodes.iter().find(|node| node.op_type == "If").unwrap();
        let captured = &subgraphs(branch).next().unwrap().node[0].input[0];
        assert!(nodes.iter().any(|node| node.op_type == "Cast" && node.output[0] == *captured));
    }

    #[test]
    fn a_converted_model_has_nothing_left_to_convert() {
        let mut model = tiny_cnn();
        assert!(to_half(&mut model).unwrap() > 10);
        assert_eq!(to_half(&mut model).unwrap(), 0);
    }
}
