//! Vision transformers and their kin. Outputs: `tokens`, `pooled` vectors, stages.

use super::super::blocks::{Act, Axis, Map, Net, conv};
use super::super::tokens::Tokens;
use crate::graph::onnx::make;

/// What plain vision transformers differ in.
#[derive(Clone, Copy)]
pub struct Plain {
    /// The activation.
    pub act: Act,
    /// A learnt factor for every layer, as in DINOv2.
    pub scaled: bool,
    /// A norm before the first block and a projection behind the last, as in CLIP.
    pub projected: bool,
}

/// ViT, DINOv2, CLIP and BLIP: patches and a class token through blocks of one width.
pub fn plain(n: &mut Net, spec: Plain) {
    let x = n.image();
    let x = n.scope("patch_embed", |n| {
        let patches = if spec.projected { conv(16, 8, 8).bare() } else { conv(16, 8, 8).biased().act(Act::No) };
        let patches = n.conv(&x, patches);
        n.tokens(&patches)
    });
    let mut x = n.with_class(&x);
    x.tensor = n.add_weight(&x.tensor, "pos_embed", &[1, x.count, x.dim]);
    if spec.projected {
        x.tensor = n.scope("ln_pre", |n| n.layer_norm(&x.tensor, x.dim));
    }
    for block in 0..2 {
        x = n.scope(format!("blocks.{block}"), |n| n.block(&x, 2, spec.act, spec.scaled));
    }
    if !spec.projected {
        x.tensor = n.scope("norm", |n| n.layer_norm(&x.tensor, x.dim));
    }
    n.give_tokens(&mut x, "tokens");
    let mut class = class_token(n, &x);
    if spec.projected {
        class = n.scope("ln_post", |n| n.layer_norm(&class, x.dim));
        let projection = n.b.weight("proj", &[x.dim, 8], 0.0, 0.3);
        class = n.op("MatMul", &[&class, &projection], Vec::new());
        n.give(&mut class, "embeds", &[8]);
    }
}

fn class_token(n: &mut Net, x: &Tokens) -> String {
    let first = n.b.int(0);
    n.op("Gather", &[&x.tensor, &first], vec![make::int("axis", 1)])
}

/// The transformer as PyTorch's own layers have it: tokens before the batch, heads merged with the batch.
pub fn sequence_first(n: &mut Net) {
    let x = n.image();
    let patches = n.scope("conv1", |n| n.conv(&x, conv(16, 8, 8).bare()));
    let x = n.tokens(&patches);
    let mut x = n.with_class(&x);
    x.tensor = n.add_weight(&x.tensor, "positional_embedding", &[x.count, x.dim]);
    x.tensor = n.transpose(&x.tensor, &[1, 0, 2]);
    for block in 0..2 {
        x = n.scope(format!("resblocks.{block}"), |n| {
            let x = n.residual(&x, "attn", false, |n, x| n.sequence_first_attention(&x, 2));
            n.residual(&x, "mlp", false, |n, x| n.mlp(&x, Act::QuickGelu))
        });
    }
    x.tensor = n.transpose(&x.tensor, &[1, 0, 2]);
    n.give_tokens(&mut x, "tokens");
}

/// The convolutional CLIP: strides by average pools, and attention over all places and their mean in place of a pool.
pub fn attention_pool(n: &mut Net) {
    let x = n.image();
    let x = n.scope("conv1", |n| n.conv(&x, conv(8, 3, 2)));
    let x = n.scope("conv2", |n| n.conv(&x, conv(8, 3, 1)));
    let x = n.pool("AveragePool", &x, 2, 2, false);
    let mut x = n.scope("layer1", |n| {
        let y = n.scope("conv1", |n| n.conv(&x, conv(8, 1, 1)));
        let y = n.pool("AveragePool", &y, 2, 2, false);
        let y = n.scope("conv3", |n| n.conv(&y, conv(16, 1, 1).act(Act::No)));
        let shortcut = n.pool("AveragePool", &x, 2, 2, false);
        let shortcut = n.scope("downsample", |n| n.conv(&shortcut, conv(16, 1, 1).act(Act::No)));
        let sum = n.join("Add", &y, &shortcut);
        Map { tensor: n.act(&sum.tensor, Act::Relu), ..sum }
    });
    n.give_map(&mut x, "c3");
    let mut embeds = n.scope("attnpool", |n| {
        let places = n.tokens(&x);
        let mean = n.op("ReduceMean", &[&places.tensor], vec![make::ints("axes", &[1]), make::int("keepdims", 1)]);
        let all = n.op("Concat", &[&mean, &places.tensor], vec![make::int("axis", 1)]);
        let count = places.count + 1;
        let all = n.add_weight(&all, "positional_embedding", &[count, places.dim]);
        let mixed = n.fused_attention(&Tokens { tensor: all, count, ..places }, 2, |_, scores| scores);
        class_token(n, &mixed)
    });
    n.give(&mut embeds, "embeds", &[16]);
}

