//! Vision transformers.

use super::{Builder, Part};
use crate::graph::onnx::make::{self, Size};
use crate::graph::onnx::proto::ModelProto;

/// The sizes of a vision transformer.
#[derive(Debug, Clone, Copy)]
pub struct Vit<'a> {
    /// The input's name; it is `[batch, 3, image, image]`.
    pub input: &'a str,
    /// The output's name; it is `[batch, 1 + (image / patch)², dim]`.
    pub output: &'a str,
    /// Height and width of the input.
    pub image: usize,
    /// Height and width of a patch.
    pub patch: usize,
    /// Width inside the blocks.
    pub inner: usize,
    /// Width of the output; a projection before the last norm widens `inner` to it.
    pub dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Heads of the attention.
    pub heads: usize,
    /// A batch size frozen into the export, with all shapes constant.
    pub frozen: Option<usize>,
    /// The version of the operators.
    pub opset: i64,
    /// The seed of the weights.
    pub seed: u64,
}

impl Default for Vit<'_> {
    fn default() -> Self {
        Self {
            input: "image",
            output: "tokens",
            image: 32,
            patch: 8,
            inner: 16,
            dim: 16,
            depth: 2,
            heads: 2,
            frozen: None,
            opset: 17,
            seed: 0,
        }
    }
}

/// A vision transformer `image` [batch, 3, 32, 32] → `tokens` [batch, 17, 16] of some 30 KB; the class token
/// is first. The last norm's tensor is `/norm/Add_1_output_0`.
pub fn tiny_vit() -> ModelProto {
    vit_like(&Vit::default())
}

/// The [`tiny_vit`] exported with a batch of one frozen into its input and shapes.
pub fn frozen_vit() -> ModelProto {
    vit_like(&Vit { frozen: Some(1), ..Vit::default() })
}

/// The interface of ViT-B/16 at 224 pixels, `pixel_values` [batch, 3, 224, 224] → `last_hidden_state`
/// [batch, 197, 768], with the weights of a narrow network (some 300 KB).
pub fn vit_base_like() -> ModelProto {
    vit_like(&Vit {
        input: "pixel_values",
        output: "last_hidden_state",
        image: 224,
        patch: 16,
        inner: 32,
        dim: 768,
        depth: 1,
        ..Vit::default()
    })
}

/// A vision transformer of the given sizes.
pub fn vit_like(spec: &Vit<'_>) -> ModelProto {
    let side = spec.image / spec.patch;
    let tokens = side * side + 1;
    let batch = || spec.frozen.map_or(Size::from("batch"), Size::from);
    let mut b = Builder::new("vit", spec.opset, spec.seed);
    let image = b.input(spec.input, vec![batch(), 3.into(), spec.image.into(), spec.image.into()]);
    let mut x = b.scope("embeddings", |b| embed(b, spec, &image, tokens));
    for block in 0..spec.depth {
        x = b.scope(&format!("blocks.{block}"), |b| transformer_block(b, spec, &x, tokens));
    }
    if spec.dim != spec.inner {
        x = b.scope("widen", |b| linear(b, &x, spec.inner, spec.dim));
    }
    x = b.scope("norm", |b| layer_norm(b, &x, spec.dim));
    b.output(&x, spec.output, vec![batch(), tokens.into(), spec.dim.into()]);
    b.finish()
}

fn embed(b: &mut Builder, spec: &Vit<'_>, image: &str, tokens: usize) -> String {
    let (inner, patch) = (spec.inner, spec.patch);
    let deviation = 1.0 / (patch as f32 * 3f32.sqrt());
    let weight = b.weight("weight", &[inner, 3, patch, patch], 0.0, deviation);
    let bias = b.weight("bias", &[inner], 0.0, 0.1);
    let size = patch as i64;
    let attributes = vec![make::ints("kernel_shape", &[size, size]), make::ints("strides", &[size, size])];
    let patches = b.op("Conv", &[image, &weight, &bias], attributes);
    let flat = match spec.frozen {
        Some(n) => b.ints(&[n as i64, inner as i64, tokens as i64 - 1]),
        None => {
            let shape = b.op("Shape", &[&patches], Vec::new());
            let (starts, ends, axes, rest) = (b.ints(&[0]), b.ints(&[2]), b.ints(&[0]), b.ints(&[-1]));
            let head = b.op("Slice", &[&shape, &starts, &ends, &axes], Vec::new());
            b.op("Concat", &[&head, &rest], vec![make::int("axis", 0)])
        }
    };
    let patches = b.op("Reshape", &[&patches, &flat], Vec::new());
    let patches = b.op("Transpose", &[&patches], vec![make::ints("perm", &[0, 2, 1])]);
    let class = match spec.frozen {
        // The exporter folds the expansion of the class token into a constant.
        Some(n) => b.weight("cls_token", &[n, 1, inner], 0.0, 0.5),
        None => {
            let class = b.weight("cls_token", &[1, 1, inner], 0.0, 0.5);
            let target = expansion(b, image);
            b.op("Expand", &[&class, &target], Vec::new())
        }
    };
    let all = b.op("Concat", &[&class, &patches], vec![make::int("axis", 1)]);
    let position = b.weight("position", &[1, tokens, inner], 0.0, 0.5);
    b.op("Add", &[&all, &position], Vec::new())
}

