//! Convolutional classifiers. Outputs: the stages `c2`…, and `pooled` or the map before it.

use super::super::blocks::{Act, Conv, Map, Net, conv};
use crate::graph::onnx::make;

/// `Flatten` and a classifier, above every cut.
fn classify(n: &mut Net, x: &Map) {
    let mut logits = n.scope("classifier", |n| {
        let flat = n.op("Flatten", &[&x.tensor], vec![make::int("axis", 1)]);
        let from = x.channels * x.side * x.side;
        let (weight, bias) = (n.b.weight("weight", &[5, from], 0.0, 0.2), n.b.weight("bias", &[5], 0.0, 0.1));
        n.op("Gemm", &[&flat, &weight, &bias], vec![make::int("transB", 1)])
    });
    n.give(&mut logits, "logits", &[5]);
}

/// Gives the vector `pooled` and classifies it.
fn pool_and_classify(n: &mut Net, x: &Map) {
    let pooled = n.mean(x);
    let mut flat = n.op("Flatten", &[&pooled.tensor], vec![make::int("axis", 1)]);
    n.give(&mut flat, "pooled", &[x.channels]);
    let pooled = Map { tensor: flat, ..pooled };
    classify(n, &pooled);
}

/// VGG: plain convolutions between pools; the vector is the whole last map.
pub fn vgg(n: &mut Net, norms: bool) {
    let mut x = n.image();
    for (stage, (to, layers)) in [(6, 1), (8, 2), (12, 2)].into_iter().enumerate() {
        for layer in 0..layers {
            let conv = if norms { conv(to, 3, 1) } else { conv(to, 3, 1).biased() };
            x = n.scope(format!("features.{stage}.{layer}"), |n| n.conv(&x, conv));
        }
        x = n.pool("MaxPool", &x, 2, 2, false);
    }
    n.give_map(&mut x, "features");
    // An adaptive pool to the size that the map has already.
    let x = n.pool("AveragePool", &x, 1, 1, false);
    classify(n, &x);
}

/// ResNet with basic blocks or bottlenecks, whose norms may be frozen as in detectors.
pub fn resnet(n: &mut Net, bottleneck: bool, frozen: bool) {
    let maps = resnet_stages(n, bottleneck, frozen, 1);
    pool_and_classify(n, &maps[2]);
}

/// The stages of a ResNet, given as `c2`, `c3` and `c4`; from the last stage on, strides become dilations if asked.
pub fn resnet_stages(n: &mut Net, bottleneck: bool, frozen: bool, dilation: usize) -> [Map; 3] {
    let own = |conv: Conv| if frozen { conv.frozen() } else { conv };
    let x = n.image();
    let x = n.scope("stem", |n| n.conv(&x, own(conv(8, 7, 2))));
    let mut x = n.pool("MaxPool", &x, 3, 2, false);
    [("c2", 4, 1), ("c3", 6, 2), ("c4", 8, 2)].map(|(name, width, stride)| {
        let to = if bottleneck { width * 2 } else { width };
        let (stride, dilation) = if name == "c4" && dilation > 1 { (1, dilation) } else { (stride, 1) };
        for block in 0..2 {
            let stride = if block == 0 { stride } else { 1 };
            x = n.scope(format!("{name}.{block}"), |n| {
                let y = if bottleneck {
                    let y = n.scope("1", |n| n.conv(&x, own(conv(width, 1, 1))));
                    let y = n.scope("2", |n| n.conv(&y, own(conv(width, 3, stride).dilated(dilation))));
                    n.scope("3", |n| n.conv(&y, own(conv(to, 1, 1).act(Act::No))))
                } else {
                    let y = n.scope("1", |n| n.conv(&x, own(conv(width, 3, stride).dilated(dilation))));
                    n.scope("2", |n| n.conv(&y, own(conv(to, 3, 1).act(Act::No))))
                };
                add_shortcut(n, &x, &y, own(conv(to, 1, stride).act(Act::No)))
            });
        }
        n.give_map(&mut x, name);
        x.clone()
    })
}

