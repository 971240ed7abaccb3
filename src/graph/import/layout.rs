//! Operators that move elements or take parts.

use super::node::Importer;
use super::value::View;
use crate::base::{Error, Result};
use crate::graph::Init;
use crate::graph::onnx::proto::NodeProto;
use crate::graph::onnx::shape::axis_of;
use crate::graph::op::{Concat, Coordinates, Embedding, Gather, Pad, Resize, ResizeMode, Slice};

impl<'a> Importer<'a> {
    /// Reshape and its like: what shape inference knows of the output says how.
    pub(super) fn regroup(&mut self, node: &'a NodeProto) -> Result<()> {
        let sizes = self.sizes(&node.output[0])?;
        let view = self.view(node, 0)?;
        let view = self.views.regroup(&view, &sizes)?;
        self.put(node, view)
    }

    pub(super) fn transpose(&mut self, node: &'a NodeProto) -> Result<()> {
        let view = self.view(node, 0)?;
        let reversed: Vec<i64> = (0..view.axes.len() as i64).rev().collect();
        let order = node.ints("perm").unwrap_or(&reversed);
        let axes: Option<Vec<_>> =
            order.iter().map(|axis| view.axes.get(usize::try_from(*axis).ok()?).cloned()).collect();
        match axes.filter(|axes| axes.len() == view.axes.len()) {
            Some(axes) => self.put(node, View { id: view.id, axes }),
            None => Err(Error::bad_input("its `perm` does not fit its input")),
        }
    }

    /// An axis of a view that is not the batch.
    fn axis(&self, view: &View, axis: i64) -> Result<usize> {
        axis_of(axis, view.axes.len()).filter(|axis| !view.axes[*axis].contains(&0)).ok_or_else(|| {
            Error::bad_input(format!("it works along axis {axis}, which is the batch or does not exist"))
        })
    }

    pub(super) fn concat(&mut self, node: &'a NodeProto) -> Result<()> {
        let first = self.view(node, 0)?;
        let axis = self.axis(&first, node.int_or("axis", 1))?;
        let mut inputs = Vec::new();
        let mut batch = 0;
        for place in 0..node.input.len() {
            let view = self.view(node, place)?;
            let (id, at) = self.views.spread(&view)?;
            if place > 0 && at != batch {
                return Err(Error::bad_input("its inputs have their batch in different places"));
            }
            batch = at;
            inputs.push(id);
        }
        let id = self.emit(Concat { axis: axis - usize::from(axis > batch) }, &inputs)?;
        let view = self.views.gathered(id, batch)?;
        self.put(node, view)
    }

    /// The places `start..end` along an axis.
    fn part(&mut self, view: &View, axis: usize, start: usize, end: usize, step: usize) -> Result<View> {
        if (start, end, step) == (0, self.views.axis_size(view, axis).0, 1) {
            return Ok(view.clone());
        }
        let (id, batch) = self.views.spread(view)?;
        let id = self.emit(Slice { axis: axis - usize::from(axis > batch), start, end, step }, &[id])?;
        self.views.gathered(id, batch)
    }

    pub(super) fn slice(&mut self, node: &'a NodeProto) -> Result<()> {
        let mut view = self.view(node, 0)?;
        let ints = |place: usize, name: &str| match node.input_name(place) {
            Some(_) => self.constant(node, place).and_then(|c| c.ints()).map(<[i64]>::to_vec),
            None => node.ints(name).map(<[i64]>::to_vec),
        };
        let (Some(starts), Some(ends)) = (ints(1, "starts"), ints(2, "ends")) else {
            return Err(Error::bad_input("its range is not known before it runs"));
        };
        let axes = ints(3, "axes").unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = ints(4, "steps").unwrap_or_else(|| vec![1; starts.len()]);
        for (((start, end), axis), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
            let axis = self.axis(&view, axis)?;
            let size = self.views.axis_size(&view, axis).0 as i64;
            let place = |x: i64| (if x < 0 { x.saturating_add(size) } else { x }).clamp(0, size) as usize;
            let (start, end) = (place(start), place(end));
            let step = usize::try_from(step).ok().filter(|step| *step > 0 && start < end);
            let step = step.ok_or_else(|| Error::bad_input("it goes backwards, or takes nothing"))?;
            view = self.part(&view, axis, start, end, step)?;
        }
        self.put(node, view)
    }

    pub(super) fn split(&mut self, node: &'a NodeProto) -> Result<()> {
        let view = self.view(node, 0)?;
        let axis = self.axis(&view, node.int_or("axis", 0))?;
        let mut start = 0;
        for (i, name) in node.output.iter().enumerate() {
            let size = self.sizes(name)?.get(axis).and_then(|d| d.known());
            let size = size.ok_or_else(|| Error::bad_input("its parts are not known before it runs"))?;
            let part = self.part(&view, axis, start, start + size, 1)?;
            self.put_at(node, i, part);
            start += size;
        }
        Ok(())
    }

