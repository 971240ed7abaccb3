//! Each operator of a graph in libtorch's.

use tch::{Kind, TchError, Tensor};

use super::size;
use crate::graph::execution::Pass;
use crate::graph::op::{
    Activation, Attention, BinaryKind, Conv, ConvTranspose, Coordinates, Dropout, Gem, MatMul, NeighbourWeights,
    Neighbours, Op, Pad, Pool, PoolKind, Reduce, ReduceKind, Resize, ResizeMode, Window,
};
use crate::graph::{Arithmetic, Shape};

type Result<T> = std::result::Result<T, TchError>;

/// A node that is computed.
pub(super) struct Node<'a> {
    /// Its number, which keeps the random streams of nodes apart.
    pub index: usize,
    pub rows: usize,
    pub pass: Pass,
    pub inputs: Vec<&'a Tensor>,
    pub shapes: Vec<&'a Shape>,
    pub output: &'a Shape,
}

impl Node<'_> {
    /// An input of a product, in the precision of products. Autograd brings its gradient back to f32.
    fn factor(&self, i: usize) -> Result<Tensor> {
        match self.pass.arithmetic {
            Arithmetic::Fp32 => Ok(self.inputs[i].shallow_clone()),
            Arithmetic::Bf16 => self.inputs[i].f_to_kind(Kind::BFloat16),
        }
    }

    /// The same of an input that may not be there, such as a bias.
    fn maybe(&self, i: usize) -> Result<Option<Tensor>> {
        (i < self.inputs.len()).then(|| self.factor(i)).transpose()
    }
}

/// The output of a node.
pub(super) fn compute(op: &Op, node: &Node<'_>) -> Result<Tensor> {
    let x = node.inputs.first().copied();
    let x = x.ok_or_else(|| TchError::Torch("an operator has no input".into()))?;
    let input = |i: usize| node.inputs[i];
    match op {
        Op::Gemm(_) => node.factor(0)?.f_linear(&node.factor(1)?, node.maybe(2)?)?.f_to_kind(Kind::Float),
        Op::MatMul(MatMul { transposed }) => {
            let b = node.factor(1)?;
            let b = if *transposed { b.f_transpose(-1, -2)? } else { b };
            node.factor(0)?.f_matmul(&b)?.f_to_kind(Kind::Float)
        }
        Op::Attention(attention) => self::attention(attention, node),
        Op::Conv(conv) => self::conv(conv, node),
        Op::ConvTranspose(conv) => conv_transpose(conv, node),
        Op::Pool(pool) => self::pool(pool, node),
        Op::BatchNorm(norm) => x.f_batch_norm(
            Some(input(1)),
            Some(input(2)),
            Some(input(3)),
            Some(input(4)),
            node.pass.training,
            f64::from(norm.momentum),
            f64::from(norm.eps),
            true,
        ),
        Op::LayerNorm(norm) => {
            x.f_layer_norm([node.output.last() as i64], Some(input(1)), Some(input(2)), f64::from(norm.eps), true)
        }
        Op::L2Norm(_) => x.f_div(&x.f_norm_scalaropt_dim(2.0, [-1], true)?.f_clamp_min(1e-12)?),
        Op::Normalize(_) => x.f_sub(input(1))?.f_mul(input(2)),
        Op::Activation(activation) => self::activation(*activation, x),
        Op::Relu(_) => x.f_relu(),
        Op::Gelu(_) => x.f_gelu("none"),
        Op::Softmax(_) => x.f_softmax(-1, None),
        Op::Binary(binary) => match binary.0 {
            BinaryKind::Add => x.f_add(input(1)),
            BinaryKind::Sub => x.f_sub(input(1)),
            BinaryKind::Mul => x.f_mul(input(1)),
            BinaryKind::Div => x.f_div(input(1)),
        },
        Op::Dropout(dropout) => self::dropout(dropout, x, node),
        Op::Reduce(reduce) => self::reduce(reduce, x),
        Op::Gem(Gem { eps, start, end }) => {
            let raised = x.f_clamp_min(f64::from(*eps))?.f_pow(input(1))?;
            raised.f_mean_dim(dims(*start, *end), false, None)?.f_pow(&input(1).f_reciprocal()?)
        }
        Op::MaskedMean(_) => {
            let kept = x.f_mul(&input(1).f_unsqueeze(-1)?)?.f_sum_dim_intlist(&[1][..], false, None)?;
            kept.f_div(&input(1).f_sum_dim_intlist(&[1][..], true, None)?.f_clamp_min(1e-9)?)
        }
        Op::ArgMax(argmax) => x.f_argmax(argmax.axis as i64 + 1, false)?.f_to_kind(Kind::Float),
        Op::Neighbours(neighbours) => self::neighbours(neighbours, node),
        Op::Concat(concat) => Tensor::f_cat(&node.inputs, concat.axis as i64 + 1),
        Op::Flatten(_) | Op::Reshape(_) => x.f_reshape(&size(node.output, node.rows)[..]),
        Op::Repeat(_) => {
            let row: Vec<i64> = node.output.dims.iter().map(|d| *d as i64).collect();
            input(1).f_reshape(&row[..])?.f_expand(&size(node.output, node.rows)[..], false)
        }
        Op::Transpose(transpose) => {
            let order = transpose.order.iter().map(|axis| *axis as i64 + 1);
            x.f_permute(&std::iter::once(0).chain(order).collect::<Vec<_>>()[..])
        }
        Op::Slice(slice) => x.f_slice(slice.axis as i64 + 1, slice.start as i64, slice.end as i64, slice.step as i64),
        Op::Token(token) => x.f_select(1, token.index as i64),
        Op::Gather(gather) => {
            let places: Vec<i64> = gather.index.iter().map(|place| *place as i64).collect();
            x.f_index_select(gather.axis as i64 + 1, &Tensor::f_from_slice(&places)?.f_to_device(x.device())?)
        }
        Op::Embedding(_) => {
            let last = x.size().first().map_or(0, |entries| entries - 1);
            let places = input(1).f_to_kind(Kind::Int64)?.f_clamp(0, last)?;
            x.f_index_select(0, &places.f_reshape([-1])?)?.f_reshape(&size(node.output, node.rows)[..])
        }
        Op::Pad(Pad { before, after, value }) => {
            let frame = before.iter().zip(after).rev().flat_map(|(before, after)| [*before as i64, *after as i64]);
            x.f_pad(&frame.collect::<Vec<_>>()[..], "constant", f64::from(*value))
        }
        Op::Resize(resize) => self::resize(resize, x, node),
    }
}