/// The sum with what entered the block, and ReLU.
fn add_shortcut(n: &mut Net, x: &Map, y: &Map, downsample: Conv) -> Map {
    let same = x.channels == y.channels && x.side == y.side;
    let shortcut = if same { x.clone() } else { n.scope("downsample", |n| n.conv(x, downsample)) };
    let sum = n.join("Add", y, &shortcut);
    Map { tensor: n.act(&sum.tensor, Act::Relu), ..sum }
}

/// ResNeXt and RegNet: bottlenecks with grouped convolutions, with or without squeeze-and-excitation.
pub fn grouped(n: &mut Net, excited: bool) {
    let x = n.image();
    let mut x = n.scope("stem", |n| n.conv(&x, conv(8, 3, 2)));
    for (stage, to) in [12, 16].into_iter().enumerate() {
        for block in 0..2 {
            let stride = 2 - block.min(1);
            x = n.scope(format!("block{stage}/{block}"), |n| {
                let y = n.scope("a", |n| n.conv(&x, conv(to, 1, 1)));
                let mut y = n.scope("b", |n| n.conv(&y, conv(to, 3, stride).groups(to / 4)));
                if excited {
                    y = n.scope("se", |n| n.excite(&y, 4, Act::Relu, Act::Sigmoid));
                }
                let y = n.scope("c", |n| n.conv(&y, conv(to, 1, 1).act(Act::No)));
                add_shortcut(n, &x, &y, conv(to, 1, stride).act(Act::No))
            });
        }
        n.give_map(&mut x, &format!("c{}", stage + 2));
    }
    pool_and_classify(n, &x);
}

/// DenseNet: every layer reads all before it; norms come before convolutions.
pub fn densenet(n: &mut Net) {
    let x = n.image();
    let x = n.scope("stem", |n| n.conv(&x, conv(8, 3, 2)));
    let mut x = n.pool("MaxPool", &x, 3, 2, false);
    for stage in 0..2 {
        let mut maps = vec![x.clone()];
        for layer in 0..2 {
            let grown = n.scope(format!("denseblock{stage}/{layer}"), |n| {
                let all = n.concat(&maps.iter().collect::<Vec<_>>());
                let y = n.scope("1", |n| n.norm_relu(&all));
                let y = n.scope("1", |n| n.conv(&y, conv(8, 1, 1)));
                n.scope("2", |n| n.conv(&y, conv(4, 3, 1).biased().act(Act::No)))
            });
            maps.push(grown);
        }
        x = n.concat(&maps.iter().collect::<Vec<_>>());
        n.give_map(&mut x, &format!("c{}", stage + 2));
        if stage == 0 {
            x = n.scope("transition", |n| {
                let y = n.norm_relu(&x);
                let y = n.conv(&y, conv(8, 1, 1).biased().act(Act::No));
                n.pool("AveragePool", &y, 2, 2, false)
            });
        }
    }
    let x = n.scope("norm", |n| n.norm_relu(&x));
    pool_and_classify(n, &x);
}

/// Inception: the channels are normalised inside, and branches of pools and narrow convolutions are joined.
pub fn inception(n: &mut Net) {
    let image = n.image();
    let channels = [0, 1, 2].map(|channel| {
        let place = n.b.int(channel);
        let one = n.op("Gather", &[&image.tensor, &place], vec![make::int("axis", 1)]);
        let one = n.b.unsqueeze(&one, 1);
        let (scale, shift) = (n.b.float(0.45), n.b.float(-0.1));
        let scaled = n.op("Mul", &[&one, &scale], Vec::new());
        Map { tensor: n.op("Add", &[&scaled, &shift], Vec::new()), channels: 1, side: image.side }
    });
    let x = n.concat(&[&channels[0], &channels[1], &channels[2]]);
    let x = n.scope("stem", |n| n.conv(&x, conv(8, 3, 2)));
    let mut x = n.pool("MaxPool", &x, 3, 2, false);
    x = n.scope("mixed", |n| {
        let one = n.scope("1x1", |n| n.conv(&x, conv(4, 1, 1)));
        let y = n.scope("7x7_1", |n| n.conv(&x, conv(4, 1, 1)));
        let y = n.scope("7x7_2", |n| n.conv(&y, conv(4, 1, 1).rectangle([1, 7])));
        let seven = n.scope("7x7_3", |n| n.conv(&y, conv(6, 1, 1).rectangle([7, 1])));
        let pooled = n.pool("AveragePool", &x, 3, 1, false);
        let pooled = n.scope("pool", |n| n.conv(&pooled, conv(4, 1, 1)));
        n.concat(&[&one, &seven, &pooled])
    });
    n.give_map(&mut x, "c2");
    x = n.scope("reduction", |n| {
        let y = n.scope("3x3", |n| n.conv(&x, conv(6, 3, 2)));
        let pooled = n.pool("MaxPool", &x, 3, 2, false);
        n.concat(&[&y, &pooled])
    });
    n.give_map(&mut x, "c3");
    pool_and_classify(n, &x);
}

