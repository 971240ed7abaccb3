//! Building blocks of image networks, in the nodes that PyTorch's exporter writes for them.

use super::super::cut::rename;
use super::Builder;
use super::vit::gelu;
use crate::graph::onnx::make::{self, Size};
use crate::graph::onnx::proto::{AttributeProto, DataType, ModelProto};

/// A map `[batch, channels, side, side]`.
#[derive(Debug, Clone)]
pub struct Map {
    pub tensor: String,
    pub channels: usize,
    pub side: usize,
}

/// An axis of a shape that a network reshapes to.
#[derive(Debug, Clone, Copy)]
pub enum Axis {
    /// The batch, so many times.
    Batch(usize),
    /// A constant.
    Of(usize),
    /// What is left, written as `-1`.
    Rest,
}

/// An activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Act {
    No,
    Relu,
    Relu6,
    LeakyRelu,
    Sigmoid,
    HardSigmoid,
    Silu,
    HardSwish,
    Gelu,
    QuickGelu,
}

/// A convolution with what follows it; padded so that a stride of 1 keeps the size, or patch by patch.
#[derive(Debug, Clone, Copy)]
pub struct Conv {
    to: usize,
    kernel: [usize; 2],
    stride: usize,
    groups: usize,
    dilation: usize,
    padded: bool,
    norm: Norm,
    act: Act,
}

/// What follows a convolution.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Norm {
    Batch,
    /// A batch norm whose statistics were made a factor and a summand, as detectors freeze it.
    Frozen,
    Bias,
    Nothing,
}

/// A convolution to so many channels, with batch norm and ReLU.
pub fn conv(to: usize, kernel: usize, stride: usize) -> Conv {
    let kernel = [kernel, kernel];
    Conv { to, kernel, stride, groups: 1, dilation: 1, padded: true, norm: Norm::Batch, act: Act::Relu }
}

impl Conv {
    pub fn act(self, act: Act) -> Self {
        Self { act, ..self }
    }
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }
    pub fn dilated(self, dilation: usize) -> Self {
        Self { dilation, ..self }
    }
    pub fn rectangle(self, kernel: [usize; 2]) -> Self {
        Self { kernel, ..self }
    }
    pub fn unpadded(self) -> Self {
        Self { padded: false, ..self }
    }
    /// With a bias in place of the batch norm.
    pub fn biased(self) -> Self {
        Self { norm: Norm::Bias, ..self }
    }
    pub fn frozen(self) -> Self {
        Self { norm: Norm::Frozen, ..self }
    }
    /// With neither norm nor bias.
    pub fn bare(self) -> Self {
        Self { norm: Norm::Nothing, act: Act::No, ..self }
    }
}

/// A network on its way: a [`Builder`] with a picture as its input.
pub struct Net {
    pub b: Builder,
    /// The batch that the export froze.
    pub(super) batch: Option<usize>,
    side: usize,
    pub(super) image: String,
}

impl Net {
    /// A network for pictures `image` [batch, 3, side, side].
    pub fn new(name: &str, opset: i64, side: usize, batch: Option<usize>) -> Self {
        let mut b = Builder::new(name, opset, 7);
        let first = batch.map_or(Size::from("batch"), Size::from);
        let image = b.input("image", vec![first, 3.into(), side.into(), side.into()]);
        Self { b, batch, side, image }
    }

    /// The picture.
    pub fn image(&self) -> Map {
        Map { tensor: self.image.clone(), channels: 3, side: self.side }
    }

    /// The model.
    pub fn finish(self) -> ModelProto {
        self.b.finish()
    }

    /// Runs `body` with a scope added to the names of nodes and weights.
    pub fn scope<T>(&mut self, name: impl std::fmt::Display, body: impl FnOnce(&mut Self) -> T) -> T {
        self.b.enter(name.to_string());
        let result = body(self);
        self.b.leave();
        result
    }

