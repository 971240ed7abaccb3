//! Where a model is cut inside: the part above, and the tensors that cross.

use std::collections::{HashMap, HashSet};

use super::Start;
use super::constant::Constant;
use super::node::Importer;
use super::texts::{self, Texts};
use super::value::Item;
use crate::base::suggest::did_you_mean;
use crate::base::{Error, Result};
use crate::graph::onnx::inspect::facts;
use crate::graph::onnx::proto::{DataType, GraphProto, ModelProto, NodeProto, TensorProto};
use crate::graph::onnx::shape::{self, Dim, Facts};
use crate::graph::onnx::{OutputSpec, Select, cut, default_opset};
use crate::graph::{Graph, Origin, ValueId};

/// The most numbers of a tensor that is a setting more than weights.
const MOST_OF_A_SETTING: usize = 64;

/// The part of a model between a cut inside it and its outputs.
#[derive(Debug, Clone)]
pub struct Tail {
    /// The model up to the outputs.
    model: ModelProto,
    opset: i64,
    facts: Facts,
    /// What is trained and what it needs of constants: nodes, in order.
    nodes: Vec<usize>,
    /// The tensors that cross, as the cut model names them.
    crossing: Vec<String>,
    frontier: Vec<OutputSpec>,
    outputs: Vec<Output>,
    /// Of a network of texts.
    texts: Option<Texts>,
}

/// An output of the trained part.
#[derive(Debug, Clone)]
struct Output {
    name: String,
    /// Whether it is the mean of the tokens of the tensor.
    pooled: bool,
}

/// Where the trained part begins.
enum Begin {
    /// At the nodes that read this tensor.
    Tensor(String),
    /// At the nodes whose scope has this name.
    Block(String),
    /// At the first weights.
    Weights,
}

impl Tail {
    /// Finds what lies between `train_from` and the outputs. `train_from` is a tensor of the model, one of its
    /// inputs, or the name of a block as the exporter wrote it into the names of nodes, such as `layer4` or
    /// `blocks.11`. `row` fills the open sizes of the model's input in.
    ///
    /// # Errors
    /// - those of [`cut`];
    /// - there is no such tensor or block (with the nearest name), or no output depends on it.
    pub fn find(model: ModelProto, outputs: &[OutputSpec], train_from: &str, row: Option<&[usize]>) -> Result<Self> {
        let empty = GraphProto::default();
        let begin = begin(model.graph.as_ref().unwrap_or(&empty), train_from)?;
        let model = cut(model, outputs)?;
        let facts = facts(&model, row)?;
        let outputs = outputs.iter().map(|spec| Output { name: spec.name.clone(), pooled: false }).collect();
        Self::of_cut(model, facts, outputs, &begin, train_from, None)
    }

    /// [`Tail::find`] in a network of texts; without `train_from` it is trained from its first weights on. A mean of
    /// tokens becomes one of those that are no padding, and an output of every token is followed by its mask, named as
    /// it with [`MASK`](texts::MASK) behind.
    ///
    /// # Errors
    /// Those of [`Tail::find`]; an output that cannot be told from padding.
    pub fn of_texts(model: ModelProto, outputs: &[OutputSpec], train_from: Option<&str>, texts: Texts) -> Result<Self> {
        let empty = GraphProto::default();
        let begin = match train_from {
            Some(from) => begin(model.graph.as_ref().unwrap_or(&empty), from)?,
            None => Begin::Weights,
        };
        let (specs, pooled) = texts::without_means(outputs, &texts)?;
        let mut model = cut(model, &specs)?;
        texts::drop_guards(&mut model);
        let facts = facts(&model, Some(&[texts.tokens]))?;
        let outputs = specs.into_iter().zip(pooled).map(|(spec, pooled)| Output { name: spec.name, pooled }).collect();
        Self::of_cut(model, facts, outputs, &begin, train_from.unwrap_or("its inputs"), Some(texts))
    }

