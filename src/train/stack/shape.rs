//! Which trials can be stacked.

use crate::graph::op::Op;
use crate::graph::{Graph, Origin, Targets, Task, ValueId};
use crate::recipe;
use crate::train::{Data, Member};

/// A graph that is one layer on top of features: anything that is not trained, then `Gemm`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    /// What the layer reads.
    pub features: ValueId,
    /// Numbers of a row of it.
    pub width: usize,
    /// Numbers that the layer gives.
    pub outputs: usize,
    /// The layer's weight `[outputs, width]`, and whether it decays.
    pub weight: (String, bool),
    /// The layer's bias `[outputs]`, and whether it decays.
    pub bias: Option<(String, bool)>,
}

impl Shape {
    /// The shape of a graph, if it is one layer.
    pub fn of(graph: &Graph) -> Option<Self> {
        let [(_, output)] = graph.outputs() else { return None };
        let parameter = |id: &ValueId| match &graph.values()[id.index()].origin {
            Origin::Parameter { decay, .. } => Some((graph.values()[id.index()].name.clone(), *decay)),
            _ => None,
        };
        let last = graph.nodes().last().filter(|node| node.output == *output)?;
        let (Op::Gemm(_), [features, weight, bias @ ..]) = (&last.op, last.inputs.as_slice()) else { return None };
        let bias = match bias {
            [] => None,
            [bias] => Some(parameter(bias)?),
            _ => return None,
        };
        let trained = graph.values().iter().filter(|v| matches!(v.origin, Origin::Parameter { .. })).count();
        let random = graph.nodes().iter().any(|node| matches!(node.op, Op::Dropout(_)));
        let (shape, weight) = (graph.shape(*features), parameter(weight)?);
        if trained != 1 + usize::from(bias.is_some()) || random || shape.dims.len() != 1 || !shape.batched {
            return None;
        }
        Some(Self { features: *features, width: shape.last(), outputs: graph.shape(*output).last(), weight, bias })
    }
}

/// Whether nothing asks for more than a stack does.
fn is_plain(member: &Member, data: &Data<'_>) -> bool {
    let own = &member.config.recipe;
    let plain = recipe::TrainConfig {
        epochs: own.epochs,
        batch_size: own.batch_size,
        optimizer: own.optimizer.clone(),
        scheduler: own.scheduler.clone(),
        loss: own.loss.clone(),
        early_stopping: own.early_stopping,
        fraction: own.fraction,
        seed: own.seed,
        order_seed: own.order_seed,
        precision: own.precision,
        ..recipe::TrainConfig::default()
    };
    let classes = matches!(data.targets, Targets::Classes(_)) && own.loss().task() == Task::Classes;
    let steps = own.optimizer.build().is_some();
    let stops = own.early_stopping.is_none() || !data.valid.is_empty();
    *own == plain && classes && steps && stops && Shape::of(&member.graph).is_some()
}

/// The members parted into those that train together, and those that train alone, each in their order.
pub(in crate::train) fn groups<'a>(members: &'a [Member], data: &Data<'_>) -> (Vec<Vec<&'a Member>>, Vec<&'a Member>) {
    let (mut groups, mut alone): (Vec<Vec<&Member>>, Vec<&Member>) = (Vec::new(), Vec::new());
    for member in members {
        if !is_plain(member, data) {
            alone.push(member);
            continue;
        }
        let batches =
            |member: &Member| (member.config.batch_size(), member.config.order_seed, member.config.recipe.precision);
        let together = |group: &&mut Vec<&Member>| {
            let first = group[0];
            batches(first) == batches(member) && first.graph == member.graph && group.len() < super::stack_size(first)
        };
        match groups.iter_mut().find(together) {
            Some(group) => group.push(member),
            None => groups.push(vec![member]),
        }
    }
    alone.extend(groups.extract_if(.., |group| group.len() == 1).flatten());
    (groups, alone)
}
