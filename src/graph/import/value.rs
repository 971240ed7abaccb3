//! Values while a tail is read: ONNX's tensors as views of the graph's values, whose batch stays first.
//!
//! Exporters move the batch about (`[batch, tokens, 3, heads, dim]` is transposed to `[3, batch, …]`, or merged into
//! `[batch · heads, …]`). Here a tensor is a value of the graph with, for each of its axes, the dimensions
//! of that value that the axis runs over, the outer one first: a transpose orders axes anew, a reshape
//! splits and merges them, and elements move only where an operator needs them in order.

use super::constant::Constant;
use crate::base::{Error, Result};
use crate::graph::onnx::shape::Dim;
use crate::graph::op::{Reshape, Transpose};
use crate::graph::{Graph, ValueId};

/// A tensor of the model.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// Known without running.
    Constant(Constant),
    /// Computed from the inputs.
    View(View),
}

/// A tensor as a view of a value. Dimension 0 is the batch; dimension `i` is dimension `i − 1` of the value's
/// rows. Axes of size 1 run over none, and the value has none of size 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    pub id: ValueId,
    pub axes: Vec<Vec<usize>>,
}

/// Builds views, naming the values that reorder elements after the tensor at hand.
pub(super) struct Views<'a> {
    pub graph: &'a mut Graph,
    /// What names of values begin with.
    pub name: String,
}

impl Views<'_> {
    /// A view of a value whose axes are its dimensions, with the batch as axis `batch`.
    pub fn gathered(&mut self, id: ValueId, batch: usize) -> Result<View> {
        let dims = self.graph.shape(id).dims.clone();
        let kept: Vec<usize> = dims.iter().copied().filter(|d| *d != 1).collect();
        let id = self.reshape(id, kept)?;
        let mut next = 0;
        let mut axes = Vec::new();
        for size in dims {
            axes.push(if size == 1 { Vec::new() } else { vec![next + 1] });
            next += usize::from(size != 1);
        }
        axes.insert(batch, vec![0]);
        Ok(View { id, axes })
    }

    /// [`Views::gathered`] with the batch first.
    pub fn whole(&mut self, id: ValueId) -> Result<View> {
        self.gathered(id, 0)
    }

    /// The size of a dimension that is not the batch.
    pub fn size(&self, view: &View, dimension: usize) -> usize {
        self.graph.shape(view.id).dims[dimension - 1]
    }

    /// The size of an axis without the batch, and whether the batch is a part of it.
    pub fn axis_size(&self, view: &View, axis: usize) -> (usize, bool) {
        let others = view.axes[axis].iter().filter(|d| **d != 0);
        (others.map(|d| self.size(view, *d)).product(), view.axes[axis].contains(&0))
    }

    /// The view with its value's dimensions in the order of the axes, behind the batch.
    pub fn in_order(&mut self, view: &View) -> Result<View> {
        let order: Vec<usize> = view.axes.iter().flatten().copied().filter(|d| *d != 0).collect();
        if order.is_sorted() {
            return Ok(view.clone());
        }
        let op = Transpose { order: order.iter().map(|d| d - 1).collect() };
        let name = self.fresh("transposed");
        let id = self.graph.node(&name, op, &[view.id])?;
        let place = |d: &usize| order.iter().position(|o| o == d).map_or(0, |at| at + 1);
        let axes = view.axes.iter().map(|axis| axis.iter().map(place).collect()).collect();
        Ok(View { id, axes })
    }

    /// The view in order, with one dimension for each axis that does not contain the batch.
    pub fn merged(&mut self, view: &View) -> Result<View> {
        let view = self.in_order(view)?;
        let mut dims = Vec::new();
        let mut axes = Vec::new();
        for axis in &view.axes {
            if axis.len() < 2 || axis.contains(&0) {
                let mut renamed = Vec::new();
                for d in axis {
                    if *d == 0 {
                        renamed.push(0);
                    } else {
                        dims.push(self.size(&view, *d));
                        renamed.push(dims.len());
                    }
                }
                axes.push(renamed);
            } else {
                dims.push(axis.iter().map(|d| self.size(&view, *d)).product());
                axes.push(vec![dims.len()]);
            }
        }
        let id = self.reshape(view.id, dims)?;
        Ok(View { id, axes })
    }

    /// A value with the view's axes as dimensions, the batch first, and which axis that is.
    ///
    /// # Errors
    /// The batch is a part of an axis.
    pub fn spread(&mut self, view: &View) -> Result<(ValueId, usize)> {
        let batch = view.axes.iter().position(|axis| axis == &[0]).ok_or_else(mixed)?;
        let view = self.in_order(view)?;
        let others = (0..view.axes.len()).filter(|axis| *axis != batch);
        let dims = others.map(|axis| self.axis_size(&view, axis).0).collect();
        Ok((self.reshape(view.id, dims)?, batch))
    }

    /// [`Views::spread`] where the batch must be first.
    pub fn exact(&mut self, view: &View) -> Result<ValueId> {
        match self.spread(view)? {
            (id, 0) => Ok(id),
            _ => Err(Error::bad_input("its first axis is not the batch")),
        }
    }

    /// The view in order, with its last axis as the last dimension of the value, even if that is 1.
    pub fn last_apart(&mut self, view: &View) -> Result<ValueId> {
        let last = view.axes.len().checked_sub(1).ok_or_else(mixed)?;
        let (size, batch) = self.axis_size(view, last);
        if batch {
            return Err(mixed());
        }
        let (before, view) = (view.axes[..last].iter().flatten().filter(|d| **d != 0).count(), self.in_order(view)?);
        let mut dims = self.graph.shape(view.id).dims.clone();
        dims.splice(before.., [size]);
        self.reshape(view.id, dims)
    }

    /// The view of a value that an operator along the last axis made of [`Views::last_apart`].
    pub fn after_last(&mut self, view: &View, id: ValueId) -> Result<View> {
        let view = self.in_order(&View { id: view.id, axes: view.axes.clone() })?;
        let last = view.axes.len() - 1;
        let mut axes = view.axes[..last].to_vec();
        let mut dims = self.graph.shape(id).dims.clone();
        if dims.last() == Some(&1) {
            dims.pop();
            axes.push(Vec::new());
        } else {
            axes.push(vec![dims.len()]);
        }
        Ok(View { id: self.reshape(id, dims)?, axes })
    }

    /// A value's elements under other dimensions.
    pub fn reshape(&mut self, id: ValueId, dims: Vec<usize>) -> Result<ValueId> {
        if self.graph.shape(id).dims == dims {
            return Ok(id);
        }
        let name = self.fresh("reshaped");
        self.graph.node(&name, Reshape { dims }, &[id])
    }

    /// The same elements, in order, under other axes.
    ///
    /// # Errors
    /// A size is not known, or an axis would take a part of the batch.
    pub fn regroup(&mut self, view: &View, sizes: &[Dim]) -> Result<View> {
        let mut walk = Regroup { queue: view.axes.concat(), view: view.clone(), done: Vec::new() };
        for size in sizes {
            let mut axis = Vec::new();
            match *size {
                Dim::Known(size) if size > 0 => walk.take(self, size as usize, &mut axis)?,
                Dim::Batch(outer, inner) if outer > 0 && inner > 0 => {
                    // Shape arithmetic does not always know on which side of the batch a factor stands.
                    let mut product = outer as usize * inner as usize;
                    while let Some(first) = walk.queue.first().copied().filter(|d| *d != 0 && product > 1) {
                        let size = self.size(&walk.view, first);
                        if !product.is_multiple_of(size) {
                            break;
                        }
                        product /= size;
                        axis.push(walk.queue.remove(0));
                    }
                    walk.take_batch(&mut axis)?;
                    walk.take(self, product, &mut axis)?;
                }
                _ => return Err(Error::bad_input("its shape is not known before it runs")),
            }
            walk.done.push(axis);
        }
        if !walk.queue.is_empty() {
            return Err(Error::bad_input("its shape has not the elements of its input"));
        }
        Ok(View { id: walk.view.id, axes: walk.done })
    }

    /// A name for a value that no tensor of the model has.
    pub fn fresh(&self, what: &str) -> String {
        self.graph.fresh_name(&format!("{}/{what}", self.name))
    }
}

