//! 8-bit integers: a model in fp32 with `QuantizeLinear` and `DequantizeLinear` around what may compute in int8, the
//! form (QDQ) that every runtime turns into its own integer operators.
//!
//! Weights are symmetric with a scale for each output channel, activations unsigned with a zero point and one scale
//! for the tensor, biases 32-bit integers in the scale of their products.

mod fold;
mod sites;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

pub use fold::fold;
pub use sites::{Site, sites};

use super::cut::{Names, default_opset};
use super::make;
use super::pool::drop_unused;
use super::proto::{DataType, GraphProto, ModelProto, NodeProto, TensorProto};
use crate::base::{Error, Result};

/// The values of a tensor that its 8-bit numbers span; zero is always among them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The least.
    pub low: f32,
    /// The greatest.
    pub high: f32,
}

impl Range {
    /// The step between two numbers, and the number that stands for zero.
    fn scale(self) -> (f32, u8) {
        let (low, high) = (self.low.min(0.0), self.high.max(0.0));
        let scale = (high - low) / 255.0;
        if !(scale.is_normal()) {
            return (1.0, 0);
        }
        (scale, (-low / scale).round().clamp(0.0, 255.0) as u8)
    }
}

/// Operators that quantise by channel since this version of the operators.
pub const OLDEST_OPSET: i64 = 13;

/// Quantises the sites of a folded model (see [`fold()`]), but for those whose outputs are in `float`.
///
/// # Errors
/// The model's operators are older than [`OLDEST_OPSET`]; a tensor's range is missing; a constant whose bytes do not fit
/// its shape.
pub fn quantize(
    model: &mut ModelProto,
    sites: &[Site],
    ranges: &HashMap<String, Range>,
    float: &HashSet<&str>,
) -> Result<()> {
    check_opset(model)?;
    let Some(graph) = &mut model.graph else { return Ok(()) };
    let chosen: HashMap<&str, &Site> =
        sites.iter().filter(|s| !float.contains(s.output.as_str())).map(|s| (s.output.as_str(), s)).collect();
    let mut writer = Writer::new(graph, &chosen, ranges);
    for node in std::mem::take(&mut graph.node) {
        writer.node(node, &chosen)?;
    }
    let Writer { nodes, constants, .. } = writer;
    graph.node = nodes;
    graph.initializer.extend(constants.into_values());
    drop_unused(graph, &[]);
    Ok(())
}

/// Checks that a model's operators can be quantised by channel.
///
/// # Errors
/// They are older than [`OLDEST_OPSET`].
pub fn check_opset(model: &ModelProto) -> Result<()> {
    let opset = default_opset(model)?;
    if opset >= OLDEST_OPSET {
        return Ok(());
    }
    let what = format!("`int8` needs a model of operator set {OLDEST_OPSET} or later; this one has {opset}");
    Err(Error::bad_input(what).hint("export it again with a newer operator set, or use another precision"))
}

/// A model whose outputs are, for every site that can lose, the energy of what it loses by itself and that of its output:
/// each site is computed both in float and quantised, from exact inputs.
///
/// # Errors
/// Those of [`quantize()`].
pub fn with_losses(model: &ModelProto, sites: &[Site], ranges: &HashMap<String, Range>) -> Result<ModelProto> {
    let mut model = model.clone();
    let Some(graph) = &mut model.graph else { return Ok(model) };
    let chosen: HashMap<&str, &Site> =
        sites.iter().filter(|site| site.can_lose()).map(|site| (site.output.as_str(), site)).collect();
    let mut writer = Writer::new(graph, &HashMap::new(), ranges);
    graph.output.clear();
    for node in std::mem::take(&mut graph.node) {
        let site = node.output.first().and_then(|output| chosen.get(output.as_str()));
        writer.nodes.push(node.clone());
        if site.is_some() {
            for name in writer.loss(node, &chosen)? {
                graph.output.push(make::value_info(&name, DataType::Float, Some(Vec::new())));
            }
        }
    }
    graph.node = writer.nodes;
    graph.initializer.extend(writer.constants.into_values());
    Ok(model)
}