/// Swin: attention in windows of 4 × 4 places, the second block's windows rolled by half and masked, then a stage of
/// half the size whose patches are merged.
pub fn swin(n: &mut Net) {
    let x = n.image();
    let patches = n.scope("patch_embed", |n| n.conv(&x, conv(8, 4, 4).biased().act(Act::No)));
    let mut x = n.tokens(&patches);
    let side = patches.side;
    for (block, shift) in [0, 2].into_iter().enumerate() {
        x = n.scope(format!("layers.0.blocks.{block}"), |n| {
            let x = n.residual(&x, "attn", false, |n, x| windows(n, &x, side, shift));
            n.residual(&x, "mlp", false, |n, x| n.mlp(&x, Act::Gelu))
        });
    }
    n.give_tokens(&mut x, "stage0");
    let half = side / 2;
    let mut x = n.scope("layers.1.downsample", |n| {
        let (two, dim) = (Axis::Of(2), Axis::Of(x.dim));
        let parted = n.reshape(&x.tensor, &[Axis::Batch(1), Axis::Of(half), two, Axis::Of(half), two, dim]);
        let merged = n.transpose(&parted, &[0, 1, 3, 4, 2, 5]);
        let merged = n.reshape(&merged, &[Axis::Batch(1), Axis::Of(half * half), Axis::Of(4 * x.dim)]);
        let normed = n.layer_norm(&merged, 4 * x.dim);
        let tensor = n.linear(&normed, 4 * x.dim, 2 * x.dim);
        Tokens { tensor, times: 1, count: half * half, dim: 2 * x.dim }
    });
    x.tensor = n.scope("norm", |n| n.layer_norm(&x.tensor, x.dim));
    n.give_tokens(&mut x, "tokens");
    let mut pooled = n.op("ReduceMean", &[&x.tensor], vec![make::ints("axes", &[1]), make::int("keepdims", 0)]);
    n.give(&mut pooled, "pooled", &[x.dim]);
}

fn windows(n: &mut Net, x: &Tokens, side: usize, shift: usize) -> Tokens {
    const WINDOW: usize = 4;
    let (across, places) = (side / WINDOW, WINDOW * WINDOW);
    let (batch, dim) = (Axis::Batch(1), Axis::Of(x.dim));
    let (many, window) = (Axis::Of(across), Axis::Of(WINDOW));
    let mut map = n.reshape(&x.tensor, &[batch, Axis::Of(side), Axis::Of(side), dim]);
    map = roll(n, &map, shift as i64);
    let parted = n.reshape(&map, &[batch, many, window, many, window, dim]);
    let parted = n.transpose(&parted, &[0, 1, 3, 2, 4, 5]);
    let tensor = n.reshape(&parted, &[Axis::Rest, Axis::Of(places), dim]);
    let times = across * across;
    let mixed = n.fused_attention(&Tokens { tensor, times, count: places, dim: x.dim }, 2, |n, scores| {
        let scores = n.add_weight(&scores, "relative_position_bias", &[1, 2, places, places]);
        if shift == 0 {
            return scores;
        }
        let sizes = [Axis::Of(2), Axis::Of(places), Axis::Of(places)];
        let each = n.reshape(&scores, &[&[Axis::Batch(1), Axis::Of(times)][..], &sizes].concat());
        let masked = n.add_weight(&each, "attn_mask", &[1, times, 1, places, places]);
        n.reshape(&masked, &[&[Axis::Batch(times)][..], &sizes].concat())
    });
    let parted = n.reshape(&mixed.tensor, &[batch, many, many, window, window, dim]);
    let parted = n.transpose(&parted, &[0, 1, 3, 2, 4, 5]);
    let map = n.reshape(&parted, &[batch, Axis::Of(side), Axis::Of(side), dim]);
    let map = roll(n, &map, -(shift as i64));
    Tokens { tensor: n.reshape(&map, &[batch, Axis::Of(side * side), dim]), ..x.clone() }
}