    pub(super) fn gather(&mut self, node: &'a NodeProto) -> Result<()> {
        let view = self.view(node, 0)?;
        let axis = self.axis(&view, node.int_or("axis", 0))?;
        let size = self.views.axis_size(&view, axis).0;
        let index = self.constant(node, 1).and_then(|c| Some((c.dims.clone(), c.ints()?.to_vec())));
        let Some((dims, index)) = index.filter(|(dims, _)| dims.len() < 2) else {
            return Err(Error::bad_input("its index is not a list of numbers that is known before it runs"));
        };
        let place = |i: &i64| usize::try_from(if *i < 0 { i + size as i64 } else { *i }).ok().filter(|i| *i < size);
        let index: Vec<usize> = index
            .iter()
            .map(place)
            .collect::<Option<_>>()
            .ok_or_else(|| Error::bad_input("its index is outside its input"))?;
        let neighbours = index.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let mut view = match index.first() {
            Some(first) if neighbours => self.part(&view, axis, *first, first + index.len(), 1)?,
            _ => {
                let (id, batch) = self.views.spread(&view)?;
                let id = self.emit(Gather { axis: axis - usize::from(axis > batch), index }, &[id])?;
                self.views.gathered(id, batch)?
            }
        };
        if dims.is_empty() {
            view.axes.remove(axis);
        }
        self.put(node, view)
    }

    /// The rows of a weight that numbers of each sample name, such as ids of tokens.
    pub(super) fn embedding(&mut self, node: &'a NodeProto) -> Result<()> {
        let table = self.needed(node, 0, "table")?;
        let numbers = self.view(node, 1)?;
        let [_, width] = table.dims[..] else {
            return Err(Error::bad_input("its table is no matrix"));
        };
        if axis_of(node.int_or("axis", 0), 2) != Some(0) {
            return Err(Error::bad_input("it takes columns of its table"));
        }
        let numbers = self.views.in_order(&numbers)?;
        let table = self.weight(&table, Init::Normal(0.02), true)?;
        let mut id = self.emit(Embedding, &[table, numbers.id])?;
        let mut axes = numbers.axes;
        let dims = self.views.graph.shape(id).dims.clone();
        match width {
            1 => {
                id = self.views.reshape(id, dims[..dims.len() - 1].to_vec())?;
                axes.push(Vec::new());
            }
            _ => axes.push(vec![dims.len()]),
        }
        self.put(node, View { id, axes })
    }

    pub(super) fn pad(&mut self, node: &'a NodeProto) -> Result<()> {
        let view = self.view(node, 0)?;
        let pads = match node.input_name(1) {
            Some(_) => self.constant(node, 1).and_then(|c| c.ints()).map(<[i64]>::to_vec),
            None => node.ints("pads").map(<[i64]>::to_vec),
        };
        let value = match node.input_name(2) {
            Some(_) => self.constant(node, 2).and_then(|c| c.scalar()),
            None => Some(node.float("value").unwrap_or(0.0)),
        };
        let rank = view.axes.len();
        let pads: Option<Vec<usize>> = pads.and_then(|pads| pads.iter().map(|p| usize::try_from(*p).ok()).collect());
        let pads = pads.filter(|pads| pads.len() == 2 * rank && pads[0] == 0 && pads[rank] == 0);
        let plain = node.text("mode").is_none_or(|mode| mode == "constant") && node.input_name(3).is_none();
        let (Some(pads), Some(value), true) = (pads, value, plain) else {
            return Err(Error::bad_input("it does not add places of one value around the axes behind the batch"));
        };
        let x = self.views.exact(&view)?;
        let id = self.emit(Pad { before: pads[1..rank].to_vec(), after: pads[rank + 1..].to_vec(), value }, &[x])?;
        let view = self.views.whole(id)?;
        self.put(node, view)
    }

    pub(super) fn resize(&mut self, node: &'a NodeProto) -> Result<()> {
        let view = self.view(node, 0)?;
        let sizes: Option<Vec<usize>> = self.sizes(&node.output[0])?.iter().skip(1).map(|d| d.known()).collect();
        let x = self.views.exact(&view)?;
        let channels = self.views.graph.shape(x).dims.first().copied();
        let Some([of_channels, height, width]) = sizes.as_deref().and_then(|sizes| <[usize; 3]>::try_from(sizes).ok())
        else {
            return Err(Error::bad_input("its output is no map of a size that is known before it runs"));
        };
        let (mode, coordinates) = (node.text("mode").unwrap_or("nearest"), node.text("coordinate_transformation_mode"));
        let coordinates = match coordinates.unwrap_or("half_pixel") {
            "asymmetric" => Coordinates::Asymmetric,
            "align_corners" => Coordinates::AlignCorners,
            // They differ for outputs of one place alone.
            "half_pixel" | "pytorch_half_pixel" if height > 1 && width > 1 => Coordinates::HalfPixel,
            other => return Err(Error::bad_input(format!("its coordinates are `{other}`"))),
        };
        let rounding = node.text("nearest_mode").unwrap_or("round_prefer_floor");
        let mode = match (mode, coordinates, rounding) {
            ("linear", ..) => ResizeMode::Bilinear,
            ("nearest", Coordinates::Asymmetric, "floor")
            | ("nearest", Coordinates::HalfPixel, "round_prefer_floor") => ResizeMode::Nearest,
            _ => return Err(Error::bad_input(format!("its mode is `{mode}` with `{rounding}`"))),
        };
        if channels != Some(of_channels) {
            return Err(Error::bad_input("it resizes channels"));
        }
        let id = self.emit(Resize { size: [height, width], mode, coordinates }, &[x])?;
        let view = self.views.whole(id)?;
        self.put(node, view)
    }
}
