//! Which trials train together, and why others do not.

use super::parts::Parts;
use crate::base::Result;
use crate::graph::Targets;
use crate::optim::SchedulerConfig;
use crate::recipe::Backend;
use crate::train::Member;
use crate::train::order;

/// The most bytes that the heads of one stack take.
const MOST_BYTES: usize = 1 << 30;
/// The most heads of one stack.
const MOST_HEADS: usize = 4096;

/// Members in their order: those that train together, and those that train alone, each with the reason.
#[derive(Default)]
pub(in crate::train) struct Kin<'m, 'a> {
    pub stacks: Vec<Vec<&'m Member<'a>>>,
    pub alone: Vec<(&'m Member<'a>, &'static str)>,
}

/// Why a member cannot be one of a stack, if it cannot.
fn obstacle(member: &Member<'_>) -> Result<Option<&'static str>> {
    let recipe = &member.config.recipe;
    let watches = recipe.early_stopping.is_some() || matches!(recipe.scheduler, SchedulerConfig::Plateau(_));
    Ok(match Parts::of(&member.graph)? {
        _ if recipe.backend != Backend::Embedded => Some("another trainer than caft's own"),
        _ if recipe.optimizer.build().is_none() => Some("an optimiser that sees all rows at once"),
        _ if watches && member.data.valid.is_empty() => Some("validation rows are missing"),
        None => Some("nothing is trained by steps"),
        Some(_) => None,
    })
}

/// Bytes that a head takes: its weights, their gradient, the best of them, and what the optimiser keeps.
fn bytes(member: &Member<'_>) -> usize {
    let recipe = &member.config.recipe;
    let slots = recipe.optimizer.build().map_or(0, |optimizer| optimizer.slots());
    let copies = 3 + slots + usize::from(recipe.ema.is_some()) + usize::from(recipe.accumulate > 1);
    member.graph.parameter_count().saturating_mul(copies * 4)
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

impl<'m, 'a> Kin<'m, 'a> {
    /// Parts members.
    ///
    /// # Errors
    /// None for graphs that could be built.
    pub fn of(members: &'m [Member<'a>]) -> Result<Self> {
        let mut kin = Self::default();
        let mut taken: Vec<usize> = Vec::new();
        for member in members {
            if let Some(why) = obstacle(member)? {
                kin.alone.push((member, why));
                continue;
            }
            let own = bytes(member);
            let place = kin.stacks.iter().zip(&taken).position(|(stack, taken)| {
                taken.saturating_add(own) <= MOST_BYTES && stack.len() < MOST_HEADS && are_kin(stack[0], member)
            });
            match place {
                Some(place) => {
                    kin.stacks[place].push(member);
                    taken[place] += own;
                }
                None => {
                    kin.stacks.push(vec![member]);
                    taken.push(own);
                }
            }
        }
        let single = kin.stacks.extract_if(.., |stack| stack.len() == 1).flatten();
        kin.alone.extend(single.map(|member| (member, "no other trial reads the same batches")));
        Ok(kin)
    }
}