/// The shape of `expand(batch, -1, -1)`, in the exporter's roundabout way.
pub(super) fn expansion(b: &mut Builder, image: &str) -> String {
    let batch = b.size_of(image, 0);
    let wanted = b.shape_of(&[Part::Tensor(&batch), Part::Size(-1), Part::Size(-1)]);
    let shape = b.op("Shape", &[&wanted], Vec::new());
    let one = make::tensor("value", crate::graph::onnx::proto::TensorProto::from_i64("", &[1], &[1]));
    let ones = b.op("ConstantOfShape", &[&shape], vec![one]);
    let minus = b.int(-1);
    let keep = b.op("Mul", &[&ones, &minus], Vec::new());
    let is_keep = b.op("Equal", &[&wanted, &keep], Vec::new());
    b.op("Where", &[&is_keep, &ones, &wanted], Vec::new())
}

fn transformer_block(b: &mut Builder, spec: &Vit<'_>, x: &str, tokens: usize) -> String {
    let normed = b.scope("norm1", |b| layer_norm(b, x, spec.inner));
    let attended = b.scope("attn", |b| attention(b, spec, &normed, tokens));
    let x = b.op("Add", &[x, &attended], Vec::new());
    let normed = b.scope("norm2", |b| layer_norm(b, &x, spec.inner));
    let wide = spec.inner * 2;
    let hidden = b.scope("mlp", |b| {
        let hidden = b.scope("fc1", |b| linear(b, &normed, spec.inner, wide));
        let hidden = b.scope("act", |b| gelu(b, &hidden));
        b.scope("fc2", |b| linear(b, &hidden, wide, spec.inner))
    });
    b.op("Add", &[&x, &hidden], Vec::new())
}

fn attention(b: &mut Builder, spec: &Vit<'_>, x: &str, tokens: usize) -> String {
    let (inner, heads) = (spec.inner as i64, spec.heads as i64);
    let per_head = inner / heads;
    let shape = |b: &mut Builder, tail: &[i64]| match spec.frozen {
        Some(n) => {
            let mut sizes = vec![n as i64, tokens as i64];
            sizes.extend(tail);
            b.ints(&sizes)
        }
        None => {
            let (batch, length) = (b.size_of(x, 0), b.size_of(x, 1));
            let mut parts = vec![Part::Tensor(&batch), Part::Tensor(&length)];
            parts.extend(tail.iter().map(|&size| Part::Size(size)));
            b.shape_of(&parts)
        }
    };
    let split = |b: &mut Builder, name: &str, order: &[i64]| {
        let projected = b.scope(name, |b| linear(b, x, spec.inner, spec.inner));
        let target = shape(b, &[heads, per_head]);
        let split = b.op("Reshape", &[&projected, &target], Vec::new());
        b.op("Transpose", &[&split], vec![make::ints("perm", order)])
    };
    let query = split(b, "query", &[0, 2, 1, 3]);
    let key = split(b, "key", &[0, 2, 3, 1]);
    let value = split(b, "value", &[0, 2, 1, 3]);
    let scores = b.op("MatMul", &[&query, &key], Vec::new());
    let root = b.float((per_head as f32).sqrt());
    let scores = b.op("Div", &[&scores, &root], Vec::new());
    let weights = b.op("Softmax", &[&scores], vec![make::int("axis", -1)]);
    let mixed = b.op("MatMul", &[&weights, &value], Vec::new());
    let mixed = b.op("Transpose", &[&mixed], vec![make::ints("perm", &[0, 2, 1, 3])]);
    let target = shape(b, &[inner]);
    let mixed = b.op("Reshape", &[&mixed, &target], Vec::new());
    b.scope("proj", |b| linear(b, &mixed, spec.inner, spec.inner))
}

/// `x · weight + bias`.
pub(super) fn linear(b: &mut Builder, x: &str, from: usize, to: usize) -> String {
    let weight = b.weight("weight", &[from, to], 0.0, 1.0 / (from as f32).sqrt());
    let bias = b.weight("bias", &[to], 0.0, 0.1);
    let product = b.op("MatMul", &[x, &weight], Vec::new());
    b.op("Add", &[&bias, &product], Vec::new())
}

/// LayerNorm over the last axis, in the nodes of exports before version 17 of the operators.
pub(super) fn layer_norm(b: &mut Builder, x: &str, dim: usize) -> String {
    let last = || vec![make::ints("axes", &[-1])];
    let mean = b.op("ReduceMean", &[x], last());
    let centred = b.op("Sub", &[x, &mean], Vec::new());
    let two = b.float(2.0);
    let squared = b.op("Pow", &[&centred, &two], Vec::new());
    let variance = b.op("ReduceMean", &[&squared], last());
    let epsilon = b.float(1e-6);
    let shifted = b.op("Add", &[&variance, &epsilon], Vec::new());
    let deviation = b.op("Sqrt", &[&shifted], Vec::new());
    let normed = b.op("Div", &[&centred, &deviation], Vec::new());
    let (weight, bias) = (b.weight("weight", &[dim], 1.0, 0.1), b.weight("bias", &[dim], 0.0, 0.1));
    let scaled = b.op("Mul", &[&normed, &weight], Vec::new());
    b.op("Add", &[&scaled, &bias], Vec::new())
}

/// GELU by the error function.
pub(super) fn gelu(b: &mut Builder, x: &str) -> String {
    let root = b.float(std::f32::consts::SQRT_2);
    let scaled = b.op("Div", &[x, &root], Vec::new());
    let erf = b.op("Erf", &[&scaled], Vec::new());
    let one = b.float(1.0);
    let shifted = b.op("Add", &[&erf, &one], Vec::new());
    let product = b.op("Mul", &[x, &shifted], Vec::new());
    let half = b.float(0.5);
    b.op("Mul", &[&product, &half], Vec::new())
}