    /// Makes a tensor an output of this name.
    pub fn give(&mut self, tensor: &mut String, name: &str, row: &[usize]) {
        rename(&mut self.b.graph, tensor, name);
        self.b.names.take(name);
        *tensor = name.into();
        let first = self.batch.map_or(Size::from("batch"), Size::from);
        let shape = std::iter::once(first).chain(row.iter().map(|&size| size.into())).collect();
        self.b.graph.output.push(make::value_info(name, DataType::Float, Some(shape)));
    }

    /// Makes a map an output of this name.
    pub fn give_map(&mut self, x: &mut Map, name: &str) {
        let row = [x.channels, x.side, x.side];
        self.give(&mut x.tensor, name, &row);
    }

    pub fn op(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.b.op(op, inputs, attributes)
    }

    /// A convolution, its norm and its activation.
    pub fn conv(&mut self, x: &Map, conv: Conv) -> Map {
        let Conv { to, kernel, stride, groups, dilation, padded, norm, act } = conv;
        let patches = kernel[0] == stride && stride > 1;
        let pad = |size: usize| if patches || !padded { 0 } else { (size - 1) * dilation / 2 };
        let fan_in = x.channels / groups * kernel[0] * kernel[1];
        let shape = [to, x.channels / groups, kernel[0], kernel[1]];
        let weight = self.b.weight("conv.weight", &shape, 0.0, (2.0 / fan_in as f32).sqrt());
        let bias = (norm == Norm::Bias).then(|| self.b.weight("conv.bias", &[to], 0.0, 0.1));
        let both = |sizes: [usize; 2]| sizes.map(|size| size as i64);
        let pads = kernel.map(|size| pad(size) as i64);
        let attributes = vec![
            make::ints("dilations", &both([dilation; 2])),
            make::int("group", groups as i64),
            make::ints("kernel_shape", &both(kernel)),
            make::ints("pads", &[pads[0], pads[1], pads[0], pads[1]]),
            make::ints("strides", &both([stride; 2])),
        ];
        let inputs: Vec<&str> = [x.tensor.as_str(), &weight].into_iter().chain(bias.as_deref()).collect();
        let mut tensor = self.op("Conv", &inputs, attributes);
        if matches!(norm, Norm::Batch | Norm::Frozen) {
            tensor = self.norm(&tensor, to, norm);
        }
        let side = (x.side + 2 * pad(kernel[0]) - (kernel[0] - 1) * dilation - 1) / stride + 1;
        Map { tensor: self.act(&tensor, act), channels: to, side }
    }

    fn norm(&mut self, x: &str, channels: usize, norm: Norm) -> String {
        if norm == Norm::Frozen {
            let scale = self.b.weight("bn.scale", &[1, channels, 1, 1], 1.0, 0.1);
            let shift = self.b.weight("bn.shift", &[1, channels, 1, 1], 0.0, 0.1);
            let scaled = self.op("Mul", &[x, &scale], Vec::new());
            return self.op("Add", &[&scaled, &shift], Vec::new());
        }
        let of = |b: &mut Builder, name: &str, mean: f32| b.weight(&format!("bn.{name}"), &[channels], mean, 0.1);
        let scale = of(&mut self.b, "weight", 1.0);
        let shift = of(&mut self.b, "bias", 0.0);
        let mean = of(&mut self.b, "running_mean", 0.0);
        let variance = of(&mut self.b, "running_var", 1.0);
        self.op("BatchNormalization", &[x, &scale, &shift, &mean, &variance], vec![make::float("epsilon", 1e-5)])
    }

    /// A batch norm and ReLU of their own, as in DenseNet.
    pub fn norm_relu(&mut self, x: &Map) -> Map {
        let tensor = self.norm(&x.tensor, x.channels, Norm::Batch);
        Map { tensor: self.act(&tensor, Act::Relu), ..x.clone() }
    }

