//! Convolutions, pools and resizes: `[batch, channels, …spatial]`.

use super::dim::Dim;
use super::{Fact, Known};
use crate::graph::onnx::proto::DataType;

pub(super) fn infer(known: &Known<'_>) -> Vec<Fact> {
    let element = known.element(0);
    let one = |element, dims| vec![Fact::new(element, dims)];
    match known.node.op_type.as_str() {
        "Conv" => one(element, convolved(known, 1)),
        "ConvInteger" => one(DataType::Int32, convolved(known, 1)),
        "QLinearConv" => one(known.element(7), convolved(known, 3)),
        "ConvTranspose" => one(element, transposed(known)),
        "GlobalAveragePool" | "GlobalMaxPool" => {
            let ones =
                |dims: &[Dim]| dims.iter().enumerate().map(|(i, d)| if i < 2 { *d } else { Dim::Known(1) }).collect();
            one(element, known.dims(0).map(ones))
        }
        "Resize" | "Upsample" => one(element, resized(known)),
        _ => {
            let dims = pooled(known);
            // Max pooling may also give the places of the maxima.
            vec![Fact::new(element, dims.clone()), Fact::new(DataType::Int64, dims)]
        }
    }
}

/// The sliding window of a node over the spatial axes.
struct Window {
    kernel: Vec<i64>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    /// Begins of all axes, then ends.
    pads: Vec<i64>,
    auto_pad: AutoPad,
    ceil: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum AutoPad {
    No,
    Same,
    Valid,
}

impl Window {
    fn of(known: &Known<'_>, kernel: Vec<i64>) -> Self {
        let axes = kernel.len();
        let list = |name: &str, default: i64, count: usize| match known.node.ints(name) {
            Some(values) if values.len() == count => values.to_vec(),
            _ => vec![default; count],
        };
        let auto_pad = match known.node.text("auto_pad") {
            Some("SAME_UPPER" | "SAME_LOWER") => AutoPad::Same,
            Some("VALID") => AutoPad::Valid,
            _ => AutoPad::No,
        };
        Self {
            strides: list("strides", 1, axes),
            dilations: list("dilations", 1, axes),
            pads: list("pads", 0, axes * 2),
            auto_pad,
            ceil: known.node.int_or("ceil_mode", 0) != 0,
            kernel,
        }
    }

    /// How often the window fits into an axis.
    fn positions(&self, axis: usize, size: Dim) -> Dim {
        let Dim::Known(size) = size else { return Dim::Unknown };
        let (stride, dilation) = (self.strides[axis].max(1), self.dilations[axis].max(1));
        if self.auto_pad == AutoPad::Same {
            return Dim::Known((size + stride - 1) / stride);
        }
        let pads = match self.auto_pad {
            AutoPad::Valid => 0,
            _ => self.pads[axis].saturating_add(self.pads[axis + self.kernel.len()]),
        };
        let reach = (self.kernel[axis] - 1).saturating_mul(dilation).saturating_add(1);
        let free = size.saturating_add(pads).saturating_sub(reach);
        if free < 0 {
            return Dim::Unknown;
        }
        let mut count = if self.ceil { (free + stride - 1) / stride } else { free / stride } + 1;
        // A window that would begin in the padding behind the input does not count.
        if self.ceil && (count - 1) * stride >= size.saturating_add(self.pads[axis]) {
            count -= 1;
        }
        Dim::Known(count)
    }
}

fn convolved(known: &Known<'_>, weight_place: usize) -> Option<Vec<Dim>> {
    let (input, weight) = (known.dims(0)?, known.dims(weight_place)?);
    let [batch, _, spatial @ ..] = input else { return None };
    let [channels, _, kernel @ ..] = weight else { return None };
    if kernel.len() != spatial.len() {
        return None;
    }
    let kernel = kernel.iter().map(|dim| dim.known().map(|size| size as i64)).collect::<Option<_>>()?;
    let window = Window::of(known, kernel);
    let mut dims = vec![*batch, *channels];
    dims.extend(spatial.iter().enumerate().map(|(axis, size)| window.positions(axis, *size)));
    Some(dims)
}

fn pooled(known: &Known<'_>) -> Option<Vec<Dim>> {
    let [batch, channels, spatial @ ..] = known.dims(0)? else { return None };
    let kernel = known.node.ints("kernel_shape").filter(|kernel| kernel.len() == spatial.len())?;
    let window = Window::of(known, kernel.to_vec());
    let mut dims = vec![*batch, *channels];
    dims.extend(spatial.iter().enumerate().map(|(axis, size)| window.positions(axis, *size)));
    Some(dims)
}

fn transposed(known: &Known<'_>) -> Option<Vec<Dim>> {
    let (input, weight) = (known.dims(0)?, known.dims(1)?);
    let [batch, _, spatial @ ..] = input else { return None };
    let [_, channels, kernel @ ..] = weight else { return None };
    let kernel: Vec<i64> = kernel.iter().map(|dim| dim.known().map(|size| size as i64)).collect::<Option<_>>()?;
    if kernel.len() != spatial.len() {
        return None;
    }
    let mut dims = vec![*batch, channels.times(Dim::Known(known.node.int_or("group", 1)))];
    if let Some(sizes) = known.node.ints("output_shape") {
        dims.extend(sizes.iter().map(|&size| Dim::Known(size)));
        return Some(dims);
    }
    let more = known.node.ints("output_padding").unwrap_or_default();
    let window = Window::of(known, kernel);
    for (axis, size) in spatial.iter().enumerate() {
        dims.push(match *size {
            Dim::Known(size) if window.auto_pad == AutoPad::Same => Dim::Known(size * window.strides[axis]),
            Dim::Known(size) => {
                let pads = window.pads[axis] + window.pads[axis + window.kernel.len()];
                let reach = (window.kernel[axis] - 1) * window.dilations[axis] + 1;
                Dim::Known((size - 1) * window.strides[axis] + reach - pads + more.get(axis).copied().unwrap_or(0))
            }
            _ => Dim::Unknown,
        });
    }
    Some(dims)
}

fn resized(known: &Known<'_>) -> Option<Vec<Dim>> {
    let dims = known.dims(0)?;
    // `axes` (since version 18) says which axes the sizes are of.
    let axes: Vec<usize> = match known.node.ints("axes") {
        Some(axes) => axes.iter().map(|&axis| super::axis_of(axis, dims.len())).collect::<Option<_>>()?,
        None => (0..dims.len()).collect(),
    };
    let mut result = dims.to_vec();
    if known.given(3) {
        for (axis, size) in axes.iter().zip(known.ints(3)?) {
            // A size given for the batch axis is the batch's own.
            result[*axis] = if *axis == 0 { dims[0] } else { size };
        }
        return Some(result);
    }
    // Since version 11 the scales come third, before that second; the first Upsample had an attribute.
    let place = if known.node.op_type == "Resize" && known.opset >= 11 { 2 } else { 1 };
    let scales: Vec<f64> = match known.input(place).and_then(|fact| fact.values.as_ref()) {
        Some(values) => values.iter().map(|value| value.float()).collect::<Option<_>>()?,
        None => known.node.attribute("scales")?.floats.iter().map(|&scale| f64::from(scale)).collect(),
    };
    for (axis, scale) in axes.iter().zip(scales) {
        result[*axis] = match dims[*axis] {
            Dim::Known(size) => Dim::Known((size as f64 * scale).floor() as i64),
            size if scale == 1.0 => size,
            _ => Dim::Unknown,
        };
    }
    Some(result)
}
