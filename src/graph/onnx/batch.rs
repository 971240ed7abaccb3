//! Freeing the batch: the first axis of every input becomes `batch`, and constants in which an export
//! froze the batch it was made with follow.

mod reshape;

use super::cut::{Names, describe};
use super::make;
use super::proto::{Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, TensorProto};
use super::shape::{self, Described, Dim, Facts, Known, axis_of};
use crate::base::{Error, Result};

/// Makes the first axis of every input dynamic, under the name `batch`.
///
/// Where the export froze a batch into the graph, it is freed as well: sizes given to `Reshape`, `Expand` and
/// `Resize` copy or infer the batch, a constant that is joined to samples (such as a class token)
/// is repeated for each, and `Squeeze` and `Flatten` leave the batch alone. Every rewriting keeps what is
/// computed for a sample as it was.
///
/// # Errors
/// An input has no axes, or two froze different batches; a node prevents it: its constants could mean
/// several things, it takes a part of the batch, or it joins it with a constant of many rows. The error
/// names the node. A model whose batch was dynamic before is trusted: there, what cannot be rewritten is left
/// for the runtime to judge.
pub fn free_batch(model: &mut ModelProto, opset: i64) -> Result<()> {
    let Some(graph) = &mut model.graph else { return Ok(()) };
    let frozen = name_batch(graph)?;
    let described_values = std::mem::take(&mut graph.value_info);
    let outputs = std::mem::take(&mut graph.output);
    let nodes = std::mem::take(&mut graph.node);
    let source = GraphProto { value_info: described_values, output: outputs, ..GraphProto::default() };
    let described = Described::of(&source);
    let mut freeing = Freeing { facts: shape::begin(graph), names: Names::of(graph), opset, frozen, graph };
    freeing.reserve(&nodes);
    for mut node in nodes {
        freeing.free(&mut node)?;
        freeing.push(node, &described);
    }
    let facts = freeing.facts;
    graph.output = source.output;
    graph.value_info = source.value_info;
    for value in &mut graph.value_info {
        let Some(fact) = facts.get(&value.name) else { continue };
        let Some(shape) = value.tensor_mut().and_then(|tensor| tensor.shape.as_mut()) else { continue };
        match &fact.dims {
            Some(dims) => shape.dim = dims.iter().map(|dim| dimension(*dim)).collect(),
            None => shape.dim.iter_mut().take(1).for_each(|first| *first = Dimension::default()),
        }
    }
    Ok(())
}

fn dimension(dim: Dim) -> Dimension {
    let value = match dim {
        Dim::Known(size) => Some(DimensionValue::Value(size)),
        Dim::BATCH => Some(DimensionValue::Param("batch".into())),
        _ => None,
    };
    Dimension { value, ..Dimension::default() }
}

/// Gives the first axis of every input its name; tells the batch that was there, if it was fixed.
fn name_batch(graph: &mut GraphProto) -> Result<Option<i64>> {
    let mut frozen: Option<(i64, String)> = None;
    for input in &mut graph.input {
        let name = input.name.clone();
        let Some(shape) = input.tensor_mut().and_then(|tensor| tensor.shape.as_mut()) else { continue };
        let Some(first) = shape.dim.first_mut() else {
            return Err(Error::bad_input(format!("the input `{name}` of the model has no batch axis")));
        };
        if let Some(DimensionValue::Value(size)) = first.value {
            match &frozen {
                Some((other, one)) if *other != size => {
                    return Err(Error::bad_input(format!(
                        "the inputs `{one}` and `{name}` of the model are fixed to batches of {other} and {size}"
                    )));
                }
                _ => frozen = Some((size, name)),
            }
        }
        *first = dimension(Dim::BATCH);
    }
    Ok(frozen.map(|(size, _)| size).filter(|size| *size > 0))
}

struct Freeing<'a> {
    graph: &'a mut GraphProto,
    facts: Facts,
    names: Names,
    opset: i64,
    /// The batch that the inputs were fixed to.
    frozen: Option<i64>,
}

