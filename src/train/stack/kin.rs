//! Which trials train together, and why others do not.

use super::memory;
use super::parts::{Parts, are_alike};
use crate::base::Result;
use crate::graph::{Graph, Targets};
use crate::optim::SchedulerConfig;
use crate::recipe::Backend;
use crate::train::Member;
use crate::train::order;

/// The most heads of one stack.
const MOST_HEADS: usize = 4096;
/// Why a member trains alone.
const NO_KIN: &str = "no other trial reads the same batches";
/// Why a member trains alone beside a stack that it could be in.
const NO_ROOM: &str = "together with others it would take more than 1 GiB of memory";

/// Members in their order: those that train together, and those that train alone, each with the reason.
#[derive(Default)]
pub(in crate::train) struct Kin<'m, 'a> {
    pub stacks: Vec<Vec<&'m Member<'a>>>,
    pub alone: Vec<(&'m Member<'a>, &'static str)>,
}

/// Why a member cannot be one of a stack, if it cannot; `parts` are those of its graph.
fn obstacle(member: &Member<'_>, parts: Option<&Parts>) -> Option<&'static str> {
    let recipe = &member.config.recipe;
    let watches = recipe.early_stopping.is_some() || matches!(recipe.scheduler, SchedulerConfig::Plateau(_));
    match parts {
        _ if recipe.backend != Backend::Embedded => Some("another trainer than caft's own"),
        _ if recipe.optimizer.build().is_none() => Some("an optimiser that sees all rows at once"),
        _ if watches && member.data.valid.is_empty() => Some("validation rows are missing"),
        None => Some("nothing is trained by steps"),
        Some(_) => None,
    }
}

/// Whether members read the same batches, of which each takes its rows.
fn are_kin(a: &Member<'_>, b: &Member<'_>) -> bool {
    let (one, other) = (&a.config, &b.config);
    let same_rows = |a: &[u32], b: &[u32]| std::ptr::eq(a, b) || a == b;
    let same_targets = match (a.data.targets, b.data.targets) {
        (Targets::Classes(a), Targets::Classes(b))
        | (Targets::Pairs { samples: a, .. }, Targets::Pairs { samples: b, .. }) => std::ptr::eq(a, b),
        (Targets::MultiLabel { values: a, .. }, Targets::MultiLabel { values: b, .. })
        | (Targets::Values { values: a, .. }, Targets::Values { values: b, .. }) => std::ptr::eq(a, b),
        _ => false,
    };
    let orders = |member: &Member<'_>| {
        let config = &member.config;
        (config.batch_size(), config.order_seed, config.recipe.precision)
    };
    let (valid, others) = (a.data.valid, b.data.valid);
    orders(a) == orders(b)
        && one.recipe.sampler == other.recipe.sampler
        && std::ptr::addr_eq(a.data.features, b.data.features)
        && same_targets
        && same_rows(order::pool(&a.data, one), order::pool(&b.data, other))
        // Rows of several members are read in the order of the data set.
        && (same_rows(valid, others) || valid.is_sorted() && others.is_sorted())
}

/// Members that train together, with the shapes of their graphs.
struct Stack<'m, 'a> {
    members: Vec<&'m Member<'a>>,
    shapes: Vec<usize>,
    bytes: usize,
}

impl<'m, 'a> Kin<'m, 'a> {
    /// Parts members.
    ///
    /// # Errors
    /// None for graphs that could be built.
    pub fn of(members: &'m [Member<'a>]) -> Result<Self> {
        Self::within(members, memory::MOST_BYTES)
    }