/// A regrouping under way: the dimensions that no axis has yet, in order.
struct Regroup {
    view: View,
    queue: Vec<usize>,
    done: Vec<Vec<usize>>,
}

impl Regroup {
    /// Moves dimensions of a product to an axis, splitting one where it must be.
    fn take(&mut self, views: &mut Views<'_>, mut product: usize, axis: &mut Vec<usize>) -> Result<()> {
        while product > 1 {
            let first = *self.queue.first().filter(|d| **d != 0).ok_or_else(mixed)?;
            let size = views.size(&self.view, first);
            if product.is_multiple_of(size) {
                product /= size;
            } else if size.is_multiple_of(product) {
                let mut dims = views.graph.shape(self.view.id).dims.clone();
                dims.splice(first - 1..first, [product, size / product]);
                self.view.id = views.reshape(self.view.id, dims)?;
                let behind = self.done.iter_mut().flatten().chain(axis.iter_mut()).chain(self.queue.iter_mut());
                behind.filter(|d| **d > first).for_each(|d| *d += 1);
                self.queue.insert(1, first + 1);
                product = 1;
            } else {
                return Err(mixed());
            }
            axis.push(self.queue.remove(0));
        }
        Ok(())
    }

    fn take_batch(&mut self, axis: &mut Vec<usize>) -> Result<()> {
        if self.queue.first() != Some(&0) {
            return Err(mixed());
        }
        axis.push(self.queue.remove(0));
        Ok(())
    }
}

fn mixed() -> Error {
    Error::bad_input("it mixes the batch with other axes, or axes with each other, in a way that cannot be followed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_split_and_merged_without_moving_more_than_needed() {
        let mut graph = Graph::new();
        let x = graph.input("x", &[5, 24]).unwrap();
        let mut views = Views { graph: &mut graph, name: "n".into() };
        let x = views.whole(x).unwrap();
        let known = Dim::Known;
        let mut qkv = views.regroup(&x, &[Dim::BATCH, known(5), known(3), known(2), known(4)]).unwrap();
        assert_eq!(qkv.axes, [[0], [1], [2], [3], [4]]);
        // [3, batch, heads, tokens, dim], then batch and heads as one.
        qkv.axes = [2, 0, 3, 1, 4].map(|i| qkv.axes[i].clone()).to_vec();
        let merged = views.regroup(&qkv, &[known(3), Dim::Batch(1, 2), known(5), known(4)]).unwrap();
        assert_eq!(merged.axes, [vec![2], vec![0, 3], vec![1], vec![4]]);
        assert!(views.graph.nodes().iter().all(|node| node.op.is_view()));
        let ordered = views.merged(&merged).unwrap();
        assert_eq!(views.graph.shape(ordered.id).dims, [3, 2, 5, 4]);
        assert!(views.exact(&merged).is_err());
        assert!(views.regroup(&x, &[Dim::Batch(1, 5), known(3), known(9)]).is_err());
        assert!(views.regroup(&x, &[Dim::BATCH, known(7), known(5)]).is_err());
    }
}
