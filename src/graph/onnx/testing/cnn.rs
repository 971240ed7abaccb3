//! Convolutional networks.

use super::Builder;
use crate::graph::onnx::make::{self, Size};
use crate::graph::onnx::proto::ModelProto;

/// A residual network `image` [batch, 3, 32, 32] → `logits` [batch, 10] of some 10 KB, with batch norms
/// left as nodes. Its stages are `layer1` (8 × 16 × 16) and `layer2` (16 × 8 × 8); the pooled vector is
/// `/Flatten_output_0` [batch, 16].
pub fn tiny_cnn() -> ModelProto {
    let mut b = Builder::new("cnn", 13, 1);
    let image = b.input("image", vec![Size::from("N"), 3.into(), 32.into(), 32.into()]);
    let x = b.scope("stem", |b| {
        let x = conv_norm(b, &image, 3, 8, 3, 1);
        let x = b.op("Relu", &[&x], Vec::new());
        let two = |name| make::ints(name, &[2, 2]);
        b.op("MaxPool", &[&x], vec![two("kernel_shape"), two("strides")])
    });
    let x = b.scope("layer1", |b| residual(b, &x, 8, 8, 1));
    let x = b.scope("layer2", |b| residual(b, &x, 8, 16, 2));
    let pooled = b.op("GlobalAveragePool", &[&x], Vec::new());
    let pooled = b.op("Flatten", &[&pooled], vec![make::int("axis", 1)]);
    let logits = b.scope("fc", |b| {
        let (weight, bias) = (b.weight("weight", &[10, 16], 0.0, 0.25), b.weight("bias", &[10], 0.0, 0.1));
        b.op("Gemm", &[&pooled, &weight, &bias], vec![make::int("transB", 1)])
    });
    b.output(&logits, "logits", vec![Size::from("N"), 10.into()]);
    b.finish()
}

fn residual(b: &mut Builder, x: &str, from: usize, to: usize, stride: i64) -> String {
    let y = b.scope("0", |b| {
        let y = conv_norm(b, x, from, to, 3, stride);
        let y = b.op("Relu", &[&y], Vec::new());
        conv_norm(b, &y, to, to, 3, 1)
    });
    let shortcut = match (from == to, stride) {
        (true, 1) => x.to_string(),
        _ => b.scope("downsample", |b| conv_norm(b, x, from, to, 1, stride)),
    };
    let sum = b.op("Add", &[&y, &shortcut], Vec::new());
    b.op("Relu", &[&sum], Vec::new())
}

fn conv_norm(b: &mut Builder, x: &str, from: usize, to: usize, kernel: usize, stride: i64) -> String {
    let deviation = (2.0 / (from * kernel * kernel) as f32).sqrt();
    let weight = b.weight("weight", &[to, from, kernel, kernel], 0.0, deviation);
    let (size, pad) = (kernel as i64, kernel as i64 / 2);
    let attributes = vec![
        make::ints("kernel_shape", &[size, size]),
        make::ints("pads", &[pad; 4]),
        make::ints("strides", &[stride, stride]),
    ];
    let x = b.op("Conv", &[x, &weight], attributes);
    let scale = b.weight("bn.weight", &[to], 1.0, 0.1);
    let shift = b.weight("bn.bias", &[to], 0.0, 0.1);
    let mean = b.weight("bn.running_mean", &[to], 0.0, 0.1);
    let variance = b.weight("bn.running_var", &[to], 1.0, 0.1);
    b.op("BatchNormalization", &[&x, &scale, &shift, &mean, &variance], vec![make::float("epsilon", 1e-5)])
}