    /// Parts members so that those of a stack together take at most so many bytes.
    fn within(members: &'m [Member<'a>], most: usize) -> Result<Self> {
        let mut alone = Vec::new();
        let mut stacks: Vec<Stack<'m, 'a>> = Vec::new();
        // Graphs by their shape and the size of batches, with their parts and the bytes that are shared.
        let mut shapes: Vec<(&Graph, usize, Option<Parts>, usize)> = Vec::new();
        for member in members {
            let (graph, batch_size) = (&member.graph, member.config.batch_size());
            let known = shapes.iter().position(|(of, batch, ..)| *batch == batch_size && are_alike(of, graph));
            let shape = match known {
                Some(shape) => shape,
                None => {
                    let parts = Parts::of(graph)?;
                    let bytes = parts.as_ref().map_or(Ok(0), |parts| memory::of_shape(graph, parts, batch_size))?;
                    shapes.push((graph, batch_size, parts, bytes));
                    shapes.len() - 1
                }
            };
            let (_, _, parts, of_shape) = &shapes[shape];
            if let Some(why) = obstacle(member, parts.as_ref()) {
                alone.push((member, why));
                continue;
            }
            let own = parts.as_ref().map_or(0, |parts| memory::of_head(member, parts));
            let more = |stack: &Stack<'_, '_>| own + if stack.shapes.contains(&shape) { 0 } else { *of_shape };
            let fits = |stack: &&mut Stack<'_, '_>| {
                stack.bytes.saturating_add(more(stack)) <= most
                    && stack.members.len() < MOST_HEADS
                    && are_kin(stack.members[0], member)
            };
            match stacks.iter_mut().find(fits) {
                Some(stack) => {
                    stack.bytes += more(stack);
                    stack.members.push(member);
                    if !stack.shapes.contains(&shape) {
                        stack.shapes.push(shape);
                    }
                }
                None => {
                    let bytes = memory::ALWAYS.saturating_add(own).saturating_add(*of_shape);
                    stacks.push(Stack { members: vec![member], shapes: vec![shape], bytes });
                }
            }
        }
        for (at, stack) in stacks.iter().enumerate().filter(|(_, stack)| stack.members.len() == 1) {
            let member = stack.members[0];
            let is_kin = |(other, stack): (usize, &Stack<'_, '_>)| other != at && are_kin(stack.members[0], member);
            let why = if stacks.iter().enumerate().any(is_kin) { NO_ROOM } else { NO_KIN };
            alone.push((member, why));
        }
        let stacks = stacks.into_iter().map(|stack| stack.members).filter(|members| members.len() > 1);
        Ok(Self { stacks: stacks.collect(), alone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Targets;
    use crate::neck::NeckChain;
    use crate::train::{Data, InMemory, TrainConfig, build_graph};

    /// Members whose heads have a hidden layer of these widths.
    fn members<'a>(data: Data<'a>, hidden: &[usize]) -> Vec<Member<'a>> {
        let member = |(number, hidden): (usize, &usize)| {
            let head = serde_json::from_value(serde_json::json!({"kind": "mlp", "hidden": [hidden]})).unwrap();
            let graph = build_graph(&NeckChain::default(), &head, data.features.inputs(), 3).unwrap();
            let recipe = crate::recipe::TrainConfig { batch_size: 64, ..Default::default() };
            Member { number, graph, config: TrainConfig { recipe, metrics: Vec::new(), order_seed: 0, seed: 0 }, data }
        };
        hidden.iter().enumerate().map(member).collect()
    }

    #[test]
    fn stacks_have_room_for_weights_activations_and_the_optimisers_state() {
        let (features, classes) = (InMemory::new(8).with("x", &[10], vec![0.0; 80]).unwrap(), [0; 8]);
        let rows: Vec<u32> = (0..8).collect();
        let data = Data::new(&features, Targets::Classes(&classes), &rows[..6], &rows[6..]);
        let members = members(data, &[100, 100, 100, 100, 100, 2000]);
        let parts = Parts::of(&members[0].graph).unwrap().unwrap();
        let (head, shape) =
            (memory::of_head(&members[0], &parts), memory::of_shape(&members[0].graph, &parts, 64).unwrap());
        // Weights of 1,403 numbers with their gradient, the best, and two slots of AdamW; the layer's 100 outputs.
        assert_eq!(head, 4 * (5 * 1403 + 64 * 100));
        assert!(shape > 64 * 4 * 2 * 100, "activations and their gradients: {shape}");
        let kin = Kin::within(&members, memory::ALWAYS + shape + 2 * head).unwrap();
        assert_eq!(kin.stacks.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
        let alone: Vec<(usize, &str)> = kin.alone.iter().map(|(member, why)| (member.number, *why)).collect();
        assert_eq!(alone, [(4, NO_ROOM), (5, NO_ROOM)]);
        assert_eq!(Kin::of(&members).unwrap().stacks[0].len(), 6);
    }
}
