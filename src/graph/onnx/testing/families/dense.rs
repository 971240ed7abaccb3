//! Networks for detection and segmentation. Outputs: maps of several sizes.

use super::super::blocks::{Act, Axis, Map, Net, conv};
use super::convolutional::resnet_stages;
use crate::graph::onnx::make;

/// SSD: VGG-like maps, one of them normalised per place, and heads whose boxes are joined.
pub fn ssd(n: &mut Net) {
    let x = n.image();
    let x = n.scope("features.0", |n| n.conv(&x, conv(8, 3, 2).biased()));
    let x = n.pool_up(&x);
    let x = n.scope("features.1", |n| n.conv(&x, conv(8, 3, 1).biased()));
    let norm = n.op("ReduceL2", &[&x.tensor], vec![make::ints("axes", &[1]), make::int("keepdims", 1)]);
    let low = n.b.float(1e-12);
    let norm = n.op("Clip", &[&norm, &low], Vec::new());
    let shape = n.op("Shape", &[&x.tensor], Vec::new());
    let norm = n.op("Expand", &[&norm, &shape], Vec::new());
    let normed = n.op("Div", &[&x.tensor, &norm], Vec::new());
    let scale = n.b.weight("scale", &[1, 8, 1, 1], 5.0, 0.5);
    let mut c3 = Map { tensor: n.op("Mul", &[&scale, &normed], Vec::new()), ..x.clone() };
    n.give_map(&mut c3, "c3");
    let x = n.pool("MaxPool", &x, 2, 2, true);
    let mut c4 = n.scope("features.2", |n| n.conv(&x, conv(12, 3, 1).dilated(2).biased()));
    n.give_map(&mut c4, "c4");
    let boxes = [&c3, &c4].map(|map| {
        let out = n.scope(format!("head.{}", map.side), |n| n.conv(map, conv(2 * 4, 3, 1).biased().act(Act::No)));
        let split = [Axis::Batch(1), Axis::Rest, Axis::Of(4), Axis::Of(out.side), Axis::Of(out.side)];
        let split = n.reshape(&out.tensor, &split);
        let last = n.transpose(&split, &[0, 3, 4, 1, 2]);
        n.reshape(&last, &[Axis::Batch(1), Axis::Rest, Axis::Of(4)])
    });
    let mut all = n.op("Concat", &[&boxes[0], &boxes[1]], vec![make::int("axis", 1)]);
    n.give(&mut all, "boxes", &[2 * (c3.side * c3.side + c4.side * c4.side), 4]);
}

/// Faster R-CNN: a ResNet's stages and the feature pyramid above them.
pub fn pyramid(n: &mut Net) {
    let stages = resnet_stages(n, true, true, 1);
    let mut above: Option<Map> = None;
    for (stage, name) in stages.iter().zip(["p2", "p3", "p4"]).rev() {
        let lateral = n.scope(format!("fpn.inner.{name}"), |n| n.conv(stage, conv(6, 1, 1).biased().act(Act::No)));
        let sum = match &above {
            Some(above) => {
                let larger = n.resize_to(above, &lateral, "nearest");
                n.join("Add", &lateral, &larger)
            }
            None => lateral,
        };
        let mut out = n.scope(format!("fpn.layer.{name}"), |n| n.conv(&sum, conv(6, 3, 1).biased().act(Act::No)));
        n.give_map(&mut out, name);
        if name == "p4" {
            let mut pool = n.pool("MaxPool", &out, 1, 2, false);
            n.give_map(&mut pool, "pool");
        }
        above = Some(sum);
    }
}

