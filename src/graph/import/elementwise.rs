//! Arithmetic of two tensors, by NumPy's broadcasting.

use super::constant::{Constant, Data};
use super::node::Importer;
use super::value::{Item, View};
use crate::base::{Error, Result};
use crate::graph::onnx::proto::NodeProto;
use crate::graph::onnx::shape::Dim;
use crate::graph::op::{Binary, BinaryKind, Repeat};
use crate::graph::{Init, ValueId};

impl<'a> Importer<'a> {
    pub(super) fn binary(&mut self, node: &'a NodeProto, kind: BinaryKind) -> Result<()> {
        let place = |place: usize| node.input_name(place).unwrap_or_default();
        let item = |importer: &Self, name: &str| match importer.known(name) {
            Some(constant) => Ok(Item::Constant(constant.clone())),
            None => importer.named_view(name).map(Item::View),
        };
        let view = match (item(self, place(0))?, item(self, place(1))?) {
            (Item::View(a), Item::View(b)) => self.both(kind, &a, &b)?,
            (Item::View(a), Item::Constant(b)) => self.with_constant(kind, &a, &b, false)?,
            (Item::Constant(a), Item::View(b)) => self.with_constant(kind, &b, &a, true)?,
            (Item::Constant(_), Item::Constant(_)) => return Err(Error::bad_input("its inputs are constants")),
        };
        self.put(node, view)
    }

    /// `Where(mask, number, x)`: a number in the places of a mask that is 1 or 0, and in the others `x`, or another number.
    pub(super) fn choice(&mut self, node: &'a NodeProto) -> Result<()> {
        // Infinity times zero is no number.
        let number = |importer: &Self, place: usize| {
            importer.constant(node, place).and_then(Constant::scalar).map(|value| value.clamp(f32::MIN, f32::MAX))
        };
        let one = |value: f32| Constant { dims: Vec::new(), data: Data::Floats(vec![value]), weight: None };
        let put = number(self, 1).ok_or_else(|| Error::bad_input("what it puts is not one number"))?;
        let mask = self.view(node, 0)?;
        let keeps = self.with_constant(BinaryKind::Sub, &mask, &one(1.0), true)?;
        let kept = match number(self, 2) {
            Some(other) => self.with_constant(BinaryKind::Mul, &keeps, &one(other), false)?,
            None => {
                let x = self.view(node, 2)?;
                self.both(BinaryKind::Mul, &x, &keeps)?
            }
        };
        let put = self.with_constant(BinaryKind::Mul, &mask, &one(put), false)?;
        let view = self.both(BinaryKind::Add, &kept, &put)?;
        self.put(node, view)
    }

    pub(super) fn expand(&mut self, node: &'a NodeProto) -> Result<()> {
        let sizes = self.sizes(&node.output[0])?;
        if let Some(constant) = self.constant(node, 0).cloned() {
            return self.repeat(node, &constant, &sizes);
        }
        let view = self.view(node, 0)?;
        let dims: Vec<usize> = sizes
            .iter()
            .map(|d| if d.is_batch() { Some(1) } else { d.known() })
            .collect::<Option<_>>()
            .ok_or_else(|| Error::bad_input("its shape is not known before it runs"))?;
        let same = dims.len() == view.axes.len()
            && (0..dims.len()).all(|axis| self.views.axis_size(&view, axis).0 == dims[axis]);
        if same {
            return self.put(node, view);
        }
        let ones = Constant { data: Data::Floats(vec![1.0; dims.iter().product()]), dims, weight: None };
        let view = self.with_constant(BinaryKind::Mul, &view, &ones, false)?;
        self.put(node, view)
    }

    /// A weight that every sample gets, such as a class token.
    fn repeat(&mut self, node: &'a NodeProto, constant: &Constant, sizes: &[Dim]) -> Result<()> {
        let batch = sizes.iter().position(|size| *size == Dim::BATCH);
        let others = sizes.iter().filter(|size| **size != Dim::BATCH).map(|size| size.known());
        let (Some(batch), Some(dims)) = (batch, others.collect::<Option<Vec<usize>>>()) else {
            return Err(Error::bad_input("its shape is not known before it runs"));
        };
        let like = self.views.graph.inputs().first().copied();
        let like = like.ok_or_else(|| Error::bad_input("nothing says how many samples there are"))?;
        let value = self.weight(constant, Init::Normal(0.02), false)?;
        let id = self.emit(Repeat { dims }, &[like, value])?;
        let view = self.views.gathered(id, batch)?;
        self.put(node, view)
    }