/// `[batch, rows, columns, dim]` turned around by some rows and columns.
fn roll(n: &mut Net, x: &str, shift: i64) -> String {
    let mut x = x.to_string();
    for axis in [1, 2].into_iter().filter(|_| shift != 0) {
        let (begin, middle, end) = (n.b.ints(&[0]), n.b.ints(&[shift]), n.b.ints(&[i64::MAX]));
        let along = n.b.ints(&[axis]);
        let behind = n.op("Slice", &[&x, &middle, &end, &along], Vec::new());
        let before = n.op("Slice", &[&x, &begin, &middle, &along], Vec::new());
        x = n.op("Concat", &[&behind, &before], vec![make::int("axis", axis)]);
    }
    x
}

/// SegFormer: overlapping patches, attention over a map that a convolution made smaller, and depthwise convolutions
/// between the linear layers.
pub fn segformer(n: &mut Net) {
    let mut map = n.image();
    for (stage, (to, stride, reduction)) in [(8, 4, 4), (16, 2, 2)].into_iter().enumerate() {
        map = n.scope(format!("encoder.{stage}"), |n| {
            let patches = n.scope("patch_embed", |n| n.conv(&map, conv(to, 3, stride).biased().act(Act::No)));
            let side = patches.side;
            let mut x = n.tokens(&patches);
            x.tensor = n.scope("norm1", |n| n.layer_norm(&x.tensor, to));
            x = n.residual(&x, "attention", false, |n, x| {
                let reduced = n.map_conv(&x, side, conv(to, reduction, reduction).biased().act(Act::No));
                let mut reduced = n.tokens(&reduced);
                reduced.tensor = n.scope("sr_norm", |n| n.layer_norm(&reduced.tensor, to));
                n.attention(&x, &reduced, 2)
            });
            x = n.residual(&x, "mlp", false, |n, x| {
                let wide = Tokens { tensor: n.scope("dense1", |n| n.linear(&x.tensor, to, 2 * to)), dim: 2 * to, ..x };
                let mixed = n.map_conv(&wide, side, conv(2 * to, 3, 1).groups(2 * to).biased().act(Act::Gelu));
                let mixed = n.tokens(&mixed);
                Tokens { tensor: n.scope("dense2", |n| n.linear(&mixed.tensor, 2 * to, to)), dim: to, ..mixed }
            });
            x.tensor = n.scope("norm2", |n| n.layer_norm(&x.tensor, to));
            n.map(&x, side)
        });
        n.give_map(&mut map, &format!("c{}", stage + 2));
    }
}

impl Net {
    /// A convolution of tokens, as the map that they are.
    fn map_conv(&mut self, x: &Tokens, side: usize, conv: super::super::blocks::Conv) -> Map {
        let map = self.map(x, side);
        self.scope("dw", |n| n.conv(&map, conv))
    }
}