impl Freeing<'_> {
    /// Names that the nodes to come make are taken.
    fn reserve(&mut self, nodes: &[NodeProto]) {
        nodes.iter().flat_map(|node| &node.output).for_each(|name| self.names.take(name));
    }

    fn push(&mut self, node: NodeProto, described: &Described<'_>) {
        shape::step(&mut self.facts, described, &node, self.opset);
        self.graph.node.push(node);
    }

    fn add(&mut self, node: NodeProto) {
        self.push(node, &Described::of(&GraphProto::default()));
    }

    /// The batch the export was made with; what a dynamic one was traced with is most likely 1.
    fn traced(&self) -> i64 {
        self.frozen.unwrap_or(1)
    }

    fn dims(&self, node: &NodeProto, place: usize) -> Option<Vec<Dim>> {
        Known::new(&self.facts, node, self.opset).dims(place).map(<[_]>::to_vec)
    }

    fn ints(&self, node: &NodeProto, place: usize) -> Option<Vec<Dim>> {
        Known::new(&self.facts, node, self.opset).ints(place)
    }

    /// An error if the batch was fixed; a dynamic one is the runtime's to judge.
    fn prevents(&self, node: &NodeProto, why: &str) -> Result<()> {
        let Some(frozen) = self.frozen else { return Ok(()) };
        Err(Error::bad_input(format!(
            "the model is fixed to a batch of {frozen} and cannot be freed: {} {why}",
            describe(node)
        ))
        .hint("export the model with a dynamic batch axis"))
    }

    fn constant(&mut self, wish: &str, values: &[i64]) -> String {
        let name = self.names.fresh(wish);
        let tensor = TensorProto::from_i64(&name, &[values.len()], values);
        self.facts.insert(name.clone(), shape::Fact::of_constant(&tensor));
        self.graph.initializer.push(tensor);
        name
    }

    fn free(&mut self, node: &mut NodeProto) -> Result<()> {
        if !node.is_standard() {
            return Ok(());
        }
        match node.op_type.as_str() {
            "Reshape" => self.reshape(node),
            "Expand" => self.expand(node),
            "Concat" => self.concat(node),
            "Resize" | "Upsample" => self.resize(node),
            "Squeeze" => self.squeeze(node),
            "Flatten" => {
                let batch_first = self.dims(node, 0).is_some_and(|d| d.first().is_some_and(|d| d.is_batch()));
                if batch_first && node.int("axis") == Some(0) {
                    node.attribute.retain(|a| a.name != "axis");
                }
                Ok(())
            }
            "Slice" | "Gather" | "Split" | "ArgMax" | "ArgMin" | "TopK" => self.takes_part(node),
            "LSTM" | "GRU" | "RNN" if node.input_name(5).is_some() || node.input_name(6).is_some() => {
                self.prevents(node, "begins with a constant state")
            }
            op if op.starts_with("Reduce") => self.takes_part(node),
            "MatMul" | "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Where" | "Min" | "Max" | "Equal" | "PRelu" => {
                self.meets_constant(node)
            }
            _ => Ok(()),
        }
    }

    /// A size for an axis that the input has per sample becomes 1, which keeps the input's.
    fn expand(&mut self, node: &mut NodeProto) -> Result<()> {
        let (Some(dims), Some(mut target)) = (self.dims(node, 0), self.ints(node, 1)) else { return Ok(()) };
        let offset = target.len().saturating_sub(dims.len());
        let mut changed = false;
        for (size, dim) in target.iter_mut().skip(offset).zip(&dims) {
            if dim.is_batch() && *size != Dim::Known(1) && !size.is_batch() && *size != Dim::Unknown {
                (*size, changed) = (Dim::Known(1), true);
            }
        }
        if !changed {
            return Ok(());
        }
        match target.iter().map(|d| if let Dim::Known(v) = d { Some(*v) } else { None }).collect::<Option<Vec<i64>>>() {
            Some(values) => {
                node.input[1] = self.constant(&format!("{}/shape", node.name), &values);
                Ok(())
            }
            None => self.prevents(node, "expands to a shape that is computed from a fixed batch"),
        }
    }

    /// A constant of one row that is joined to samples is repeated for each of them.
    fn concat(&mut self, node: &mut NodeProto) -> Result<()> {
        let all: Option<Vec<Vec<Dim>>> = (0..node.input.len()).map(|i| self.dims(node, i)).collect();
        let Some(all) = all else { return Ok(()) };
        let rank = all.first().map_or(0, Vec::len);
        let Some(axis) = node.int("axis").and_then(|axis| axis_of(axis, rank)) else { return Ok(()) };
        if all.iter().any(|dims| dims.len() != rank) {
            return Ok(());
        }
        let mut places = (0..rank).filter_map(|i| Some((i, all.iter().position(|dims| dims[i].is_batch())?)));
        let Some((batch_axis, sample)) = places.next() else { return Ok(()) };
        if batch_axis == axis {
            let why = "joins other rows to the batch";
            return if all.iter().all(|d| d[axis].is_batch()) { Ok(()) } else { self.prevents(node, why) };
        }
        for (place, dims) in all.iter().enumerate() {
            match dims[batch_axis] {
                Dim::Known(1) if all[sample][batch_axis] == Dim::BATCH => {
                    let (sample, input) = (node.input[sample].clone(), node.input[place].clone());
                    node.input[place] = self.repeat(&input, &sample, batch_axis, rank);
                }
                Dim::Known(_) => return self.prevents(node, "joins samples with a constant of several rows"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Repeats a tensor along an axis as often as another one has sizes there.
    fn repeat(&mut self, tensor: &str, like: &str, axis: usize, rank: usize) -> String {
        let mut parts = vec![self.size(like, axis)];
        if axis > 0 {
            parts.insert(0, self.constant(&format!("{tensor}/before"), &vec![1; axis]));
        }
        if axis + 1 < rank {
            parts.push(self.constant(&format!("{tensor}/after"), &vec![1; rank - 1 - axis]));
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let target = self.names.fresh(&format!("{tensor}/repeated_shape"));
        self.add(make::node("Concat", &parts, &[&target], vec![make::int("axis", 0)]));
        let repeated = self.names.fresh(&format!("{tensor}/repeated"));
        self.add(make::node("Expand", &[tensor, &target], &[&repeated], Vec::new()));
        repeated
    }

    /// A size of a tensor, as a vector of one.
    fn size(&mut self, tensor: &str, axis: usize) -> String {
        let shape = self.names.fresh(&format!("{tensor}/shape"));
        self.add(make::node("Shape", &[tensor], &[&shape], Vec::new()));
        let index = self.constant(&format!("{tensor}/axis"), &[axis as i64]);
        let size = self.names.fresh(&format!("{tensor}/batch"));
        self.add(make::node("Gather", &[&shape, &index], &[&size], vec![make::int("axis", 0)]));
        size
    }

    /// Sizes that say the batch take it from the input.
    fn resize(&mut self, node: &mut NodeProto) -> Result<()> {
        if node.input_name(3).is_none() || node.attribute("axes").is_some() {
            return Ok(());
        }
        let (Some(dims), Some(sizes)) = (self.dims(node, 0), self.ints(node, 3)) else { return Ok(()) };
        let (Some(&Dim::BATCH), Some(Dim::Known(_))) = (dims.first(), sizes.first()) else { return Ok(()) };
        let rest: Option<Vec<i64>> =
            sizes[1..].iter().map(|d| if let Dim::Known(v) = d { Some(*v) } else { None }).collect();
        let Some(rest) = rest else { return self.prevents(node, "resizes to a shape that is computed") };
        let input = node.input[0].clone();
        let batch = self.size(&input, 0);
        let rest = self.constant(&format!("{}/sizes", node.name), &rest);
        let joined = self.names.fresh(&format!("{}/batch_sizes", node.name));
        self.add(make::node("Concat", &[&batch, &rest], &[&joined], vec![make::int("axis", 0)]));
        node.input[3] = joined;
        Ok(())
    }

    /// Without axes, a batch of one would vanish too.
    fn squeeze(&mut self, node: &mut NodeProto) -> Result<()> {
        let Some(dims) = self.dims(node, 0) else { return Ok(()) };
        let given = match node.input_name(1) {
            Some(_) => self.ints(node, 1).map(|axes| axes.iter().filter_map(|axis| axis.at(1)).collect()),
            None => node.ints("axes").map(<[i64]>::to_vec),
        };
        if let Some(axes) = given {
            let batch = axes.iter().filter_map(|&axis| axis_of(axis, dims.len())).any(|axis| dims[axis].is_batch());
            return if batch { self.prevents(node, "removes the batch axis") } else { Ok(()) };
        }
        if node.input_name(1).is_some() || dims.contains(&Dim::Unknown) || !dims.iter().any(|d| d.is_batch()) {
            return Ok(());
        }
        let ones: Vec<i64> = (0..dims.len()).filter(|&i| dims[i] == Dim::Known(1)).map(|i| i as i64).collect();
        if self.opset >= 13 {
            node.input.truncate(1);
            node.input.push(self.constant(&format!("{}/axes", node.name), &ones));
        } else {
            node.attribute = vec![make::ints("axes", &ones)];
        }
        Ok(())
    }

    /// Operators along an axis must not work along the batch.
    fn takes_part(&mut self, node: &NodeProto) -> Result<()> {
        let Some(dims) = self.dims(node, 0) else { return Ok(()) };
        let known = Known::new(&self.facts, node, self.opset);
        let default = if node.op_type == "TopK" { -1 } else { 0 };
        let axes = match node.op_type.as_str() {
            "Slice" => known.ints_input_or_attribute(3, "axes").unwrap_or_else(|| (0..dims.len() as i64).collect()),
            reduce if reduce.starts_with("Reduce") => match known.ints_input_or_attribute(1, "axes") {
                Some(axes) => axes,
                None if node.input_name(1).is_none() => (0..dims.len() as i64).collect(),
                None => return Ok(()),
            },
            _ => vec![node.int_or("axis", default)],
        };
        let whole = |place: usize| {
            let at =
                |input, name| known.ints_input_or_attribute(input, name).and_then(|v: Vec<i64>| v.get(place).copied());
            node.op_type == "Slice"
                && at(1, "starts") == Some(0)
                && at(2, "ends").is_some_and(|e| e >= i64::from(i32::MAX))
        };
        let of_batch = axes
            .iter()
            .enumerate()
            .any(|(i, &axis)| axis_of(axis, dims.len()).is_some_and(|axis| dims[axis].is_batch()) && !whole(i));
        if of_batch { self.prevents(node, "works along the batch axis") } else { Ok(()) }
    }

    /// Samples may meet constants of one row, not of the rows of the batch that was traced.
    fn meets_constant(&mut self, node: &NodeProto) -> Result<()> {
        let skip = if node.is("MatMul") { 2 } else { 0 };
        let all: Option<Vec<Vec<Dim>>> = (0..node.input.len()).map(|i| self.dims(node, i)).collect();
        let Some(all) = all else { return Ok(()) };
        let from_end = |dims: &Vec<Dim>, i: usize| dims.len().checked_sub(i + 1).map_or(Dim::Known(1), |at| dims[at]);
        for axis in skip..all.iter().map(Vec::len).max().unwrap_or(0) {
            let sizes: Vec<Dim> = all.iter().map(|dims| from_end(dims, axis)).collect();
            let several = |dim: &Dim| matches!(dim, Dim::Known(size) if *size != 1);
            if sizes.iter().any(|dim| dim.is_batch()) && sizes.iter().any(several) {
                return self.prevents(node, "joins samples with a constant of several rows");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::infer;
    use super::super::testing::{Builder, Vit, frozen_vit, tiny_cnn, tiny_vit, vit_like};
    use super::*;

    fn freed(mut model: ModelProto) -> Result<ModelProto, String> {
        let opset = super::super::default_opset(&model).unwrap();
        free_batch(&mut model, opset).map_err(|error| error.to_string())?;
        Ok(model)
    }

    #[test]
    fn every_size_is_known_but_the_batch() {
        for model in [tiny_vit(), frozen_vit(), tiny_cnn()] {
            let model = freed(model).unwrap();
            let facts = infer(&model);
            let graph = model.graph.unwrap();
            for output in graph.node.iter().flat_map(|node| &node.output) {
                let dims = facts[output].dims.as_ref().unwrap_or_else(|| panic!("`{output}` has no known rank"));
                assert!(!dims.contains(&Dim::Unknown), "`{output}` is {dims:?}");
            }
            let output = &facts[&graph.output[0].name];
            assert_eq!(output.dims.as_ref().unwrap()[0], Dim::BATCH);
        }
    }

    #[test]
    fn constants_of_several_rows_prevent_it() {
        let error = freed(vit_like(&Vit { frozen: Some(4), ..Vit::default() })).unwrap_err();
        assert_eq!(
            error,
            "the model is fixed to a batch of 4 and cannot be freed: the node `/embeddings/Concat` (Concat) joins \
             samples with a constant of several rows"
        );
    }

    #[test]
    fn work_along_the_batch_prevents_it() {
        let attempt = |op: &str, attributes: Vec<super::super::proto::AttributeProto>| {
            let mut b = Builder::new("fixed", 11, 0);
            let x = b.input("x", vec![1.into(), 4.into(), 1.into()]);
            b.op(op, &[&x], attributes);
            freed(b.finish())
        };
        let why = |result: Result<ModelProto, String>| result.unwrap_err();
        assert!(why(attempt("Squeeze", vec![make::ints("axes", &[0])])).ends_with("(Squeeze) removes the batch axis"));
        assert!(why(attempt("ReduceMean", vec![make::ints("axes", &[-3])])).ends_with("works along the batch axis"));
        assert!(why(attempt("ArgMax", vec![])).ends_with("works along the batch axis"));
        let squeezed = attempt("Squeeze", vec![]).unwrap().graph.unwrap();
        assert_eq!(squeezed.node[0].ints("axes"), Some(&[2][..]));
    }

    #[test]
    fn sizes_of_a_resize_take_the_batch_from_the_input() {
        let mut b = Builder::new("resize", 11, 0);
        let x = b.input("x", vec![1.into(), 4.into(), 2.into(), 2.into()]);
        let sizes = b.ints(&[1, 4, 6, 6]);
        let y = b.op("Resize", &[&x, "", "", &sizes], vec![make::text("mode", "nearest")]);
        let model = freed(b.finish()).unwrap();
        let dims = infer(&model)[&y].dims.clone().unwrap();
        assert_eq!(dims, [Dim::BATCH, Dim::Known(4), Dim::Known(6), Dim::Known(6)]);
        let inputs = &model.graph.unwrap().node;
        assert!(inputs.iter().find(|n| n.is("Resize")).unwrap().input[3].ends_with("batch_sizes"));
    }
}