/// Dimensions of rows as those of batches.
fn dims(start: usize, end: usize) -> Vec<i64> {
    (start..end).map(|axis| axis as i64 + 1).collect()
}

fn activation(activation: Activation, x: &Tensor) -> Result<Tensor> {
    let number = |value: f32| f64::from(value);
    match activation {
        Activation::Sigmoid => x.f_sigmoid(),
        Activation::Silu => x.f_silu(),
        Activation::HardSigmoid { alpha, beta } => {
            x.f_mul_scalar(number(alpha))?.f_add_scalar(number(beta))?.f_clamp(0.0, 1.0)
        }
        Activation::HardSwish => x.f_hardswish(),
        Activation::Tanh => x.f_tanh(),
        Activation::GeluTanh => x.f_gelu("tanh"),
        Activation::QuickGelu => x.f_mul(&x.f_mul_scalar(1.702)?.f_sigmoid()?),
        Activation::Erf => x.f_erf(),
        Activation::Clip { min, max } => x.f_clamp(number(min), number(max)),
        Activation::LeakyRelu { alpha } => {
            let slope = Tensor::f_from_slice(&[alpha])?.f_to_device(x.device())?;
            x.f_prelu(&slope)
        }
        Activation::Sqrt => x.f_sqrt(),
        Activation::Exp => x.f_exp(),
        Activation::Pow { exponent } => x.f_pow_tensor_scalar(number(exponent)),
    }
}