/// YOLO: parts of the channels go through residual blocks, pools of growing reach, and a path up and down again.
pub fn yolo(n: &mut Net, act: Act) {
    let x = n.image();
    let x = n.scope("model.0", |n| n.conv(&x, conv(8, 3, 2).act(act)));
    let x = n.scope("model.1", |n| n.conv(&x, conv(8, 3, 2).act(act)));
    let c2 = n.scope("model.2", |n| cross_stage(n, &x, 8, act));
    let x = n.scope("model.3", |n| n.conv(&c2, conv(12, 3, 2).act(act)));
    let x = n.scope("model.4", |n| cross_stage(n, &x, 12, act));
    let c3 = n.scope("model.5", |n| {
        let one = n.scope("cv1", |n| n.conv(&x, conv(6, 1, 1).act(act)));
        let two = n.pool("MaxPool", &one, 5, 1, false);
        let three = n.pool("MaxPool", &two, 5, 1, false);
        let all = n.concat(&[&one, &two, &three]);
        n.scope("cv2", |n| n.conv(&all, conv(12, 1, 1).act(act)))
    });
    let up = n.twice(&c3);
    let joined = n.concat(&[&up, &c2]);
    let mut p2 = n.scope("model.8", |n| cross_stage(n, &joined, 8, act));
    n.give_map(&mut p2, "p2");
    let down = n.scope("model.9", |n| n.conv(&p2, conv(8, 3, 2).act(act)));
    let joined = n.concat(&[&down, &c3]);
    let mut p3 = n.scope("model.11", |n| cross_stage(n, &joined, 12, act));
    n.give_map(&mut p3, "p3");
}

fn cross_stage(n: &mut Net, x: &Map, to: usize, act: Act) -> Map {
    let y = n.scope("cv1", |n| n.conv(x, conv(to, 1, 1).act(act)));
    let [kept, worked] = n.halves(&y);
    let z = n.scope("m.0", |n| n.conv(&worked, conv(to / 2, 3, 1).act(act)));
    let z = n.join("Add", &worked, &z);
    let all = n.concat(&[&kept, &worked, &z]);
    n.scope("cv2", |n| n.conv(&all, conv(to, 1, 1).act(act)))
}

/// U-Net: an encoder, and a decoder of transposed convolutions that reads every encoder stage.
pub fn unet(n: &mut Net) {
    let mut x = n.image();
    let mut stages = Vec::new();
    for (stage, to) in [6, 8, 12].into_iter().enumerate() {
        if stage > 0 {
            x = n.pool("MaxPool", &x, 2, 2, false);
        }
        x = n.scope(format!("encoder{stage}.conv1"), |n| n.conv(&x, conv(to, 3, 1)));
        x = n.scope(format!("encoder{stage}.conv2"), |n| n.conv(&x, conv(to, 3, 1)));
        n.give_map(&mut x, &format!("c{}", stage + 1));
        stages.push(x.clone());
    }
    for (level, stage) in stages[..2].iter().enumerate().rev() {
        x = n.scope(format!("decoder{level}"), |n| {
            let weight = n.b.weight("upconv.weight", &[x.channels, stage.channels, 2, 2], 0.0, 0.3);
            let attributes = vec![make::ints("kernel_shape", &[2, 2]), make::ints("strides", &[2, 2])];
            let up = n.op("ConvTranspose", &[&x.tensor, &weight], attributes);
            let up = Map { tensor: up, ..stage.clone() };
            let joined = n.concat(&[&up, stage]);
            n.conv(&joined, conv(stage.channels, 3, 1))
        });
    }
    let mut out = n.scope("conv", |n| n.conv(&x, conv(1, 1, 1).biased().act(Act::Sigmoid)));
    n.give_map(&mut out, "mask");
}

/// DeepLabV3 and FCN: a dilated ResNet, branches of growing reach and of the whole map, and its logits at full size.
pub fn deeplab(n: &mut Net) {
    let image = n.image();
    let [_, _, x] = resnet_stages(n, true, false, 2);
    let mut joined = n.scope("aspp", |n| {
        let one = n.scope("0", |n| n.conv(&x, conv(6, 1, 1)));
        let two = n.scope("1", |n| n.conv(&x, conv(6, 3, 1).dilated(2)));
        let pooled = n.mean(&x);
        let pooled = n.scope("pool", |n| n.conv(&pooled, conv(6, 1, 1)));
        let pooled = n.resize_to(&pooled, &x, "linear");
        n.concat(&[&one, &two, &pooled])
    });
    n.give_map(&mut joined, "aspp");
    let logits = n.scope("classifier", |n| n.conv(&joined, conv(5, 1, 1).biased().act(Act::No)));
    let mut out = n.resize_to(&logits, &image, "linear");
    n.give_map(&mut out, "out");
}