struct Writer<'a> {
    weights: HashMap<String, TensorProto>,
    ranges: &'a HashMap<String, Range>,
    /// Tensors that only exist quantised for those who take them, and whose range each has.
    results: HashMap<String, String>,
    /// The quantised and dequantised form of a tensor.
    forms: HashMap<String, String>,
    names: Names,
    nodes: Vec<NodeProto>,
    constants: indexmap::IndexMap<String, TensorProto>,
}

impl<'a> Writer<'a> {
    fn new(graph: &GraphProto, chosen: &HashMap<&str, &Site>, ranges: &'a HashMap<String, Range>) -> Self {
        let result = |site: &&Site| {
            let of = if site.keeps_range { site.inputs[0].clone() } else { site.result.clone()? };
            Some((site.result.clone()?, of))
        };
        Self {
            weights: graph.initializer.iter().map(|tensor| (tensor.name.clone(), tensor.clone())).collect(),
            ranges,
            results: chosen.values().filter_map(result).collect(),
            forms: HashMap::new(),
            names: Names::of(graph),
            nodes: Vec::new(),
            constants: indexmap::IndexMap::new(),
        }
    }

    fn node(&mut self, mut node: NodeProto, chosen: &HashMap<&str, &Site>) -> Result<()> {
        let site = node.output.first().and_then(|output| chosen.get(output.as_str())).copied();
        for place in 0..node.input.len() {
            let name = node.input[place].clone();
            let wanted = site.is_some_and(|site| site.places.contains(&place)) || self.results.contains_key(&name);
            if wanted && !name.is_empty() {
                node.input[place] = self.form(&name)?;
            }
        }
        if let Some(site) = site.filter(|site| site.weighted) {
            self.quantise_weights(&mut node, &site.inputs[0])?;
        }
        self.nodes.push(node);
        Ok(())
    }

    /// Adds a node once more, quantised; gives the tensors with the energy of the difference and of the exact output.
    fn loss(&mut self, mut node: NodeProto, chosen: &HashMap<&str, &Site>) -> Result<[String; 2]> {
        let exact = node.output[0].clone();
        let chosen: HashMap<&str, &Site> =
            chosen.get(exact.as_str()).map(|site| (exact.as_str(), *site)).into_iter().collect();
        node.name = String::new();
        self.node(node, &chosen)?;
        let rounded = self.names.fresh(&format!("{exact}/rounded"));
        if let Some(last) = self.nodes.last_mut() {
            last.output[0].clone_from(&rounded);
        }
        let mut add = |op: &str, inputs: &[&str]| {
            let output = self.names.fresh(&format!("{exact}/{op}"));
            let keep = if op == "Sub" { Vec::new() } else { vec![make::int("keepdims", 0)] };
            self.nodes.push(make::node(op, inputs, &[&output], keep));
            output
        };
        let difference = add("Sub", &[&exact, &rounded]);
        Ok([add("ReduceSumSquare", &[&difference]), add("ReduceSumSquare", &[&exact])])
    }

    fn range(&self, tensor: &str) -> Result<Range> {
        let mut tensor = tensor;
        // A pool's result has the range of what it pools; pools may follow each other.
        for _ in 0..self.results.len() {
            match self.results.get(tensor) {
                Some(of) if of != tensor => tensor = of,
                _ => break,
            }
        }
        let missing = || Error::failed(format!("the range of `{tensor}` was not measured"));
        self.ranges.get(tensor).copied().ok_or_else(missing)
    }

    /// A tensor through 8 bits and back.
    fn form(&mut self, tensor: &str) -> Result<String> {
        if let Some(form) = self.forms.get(tensor) {
            return Ok(form.clone());
        }
        let (scale, zero) = self.range(tensor)?.scale();
        let scale = self.constant(&format!("{tensor}/scale"), |name| TensorProto::from_f32(name, &[], &[scale]));
        let zero = self.constant(&format!("{tensor}/zero"), |name| raw(name, DataType::Uint8, &[], vec![zero]));
        let quantised = self.names.fresh(&format!("{tensor}/quantized"));
        let form = self.names.fresh(&format!("{tensor}/dequantized"));
        self.nodes.push(make::node("QuantizeLinear", &[tensor, &scale, &zero], &[&quantised], Vec::new()));
        self.nodes.push(make::node("DequantizeLinear", &[&quantised, &scale, &zero], &[&form], Vec::new()));
        self.forms.insert(tensor.into(), form.clone());
        Ok(form)
    }

