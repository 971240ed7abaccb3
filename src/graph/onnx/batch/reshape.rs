//! Freeing the batch in the target shapes of `Reshape`.

use super::Freeing;
use crate::base::Result;
use crate::graph::onnx::proto::NodeProto;
use crate::graph::onnx::shape::{Dim, product, rest_of};

impl Freeing<'_> {
    /// A target that says the traced batch says `0` or `-1` in its place.
    pub(super) fn reshape(&mut self, node: &mut NodeProto) -> Result<()> {
        let (Some(dims), Some(target)) = (self.dims(node, 0), self.ints(node, 1)) else { return Ok(()) };
        let Some(place) = dims.iter().position(|dim| dim.is_batch()) else { return Ok(()) };
        let copies_zero = node.int_or("allowzero", 0) == 0;
        let written = |dim: &Dim| if let Dim::Known(size) = dim { Some(*size) } else { None };
        let traced = self.traced();

        // The usual case: the batch stays first. Copying it is right whatever the rest is.
        let first_is_batch = place == 0 && dims[0] == Dim::BATCH;
        if first_is_batch
            && target.first() == Some(&Dim::Known(traced))
            && (self.frozen.is_some() || self.clashes(&dims, &target))
        {
            let Some(mut values) = target.iter().map(written).collect::<Option<Vec<i64>>>() else {
                return self.prevents(node, "takes a shape that is computed from a fixed batch");
            };
            match (copies_zero, values.contains(&-1)) {
                (true, _) => values[0] = 0,
                (false, false) => values[0] = -1,
                (false, true) => return self.prevents(node, "takes a shape with both `-1` and a fixed batch"),
            }
            return self.retarget(node, &values);
        }
        let resolved = resolve(&dims, &target, copies_zero);
        if resolved.contains(&Dim::Unknown) {
            // What is no whole number for every batch is one for the traced batch.
            let concrete: Vec<Dim> = dims.iter().map(|dim| dim.at(traced).map_or(Dim::Unknown, Dim::Known)).collect();
            let at_traced = resolve(&concrete, &target, copies_zero);
            if self.frozen.is_some() && !at_traced.contains(&Dim::Unknown) {
                return self.merged(node, &dims, &at_traced, place);
            }
        }
        if resolved.iter().any(|dim| dim.is_batch())
            || resolved.contains(&Dim::Unknown)
            || !self.clashes(&dims, &target)
        {
            return self.check_place(node, &dims, &resolved, place);
        }
        self.merged(node, &dims, &resolved, place)
    }

    /// Whether the target has another number of elements than the input for some batch.
    fn clashes(&self, dims: &[Dim], target: &[Dim]) -> bool {
        match (product(dims), product(target)) {
            (Dim::Batch(..), Dim::Known(rest)) => rest > 0,
            // With a `-1` inside the product is not above zero: the runtime finds a size, if a wrong one.
            _ => false,
        }
    }

    /// The batch must come out where it went in; `-1` may have put it elsewhere.
    fn check_place(&mut self, node: &mut NodeProto, dims: &[Dim], resolved: &[Dim], place: usize) -> Result<()> {
        let Some(out) = resolved.iter().position(|dim| dim.is_batch()) else { return Ok(()) };
        let (before, after) = (outer(dims, place), outer(resolved, out));
        let known = |dim: Dim| dim != Dim::Unknown;
        if !known(before) || !known(after) || before == after || self.frozen.is_none() {
            return Ok(());
        }
        // What the traced shape was, then as if it had been written out.
        let traced = self.traced();
        let concrete: Vec<Dim> = resolved.iter().map(|dim| dim.at(traced).map_or(Dim::Unknown, Dim::Known)).collect();
        self.merged(node, dims, &concrete, place)
    }

    /// The batch as a factor of a larger axis, such as batch times heads.
    fn merged(&mut self, node: &mut NodeProto, dims: &[Dim], target: &[Dim], place: usize) -> Result<()> {
        let traced = self.traced();
        let unclear = "reshapes to constants in which the place of the batch is not clear";
        let values: Option<Vec<i64>> =
            target.iter().map(|dim| if let Dim::Known(v) = dim { Some(*v) } else { None }).collect();
        let (Some(mut values), Dim::Known(before)) = (values, outer(dims, place)) else {
            return self.prevents(node, unclear);
        };
        let mut product_before = 1i64;
        let mut axis = 0;
        while axis < values.len() && product_before != before {
            product_before = product_before.saturating_mul(values[axis]);
            axis += 1;
        }
        if axis == values.len() || values[axis] % traced != 0 {
            return self.prevents(node, unclear);
        }
        // A traced batch of one may be any axis of one; only one that begins where the batch did is it.
        let alone = values[axis] == traced;
        if !alone && traced == 1 && values[axis + 1..].contains(&1) {
            return self.prevents(node, unclear);
        }
        // Between two axes it belongs to either. The last one holds features and keeps its size.
        if !alone && traced == 1 && axis > 0 && axis + 1 == values.len() {
            axis -= 1;
        }
        values[axis] = -1;
        self.retarget(node, &values)
    }

    fn retarget(&mut self, node: &mut NodeProto, values: &[i64]) -> Result<()> {
        node.input[1] = self.constant(&format!("{}/shape", node.name), values);
        Ok(())
    }
}

