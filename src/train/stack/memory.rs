//! What a stack takes of memory, by which members are parted into several.

use super::parts::Parts;
use super::window;
use crate::base::Result;
use crate::graph::{Execution, Graph};
use crate::train::Member;

/// The most bytes that a stack takes, if it has more than one head.
pub(super) const MOST_BYTES: usize = 1 << 30;

/// Bytes that a stack takes whatever its heads are: batches that wait to be trained on.
pub(super) const ALWAYS: usize = window::BYTES;

/// Bytes that a head has to itself: its weights, their gradient, the best of them, what the optimiser keeps, what the
/// common layer gives it of a batch, and what metrics keep of the rows that it is validated on.
pub(super) fn of_head(member: &Member<'_>, parts: &Parts) -> usize {
    let recipe = &member.config.recipe;
    let slots = recipe.optimizer.build().map_or(0, |optimizer| optimizer.slots());
    let copies = 3 + slots + usize::from(recipe.ema.is_some()) + usize::from(recipe.accumulate > 1);
    let given = parts.layer.as_ref().map_or(0, |layer| layer.outputs * layer.times * member.config.batch_size());
    let width = member.graph.shape(parts.output).last();
    let kept = member.config.metrics.iter().map(|metric| metric.start(width).bytes_per_row()).sum::<usize>();
    let numbers = member.graph.parameter_count().saturating_mul(copies).saturating_add(given);
    numbers.saturating_mul(4).saturating_add(kept.saturating_mul(member.data.valid.len()))
}

/// Bytes that heads of one shape share: on each thread the activations of a batch and their gradients.
///
/// # Errors
/// The buffers would be absurdly large.
pub(super) fn of_shape(graph: &Graph, parts: &Parts, batch_size: usize) -> Result<usize> {
    let room = Execution::<f32>::part(graph, batch_size, parts.own.clone())?.bytes();
    Ok(room.saturating_mul(rayon::current_num_threads() + 1))
}