/// LR-ASPP: a map of half the size is gated by the whole of the last one.
pub fn lraspp(n: &mut Net) {
    let x = n.image();
    let x = n.scope("stem", |n| n.conv(&x, conv(8, 3, 4).act(Act::HardSwish)));
    let mut low = n.scope("low", |n| n.conv(&x, conv(8, 3, 1).groups(8).act(Act::HardSwish)));
    n.give_map(&mut low, "low");
    let mut high = n.scope("high", |n| n.conv(&low, conv(12, 3, 2).act(Act::HardSwish)));
    n.give_map(&mut high, "high");
    let gate = n.mean(&high);
    let gate = n.scope("scale", |n| n.conv(&gate, conv(6, 1, 1).biased().act(Act::Sigmoid)));
    let x = n.scope("cbr", |n| n.conv(&high, conv(6, 1, 1)));
    let x = n.join("Mul", &x, &gate);
    let x = n.resize_to(&x, &low, "linear");
    let one = n.scope("low_classifier", |n| n.conv(&low, conv(5, 1, 1).biased().act(Act::No)));
    let other = n.scope("high_classifier", |n| n.conv(&x, conv(5, 1, 1).biased().act(Act::No)));
    let mut out = n.join("Add", &one, &other);
    n.give_map(&mut out, "out");
}

/// PIDNet: branches of detail, context and borders that guide each other, and pools of growing reach.
pub fn pidnet(n: &mut Net) {
    let x = n.image();
    let x = n.scope("conv1", |n| n.conv(&x, conv(8, 3, 2)));
    let detail = n.scope("layer3_", |n| n.conv(&x, conv(8, 3, 1)));
    let context = n.scope("layer3", |n| n.conv(&x, conv(12, 3, 2)));
    // The context guides the detail, place by place, where both agree.
    let narrow = n.scope("compression3", |n| n.conv(&context, conv(8, 1, 1).act(Act::No)));
    let wide = n.resize_to(&narrow, &detail, "linear");
    let product = n.join("Mul", &detail, &wide);
    let guided = n.scope("pag3", |n| {
        let axes = n.b.ints(&[1]);
        let sum = n.op("ReduceSum", &[&product.tensor, &axes], Vec::new());
        let gate = n.act(&sum, Act::Sigmoid);
        let one = n.op("Mul", &[&gate, &wide.tensor], Vec::new());
        let whole = n.b.float(1.0);
        let rest = n.op("Sub", &[&whole, &gate], Vec::new());
        let other = n.op("Mul", &[&rest, &detail.tensor], Vec::new());
        Map { tensor: n.op("Add", &[&one, &other], Vec::new()), ..detail.clone() }
    });
    let context = n.scope("spp", |n| {
        let near = n.scope("scale0", |n| n.conv(&context, conv(6, 1, 1).act(Act::No)));
        let far = n.pool("AveragePool", &context, 5, 2, false);
        let far = n.scope("scale1", |n| n.conv(&far, conv(6, 1, 1).act(Act::No)));
        let far = n.resize_to(&far, &near, "linear");
        let whole = n.mean(&context);
        let whole = n.scope("scale4", |n| n.conv(&whole, conv(6, 1, 1).act(Act::No)));
        let whole = n.resize_to(&whole, &near, "linear");
        let far = n.join("Add", &far, &near);
        let whole = n.join("Add", &whole, &far);
        let all = n.concat(&[&near, &far, &whole]);
        n.scope("compression", |n| n.conv(&all, conv(8, 1, 1).act(Act::No)))
    });
    let context = n.resize_to(&context, &guided, "linear");
    let mut features = n.join("Add", &guided, &context);
    n.give_map(&mut features, "features");
    let mut out = n.scope("final_layer", |n| n.conv(&features, conv(5, 1, 1).biased().act(Act::No)));
    n.give_map(&mut out, "out");
}