    pub fn act(&mut self, x: &str, act: Act) -> String {
        match act {
            Act::No => x.into(),
            Act::Relu => self.op("Relu", &[x], Vec::new()),
            Act::LeakyRelu => self.op("LeakyRelu", &[x], vec![make::float("alpha", 0.1)]),
            Act::Sigmoid => self.op("Sigmoid", &[x], Vec::new()),
            Act::HardSigmoid => self.op("HardSigmoid", &[x], vec![make::float("alpha", 1.0 / 6.0)]),
            Act::Relu6 => {
                let (low, high) = (self.b.float(0.0), self.b.float(6.0));
                self.op("Clip", &[x, &low, &high], Vec::new())
            }
            Act::HardSwish if self.b.opset >= 14 => self.op("HardSwish", &[x], Vec::new()),
            Act::Silu | Act::HardSwish => {
                let gate = self.act(x, if act == Act::Silu { Act::Sigmoid } else { Act::HardSigmoid });
                self.op("Mul", &[x, &gate], Vec::new())
            }
            Act::Gelu => gelu(&mut self.b, x),
            Act::QuickGelu => {
                let factor = self.b.float(1.702);
                let scaled = self.op("Mul", &[x, &factor], Vec::new());
                let gate = self.act(&scaled, Act::Sigmoid);
                self.op("Mul", &[x, &gate], Vec::new())
            }
        }
    }

    /// `Add` or `Mul` of two maps; the second may be `[batch, channels, 1, 1]`.
    pub fn join(&mut self, op: &str, a: &Map, b: &Map) -> Map {
        Map { tensor: self.op(op, &[&a.tensor, &b.tensor], Vec::new()), ..a.clone() }
    }

    /// Maps behind each other along the channels.
    pub fn concat(&mut self, maps: &[&Map]) -> Map {
        let tensors: Vec<&str> = maps.iter().map(|map| map.tensor.as_str()).collect();
        let tensor = self.op("Concat", &tensors, vec![make::int("axis", 1)]);
        Map { tensor, channels: maps.iter().map(|map| map.channels).sum(), side: maps[0].side }
    }

    /// A map parted along its channels.
    pub fn halves(&mut self, x: &Map) -> [Map; 2] {
        let half = (x.channels / 2) as i64;
        let sizes = self.b.ints(&[half, half]);
        let parts = self.b.op_of("Split", &[&x.tensor, &sizes], 2, vec![make::int("axis", 1)]);
        [0, 1].map(|part| Map { tensor: parts[part].clone(), channels: x.channels / 2, side: x.side })
    }

    /// `MaxPool` or `AveragePool`.
    pub fn pool(&mut self, op: &str, x: &Map, kernel: usize, stride: usize, ceil: bool) -> Map {
        let pad = if kernel == stride || kernel == 1 { 0 } else { kernel / 2 };
        let both = |size: usize| [size as i64; 2];
        let mut attributes = vec![
            make::ints("kernel_shape", &both(kernel)),
            make::ints("pads", &[pad as i64; 4]),
            make::ints("strides", &both(stride)),
        ];
        if ceil {
            attributes.push(make::int("ceil_mode", 1));
        }
        if op == "AveragePool" {
            attributes.push(make::int("count_include_pad", 1));
        }
        let tensor = self.op(op, &[&x.tensor], attributes);
        let free = x.side + 2 * pad - kernel;
        let side = if ceil { free.div_ceil(stride) } else { free / stride } + 1;
        Map { tensor, side, ..x.clone() }
    }

    /// The mean over the places, `[batch, channels, 1, 1]`.
    pub fn mean(&mut self, x: &Map) -> Map {
        Map { tensor: self.op("GlobalAveragePool", &[&x.tensor], Vec::new()), side: 1, ..x.clone() }
    }

    /// The same by `ReduceMean`, as timm's models have it.
    pub fn reduce_mean(&mut self, x: &Map) -> Map {
        let attributes = vec![make::ints("axes", &[2, 3]), make::int("keepdims", 1)];
        Map { tensor: self.op("ReduceMean", &[&x.tensor], attributes), side: 1, ..x.clone() }
    }