    fn of_cut(
        model: ModelProto,
        facts: Facts,
        outputs: Vec<Output>,
        begin: &Begin,
        shown: &str,
        texts: Option<Texts>,
    ) -> Result<Self> {
        let opset = default_opset(&model)?;
        let graph = model.graph.as_ref().ok_or_else(|| Error::failed("the cut model has no graph"))?;
        let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        let mut dynamic: HashSet<&str> = graph.input.iter().map(|v| v.name.as_str()).collect();
        let mut reached: HashSet<&str> = HashSet::new();
        if let Begin::Tensor(tensor) = begin {
            reached.insert(tensor);
        }
        // In a network of texts, weights and what is made of them.
        let weight = |t: &&TensorProto| t.data_type() == DataType::Float && t.element_count().is_ok_and(|n| n > 1);
        let mut weighty: HashSet<&str> = graph.initializer.iter().filter(weight).map(|t| t.name.as_str()).collect();
        let mut nodes = Vec::new();
        for (i, node) in graph.node.iter().enumerate() {
            // How many tokens there are is known.
            if texts.is_some() && node.is("Shape") {
                continue;
            }
            let runs = node.input.iter().any(|name| dynamic.contains(name.as_str()));
            let weighs = texts.is_none() || node.input.iter().any(|name| weighty.contains(name.as_str()));
            if weighs {
                weighty.extend(node.output.iter().map(String::as_str));
            }
            let starts = match begin {
                Begin::Block(block) => runs && weighs && in_block(node, block),
                Begin::Weights => runs && weighs,
                Begin::Tensor(_) => false,
            };
            if runs {
                dynamic.extend(node.output.iter().map(String::as_str));
            }
            if starts || node.input.iter().any(|name| reached.contains(name.as_str())) {
                reached.extend(node.output.iter().map(String::as_str));
                nodes.push(i);
            }
        }
        let trained = |name: &String| nodes.iter().any(|i| graph.node[*i].output.contains(name));
        if !outputs.iter().any(|output| trained(&output.name)) {
            let of: Vec<String> = outputs.iter().map(|output| format!("`{}`", output.name)).collect();
            return Err(Error::bad_input(format!(
                "{} does not depend on `{shown}`, so nothing would be trained",
                of.join(" and ")
            ))
            .hint("train from a tensor below the outputs"));
        }
        // What crosses is stored; what is known without the sample is computed again.
        let sized = |name: &str| facts.get(name).is_some_and(|fact| fact.values.is_some());
        let makers: HashMap<&str, usize> = graph
            .node
            .iter()
            .enumerate()
            .flat_map(|(i, node)| node.output.iter().map(move |name| (name.as_str(), i)))
            .collect();
        let mut crossing: Vec<String> = Vec::new();
        if let Begin::Tensor(tensor) = begin {
            crossing.push(tensor.clone());
        }
        let mut wanted: HashSet<usize> = nodes.iter().copied().collect();
        let mut open: Vec<&str> = Vec::new();
        for i in &nodes {
            if !graph.node[*i].output.iter().all(|name| sized(name)) {
                open.extend(graph.node[*i].input.iter().map(String::as_str));
            }
        }
        open.extend(outputs.iter().map(|output| output.name.as_str()));
        let mut seen = HashSet::new();
        let mut next = 0;
        while let Some(name) = open.get(next).copied() {
            next += 1;
            if name.is_empty() || constants.contains(name) || !seen.insert(name) {
                continue;
            }
            let maker = makers.get(name).copied();
            if maker.is_some_and(|i| wanted.contains(&i)) || crossing.iter().any(|c| c == name) {
                continue;
            }
            match maker {
                Some(i) if !(dynamic.contains(name) || texts.is_some() && has_batch(&facts, name)) => {
                    wanted.insert(i);
                    if !(texts.is_some() && graph.node[i].is("Shape")) {
                        open.extend(graph.node[i].input.iter().map(String::as_str));
                    }
                }
                _ if sized(name) => {}
                // What a choice is made by crosses, for the numbers chosen may be infinite.
                Some(i) if texts.is_some() && texts::chooses(&graph.node[i], &dynamic) => {
                    wanted.insert(i);
                    open.extend(graph.node[i].input.iter().map(String::as_str));
                }
                _ => crossing.push(name.into()),
            }
        }
        let mask = texts.as_ref().and_then(|texts| texts.mask.as_ref());
        crossing.extend(mask.filter(|mask| !crossing.contains(mask)).cloned().into_iter().collect::<Vec<_>>());
        let mut nodes: Vec<usize> = wanted.into_iter().collect();
        nodes.sort_unstable();
        // The tensor that the user named, by that name; others by their own. An output cannot be called like an
        // input.
        let spec = |(i, tensor): (usize, &String)| {
            let tensor = if i == 0 && matches!(begin, Begin::Tensor(_)) { shown } else { tensor };
            let is_input = graph.input.iter().any(|v| v.name == tensor);
            let name = if is_input { format!("{tensor}_as_is") } else { tensor.to_string() };
            OutputSpec { name, tensor: tensor.into(), select: Select::All }
        };
        let frontier = crossing.iter().enumerate().map(spec).collect();
        Ok(Self { model, opset, facts, nodes, crossing, frontier, outputs, texts })
    }