/// MobileViT: convolutions, then attention among the places that stand alike in their patches, which are merged
/// with the batch.
pub fn mobilevit(n: &mut Net) {
    let x = n.image();
    let mut x = n.scope("stem", |n| n.conv(&x, conv(8, 3, 4).act(Act::Silu)));
    n.give_map(&mut x, "c2");
    let (side, dim, patch) = (x.side, 12, 2);
    let across = side / patch;
    let (p, a, d) = (Axis::Of(patch), Axis::Of(across), Axis::Of(dim));
    let local = n.scope("conv_kxk", |n| n.conv(&x, conv(8, 3, 1).act(Act::Silu)));
    let local = n.scope("conv_1x1", |n| n.conv(&local, conv(dim, 1, 1).bare()));
    let parted = n.reshape(&local.tensor, &[Axis::Batch(dim * across), p, a, p]);
    let parted = n.transpose(&parted, &[0, 2, 1, 3]);
    let (count, area) = (across * across, patch * patch);
    let parted = n.reshape(&parted, &[Axis::Batch(1), d, Axis::Of(count), Axis::Of(area)]);
    let parted = n.transpose(&parted, &[0, 3, 2, 1]);
    let tensor = n.reshape(&parted, &[Axis::Batch(area), Axis::Of(count), d]);
    let mut tokens = Tokens { tensor, times: area, count, dim };
    tokens = n.scope("transformer.0", |n| n.block(&tokens, 2, Act::Silu, false));
    tokens.tensor = n.scope("norm", |n| n.layer_norm(&tokens.tensor, dim));
    let folded = n.reshape(&tokens.tensor, &[Axis::Batch(1), Axis::Of(area), Axis::Of(count), Axis::Rest]);
    let folded = n.transpose(&folded, &[0, 3, 2, 1]);
    let folded = n.reshape(&folded, &[Axis::Batch(dim * across), a, p, p]);
    let folded = n.transpose(&folded, &[0, 2, 1, 3]);
    let folded = n.reshape(&folded, &[Axis::Batch(1), d, Axis::Of(side), Axis::Of(side)]);
    let folded = Map { tensor: folded, channels: dim, side };
    let projected = n.scope("conv_proj", |n| n.conv(&folded, conv(8, 1, 1).act(Act::Silu)));
    let joined = n.concat(&[&x, &projected]);
    let mut out = n.scope("conv_fusion", |n| n.conv(&joined, conv(8, 3, 1).act(Act::Silu)));
    n.give_map(&mut out, "c3");
}

/// EfficientFormer: pools that mix the places, then attention with a bias for every pair of places.
pub fn efficientformer(n: &mut Net) {
    let x = n.image();
    let x = n.scope("stem", |n| n.conv(&x, conv(12, 3, 4)));
    let mut x = n.scope("stages.0", |n| {
        let pooled = n.pool("AveragePool", &x, 3, 1, false);
        let mixed = n.join("Sub", &pooled, &x);
        let scale = n.b.weight("layer_scale", &[1, 12, 1, 1], 0.5, 0.1);
        let mixed = Map { tensor: n.op("Mul", &[&mixed.tensor, &scale], Vec::new()), ..mixed };
        n.join("Add", &x, &mixed)
    });
    n.give_map(&mut x, "c2");
    let x = n.scope("downsample", |n| n.conv(&x, conv(16, 3, 2).act(Act::No)));
    let x = n.tokens(&x);
    let mut x = n.scope("stages.1", |n| {
        let x = n.residual(&x, "attn", true, |n, x| {
            n.fused_attention(&x, 2, |n, scores| n.add_weight(&scores, "attention_biases", &[2, x.count, x.count]))
        });
        n.residual(&x, "mlp", true, |n, x| n.mlp(&x, Act::Gelu))
    });
    x.tensor = n.scope("norm", |n| n.layer_norm(&x.tensor, x.dim));
    n.give_tokens(&mut x, "tokens");
}

/// DETR: a ResNet's last map as tokens, with constant positions in query and key, and norms behind the sums.
pub fn detr(n: &mut Net) {
    let [_, _, x] = super::convolutional::resnet_stages(n, true, true, 1);
    let x = n.scope("input_projection", |n| n.conv(&x, conv(8, 1, 1).biased().act(Act::No)));
    let mut x = n.tokens(&x);
    x = n.scope("encoder.0", |n| {
        let mixed = n.scope("self_attn", |n| {
            let tensor = n.add_weight(&x.tensor, "positions", &[1, x.count, x.dim]);
            n.attention(&Tokens { tensor, ..x.clone() }, &x, 2)
        });
        let sum = n.op("Add", &[&x.tensor, &mixed.tensor], Vec::new());
        Tokens { tensor: n.scope("norm", |n| n.layer_norm(&sum, x.dim)), ..x.clone() }
    });
    n.give_tokens(&mut x, "encoded");
}
