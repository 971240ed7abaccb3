//! A graph parted into what all trials compute alike, the layer that is computed for all at once, and the rest.

use crate::base::Result;
use crate::graph::op::Op;
use crate::graph::{Graph, Node, Origin, ValueId};

/// The parts of a graph.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parts {
    /// The values that the rest reads of what is shared: inputs of the graph, or what is computed of them.
    pub frontier: Vec<ValueId>,
    /// The layer that is computed for all heads at once, if there is one.
    pub layer: Option<Layer>,
    /// The nodes that each head computes by itself.
    pub own: Vec<bool>,
    /// What the model gives.
    pub output: ValueId,
    /// What is computed alike: of the inputs, by nodes that are neither trained nor random nor depend on a batch. Its
    /// outputs are the frontier, in order.
    pub shared: Graph,
}

/// A fully connected layer, the only reader of the frontier.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layer {
    pub weight: ValueId,
    pub bias: Option<ValueId>,
    pub output: ValueId,
    /// Numbers that it reads at a time.
    pub width: usize,
    /// Numbers that it makes of them.
    pub outputs: usize,
    /// How often it does so for a sample: once, or for each token.
    pub times: usize,
}

impl Parts {
    /// The parts of a graph; `None` of one without outputs or weights.
    ///
    /// # Errors
    /// None for graphs that could be built.
    pub fn of(graph: &Graph) -> Result<Option<Self>> {
        let Some((_, output)) = graph.outputs().first() else { return Ok(None) };
        let mut own = vec![false; graph.nodes().len()];
        for (n, node) in graph.nodes().iter().enumerate() {
            let is_own = |id: &ValueId| match graph.values()[id.index()].origin {
                Origin::Parameter { .. } => true,
                Origin::Node(before) => own[before],
                _ => false,
            };
            own[n] = matches!(node.op, Op::Dropout(_) | Op::BatchNorm(_)) || node.inputs.iter().any(is_own);
        }
        if !graph.values().iter().any(|value| matches!(value.origin, Origin::Parameter { .. })) {
            return Ok(None);
        }
        let is_shared = |id: &ValueId| match graph.values()[id.index()].origin {
            Origin::Input => true,
            Origin::Node(n) => !own[n],
            _ => false,
        };
        let mut frontier: Vec<ValueId> = Vec::new();
        let readers = graph.nodes().iter().zip(&own).filter(|(_, own)| **own).map(|(node, _)| node);
        for id in readers.flat_map(|node| &node.inputs).chain([output]).filter(|id| is_shared(id)) {
            if !frontier.contains(id) {
                frontier.push(*id);
            }
        }
        let layer = layer(graph, &own, &frontier, *output);
        let shared = shared(graph, &is_shared, &frontier)?;
        if let Some((node, _)) = &layer {
            own[*node] = false;
        }
        Ok(Some(Self { frontier, layer: layer.map(|(_, layer)| layer), own, output: *output, shared }))
    }
}

/// The layer with the number of its node: the one reader of the one value of the frontier.
fn layer(graph: &Graph, own: &[bool], frontier: &[ValueId], output: ValueId) -> Option<(usize, Layer)> {
    let [x] = frontier else { return None };
    let reading = |id: ValueId| {
        let nodes = graph.nodes().iter().enumerate().zip(own).filter(|(_, own)| **own).map(|(node, _)| node);
        nodes.filter(move |(_, node)| node.inputs.contains(&id)).collect::<Vec<(usize, &Node)>>()
    };
    let [(n, node)] = reading(*x)[..] else { return None };
    let (Op::Gemm(_), [first, weight, bias @ ..]) = (&node.op, node.inputs.as_slice()) else { return None };
    let is_trained = |id: &ValueId| {
        let trained = matches!(graph.values()[id.index()].origin, Origin::Parameter { .. });
        trained && reading(*id).len() == 1
    };
    if first != x || *x == output || !is_trained(weight) || bias.len() > 1 || !bias.iter().all(is_trained) {
        return None;
    }
    // Something must lead on to what the model gives.
    if node.output != output && reading(node.output).is_empty() {
        return None;
    }
    let (shape, outputs) = (graph.shape(*x), graph.shape(node.output).last());
    let (width, elements) = (shape.last(), shape.elements());
    let layer = Layer {
        weight: *weight,
        bias: bias.first().copied(),
        output: node.output,
        width,
        outputs,
        times: elements.checked_div(width)?,
    };
    (shape.batched && width > 0 && outputs > 0).then_some((n, layer))
}

/// What of a graph is shared, as a graph of its own.
fn shared(graph: &Graph, is_shared: &dyn Fn(&ValueId) -> bool, frontier: &[ValueId]) -> Result<Graph> {
    let mut part = Graph::new();
    let mut places = vec![None; graph.values().len()];
    let fitted = |id: ValueId| graph.fits().iter().any(|fit| fit.mean == id || fit.inverse_deviation == id);
    for (id, value) in graph.ids() {
        let read = || graph.nodes().iter().any(|node| is_shared(&node.output) && node.inputs.contains(&id));
        places[id.index()] = match &value.origin {
            Origin::Input => Some(part.input(&value.name, &value.shape.dims)?),
            Origin::Buffer { init } if fitted(id) || read() => {
                Some(part.buffer(&value.name, &value.shape.dims, init.clone())?)
            }
            Origin::Constant(values) if read() => {
                Some(part.constant(&value.name, &value.shape.dims, values.clone())?)
            }
            Origin::Node(n) if is_shared(&id) => {
                let node = &graph.nodes()[*n];
                let inputs: Option<Vec<ValueId>> = node.inputs.iter().map(|id| places[id.index()]).collect();
                Some(part.node(&value.name, node.op.clone(), &inputs.unwrap_or_default())?)
            }
            _ => None,
        };
    }
    let place = |id: ValueId| places[id.index()];
    for fit in graph.fits() {
        if let (Some(value), Some(mean), Some(inverse_deviation)) =
            (place(fit.value), place(fit.mean), place(fit.inverse_deviation))
        {
            part.fit(crate::graph::Fit { value, mean, inverse_deviation, eps: fit.eps });
        }
    }
    for id in frontier.iter().filter_map(|id| place(*id)) {
        part.output(&part.values()[id.index()].name.clone(), id);
    }
    Ok(part)
}

/// Whether graphs differ at most in what their weights begin with and how much is dropped: whether one execution
/// serves both.
pub(super) fn are_alike(a: &Graph, b: &Graph) -> bool {
    let value = |(a, b): (&crate::graph::Value, &crate::graph::Value)| {
        let origin = match (&a.origin, &b.origin) {
            (Origin::Parameter { decay: a, .. }, Origin::Parameter { decay: b, .. }) => a == b,
            (Origin::Buffer { .. }, Origin::Buffer { .. }) => true,
            (a, b) => a == b,
        };
        origin && a.name == b.name && a.shape == b.shape
    };
    let node = |(a, b): (&Node, &Node)| {
        let op = matches!((&a.op, &b.op), (Op::Dropout(_), Op::Dropout(_))) || a.op == b.op;
        op && a.inputs == b.inputs && a.output == b.output
    };
    a.values().len() == b.values().len()
        && a.nodes().len() == b.nodes().len()
        && a.values().iter().zip(b.values()).all(value)
        && a.nodes().iter().zip(b.nodes()).all(node)
        && (a.inputs(), a.outputs(), a.fits()) == (b.inputs(), b.outputs(), b.fits())
        && a.target_fit() == b.target_fit()
}