    fn constant(&mut self, wish: &str, make: impl FnOnce(&str) -> TensorProto) -> String {
        let name = self.names.fresh(wish);
        self.constants.insert(name.clone(), make(&name));
        name
    }

    fn quantise_weights(&mut self, node: &mut NodeProto, input: &str) -> Result<()> {
        let weight = self.constant_of(&node.input[1])?;
        let (dims, values) = (weight.shape()?, weight.to_f32()?);
        let axis = match node.op_type.as_str() {
            "Conv" => 0,
            "Gemm" if node.int_or("transB", 0) != 0 => 0,
            _ => 1,
        };
        let bias = match node.input_name(2).map(str::to_string) {
            Some(name) => Some((name.clone(), self.constant_of(&name)?.to_f32()?)),
            None => None,
        };
        let (step, _) = self.range(input)?.scale();
        let channels = Channels::of(&dims, axis);
        let mut scales = channels.scales(&values);
        if let Some((_, bias)) = &bias {
            // The bias must fit 32 bits in the scale of the products, also where a channel's weights are all but zero.
            let least = |bias: &f32| bias.abs() / step / 1e9;
            scales.iter_mut().zip(bias).for_each(|(scale, bias)| *scale = scale.max(least(bias)));
        }
        let count = scales.len();
        let label = node.input[1].clone();
        let quantised = channels.quantised(&values, &scales);
        let bytes = quantised.iter().map(|value| value.to_le_bytes()[0]).collect();
        let weight = self.constant(&format!("{label}/quantized"), |name| raw(name, DataType::Int8, &dims, bytes));
        let scale = self.constant(&format!("{label}/scale"), |name| TensorProto::from_f32(name, &[count], &scales));
        let zero = self.constant(&format!("{label}/zero"), |name| raw(name, DataType::Int8, &[count], vec![0; count]));
        node.input[1] = self.dequantised(&label, [&weight, &scale, &zero], axis);
        if let Some((label, bias)) = bias {
            let products: Vec<f32> = scales.iter().map(|scale| scale * step).collect();
            let whole = bias.iter().zip(&products).flat_map(|(b, s)| ((b / s).round() as i32).to_le_bytes()).collect();
            let bytes =
                self.constant(&format!("{label}/quantized"), |name| raw(name, DataType::Int32, &[count], whole));
            let scale = self.constant(&format!("{label}/scale"), |n| TensorProto::from_f32(n, &[count], &products));
            let zeros = vec![0; 4 * count];
            let zero = self.constant(&format!("{label}/zero"), |name| raw(name, DataType::Int32, &[count], zeros));
            node.input[2] = self.dequantised(&label, [&bytes, &scale, &zero], 0);
        }
        Ok(())
    }

    fn constant_of(&self, name: &str) -> Result<TensorProto> {
        let gone = || Error::failed(format!("the constant `{name}` is gone"));
        self.weights.get(name).cloned().ok_or_else(gone)
    }

    fn dequantised(&mut self, label: &str, inputs: [&str; 3], axis: usize) -> String {
        let output = self.names.fresh(&format!("{label}/dequantized"));
        let axis = vec![make::int("axis", axis as i64)];
        self.nodes.push(make::node("DequantizeLinear", &inputs, &[&output], axis));
        output
    }
}

fn raw(name: &str, element: DataType, dims: &[usize], bytes: Vec<u8>) -> TensorProto {
    TensorProto::from_raw(name, element, dims, Bytes::from(bytes))
}

/// A weight seen as `[outer, channels, inner]`.
struct Channels {
    count: usize,
    inner: usize,
}

impl Channels {
    fn of(dims: &[usize], axis: usize) -> Self {
        Self { count: dims[axis].max(1), inner: dims[axis + 1..].iter().product::<usize>().max(1) }
    }

    fn channel(&self, at: usize) -> usize {
        at / self.inner % self.count
    }

    fn scales(&self, values: &[f32]) -> Vec<f32> {
        let mut largest = vec![0f32; self.count];
        for (at, value) in values.iter().enumerate() {
            let channel = self.channel(at);
            largest[channel] = largest[channel].max(value.abs());
        }
        let scale = |largest: f32| if (largest / 127.0).is_normal() { largest / 127.0 } else { 1.0 };
        largest.into_iter().map(scale).collect()
    }