/// SqueezeNet: fire modules, pools that round up, and a convolution as classifier.
pub fn squeezenet(n: &mut Net) {
    let x = n.image();
    let mut x = n.scope("features.0", |n| n.conv(&x, conv(8, 3, 2).biased()));
    for fire in 0..2 {
        x = n.pool_up(&x);
        x = n.scope(format!("fire{fire}"), |n| {
            let squeezed = n.scope("squeeze", |n| n.conv(&x, conv(4, 1, 1).biased()));
            let one = n.scope("expand1x1", |n| n.conv(&squeezed, conv(6, 1, 1).biased()));
            let three = n.scope("expand3x3", |n| n.conv(&squeezed, conv(6, 3, 1).biased()));
            n.concat(&[&one, &three])
        });
        n.give_map(&mut x, &format!("c{}", fire + 2));
    }
    let logits = n.scope("classifier", |n| n.conv(&x, conv(5, 1, 1).biased()));
    let logits = n.mean(&logits);
    let mut flat = n.op("Flatten", &[&logits.tensor], vec![make::int("axis", 1)]);
    n.give(&mut flat, "logits", &[5]);
}

/// What the blocks of mobile networks differ in.
#[derive(Clone, Copy)]
pub struct Mobile {
    /// The activation.
    pub act: Act,
    /// The gate of squeeze-and-excitation, if there is any.
    pub gate: Option<Act>,
    /// Padding is computed while the model runs, as TensorFlow's networks need it.
    pub same: bool,
}

/// MobileNet, EfficientNet and EfficientNet-Lite: inverted residuals.
pub fn mobile(n: &mut Net, spec: Mobile) {
    let x = n.image();
    let mut x = n.scope("stem", |n| n.conv(&x, conv(8, 3, 2).act(spec.act)));
    for (stage, to) in [12, 16].into_iter().enumerate() {
        for block in 0..2 {
            let stride = 2 - block.min(1);
            x = n.scope(format!("blocks.{stage}.{block}"), |n| {
                let wide = 2 * x.channels;
                let y = n.scope("expand", |n| n.conv(&x, conv(wide, 1, 1).act(spec.act)));
                let depthwise = conv(wide, 3, stride).groups(wide).act(spec.act);
                let mut y = n.scope("depthwise", |n| match spec.same && stride > 1 {
                    true => n.conv_same(&y, depthwise),
                    false => n.conv(&y, depthwise),
                });
                if let Some(gate) = spec.gate {
                    let inner = if spec.act == Act::HardSwish { Act::Relu } else { spec.act };
                    y = n.scope("se", |n| n.excite(&y, 4, inner, gate));
                }
                let y = n.scope("project", |n| n.conv(&y, conv(to, 1, 1).act(Act::No)));
                if x.channels == y.channels && x.side == y.side { n.join("Add", &x, &y) } else { y }
            });
        }
        n.give_map(&mut x, &format!("c{}", stage + 2));
    }
    let x = n.scope("last", |n| n.conv(&x, conv(24, 1, 1).act(spec.act)));
    pool_and_classify(n, &x);
}

