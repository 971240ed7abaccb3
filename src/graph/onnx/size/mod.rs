//! Another size of pictures: the input's height and width, and all that an export froze of them.

mod resample;

use super::cut::{Names, default_opset, describe};
use super::make;
use super::proto::{DataType, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, TensorProto};
use super::shape::{self, Described, Dim, Fact, Facts, Known};
use crate::base::{Error, Result};
use resample::{Grid, resample};

/// Brings a model with one input `[batch, channels, height, width]` to another height and width.
///
/// Convolutions take any size. Pools over the whole map become global, sizes that `Reshape` has as constants
/// follow, and a position embedding is resampled (bicubic with antialias, class and register tokens apart, as timm
/// does). A model whose input has open sizes is left as it is.
///
/// # Errors
/// The input has other axes, or a node prevents it: its weights or constants are for the old size. The error names
/// the node.
pub fn set_image_size(model: &mut ModelProto, [height, width]: [usize; 2]) -> Result<()> {
    let opset = default_opset(model)?;
    let before = shape::infer(model);
    let Some(graph) = &mut model.graph else { return Ok(()) };
    // Those with several are refused where one is needed.
    let [input] = &mut graph.input[..] else { return Ok(()) };
    let name = input.name.clone();
    let four = || Error::bad_input(format!("the input `{name}` is no picture: its axes are not four"));
    let shape = input.tensor_mut().and_then(|tensor| tensor.shape.as_mut()).ok_or_else(four)?;
    let [_, _, rows, columns] = &mut shape.dim[..] else { return Err(four()) };
    let old = [rows.fixed(), columns.fixed()];
    if old.contains(&None) || old == [Some(height), Some(width)] {
        return Ok(());
    }
    for (dim, size) in [(rows, height), (columns, width)] {
        *dim = Dimension { value: Some(DimensionValue::Value(size as i64)), ..Dimension::default() };
    }
    // They describe the old size.
    graph.value_info.clear();
    let nodes = std::mem::take(&mut graph.node);
    let mut names = Names::of(graph);
    nodes.iter().flat_map(|node| &node.output).for_each(|output| names.take(output));
    let facts = shape::begin(graph);
    let changed = [old[0] != Some(height), old[1] != Some(width)];
    let mut resizing = Resizing { before, facts, names, opset, graph, changed, sizes: Vec::new() };
    resizing.saw(&name);
    let nothing = GraphProto::default();
    let described = Described::of(&nothing);
    for mut node in nodes {
        if node.is_standard() {
            resizing.adapt(&mut node)?;
        }
        shape::step(&mut resizing.facts, &described, &node, opset);
        if let Some(output) = node.output.first() {
            resizing.saw(&output.clone());
        }
        resizing.graph.node.push(node);
    }
    let facts = resizing.facts;
    for output in &mut graph.output {
        let dims = facts.get(&output.name).and_then(|fact| fact.dims.clone());
        if let Some(tensor) = output.tensor_mut() {
            let dims = dims.map(|dims| dims.into_iter().map(dimension).collect());
            tensor.shape = dims.map(|dim| super::proto::TensorShapeProto { dim });
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

struct Resizing<'a> {
    graph: &'a mut GraphProto,
    /// What was known at the old size.
    before: Facts,
    /// What is known at the new size, up to the node at hand.
    facts: Facts,
    names: Names,
    opset: i64,
    /// Whether height and width of pictures change.
    changed: [bool; 2],
    /// Heights and widths of maps, old and new, the latest last.
    sizes: Vec<(Grid, Grid)>,
}

impl Resizing<'_> {
    /// Notes the size of a map.
    fn saw(&mut self, tensor: &str) {
        let grid = |facts: &Facts| match facts.get(tensor)?.dims.as_deref()? {
            [_, _, Dim::Known(rows), Dim::Known(columns)] => {
                Some(Grid { rows: *rows as usize, columns: *columns as usize })
            }
            _ => None,
        };
        if let (Some(old), Some(new)) = (grid(&self.before), grid(&self.facts))
            // Other tensors of four axes, such as heads of an attention, change otherwise.
            && [old.rows != new.rows, old.columns != new.columns] == self.changed
            && self.sizes.last() != Some(&(old, new))
        {
            self.sizes.push((old, new));
        }
    }

    fn dims<'f>(facts: &'f Facts, tensor: &str) -> Option<&'f [Dim]> {
        facts.get(tensor)?.dims.as_deref()
    }

    fn prevents<T>(node: &NodeProto, why: &str) -> Result<T> {
        Err(Error::bad_input(format!("the model cannot take pictures of another size: {} {why}", describe(node)))
            .hint("export the model for this size, or leave `image_size` out"))
    }

    fn adapt(&mut self, node: &mut NodeProto) -> Result<()> {
        match node.op_type.as_str() {
            "Reshape" => self.reshape(node),
            "Add" | "Sub" | "Mul" | "Div" | "Where" => self.broadcast(node),
            "MatMul" | "Gemm" => self.multiply(node),
            "AveragePool" | "MaxPool" => self.pool(node),
            "Resize" | "Upsample" => self.resize(node),
            "Concat" => self.concat(node),
            _ => Ok(()),
        }
    }

    /// A constant of the graph, wherever it is kept.
    fn constant(&self, name: &str) -> Option<TensorProto> {
        let initializer = self.graph.initializer.iter().find(|tensor| tensor.name == name);
        initializer.cloned().or_else(|| {
            let node =
                self.graph.node.iter().find(|node| node.is("Constant") && node.output.iter().any(|o| o == name))?;
            node.attribute("value")?.t.clone()
        })
    }

    fn fresh(&mut self, tensor: &str, what: &str) -> String {
        self.names.fresh(&format!("{tensor}/{what}"))
    }

    fn ints(&mut self, tensor: &str, what: &str, values: &[i64]) -> String {
        let name = self.fresh(tensor, what);
        let constant = TensorProto::from_i64(&name, &[values.len()], values);
        self.facts.insert(name.clone(), Fact::of_constant(&constant));
        self.graph.initializer.push(constant);
        name
    }

    fn add(&mut self, node: NodeProto) {
        shape::step(&mut self.facts, &Described::of(&GraphProto::default()), &node, self.opset);
        self.graph.node.push(node);
    }

    /// Constants of a target that were old sizes become the new ones, where that is the only way for it to fit.
    fn reshape(&mut self, node: &mut NodeProto) -> Result<()> {
        let Some(input) = node.input_name(0).and_then(|name| Self::dims(&self.facts, name)) else { return Ok(()) };
        let Some(asked) = Known::new(&self.facts, node, self.opset).ints(1) else { return Ok(()) };
        let Some(target) = asked.iter().map(|dim| dim.at(1)).collect::<Option<Vec<i64>>>() else { return Ok(()) };
        let Some(made) = node.output.first().and_then(|name| Self::dims(&self.before, name)) else { return Ok(()) };
        if made.len() != target.len() {
            return Ok(());
        }
        // Sizes of one sample: what the batch is a factor of is counted at a batch of one.
        let Some(all) = input.iter().map(|dim| dim.at(1)).collect::<Option<Vec<i64>>>() else { return Ok(()) };
        let elements: i64 = all.iter().product();
        let sizes: Vec<Vec<i64>> = target
            .iter()
            .zip(made)
            .enumerate()
            .map(|(place, (&size, made))| match size {
                0 => all.get(place).copied().into_iter().collect(),
                // Where the batch stands, a `-1` may not take up what else is left over.
                -1 if made.is_batch() => made.at(1).into_iter().collect(),
                -1 => vec![-1],
                size if asked[place].is_batch() => vec![size],
                size => std::iter::once(size).chain(self.renewed(node, size)).collect(),
            })
            .collect();
        let mut fitting: Vec<Vec<i64>> = Vec::new();
        let mut choices = vec![Vec::new()];
        for options in &sizes {
            choices = choices
                .into_iter()
                .flat_map(|chosen: Vec<i64>| {
                    options.iter().map(move |size| chosen.iter().copied().chain([*size]).collect())
                })
                .take(256)
                .collect();
        }
        for choice in choices {
            let rest: i64 = choice.iter().filter(|size| **size != -1).product();
            let fits = if choice.contains(&-1) { rest > 0 && elements % rest == 0 } else { rest == elements };
            if fits && !fitting.contains(&choice) {
                fitting.push(choice);
            }
        }
        let unchanged =
            fitting.iter().any(|choice| choice.iter().zip(&sizes).all(|(size, all)| all.first() == Some(size)));
        if unchanged {
            return Ok(());
        }
        // Where several fit, the one that leaves most axes where they were; most reshapes merge or split neighbours.
        // Of these, the one in which height and width of a map change together, and then the one that changes least.
        let grids = |choice: &Vec<i64>| {
            let is = |grid: &Grid, pair: &[i64]| *pair == [grid.rows as i64, grid.columns as i64];
            let pairs = target.windows(2).zip(choice.windows(2));
            pairs.filter(|(old, new)| self.sizes.iter().any(|(from, to)| is(from, old) && is(to, new))).count()
        };
        let rank = |choice: &Vec<i64>| {
            let front = choice.iter().zip(&all).take_while(|(a, b)| a == b).count();
            let kept = front + choice.iter().rev().zip(all.iter().rev()).take_while(|(a, b)| a == b).count();
            (kept, grids(choice), choice.iter().zip(&target).filter(|(new, old)| new == old).count())
        };
        let most = fitting.iter().map(rank).max();
        let mut best = fitting.iter().filter(|choice| Some(rank(choice)) == most);
        let (Some(new), None) = (best.next(), best.next()) else {
            return Self::prevents(node, "reshapes to sizes that are constants of the old one");
        };
        let copies_zero = node.int_or("allowzero", 0) == 0;
        let written = |place: usize| match target[place] {
            // The batch stays one: what it was copied from, or what is left over.
            _ if asked[place].is_batch() && copies_zero && input.get(place) == Some(&asked[place]) => 0,
            _ if asked[place].is_batch() => -1,
            old if old > 0 => new[place],
            old => old,
        };
        let values: Vec<i64> = (0..target.len()).map(written).collect();
        if values.iter().filter(|size| **size == -1).count() > 1 {
            return Self::prevents(node, "reshapes to sizes that are constants of the old one");
        }
        node.input[1] = self.ints(&node.output[0], "shape", &values);
        Ok(())
    }

    /// A size that is that of an old map becomes the new one's.
    fn resize(&mut self, node: &mut NodeProto) -> Result<()> {
        if node.input_name(3).is_none() || node.attribute("axes").is_some() {
            return Ok(());
        }
        let [old, new] = [&self.before, &self.facts].map(|facts| Known::new(facts, node, self.opset).ints(3));
        // One that is computed from a map follows by itself.
        let Some(sizes) = new.filter(|new| old.as_ref() == Some(new)) else { return Ok(()) };
        let [_, _, Dim::Known(rows), Dim::Known(columns)] = sizes[..] else { return Ok(()) };
        let is = |grid: &Grid| (grid.rows as i64, grid.columns as i64) == (rows, columns);
        let mut found: Vec<Grid> = Vec::new();
        for (_, new) in self.sizes.iter().filter(|(old, _)| is(old)) {
            if !found.contains(new) {
                found.push(*new);
            }
        }
        let [grid] = found[..] else { return Self::prevents(node, "resizes to a constant size") };
        let input = node.input[0].clone();
        let shape = self.fresh(&input, "shape");
        self.add(make::node("Shape", &[&input], &[&shape], Vec::new()));
        let [from, to] = [("from", 0), ("to", 2)].map(|(name, value)| self.ints(&input, name, &[value]));
        let own = self.fresh(&input, "batch_channels");
        self.add(make::node("Slice", &[&shape, &from, &to], &[&own], Vec::new()));
        let wanted = self.ints(&input, "size", &[grid.rows as i64, grid.columns as i64]);
        node.input[3] = self.fresh(&input, "sizes");
        let joined = node.input[3].clone();
        self.add(make::node("Concat", &[&own, &wanted], &[&joined], vec![make::int("axis", 0)]));
        Ok(())
    }

    /// What an old size may have become: of the axes of the node's input, or of a map.
    fn renewed(&self, node: &NodeProto, size: i64) -> Vec<i64> {
        let mut found = Vec::new();
        let mut add = |old: i64, new: i64| {
            if old == size && new != size && !found.contains(&new) {
                found.push(new);
            }
        };
        if let Some(name) = node.input_name(0)
            && let (Some(old), Some(new)) = (Self::dims(&self.before, name), Self::dims(&self.facts, name))
        {
            for (old, new) in old.iter().zip(new) {
                if let (Dim::Known(old), Dim::Known(new)) = (old, new) {
                    add(*old, *new);
                }
            }
        }
        for (old, new) in &self.sizes {
            add(old.rows as i64, new.rows as i64);
            add(old.columns as i64, new.columns as i64);
            add(old.area() as i64, new.area() as i64);
        }
        found
    }

    /// A constant that does not fit what it meets is a position embedding, or prevents the size.
    fn broadcast(&mut self, node: &mut NodeProto) -> Result<()> {
        let [left, right] = [0, 1].map(|place| node.input_name(place).map(str::to_string));
        let (Some(left), Some(right)) = (left, right) else { return Ok(()) };
        let dims = |name: &str| Self::dims(&self.facts, name).map(<[Dim]>::to_vec);
        let (Some(a), Some(b)) = (dims(&left), dims(&right)) else { return Ok(()) };
        if !clash(&a, &b) {
            return Ok(());
        }
        let why = "has a constant for another number of places";
        let sides = [(0, &left, &b), (1, &right, &a)];
        let constant = sides.into_iter().find_map(|(place, name, other)| Some((place, self.constant(name)?, other)));
        let Some((place, tensor, other)) = constant.filter(|_| node.is("Add")) else {
            return Self::prevents(node, why);
        };
        let Some(resized) = self.embedding(&tensor, other)? else { return Self::prevents(node, why) };
        let name = self.names.fresh(&format!("{}/resized", node.input[place]));
        let resized = TensorProto { name: name.clone(), ..resized };
        self.facts.insert(name.clone(), Fact::of_constant(&resized));
        self.graph.initializer.push(resized);
        let old = std::mem::replace(&mut node.input[place], name);
        // The old one would be carried along for nothing; another use is found when it clashes too.
        self.graph
            .initializer
            .retain(|tensor| tensor.name != old || self.graph.node.iter().any(|n| n.input.contains(&old)));
        Ok(())
    }

    /// A position embedding `[1, places, dim]`, `[places, dim]` or `[1, dim, rows, columns]` for other places.
    fn embedding(&self, tensor: &TensorProto, other: &[Dim]) -> Result<Option<TensorProto>> {
        if tensor.data_type() != DataType::Float {
            return Ok(None);
        }
        let (shape, values) = (tensor.shape()?, tensor.to_f32()?);
        let known = |back: usize| other.len().checked_sub(back).and_then(|place| other[place].known());
        let resized = match (&shape[..], other.len()) {
            ([.., old, dim], 3) if shape.iter().product::<usize>() == old * dim && known(1) == Some(*dim) => {
                let Some(new) = known(2) else { return Ok(None) };
                let fits = |(from, to): &&(Grid, Grid)| {
                    old.checked_sub(from.area())
                        .is_some_and(|tokens| tokens <= 16 && new.checked_sub(to.area()) == Some(tokens))
                };
                let Some((from, to)) = self.sizes.iter().rev().find(fits) else { return Ok(None) };
                let (tokens, places) = values.split_at((old - from.area()) * dim);
                let mut all = tokens.to_vec();
                all.extend(resample(places, *from, *to, *dim));
                let mut shape = shape.clone();
                let place = shape.len() - 2;
                shape[place] = new;
                TensorProto::from_f32("", &shape, &all)
            }
            (&[1, dim, rows, columns], 4) if known(3) == Some(dim) => {
                let (Some(to_rows), Some(to_columns)) = (known(2), known(1)) else { return Ok(None) };
                let (from, to) = (Grid { rows, columns }, Grid { rows: to_rows, columns: to_columns });
                // Channels last for the resampling, first as before afterwards.
                let last: Vec<f32> = (0..from.area())
                    .flat_map(|at| (0..dim).map(move |c| (c, at)))
                    .map(|(c, at)| values[c * from.area() + at])
                    .collect();
                let new = resample(&last, from, to, dim);
                let first: Vec<f32> = (0..dim)
                    .flat_map(|c| (0..to.area()).map(move |at| (c, at)))
                    .map(|(c, at)| new[at * dim + c])
                    .collect();
                TensorProto::from_f32("", &[1, dim, to_rows, to_columns], &first)
            }
            _ => return Ok(None),
        };
        Ok(Some(resized))
    }

    /// The inner sizes of a product must still meet.
    fn multiply(&mut self, node: &NodeProto) -> Result<()> {
        let dims = |place: usize| node.input_name(place).and_then(|name| Self::dims(&self.facts, name));
        let (Some(a), Some(b)) = (dims(0), dims(1)) else { return Ok(()) };
        let flag = |name: &str| node.is("Gemm") && node.int(name) == Some(1);
        let back = |dims: &[Dim], back: usize| dims.len().checked_sub(back).and_then(|place| dims[place].known());
        let (left, right) = (back(a, 1), back(b, if flag("transB") { 1 } else { 2 }));
        match (left, right) {
            (Some(left), Some(right)) if left != right && !flag("transA") => {
                Self::prevents(node, &format!("has weights for {right} values and would get {left}"))
            }
            _ => Ok(()),
        }
    }

    /// A pool over the whole old map becomes one over the whole map.
    fn pool(&mut self, node: &mut NodeProto) -> Result<()> {
        let dims =
            |facts: &Facts, name: Option<&str>| name.and_then(|name| Self::dims(facts, name)).map(<[Dim]>::to_vec);
        let (input, output) = (node.input_name(0), node.output.first().map(String::as_str));
        let (Some(old), Some(new), Some(made)) =
            (dims(&self.before, input), dims(&self.facts, input), dims(&self.before, output))
        else {
            return Ok(());
        };
        let spatial = |dims: &[Dim]| dims.iter().skip(2).map(|dim| dim.known()).collect::<Option<Vec<usize>>>();
        let kernel: Option<Vec<usize>> =
            node.ints("kernel_shape").map(|sizes| sizes.iter().map(|&size| size as usize).collect());
        let whole = kernel == spatial(&old) && spatial(&made).is_some_and(|sizes| sizes.iter().all(|&size| size == 1));
        if whole && old != new && node.output.len() == 1 {
            node.op_type = format!("Global{}", node.op_type);
            node.attribute.clear();
        }
        Ok(())
    }

    fn concat(&mut self, node: &NodeProto) -> Result<()> {
        let all: Option<Vec<&[Dim]>> = node.input.iter().map(|name| Self::dims(&self.facts, name)).collect();
        let Some(all) = all else { return Ok(()) };
        let rank = all.first().map_or(0, |dims| dims.len());
        let Some(axis) = node.int("axis").and_then(|axis| shape::axis_of(axis, rank)) else { return Ok(()) };
        let differ = |place: usize| {
            let mut known = all.iter().filter_map(|dims| dims.get(place)?.known());
            let first = known.next();
            known.any(|size| Some(size) != first)
        };
        match (0..rank).find(|place| *place != axis && differ(*place)) {
            Some(_) => Self::prevents(node, "joins maps that no longer have the same size"),
            None => Ok(()),
        }
    }
}