/// What comes before the batch in row-major order, if `place` is its axis.
fn outer(dims: &[Dim], place: usize) -> Dim {
    match dims[place] {
        Dim::Batch(outer, _) => product(&dims[..place]).times(Dim::Known(outer)),
        _ => Dim::Unknown,
    }
}

/// The target with copied and inferred sizes filled in.
fn resolve(dims: &[Dim], target: &[Dim], copies_zero: bool) -> Vec<Dim> {
    let copied = |(i, size): (usize, &Dim)| match size {
        Dim::Known(0) if copies_zero => dims.get(i).copied().unwrap_or(Dim::Unknown),
        size => *size,
    };
    let mut resolved: Vec<Dim> = target.iter().enumerate().map(copied).collect();
    if let Some(open) = resolved.iter().position(|size| *size == Dim::Known(-1)) {
        resolved[open] = rest_of(product(dims), &resolved, open);
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::super::free_batch;
    use crate::graph::onnx::make::Size;
    use crate::graph::onnx::proto::TensorProto;
    use crate::graph::onnx::shape::{Dim, infer};
    use crate::graph::onnx::testing::Builder;

    /// Frees a single reshape and tells its new target and result.
    fn freed(input: &[usize], before: Option<&[i64]>, target: &[i64]) -> Result<(Vec<i64>, Vec<Dim>), String> {
        let mut b = Builder::new("reshape", 17, 0);
        let x = b.input("x", input.iter().map(|&size| Size::from(size)).collect());
        let x = before
            .map_or(x.clone(), |order| b.op("Transpose", &[&x], vec![crate::graph::onnx::make::ints("perm", order)]));
        let shape = b.ints(target);
        let y = b.op("Reshape", &[&x, &shape], Vec::new());
        let mut model = b.finish();
        free_batch(&mut model, 17).map_err(|error| error.to_string())?;
        let dims = infer(&model)[&y].dims.clone().unwrap();
        let graph = model.graph.unwrap();
        let shape = &graph.node.iter().find(|n| n.is("Reshape")).unwrap().input[1];
        let constant = graph.initializer.iter().find(|t| t.name == *shape).map(TensorProto::to_i64);
        Ok((constant.map_or(target.to_vec(), Result::unwrap), dims))
    }

    #[test]
    fn the_batch_is_found_in_the_target() {
        let known = |dims: &[i64]| dims.iter().map(|&d| Dim::Known(d)).collect::<Vec<_>>();
        let with_batch = |times: i64, dims: &[i64]| [vec![Dim::Batch(1, times)], known(dims)].concat();
        assert_eq!(
            freed(&[1, 197, 768], None, &[1, 197, 12, 64]).unwrap(),
            (vec![0, 197, 12, 64], with_batch(1, &[197, 12, 64]))
        );
        assert_eq!(
            freed(&[1, 768, 14, 14], None, &[1, 768, -1]).unwrap(),
            (vec![0, 768, -1], with_batch(1, &[768, 196]))
        );
        assert_eq!(freed(&[1, 768, 1, 1], None, &[1, -1]).unwrap(), (vec![0, -1], with_batch(1, &[768])));
        assert_eq!(
            freed(&[1, 12, 197, 64], None, &[12, 197, 64]).unwrap(),
            (vec![-1, 197, 64], with_batch(12, &[197, 64]))
        );
        assert_eq!(
            freed(&[4, 12, 197, 64], None, &[48, -1, 64]).unwrap(),
            (vec![-1, 197, 64], with_batch(12, &[197, 64]))
        );
        assert_eq!(freed(&[2, 768, 14, 14], None, &[-1, 196]).unwrap(), (vec![-1, 196], with_batch(768, &[196])));
        let (values, dims) = freed(&[1, 197, 768], Some(&[1, 0, 2]), &[197, 12, 64]).unwrap();
        assert_eq!((values, dims), (vec![197, -1, 64], vec![Dim::Known(197), Dim::Batch(1, 12), Dim::Known(64)]));
    }

    #[test]
    fn a_place_that_is_not_clear_is_refused() {
        let error = freed(&[1, 197, 768], None, &[197, 1, 768]).unwrap_err();
        assert_eq!(
            error,
            "the model is fixed to a batch of 1 and cannot be freed: the node `/Reshape` (Reshape) reshapes to \
             constants in which the place of the batch is not clear"
        );
    }
}