    fn quantised(&self, values: &[f32], scales: &[f32]) -> Vec<i8> {
        let one =
            |(at, value): (usize, &f32)| (value / scales[self.channel(at)]).round_ties_even().clamp(-127.0, 127.0);
        values.iter().enumerate().map(|pair| one(pair) as i8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{tiny_cnn, tiny_vit};
    use super::*;

    fn prepared(mut model: ModelProto) -> (ModelProto, Vec<Site>, HashMap<String, Range>) {
        fold(&mut model).unwrap();
        let sites = sites(&model);
        let tensors = sites.iter().flat_map(Site::tensors);
        let ranges = tensors.map(|name| (name.to_string(), Range { low: -1.0, high: 2.0 })).collect();
        (model, sites, ranges)
    }

    fn count(model: &ModelProto, op: &str) -> usize {
        model.graph.iter().flat_map(|graph| &graph.node).filter(|node| node.is(op)).count()
    }

    #[test]
    fn convolutions_additions_and_pools_between_them_are_sites() {
        let (model, sites, _) = prepared(tiny_cnn());
        let maker = |site: &Site| {
            let node = model.graph.iter().flat_map(|g| &g.node).find(|node| node.output[0] == site.output);
            node.unwrap().op_type.clone()
        };
        let kinds: Vec<String> = sites.iter().map(maker).collect();
        assert_eq!(kinds.iter().filter(|kind| *kind == "Conv").count(), 6);
        assert_eq!(kinds.iter().filter(|kind| *kind == "Add").count(), 2);
        assert!(kinds.contains(&"MaxPool".to_string()) && kinds.contains(&"Gemm".to_string()));
        let stem = &sites[0];
        assert_ne!(stem.result.as_ref(), Some(&stem.output), "what is quantised is the result of the relu");
    }

    #[test]
    fn a_transformers_residuals_stay_in_float() {
        let (model, sites, ranges) = prepared(tiny_vit());
        assert!(sites.iter().all(|site| site.weighted && site.result.is_none() || site.inputs == ["image"]));
        assert_eq!(sites.len(), 1 + 2 * 6);
        let mut int8 = model.clone();
        quantize(&mut int8, &sites, &ranges, &HashSet::new()).unwrap();
        // Query, key and value take one tensor.
        assert_eq!(count(&int8, "QuantizeLinear"), 1 + 2 * 4);
        let left: HashSet<&str> = [sites[0].output.as_str()].into();
        let mut partly = model;
        quantize(&mut partly, &sites, &ranges, &left).unwrap();
        assert_eq!(count(&partly, "QuantizeLinear"), 2 * 4);
    }

    #[test]
    fn weights_have_a_scale_for_each_channel_and_biases_fit() {
        let channels = Channels::of(&[2, 3], 1);
        let values = [1.0, 0.0, -254.0, -0.5, 0.0, 127.0];
        assert_eq!(channels.scales(&values), [1.0 / 127.0, 1.0, 2.0]);
        assert_eq!(channels.quantised(&values, &channels.scales(&values)), [127, 0, -127, -64, 0, 64]);
        let (model, sites, ranges) = prepared(tiny_cnn());
        let mut int8 = model.clone();
        quantize(&mut int8, &sites, &ranges, &HashSet::new()).unwrap();
        let bytes = |model: &ModelProto| -> usize {
            model.graph.iter().flat_map(|graph| &graph.initializer).map(|t| t.raw().unwrap().len()).sum()
        };
        assert!(bytes(&int8) * 2 < bytes(&model));
        let mut old = model;
        old.opset_import[0].version = 12;
        let error = quantize(&mut old, &sites, &ranges, &HashSet::new()).unwrap_err();
        assert_eq!(error.to_string(), "`int8` needs a model of operator set 13 or later; this one has 12");
    }

    #[test]
    fn a_range_always_has_zero() {
        assert_eq!(Range { low: 1.0, high: 255.0 }.scale(), (1.0, 0));
        assert_eq!(Range { low: -1.0, high: 254.0 }.scale(), (1.0, 1));
        assert_eq!(Range { low: 0.0, high: 0.0 }.scale(), (1.0, 0));
    }
}