fn attention(attention: &Attention, node: &Node<'_>) -> Result<Tensor> {
    let (q, k, v) = (node.factor(0)?, node.factor(1)?, node.factor(2)?);
    let mask = match node.maybe(3)? {
        Some(mask) => {
            let (queries, keys) = (q.size()[2], k.size()[2]);
            Some(mask.f_detach()?.f_expand([node.rows as i64, q.size()[1], queries, keys], false)?)
        }
        None => None,
    };
    let scale = f64::from(attention.scale);
    Tensor::f_scaled_dot_product_attention(&q, &k, &v, mask, 0.0, false, scale, false)?.f_to_kind(Kind::Float)
}

/// The paddings that libtorch takes, the same on both sides, if a window's are.
fn symmetric(window: &Window) -> Option<[i64; 2]> {
    let [top, left, bottom, right] = window.pads;
    (top == bottom && left == right).then_some([top as i64, left as i64])
}

fn pair(values: [usize; 2]) -> [i64; 2] {
    values.map(|value| value as i64)
}

/// Maps with a window's pads around them.
fn padded(x: &Tensor, window: &Window, value: f64) -> Result<Tensor> {
    let [top, left, bottom, right] = window.pads.map(|pad| pad as i64);
    x.f_pad([left, right, top, bottom], "constant", value)
}

fn conv(conv: &Conv, node: &Node<'_>) -> Result<Tensor> {
    let window = &conv.window;
    let (x, pads) = match symmetric(window) {
        Some(pads) => (node.factor(0)?, pads),
        None => (padded(&node.factor(0)?, window, 0.0)?, [0, 0]),
    };
    let (strides, dilations) = (pair(window.strides), pair(window.dilations));
    x.f_conv2d(&node.factor(1)?, node.maybe(2)?, strides, pads, dilations, conv.groups as i64)?.f_to_kind(Kind::Float)
}

fn conv_transpose(conv: &ConvTranspose, node: &Node<'_>) -> Result<Tensor> {
    let window = &conv.window;
    let pads = symmetric(window).unwrap_or([0, 0]);
    let mut y = node.factor(0)?.f_conv_transpose2d(
        &node.factor(1)?,
        node.maybe(2)?,
        pair(window.strides),
        pads,
        pair(conv.output_padding),
        conv.groups as i64,
        pair(window.dilations),
    )?;
    if symmetric(window).is_none() {
        for axis in [0, 1] {
            y = y.f_narrow(axis as i64 + 2, window.pads[axis] as i64, node.output.dims[axis + 1] as i64)?;
        }
    }
    y.f_to_kind(Kind::Float)
}

fn pool(pool: &Pool, node: &Node<'_>) -> Result<Tensor> {
    let (window, x) = (&pool.window, node.inputs[0]);
    let (kernel, strides) = (pair(window.kernel), pair(window.strides));
    let half = |pads: &[i64; 2]| pads.iter().zip(window.kernel).all(|(pad, kernel)| *pad <= kernel as i64 / 2);
    let pads = symmetric(window).filter(half);
    if pool.kind != PoolKind::Max && window.dilations != [1, 1] {
        return Err(TchError::Torch("libtorch has no mean over dilated windows".into()));
    }
    let mean = |x: &Tensor, pads: [i64; 2], with_pads: bool, divisor: Option<i64>| {
        x.f_avg_pool2d(kernel, strides, pads, window.ceil, with_pads, divisor)
    };
    let y = match (pool.kind, pads) {
        (PoolKind::Max, Some(pads)) => x.f_max_pool2d(kernel, strides, pads, pair(window.dilations), window.ceil)?,
        (PoolKind::Max, None) => {
            let x = padded(x, window, f64::NEG_INFINITY)?;
            x.f_max_pool2d(kernel, strides, [0, 0], pair(window.dilations), window.ceil)?
        }
        (kind, Some(pads)) => mean(x, pads, kind == PoolKind::MeanWithPads, None)?,
        (PoolKind::MeanWithPads, None) => mean(&padded(x, window, 0.0)?, [0, 0], true, None)?,
        (PoolKind::Mean, None) => {
            let sum = mean(&padded(x, window, 0.0)?, [0, 0], true, Some(1))?;
            sum.f_div(&mean(&padded(&x.f_ones_like()?, window, 0.0)?, [0, 0], true, Some(1))?)?
        }
    };
    // A last window that begins in a pad of our own does not count.
    let places = |i: usize| node.output.dims[i + 1] as i64;
    y.f_narrow(2, 0, places(0))?.f_narrow(3, 0, places(1))
}