/// ConvNeXt: wide depthwise convolutions, LayerNorm and linear layers on channels that were moved last, and a scale
/// for each layer.
pub fn convnext(n: &mut Net) {
    let mut x = n.image();
    for (stage, (to, patch)) in [(8, 4), (12, 2)].into_iter().enumerate() {
        x = n.scope(format!("downsample{stage}"), |n| {
            let x = if stage > 0 { channels_last(n, &x, |n, y, dim| n.layer_norm(&y, dim)) } else { x.clone() };
            n.conv(&x, conv(to, patch, patch).biased().act(Act::No))
        });
        x = n.scope(format!("stages.{stage}"), |n| {
            let y = n.scope("dwconv", |n| n.conv(&x, conv(to, 7, 1).groups(to).biased().act(Act::No)));
            let y = channels_last(n, &y, |n, y, dim| {
                let y = n.scope("norm", |n| n.layer_norm(&y, dim));
                let y = n.scope("pwconv1", |n| n.linear(&y, dim, 2 * dim));
                let y = n.act(&y, Act::Gelu);
                n.scope("pwconv2", |n| n.linear(&y, 2 * dim, dim))
            });
            let scale = n.b.weight("layer_scale", &[to, 1, 1], 0.5, 0.1);
            let y = Map { tensor: n.op("Mul", &[&y.tensor, &scale], Vec::new()), ..y };
            n.join("Add", &x, &y)
        });
        n.give_map(&mut x, &format!("c{}", stage + 2));
    }
    let pooled = n.mean(&x);
    let pooled = channels_last(n, &pooled, |n, y, dim| n.layer_norm(&y, dim));
    let mut flat = n.op("Flatten", &[&pooled.tensor], vec![make::int("axis", 1)]);
    n.give(&mut flat, "pooled", &[x.channels]);
    classify(n, &Map { tensor: flat, ..pooled });
}

/// Runs `body` on a map whose channels were moved last, and moves them back.
fn channels_last(n: &mut Net, x: &Map, body: impl FnOnce(&mut Net, String, usize) -> String) -> Map {
    let last = n.transpose(&x.tensor, &[0, 2, 3, 1]);
    let y = body(n, last, x.channels);
    Map { tensor: n.transpose(&y, &[0, 3, 1, 2]), ..x.clone() }
}

impl Net {
    /// A pool of 3 with a stride of 2 that is not padded and rounds up.
    pub fn pool_up(&mut self, x: &Map) -> Map {
        let attributes = vec![
            make::int("ceil_mode", 1),
            make::ints("kernel_shape", &[3, 3]),
            make::ints("pads", &[0; 4]),
            make::ints("strides", &[2, 2]),
        ];
        let tensor = self.op("MaxPool", &[&x.tensor], attributes);
        Map { tensor, side: (x.side - 3).div_ceil(2) + 1, ..x.clone() }
    }

    /// A convolution of 3 with a stride of 2 whose padding is computed from the map's size.
    fn conv_same(&mut self, x: &Map, spec: Conv) -> Map {
        let pads = [2, 3].map(|axis| {
            let size = self.b.size_of(&x.tensor, axis);
            let size = self.op("Cast", &[&size], vec![make::int("to", 1)]);
            let (zero, one, two, three) = (self.b.float(0.0), self.b.float(1.0), self.b.float(2.0), self.b.float(3.0));
            let steps = self.op("Div", &[&size, &two], Vec::new());
            let steps = self.op("Ceil", &[&steps], Vec::new());
            let steps = self.op("Sub", &[&steps, &one], Vec::new());
            let reach = self.op("Mul", &[&steps, &two], Vec::new());
            let reach = self.op("Add", &[&reach, &three], Vec::new());
            let lacking = self.op("Sub", &[&reach, &size], Vec::new());
            let lacking = self.op("Clip", &[&lacking, &zero, ""], Vec::new());
            let lacking = self.op("Cast", &[&lacking], vec![make::int("to", 7)]);
            self.b.unsqueeze(&lacking, 0)
        });
        let none = self.b.ints(&[0; 6]);
        let pads = self.op("Concat", &[&none, &pads[0], &pads[1]], vec![make::int("axis", 0)]);
        let tensor = self.op("Pad", &[&x.tensor, &pads], Vec::new());
        self.conv(&Map { tensor, side: x.side + 1, ..x.clone() }, spec.unpadded())
    }
}