    fn both(&mut self, kind: BinaryKind, a: &View, b: &View) -> Result<View> {
        let dims = |id: ValueId| &self.views.graph.shape(id).dims;
        if a.axes == b.axes && dims(a.id) == dims(b.id) {
            return Ok(View { id: self.emit(Binary(kind), &[a.id, b.id])?, axes: a.axes.clone() });
        }
        let (a, b) = (self.views.merged(a)?, self.views.merged(b)?);
        let rank = a.axes.len().max(b.axes.len());
        let none: Vec<usize> = Vec::new();
        let axis =
            |x: &View, i: usize| (i + x.axes.len()).checked_sub(rank).map_or(none.clone(), |i| x.axes[i].clone());
        // The output's dimensions, in order, and those of each input there, where 1 is repeated.
        let mut dims = [Vec::new(), Vec::new()];
        let mut axes = Vec::new();
        for i in 0..rank {
            let (of_a, of_b) = (axis(&a, i), axis(&b, i));
            let size = |x: &View, d: &usize| if *d == 0 { 0 } else { self.views.size(x, *d) };
            let sizes_a: Vec<usize> = of_a.iter().map(|d| size(&a, d)).collect();
            let sizes_b: Vec<usize> = of_b.iter().map(|d| size(&b, d)).collect();
            if !sizes_a.is_empty() && !sizes_b.is_empty() && sizes_a != sizes_b {
                return Err(Error::bad_input("its inputs' axes do not agree"));
            }
            let sizes = if sizes_a.is_empty() { &sizes_b } else { &sizes_a };
            let mut out = Vec::new();
            for size in sizes {
                if *size == 0 {
                    out.push(0);
                    continue;
                }
                dims[0].push(if sizes_a.is_empty() { 1 } else { *size });
                dims[1].push(if sizes_b.is_empty() { 1 } else { *size });
                out.push(dims[0].len());
            }
            axes.push(out);
        }
        let [a_dims, b_dims] = dims;
        let (a, b) = (self.views.reshape(a.id, a_dims)?, self.views.reshape(b.id, b_dims)?);
        Ok(View { id: self.emit(Binary(kind), &[a, b])?, axes })
    }

    /// `view ∘ constant`, or `constant ∘ view` if `first`.
    pub(super) fn with_constant(
        &mut self,
        kind: BinaryKind,
        view: &View,
        constant: &Constant,
        first: bool,
    ) -> Result<View> {
        let (view, constant) = match constant.scalar() {
            Some(value) => (view.clone(), Constant { dims: Vec::new(), data: Data::Floats(vec![value]), weight: None }),
            None => self.fitted(view, constant)?,
        };
        let drawn = match kind {
            BinaryKind::Mul | BinaryKind::Div => Init::Fill(1.0),
            _ if constant.dims.len() > 1 => Init::Normal(0.02),
            _ => Init::Fill(0.0),
        };
        let fixed = self.weight(&constant, drawn, false)?;
        let inputs = if first { [fixed, view.id] } else { [view.id, fixed] };
        Ok(View { id: self.emit(Binary(kind), &inputs)?, axes: view.axes })
    }

    /// The view, with room where the constant is wider, and the constant with the dimensions of its value.
    fn fitted(&mut self, view: &View, constant: &Constant) -> Result<(View, Constant)> {
        let rank = view.axes.len().max(constant.dims.len());
        let mut view = view.clone();
        view.axes.splice(0..0, vec![Vec::new(); rank - view.axes.len()]);
        let lead = rank - constant.dims.len();
        let size = |axis: usize| if axis < lead { 1 } else { constant.dims[axis - lead] };
        if (0..rank).any(|axis| size(axis) > 1 && view.axes[axis].is_empty()) {
            view = self.views.in_order(&view)?;
            let mut dims = Vec::new();
            let mut axes = Vec::new();
            for (axis, own) in view.axes.iter().enumerate() {
                let mut out = Vec::new();
                for d in own {
                    if *d > 0 {
                        dims.push(self.views.size(&view, *d));
                    }
                    out.push(if *d > 0 { dims.len() } else { 0 });
                }
                if own.is_empty() && size(axis) > 1 {
                    dims.push(1);
                    out.push(dims.len());
                }
                axes.push(out);
            }
            view = View { id: self.views.reshape(view.id, dims)?, axes };
        }
        // The constant with an axis for each dimension of the value, first in the order of the view's axes.
        let (mut dims, mut order) = (Vec::new(), Vec::new());
        for axis in 0..rank {
            let (own, batch) = self.views.axis_size(&view, axis);
            let wide = size(axis) > 1;
            if wide && (batch || own != size(axis) && own != 1) {
                return Err(Error::bad_input("a constant's axes do not agree with its input's"));
            }
            for d in view.axes[axis].iter().filter(|d| **d > 0) {
                let of_view = self.views.size(&view, *d);
                dims.push(if !wide {
                    1
                } else if own == 1 {
                    size(axis)
                } else {
                    of_view
                });
                order.push(*d);
            }
        }
        let mut place: Vec<usize> = (0..order.len()).collect();
        place.sort_by_key(|i| order[*i]);
        let mut constant = constant.clone().reshaped(dims)?.transposed(&place);
        let ones = constant.dims.iter().take_while(|d| **d == 1).count();
        constant.dims.drain(..ones);
        Ok((view, constant))
    }
}