    /// Squeeze and excitation.
    pub fn excite(&mut self, x: &Map, inner: usize, act: Act, gate: Act) -> Map {
        let squeezed = if gate == Act::Sigmoid { self.reduce_mean(x) } else { self.mean(x) };
        let hidden = self.scope("fc1", |n| n.conv(&squeezed, conv(inner, 1, 1).biased().act(act)));
        let gate = self.scope("fc2", |n| n.conv(&hidden, conv(x.channels, 1, 1).biased().act(gate)));
        self.join("Mul", x, &gate)
    }

    /// A map at the size of another one; `mode` is `nearest` or `linear`.
    pub fn resize_to(&mut self, x: &Map, like: &Map, mode: &str) -> Map {
        let sizes = match self.batch {
            Some(batch) => self.b.ints(&[batch, x.channels, like.side, like.side].map(|size| size as i64)),
            None => {
                let (own, wanted) = (self.shape(&x.tensor, 0, 2), self.shape(&like.tensor, 2, 4));
                self.op("Concat", &[&own, &wanted], vec![make::int("axis", 0)])
            }
        };
        let attributes = vec![
            make::text("coordinate_transformation_mode", if mode == "nearest" { "asymmetric" } else { "half_pixel" }),
            make::text("mode", mode),
            make::text("nearest_mode", "floor"),
        ];
        Map { tensor: self.op("Resize", &[&x.tensor, "", "", &sizes], attributes), side: like.side, ..x.clone() }
    }

    /// A map twice as high and wide, its values repeated.
    pub fn twice(&mut self, x: &Map) -> Map {
        let scales = self.b.floats(&[1.0, 1.0, 2.0, 2.0]);
        let attributes = vec![
            make::text("coordinate_transformation_mode", "asymmetric"),
            make::text("mode", "nearest"),
            make::text("nearest_mode", "floor"),
        ];
        Map { tensor: self.op("Resize", &[&x.tensor, "", &scales], attributes), side: x.side * 2, ..x.clone() }
    }

    /// A part of a tensor's shape.
    fn shape(&mut self, tensor: &str, from: i64, to: i64) -> String {
        let shape = self.op("Shape", &[tensor], Vec::new());
        let (from, to, axes) = (self.b.ints(&[from]), self.b.ints(&[to]), self.b.ints(&[0]));
        self.op("Slice", &[&shape, &from, &to, &axes], Vec::new())
    }

    pub fn transpose(&mut self, x: &str, order: &[i64]) -> String {
        self.op("Transpose", &[x], vec![make::ints("perm", order)])
    }

    /// A reshape to a shape in which the batch is computed, or frozen with all else.
    pub fn reshape(&mut self, x: &str, axes: &[Axis]) -> String {
        let constant = |axis: &Axis| match (axis, self.batch) {
            (Axis::Batch(times), Some(batch)) => Some((times * batch) as i64),
            (Axis::Batch(_), None) => None,
            (Axis::Of(size), _) => Some(*size as i64),
            (Axis::Rest, _) => Some(-1),
        };
        let constants: Vec<Option<i64>> = axes.iter().map(constant).collect();
        if let Some(sizes) = constants.iter().copied().collect::<Option<Vec<i64>>>() {
            let target = self.b.ints(&sizes);
            return self.op("Reshape", &[x, &target], Vec::new());
        }
        let parts: Vec<String> = axes
            .iter()
            .zip(constants)
            .map(|(axis, constant)| match (axis, constant) {
                (_, Some(size)) => self.b.ints(&[size]),
                (Axis::Batch(times), None) => {
                    let image = self.image.clone();
                    let batch = self.b.size_of(&image, 0);
                    let times = self.b.int(*times as i64);
                    let size = self.op("Mul", &[&batch, &times], Vec::new());
                    self.b.unsqueeze(&size, 0)
                }
                _ => String::new(),
            })
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let target = self.op("Concat", &parts, vec![make::int("axis", 0)]);
        self.op("Reshape", &[x, &target], Vec::new())
    }
}