fn dropout(dropout: &Dropout, x: &Tensor, node: &Node<'_>) -> Result<Tensor> {
    if !node.pass.training {
        return Ok(x.shallow_clone());
    }
    let mut factors = vec![0.0f32; x.numel()];
    dropout.fill(node.pass, node.index, &mut factors);
    x.f_mul(&Tensor::f_from_slice(&factors)?.f_view(&x.size()[..])?.f_to_device(x.device())?)
}

fn reduce(reduce: &Reduce, x: &Tensor) -> Result<Tensor> {
    match reduce.kind {
        ReduceKind::Mean => x.f_mean_dim(dims(reduce.start, reduce.end), false, None),
        // By one dimension, for then the gradient goes to one of equals.
        ReduceKind::Max => {
            Ok(x.f_flatten(reduce.start as i64 + 1, reduce.end as i64)?.f_max_dim(reduce.start as i64 + 1, false)?.0)
        }
    }
}

/// By libtorch's own functions where they compute the same, else by a matrix for each axis.
fn resize(resize: &Resize, x: &Tensor, node: &Node<'_>) -> Result<Tensor> {
    let to = pair(resize.size);
    match (resize.mode, resize.coordinates) {
        (ResizeMode::Bilinear, Coordinates::HalfPixel) => x.f_upsample_bilinear2d(to, false, None, None),
        (ResizeMode::Bilinear, Coordinates::AlignCorners) => x.f_upsample_bilinear2d(to, true, None, None),
        _ => {
            let matrix = |axis: usize| {
                let (from, to) = (node.shapes[0].dims[axis + 1], resize.size[axis]);
                Tensor::f_from_slice(&resize.matrix(from, to))?
                    .f_view([to as i64, from as i64])?
                    .f_to_device(x.device())
            };
            matrix(0)?.f_matmul(x)?.f_matmul(&matrix(1)?.f_transpose(0, 1)?)
        }
    }
}

fn neighbours(neighbours: &Neighbours, node: &Node<'_>) -> Result<Tensor> {
    let (x, rows, classes) = (node.inputs[0], node.inputs[1], node.inputs[2]);
    let squares = rows.f_square()?.f_sum_dim_intlist(&[1][..], false, None)?;
    let scores = x.f_matmul(&rows.f_transpose(0, 1)?)?.f_mul_scalar(2.0)?.f_sub(&squares)?;
    let (_, nearest) = scores.f_topk(neighbours.k as i64, -1, true, true)?;
    let places = nearest.f_reshape([-1])?;
    let votes = match neighbours.values {
        true => classes.f_index_select(0, &places)?.f_view([node.rows as i64, neighbours.k as i64, -1])?,
        false => classes.f_take(&nearest)?.f_to_kind(Kind::Int64)?.f_one_hot(neighbours.outputs as i64)?,
    };
    let votes = votes.f_to_kind(Kind::Float)?;
    let weights = match neighbours.weights {
        NeighbourWeights::Uniform => nearest.f_ones_like()?.f_to_kind(Kind::Float)?,
        _ => {
            let near = rows.f_index_select(0, &places)?.f_view([node.rows as i64, neighbours.k as i64, -1])?;
            let square = near.f_sub(&x.f_unsqueeze(1)?)?.f_square()?.f_sum_dim_intlist(&[2][..], false, None)?;
            let distance = match neighbours.weights {
                NeighbourWeights::Distance => square.f_sqrt()?,
                _ => square.f_mul_scalar(0.5)?,
            };
            distance.f_clamp_min(1e-12)?.f_reciprocal()?
        }
    };
    let shares = votes.f_mul(&weights.f_unsqueeze(-1)?)?.f_sum_dim_intlist(&[1][..], false, None)?;
    let shares = shares.f_div(&weights.f_sum_dim_intlist(&[1][..], true, None)?)?;
    if neighbours.values { Ok(shares) } else { shares.f_clamp_min(1e-9)?.f_log() }
}
