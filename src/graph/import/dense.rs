//! Convolutions, matrix products, normalisations, pools and attention.

use super::constant::Constant;
use super::node::Importer;
use super::value::View;
use crate::base::{Error, Result};
use crate::graph::onnx::proto::NodeProto;
use crate::graph::onnx::shape::axis_of;
use crate::graph::op::{
    Attention, BatchNorm, Conv, ConvTranspose, Gemm, LayerNorm, MatMul, Pool, PoolKind, Reduce, ReduceKind, Softmax,
    Window,
};
use crate::graph::{Init, ValueId};

/// He's initialisation of a weight with this many inputs per output.
fn he(fan_in: usize) -> Init {
    Init::Normal((2.0 / fan_in.max(1) as f32).sqrt())
}

fn not_a_weight(what: &str) -> Error {
    Error::bad_input(format!("its {what} is not a constant of the model"))
}

impl<'a> Importer<'a> {
    /// A constant input that must be there.
    pub(super) fn needed(&self, node: &NodeProto, place: usize, what: &str) -> Result<Constant> {
        self.constant(node, place).cloned().ok_or_else(|| not_a_weight(what))
    }

    /// How a window moves, with sizes of one dimension as those of a map of height 1.
    pub(super) fn window(&self, node: &NodeProto, kernel: &[usize], size: &[usize]) -> Result<Window> {
        let rank = kernel.len();
        if rank != size.len() || !(1..=2).contains(&rank) {
            return Err(Error::bad_input("it works on more than two axes of places"));
        }
        let read = |name: &str, default: i64, count: usize| -> Result<Vec<usize>> {
            let values = node.ints(name).map_or(vec![default; count], <[i64]>::to_vec);
            let values: Option<Vec<usize>> = values.into_iter().map(|v| usize::try_from(v).ok()).collect();
            values.filter(|v| v.len() == count).ok_or_else(|| Error::bad_input(format!("its `{name}` do not fit")))
        };
        let (strides, dilations) = (read("strides", 1, rank)?, read("dilations", 1, rank)?);
        let mut pads = read("pads", 0, 2 * rank)?;
        if let Some(same @ ("SAME_UPPER" | "SAME_LOWER")) = node.text("auto_pad") {
            for i in 0..rank {
                let places = size[i].div_ceil(strides[i].max(1));
                let reach = (places - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1;
                let all = reach.saturating_sub(size[i]);
                let less = all / 2;
                (pads[i], pads[i + rank]) = if same == "SAME_UPPER" { (less, all - less) } else { (all - less, less) };
            }
        }
        let two = |values: &[usize], default: usize| match values {
            [one] => [default, *one],
            values => [values[0], values[1]],
        };
        let (before, after) = (two(&pads[..rank], 0), two(&pads[rank..], 0));
        Ok(Window {
            kernel: two(kernel, 1),
            strides: two(&strides, 1),
            dilations: two(&dilations, 1),
            pads: [before[0], before[1], after[0], after[1]],
            ceil: node.int_or("ceil_mode", 0) != 0,
        })
    }

    /// A view as maps `[channels, height, width]`, and the sizes of its places.
    pub(super) fn maps(&mut self, view: &View) -> Result<(ValueId, Vec<usize>)> {
        let id = self.views.exact(view)?;
        let dims = self.views.graph.shape(id).dims.clone();
        match dims[..] {
            [channels, length] => Ok((self.views.reshape(id, vec![channels, 1, length])?, vec![length])),
            [_, height, width] => Ok((id, vec![height, width])),
            _ => Err(Error::bad_input("its input is no map of one or two axes of places")),
        }
    }

    /// The view of maps with as many axes of places as they came with.
    pub(super) fn as_many(&mut self, id: ValueId, places: usize) -> Result<View> {
        let mut view = self.views.whole(id)?;
        if places == 1 {
            view.axes.remove(2);
        }
        Ok(view)
    }

    pub(super) fn conv(&mut self, node: &'a NodeProto) -> Result<()> {
        let x = self.view(node, 0)?;
        let mut weight = self.needed(node, 1, "weight")?;
        let (x, size) = self.maps(&x)?;
        let kernel = weight.dims.get(2..).unwrap_or_default().to_vec();
        let window = self.window(node, &kernel, &size)?;
        let groups = usize::try_from(node.int_or("group", 1)).unwrap_or(0);
        let fan_in = weight.len() / weight.dims[0].max(1);
        if kernel.len() == 1 {
            weight.dims.insert(2, 1);
        }
        let mut inputs = vec![x, self.weight(&weight, he(fan_in), true)?];
        if node.input_name(2).is_some() {
            let bias = self.needed(node, 2, "bias")?;
            inputs.push(self.weight(&bias, Init::Fill(0.0), false)?);
        }
        let id = self.emit(Conv { window, groups }, &inputs)?;
        let view = self.as_many(id, size.len())?;
        self.put(node, view)
    }

    pub(super) fn conv_transpose(&mut self, node: &'a NodeProto) -> Result<()> {
        let x = self.view(node, 0)?;
        let weight = self.needed(node, 1, "weight")?;
        let (x, size) = self.maps(&x)?;
        let kernel = weight.dims.get(2..).unwrap_or_default().to_vec();
        let automatic = node.text("auto_pad").is_some_and(|auto| auto != "NOTSET");
        if kernel.len() != 2 || automatic || node.ints("output_shape").is_some() {
            return Err(Error::bad_input("it has one axis of places, or pads by itself"));
        }
        let window = self.window(node, &kernel, &size)?;
        let groups = usize::try_from(node.int_or("group", 1)).unwrap_or(0);
        let padding = node.ints("output_padding").unwrap_or(&[0, 0]);
        let output_padding = [0, 1].map(|i| padding.get(i).and_then(|p| usize::try_from(*p).ok()).unwrap_or(0));
        let fan_in = weight.len() / weight.dims[1].max(1) / groups.max(1);
        let mut inputs = vec![x, self.weight(&weight, he(fan_in), true)?];
        if node.input_name(2).is_some() {
            let bias = self.needed(node, 2, "bias")?;
            inputs.push(self.weight(&bias, Init::Fill(0.0), false)?);
        }
        let id = self.emit(ConvTranspose { window, groups, output_padding }, &inputs)?;
        let view = self.views.whole(id)?;
        self.put(node, view)
    }

    pub(super) fn pool(&mut self, node: &'a NodeProto) -> Result<()> {
        let x = self.view(node, 0)?;
        let (x, size) = self.maps(&x)?;
        let kernel = node.ints("kernel_shape").unwrap_or_default();
        let kernel: Vec<usize> = kernel.iter().filter_map(|k| usize::try_from(*k).ok()).collect();
        let window = self.window(node, &kernel, &size)?;
        let kind = match (node.op_type.as_str(), node.int_or("count_include_pad", 0)) {
            ("MaxPool", _) => PoolKind::Max,
            (_, 0) => PoolKind::Mean,
            _ => PoolKind::MeanWithPads,
        };
        let id = self.emit(Pool { kind, window }, &[x])?;
        let view = self.as_many(id, size.len())?;
        self.put(node, view)
    }

    pub(super) fn batch_norm(&mut self, node: &'a NodeProto) -> Result<()> {
        let x = self.view(node, 0)?;
        let x = self.views.exact(&x)?;
        let [scale, bias, mean, variance] = [(1, "scale"), (2, "bias"), (3, "mean"), (4, "variance")]
            .map(|(place, what)| self.needed(node, place, what));
        let inputs = [
            x,
            self.weight(&scale?, Init::Fill(1.0), false)?,
            self.weight(&bias?, Init::Fill(0.0), false)?,
            self.buffer(&mean?, 0.0)?,
            self.buffer(&variance?, 1.0)?,
        ];
        let momentum = 1.0 - node.float("momentum").unwrap_or(0.9);
        let id = self.emit(BatchNorm { eps: node.float("epsilon").unwrap_or(1e-5), momentum }, &inputs)?;
        let view = self.views.whole(id)?;
        self.put(node, view)
    }

    pub(super) fn layer_normalization(&mut self, node: &'a NodeProto) -> Result<()> {
        let view = self.view(node, 0)?;
        let axis = axis_of(node.int_or("axis", -1), view.axes.len());
        if axis != view.axes.len().checked_sub(1) {
            return Err(Error::bad_input("it normalises more than the last axis"));
        }
        let (scale, bias) = (node.input_name(1), node.input_name(2));
        let view = self.layer_norm(&view, scale, bias, node.float("epsilon").unwrap_or(1e-5))?;
        self.put(node, view)
    }

    pub(super) fn layer_norm(
        &mut self,
        view: &View,
        scale: Option<&str>,
        bias: Option<&str>,
        eps: f32,
    ) -> Result<View> {
        let x = self.views.last_apart(view)?;
        let width = self.views.graph.shape(x).last();
        let mut affine = |name: Option<&str>, fill: f32, what: &str| {
            let constant = match name {
                Some(name) => self.known(name).cloned().ok_or_else(|| not_a_weight(what))?,
                None => {
                    Constant { dims: vec![width], data: super::constant::Data::Floats(vec![fill; width]), weight: None }
                }
            };
            let constant = constant.reshaped(vec![width])?;
            self.weight(&constant, Init::Fill(fill), false)
        };
        let (scale, bias) = (affine(scale, 1.0, "scale")?, affine(bias, 0.0, "bias")?);
        let id = self.emit(LayerNorm { eps }, &[x, scale, bias])?;
        self.views.after_last(view, id)
    }

    pub(super) fn gemm(&mut self, node: &'a NodeProto) -> Result<()> {
        let view = self.view(node, 0)?;
        let factor = |name: &str| node.float(name).unwrap_or(1.0) == 1.0;
        if node.int_or("transA", 0) != 0 || !factor("alpha") || !factor("beta") {
            return Err(Error::bad_input("it scales or transposes its inputs"));
        }
        let weight = self.needed(node, 1, "weight")?;
        let weight = if node.int_or("transB", 0) == 0 { weight.transposed(&[1, 0]) } else { weight };
        let bias = match node.input_name(2) {
            Some(_) => Some(self.needed(node, 2, "bias")?.reshaped(vec![weight.dims[0]])?),
            None => None,
        };
        let view = self.product(&view, &weight, bias.as_ref())?;
        self.put(node, view)
    }

    /// `x · weight + bias` of a product and the sum behind it.
    pub(super) fn linear(&mut self, x: &str, weight: &str, bias: &str) -> Result<View> {
        let view = self.named_view(x)?;
        let constant = |name: &str| self.known(name).cloned().ok_or_else(|| not_a_weight("weight"));
        let (weight, bias) = (constant(weight)?, constant(bias)?);
        let width = bias.len();
        self.product(&view, &weight.transposed(&[1, 0]), Some(&bias.reshaped(vec![width])?))
    }

    /// `x · weightᵀ + bias` along the last axis; the weight is `[out, in]`.
    fn product(&mut self, view: &View, weight: &Constant, bias: Option<&Constant>) -> Result<View> {
        let x = self.views.last_apart(view)?;
        let fan_in = weight.dims.get(1).copied().unwrap_or(1);
        let mut inputs = vec![x, self.weight(weight, he(fan_in), true)?];
        if let Some(bias) = bias {
            inputs.push(self.weight(bias, Init::Fill(0.0), false)?);
        }
        let id = self.emit(Gemm, &inputs)?;
        self.views.after_last(view, id)
    }

    pub(super) fn matmul(&mut self, node: &'a NodeProto) -> Result<()> {
        let a = self.view(node, 0)?;
        if let Some(weight) = self.constant(node, 1).filter(|c| c.dims.len() == 2).cloned() {
            let view = self.product(&a, &weight.transposed(&[1, 0]), None)?;
            return self.put(node, view);
        }
        let b = self.view(node, 1)?;
        let (Some((a_dims, a_id)), Some((b_dims, b_id))) = (self.stack(&a)?, self.stack(&b)?) else {
            return Err(Error::bad_input("its inputs are no stacks of matrices, one or more per sample"));
        };
        if a_dims != b_dims {
            return Err(Error::bad_input("its inputs' stacks do not agree"));
        }
        let id = self.emit(MatMul { transposed: false }, &[a_id, b_id])?;
        let view = self.unstack(&a, &b, id)?;
        self.put(node, view)
    }

    /// A view whose last two axes are matrices, as `[stacks, rows, columns]`, with the sizes of the stacks' axes.
    fn stack(&mut self, view: &View) -> Result<Option<(Vec<usize>, ValueId)>> {
        let Some(rank) = view.axes.len().checked_sub(2) else { return Ok(None) };
        let [(rows, a), (columns, b)] = [rank, rank + 1].map(|axis| self.views.axis_size(view, axis));
        if a || b {
            return Ok(None);
        }
        let view = self.views.in_order(view)?;
        let stacks: Vec<usize> =
            view.axes[..rank].iter().flatten().filter(|d| **d > 0).map(|d| self.views.size(&view, *d)).collect();
        let id = self.views.reshape(view.id, vec![stacks.iter().product(), rows, columns])?;
        Ok(Some((stacks, id)))
    }

    /// The product of two stacks as a view: the axes of the first, with the last of the second.
    fn unstack(&mut self, a: &View, b: &View, id: ValueId) -> Result<View> {
        let a = self.views.in_order(a)?;
        let b = self.views.in_order(b)?;
        let rank = a.axes.len() - 2;
        let [_, rows, columns] = self.views.graph.shape(id).dims[..] else {
            return Err(Error::failed("a product of stacks is no stack"));
        };
        let mut dims: Vec<usize> =
            a.axes[..rank].iter().flatten().filter(|d| **d > 0).map(|d| self.views.size(&a, *d)).collect();
        let mut axes = a.axes[..rank].to_vec();
        for size in [rows, columns] {
            axes.push(if size == 1 {
                Vec::new()
            } else {
                dims.push(size);
                vec![dims.len()]
            });
        }
        debug_assert_eq!(b.axes.len(), a.axes.len());
        Ok(View { id: self.views.reshape(id, dims)?, axes })
    }

    pub(super) fn attention(&mut self, [q, k, v]: [&String; 3], mask: Option<&str>, scale: f32) -> Result<View> {
        let [q, mut k, v] = [self.named_view(q)?, self.named_view(k)?, self.named_view(v)?];
        // The file's product takes the keys as columns.
        let rank = k.axes.len();
        k.axes.swap(rank - 2, rank - 1);
        let stacks = [self.stack(&q)?, self.stack(&k)?, self.stack(&v)?];
        let [Some((heads, q_id)), Some((k_heads, k_id)), Some((v_heads, v_id))] = stacks else {
            return Err(Error::bad_input("its queries, keys or values are no stacks of matrices"));
        };
        if heads != k_heads || heads != v_heads {
            return Err(Error::bad_input("its queries, keys and values do not agree"));
        }
        let mut inputs = vec![q_id, k_id, v_id];
        if let Some(mask) = mask {
            inputs.push(match self.known(mask).cloned() {
                Some(constant) => {
                    let behind = constant.dims.len().saturating_sub(3);
                    let mut dims = constant.dims[behind..].to_vec();
                    dims.splice(0..0, vec![1; 3 - dims.len()]);
                    let constant = constant.reshaped(dims)?;
                    self.weight(&constant, Init::Fill(0.0), false)?
                }
                None => {
                    let view = self.named_view(mask)?;
                    self.views.exact(&view)?
                }
            });
        }
        let id = self.emit(Attention { scale }, &inputs)?;
        self.unstack(&q, &v, id)
    }

    pub(super) fn reduce(&mut self, node: &'a NodeProto) -> Result<()> {
        let view = self.view(node, 0)?;
        let rank = view.axes.len();
        let global = node.op_type.starts_with("Global");
        let listed = match node.input_name(1) {
            Some(_) => self.constant(node, 1).and_then(|c| c.ints()).map(<[i64]>::to_vec),
            None => node.ints("axes").map(<[i64]>::to_vec),
        };
        let axes = if global { Some((2..rank as i64).collect()) } else { listed };
        let axes: Option<Vec<usize>> = axes.and_then(|axes| axes.iter().map(|axis| axis_of(*axis, rank)).collect());
        let axes = axes.filter(|axes| !axes.is_empty() && axes.iter().all(|axis| !view.axes[*axis].contains(&0)));
        let Some(axes) = axes else {
            return Err(Error::bad_input("it reduces the batch too, or axes that are not known before it runs"));
        };
        let kind = if node.op_type.contains("Max") { ReduceKind::Max } else { ReduceKind::Mean };
        // What is reduced goes last.
        let kept: Vec<usize> = (0..rank).filter(|axis| !axes.contains(axis)).collect();
        let apart = View { id: view.id, axes: kept.iter().chain(&axes).map(|axis| view.axes[*axis].clone()).collect() };
        let ordered = self.views.in_order(&apart)?;
        let count = self.views.graph.shape(ordered.id).dims.len();
        let start = ordered.axes[..kept.len()].iter().flatten().filter(|d| **d > 0).count();
        let id = match start < count {
            true => self.emit(Reduce { kind, start, end: count }, &[ordered.id])?,
            false => ordered.id,
        };
        let mut next = ordered.axes.into_iter();
        let keep = global || node.int_or("keepdims", 1) != 0;
        let mut out = Vec::new();
        for axis in 0..rank {
            if !axes.contains(&axis) {
                out.extend(next.next());
            } else if keep {
                out.push(Vec::new());
            }
        }
        self.put(node, View { id, axes: out })
    }

    pub(super) fn softmax(&mut self, node: &'a NodeProto) -> Result<()> {
        let view = self.view(node, 0)?;
        let rank = view.axes.len();
        let default = if self.opset < 13 { 1 } else { -1 };
        let axis = axis_of(node.int_or("axis", default), rank).filter(|axis| self.opset >= 13 || axis + 1 == rank);
        let axis = axis.ok_or_else(|| Error::bad_input("it normalises over several axes"))?;
        let mut turned = view.clone();
        let last = turned.axes.remove(axis);
        turned.axes.push(last);
        let x = self.views.last_apart(&turned)?;
        let id = self.emit(Softmax, &[x])?;
        let mut view = self.views.after_last(&turned, id)?;
        let last = view.axes.pop().unwrap_or_default();
        view.axes.insert(axis, last);
        self.put(node, view)
    }
}