    /// Takes the values of all weights out of the model that this was found in but for those that it reads; in what is
    /// left it is found again.
    pub fn keep_weights(&self, model: &mut ModelProto) {
        let nodes = self.model.graph.iter().flat_map(|graph| self.nodes.iter().map(|i| &graph.node[*i]));
        let read: HashSet<&str> = nodes.flat_map(|node| &node.input).map(String::as_str).collect();
        let is_weight = |tensor: &TensorProto| {
            let is_float = matches!(
                tensor.data_type(),
                DataType::Float | DataType::Float16 | DataType::Bfloat16 | DataType::Double
            );
            // Small ones may say how the model works.
            is_float && tensor.element_count().is_ok_and(|count| count > MOST_OF_A_SETTING)
        };
        for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
            if is_weight(tensor) && !read.contains(tensor.name.as_str()) {
                let (name, dims, data_type) = (std::mem::take(&mut tensor.name), tensor.dims.clone(), tensor.data_type);
                *tensor = TensorProto { name, dims, data_type, ..TensorProto::default() };
            }
        }
    }

    /// The tensors that cross the cut, to be stored: the graph's inputs, in this order.
    pub fn frontier(&self) -> &[OutputSpec] {
        &self.frontier
    }

    /// Convolutions in the trained part, and norms of batches.
    pub fn convolutions_and_batch_norms(&self) -> [usize; 2] {
        let nodes = self.model.graph.iter().flat_map(|graph| self.nodes.iter().map(|i| &graph.node[*i]));
        nodes.fold([0, 0], |[convolutions, norms], node| {
            [convolutions + usize::from(node.is("Conv")), norms + usize::from(node.is("BatchNormalization"))]
        })
    }

    /// The shape of one row of each tensor that crosses, where it is known without running.
    pub fn row_shapes(&self) -> Vec<Option<Vec<usize>>> {
        self.crossing.iter().map(|name| self.row_shape(name)).collect()
    }

    fn row_shape(&self, tensor: &str) -> Option<Vec<usize>> {
        // The trained part may not read it.
        if let Some(texts) = self.texts.as_ref().filter(|texts| texts.mask.as_deref() == Some(tensor)) {
            return Some(vec![texts.tokens]);
        }
        self.facts.get(tensor)?.row_shape()?.into_iter().collect()
    }

    /// Adds the trained part to a graph: from the tensors that cross, `inputs`, to the outputs, which get their
    /// names.
    ///
    /// # Errors
    /// A node cannot be trained: the error names it, its operator, and the nearest tensor above it from which
    /// on the rest can be.
    pub fn build(&self, graph: &mut Graph, inputs: &[ValueId], start: Start) -> Result<Vec<ValueId>> {
        self.try_build(graph, inputs, start).map_err(|(at, error)| match at.and_then(|at| self.nearest(at)) {
            Some(tensor) => error.hint(format!("above it, the model can be trained from `{tensor}` on")),
            None => error,
        })
    }

    fn try_build(
        &self,
        graph: &mut Graph,
        inputs: &[ValueId],
        start: Start,
    ) -> Result<Vec<ValueId>, (Option<usize>, Error)> {
        let plain = |error: Error| (None, error);
        let file = self.model.graph.as_ref().ok_or_else(|| plain(Error::failed("the cut model has no graph")))?;
        let nodes: Vec<&NodeProto> = self.nodes.iter().map(|i| &file.node[*i]).collect();
        let mut facts = self.facts.clone();
        for (name, id) in self.crossing.iter().zip(inputs) {
            let dims = graph.shape(*id).dims.iter().map(|d| Dim::Known(*d as i64));
            let fact = facts.entry(name.clone()).or_insert(shape::Fact::UNKNOWN);
            fact.dims = Some(std::iter::once(Dim::BATCH).chain(dims).collect());
        }
        let described = shape::Described::of(file);
        nodes.iter().for_each(|node| shape::step(&mut facts, &described, node, self.opset));
        let mut importer = Importer::new(graph, &facts, self.opset, start);
        let mut names: HashSet<&str> = nodes.iter().flat_map(|node| &node.input).map(String::as_str).collect();
        for tensor in file.initializer.iter().filter(|t| names.remove(t.name.as_str())) {
            if let Some(constant) = Constant::read(tensor, true).map_err(plain)? {
                importer.define(&tensor.name, Item::Constant(constant));
            }
        }
        for name in names {
            if let Some(constant) =
                facts.get(name).and_then(Constant::of_fact).filter(|_| !self.crossing.iter().any(|c| c == name))
            {
                importer.define(name, Item::Constant(constant));
            }
        }
        for (name, id) in self.crossing.iter().zip(inputs) {
            let view = importer.views.whole(*id).map_err(plain)?;
            importer.define(name, Item::View(view));
        }
        let kept: HashSet<&str> = self.outputs.iter().map(|output| output.name.as_str()).collect();
        importer.run(&nodes, &kept).map_err(|(i, error)| (Some(self.nodes[i]), error))?;
        let texts = self.texts.as_ref().and_then(|texts| Some((texts.tokens, texts.mask.as_ref()?)));
        let mask = texts.and_then(|(tokens, mask)| {
            Some((tokens, *inputs.get(self.crossing.iter().position(|name| name == mask)?)?))
        });
        let mut ends: Vec<ValueId> = Vec::new();
        for Output { name, pooled } in &self.outputs {
            let view = importer.result(name).cloned();
            let view = view.ok_or_else(|| {
                plain(Error::bad_input(format!("the output `{name}` is not computed from the sample")))
            })?;
            let mut id = importer.views.exact(&view).map_err(plain)?;
            let graph = &mut *importer.views.graph;
            if let Some((_, mask)) = mask.filter(|_| *pooled) {
                ends.push(texts::pool(graph, name, id, mask).map_err(plain)?);
                continue;
            }
            let value = &graph.values()[id.index()];
            if value.name != *name {
                if ends.contains(&id) || !matches!(value.origin, Origin::Node(_)) {
                    let dims = value.shape.dims.clone();
                    id = graph.node(name, crate::graph::op::Reshape { dims }, &[id]).map_err(plain)?;
                } else {
                    graph.rename(id, name).map_err(plain)?;
                }
            }
            ends.push(id);
            if let Some((tokens, mask)) = mask
                && matches!(graph.shape(id).dims[..], [of, _] if of == tokens)
            {
                ends.push(texts::mask_of(graph, name, mask).map_err(plain)?);
            }
        }
        Ok(ends)
    }

    /// The first tensor behind a node from which on the rest can be trained, and which alone crosses.
    fn nearest(&self, node: usize) -> Option<String> {
        let file = self.model.graph.as_ref()?;
        let candidates = self.nodes.iter().filter(|i| **i >= node).filter_map(|i| file.node[*i].output.first());
        candidates.take(MOST_TRIED).find(|name| self.works_from(name).is_some()).cloned()
    }

    fn works_from(&self, tensor: &str) -> Option<()> {
        let begin = Begin::Tensor(tensor.into());
        let (model, outputs, texts) = (self.model.clone(), self.outputs.clone(), self.texts.clone());
        let tail = Self::of_cut(model, self.facts.clone(), outputs, &begin, tensor, texts).ok()?;
        // Beside it, masks cross.
        if self.texts.is_none() && tail.crossing.len() > 1 {
            return None;
        }
        let mut graph = Graph::new();
        let input = |name: &String| graph.input(name, &tail.row_shape(name)?).ok();
        let inputs = tail.crossing.iter().map(input).collect::<Option<Vec<_>>>()?;
        tail.try_build(&mut graph, &inputs, Start::Pretrained).ok().filter(|_| graph.parameter_count() > 0).map(drop)
    }
}