/// Whether two shapes cannot be broadcast.
fn clash(a: &[Dim], b: &[Dim]) -> bool {
    a.iter().rev().zip(b.iter().rev()).any(|pair| match pair {
        (Dim::Known(a), Dim::Known(b)) => a != b && *a != 1 && *b != 1,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, tiny_cnn, tiny_vit};
    use super::super::{OutputSpec, Select, cut};
    use super::*;

    fn at(model: ModelProto, tensor: &str, select: Select, size: usize) -> Result<ModelProto> {
        let mut model = cut(model, &[OutputSpec { name: "out".into(), tensor: tensor.into(), select }])?;
        set_image_size(&mut model, [size, size])?;
        Ok(model)
    }

    fn shape(model: &ModelProto) -> Vec<Option<usize>> {
        shape::infer(model)["out"].row_shape().unwrap()
    }

    const NORM: &str = "/norm/Add_1_output_0";

    #[test]
    fn convolutions_take_any_size() {
        let model = at(tiny_cnn(), "/layer2/Relu_output_0", Select::All, 64).unwrap();
        assert_eq!(shape(&model), [Some(16), Some(16), Some(16)]);
        let input = model.graph.unwrap().input[0].clone();
        assert_eq!(input.tensor().unwrap().shape.as_ref().unwrap().dim[2].fixed(), Some(64));
        assert_eq!(shape(&at(tiny_cnn(), "/Flatten_output_0", Select::All, 64).unwrap()), [Some(16)]);
    }

    #[test]
    fn a_transformers_positions_are_resampled() {
        // 16 patches of 8 pixels become 36, and one class token stays.
        for model in [tiny_vit(), testing::frozen_vit()] {
            let model = at(model, NORM, Select::All, 48).unwrap();
            assert_eq!(shape(&model), [Some(37), Some(16)]);
            let graph = model.graph.unwrap();
            let positions = graph.initializer.iter().find(|tensor| tensor.dims == [1, 37, 16]).unwrap();
            let old = tiny_vit().graph.unwrap().initializer;
            let old = old.iter().find(|tensor| tensor.dims == [1, 17, 16]).unwrap().to_f32().unwrap();
            assert_eq!(positions.to_f32().unwrap()[..16], old[..16]);
            assert!(!graph.initializer.iter().any(|tensor| tensor.dims == [1, 17, 16]));
        }
        assert_eq!(shape(&at(tiny_vit(), NORM, Select::Token { index: 0 }, 64).unwrap()), [Some(16)]);
    }

    #[test]
    fn what_is_made_for_one_size_is_named() {
        let mut b = testing::Builder::new("flat", 17, 0);
        let image = b.input("image", vec!["n".into(), 3.into(), 4.into(), 4.into()]);
        let flat = b.op("Flatten", &[&image], Vec::new());
        let weight = b.weight("weight", &[48, 2], 0.0, 1.0);
        let out = b.op("MatMul", &[&flat, &weight], Vec::new());
        b.output(&out, "y", vec!["n".into(), 2.into()]);
        let error = at(b.finish(), &out, Select::All, 8).unwrap_err().to_string();
        assert!(error.ends_with("the node `/MatMul` (MatMul) has weights for 48 values and would get 192"), "{error}");

        let mut b = testing::Builder::new("mask", 17, 0);
        let image = b.input("image", vec!["n".into(), 3.into(), 4.into(), 4.into()]);
        let mask = b.weight("mask", &[4, 4], 0.0, 1.0);
        let out = b.op("Mul", &[&image, &mask], Vec::new());
        b.output(&out, "y", vec!["n".into(), 3.into(), 4.into(), 4.into()]);
        let error = at(b.finish(), &out, Select::All, 8).unwrap_err().to_string();
        assert!(error.ends_with("the node `/Mul` (Mul) has a constant for another number of places"), "{error}");
    }
}