/// Tensors that are tried before no advice is given.
const MOST_TRIED: usize = 200;

/// Whether the exporter's name of a node has the block as a scope, `/layer4/layer4.0/conv1/Conv`, or as scopes one inside
/// the other, whose names the exporter shortens: `features.denseblock4` in `/features/denseblock4/denselayer1/Concat`.
fn in_block(node: &NodeProto, block: &str) -> bool {
    let mut scopes = node.name.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>();
    scopes.pop();
    let depth = block.split('.').count();
    scopes.contains(&block)
        || depth > 1 && scopes.windows(depth).any(|inside| inside.iter().copied().eq(block.split('.')))
}

/// Whether there is one of a tensor for each sample.
fn has_batch(facts: &Facts, tensor: &str) -> bool {
    let first = facts.get(tensor).and_then(|fact| fact.dims.as_ref()?.first());
    first.is_some_and(|first| first.is_batch())
}

fn begin(graph: &GraphProto, train_from: &str) -> Result<Begin> {
    let maker = |name: &str| graph.node.iter().find(|node| node.output.iter().any(|o| o == name));
    if maker(train_from).is_some() || graph.input.iter().any(|v| v.name == train_from) {
        // Another name of a tensor is no tensor that anything depends on.
        let mut name = train_from;
        while let Some(source) = maker(name).filter(|node| node.is("Identity")).and_then(|node| node.input_name(0)) {
            name = source;
        }
        return Ok(Begin::Tensor(name.into()));
    }
    if graph.node.iter().any(|node| in_block(node, train_from)) {
        return Ok(Begin::Block(train_from.into()));
    }
    let tensors = graph.node.iter().flat_map(|node| &node.output).chain(graph.input.iter().map(|v| &v.name));
    let scopes = graph.node.iter().flat_map(|node| node.name.split('/'));
    let mut names: Vec<&str> = tensors.map(String::as_str).chain(scopes).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    let guess = did_you_mean(train_from, names);
    Err(Error::bad_input(format!("the model has no tensor or block `{train_from}`{guess}"))
        .hint("`caft engine inspect MODEL` shows the tensors of a model"))
}
