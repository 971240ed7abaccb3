//! Stacked heads: trials whose graphs have one shape train together.
//!
//! A stack reads each batch of features once. Its heads stand in tiles; a tile's weights are one matrix
//! `[heads · outputs, width]`, so that logits and gradients of the whole tile are one matrix product each, and each
//! head's optimiser is applied to its part of the gradient while that is in the processor's cache. A tile takes all
//! steps of a window of batches before the next tile does, so that its weights and the optimisers' state stay near.
//!
//! Every head gets the bits that it would get alone: products add up in an order that does not depend on how many
//! columns they have ([`gemm`](crate::graph::gemm)), and losses, optimisers, schedules and metrics are the very ones
//! of the trainer.

mod head;
mod shape;
mod tile;
mod window;

use std::time::Instant;

use super::batch::Reader;
use super::order::epoch_order;
use super::{Data, Embedded, Member, TrialLog, Watch, embedded, fit};
use crate::base::{Cancel, Error, Result};
use crate::graph::Arithmetic;
use head::Head;
use shape::Shape;
pub(super) use shape::groups;
use tile::Tile;
use window::Windows;

/// The most bytes that the heads of one stack take.
const MOST_BYTES: usize = 1 << 30;

/// How many members of one shape make a stack.
pub(super) fn stack_size(member: &Member) -> usize {
    let width = Shape::of(&member.graph).map_or(usize::MAX, |shape| shape.outputs * shape.width);
    // Weights, their best, their gradient, and two of the optimiser's.
    (MOST_BYTES / (width.saturating_mul(5 * 4)).max(1)).clamp(1, 4096)
}

/// Trains members of one shape. A head that fails is told to `watch`, and the others go on.
///
/// # Errors
/// The features cannot be read; those of `watch`; [`Error::Interrupted`].
pub(super) fn train(members: &[&Member], data: &Data<'_>, cancel: &Cancel, watch: &mut dyn Watch) -> Result<()> {
    embedded::on_workers(|| run(members, data, cancel, watch))
}

fn run(members: &[&Member], data: &Data<'_>, cancel: &Cancel, watch: &mut dyn Watch) -> Result<()> {
    let [first, ..] = members else { return Ok(()) };
    let graph = &first.graph;
    let shape = Shape::of(graph).ok_or_else(|| Error::failed("a graph of another shape came into a stack"))?;
    let facts = data.facts(graph, &first.config)?;
    let batch_size = first.config.batch_size();
    let mut reader = Reader::new(graph, data.features, data.targets, batch_size)?;
    // What is fitted depends on the rows alone, which all members share.
    let mut fitted = Embedded::new(graph, &graph.initial_weights(0), &first.config, &facts)?;
    fit::statistics(&mut fitted, graph, data, &mut reader, cancel)?;
    let fitted = super::Trainer::weights(&fitted)?;
    let mut heads = Vec::new();
    for member in members {
        match Head::new(member, &shape, &facts) {
            Ok(head) => heads.push(head),
            Err(error) => watch.ended(member.number, Err(error))?,
        }
    }
    let mut windows = Windows::new(graph, &shape, &fitted, batch_size)?;
    let mut tiles = Tile::of(heads, &shape, batch_size);
    let mut epoch = 0;
    while !tiles.is_empty() {
        let began = Instant::now();
        let order = epoch_order(data, &first.config, epoch)?;
        let steps_per_epoch = order.len().div_ceil(batch_size) as u64;
        let mut step = u64::from(epoch) * steps_per_epoch;
        windows.each(&mut reader, &order, first.config.recipe.precision, cancel, |batches| {
            Tile::all(&mut tiles, |tile| tile.train(batches, step, steps_per_epoch));
            step += batches.len() as u64;
            Ok(())
        })?;
        if !data.valid.is_empty() {
            Tile::all(&mut tiles, Tile::begin_measure);
            windows.each(&mut reader, data.valid, Arithmetic::Fp32, cancel, |batches| {
                Tile::all(&mut tiles, |tile| tile.measure(batches));
                Ok(())
            })?;
        }
        epoch += 1;
        let mut heads = Tile::into_heads(tiles);
        let seconds = began.elapsed().as_secs_f64() / heads.len().max(1) as f64;
        for head in &mut heads {
            head.end_epoch(step, seconds, !data.valid.is_empty());
        }
        let (going, failed): (Vec<Head>, Vec<Head>) = heads.into_iter().partition(|head| head.error.is_none());
        for head in failed {
            let number = head.number;
            watch.ended(number, head.end(&shape, &fitted, false))?;
        }
        let logs: Vec<TrialLog<'_>> =
            going.iter().filter_map(|head| Some(TrialLog { member: head.number, log: head.last_log()? })).collect();
        let given_up = watch.epoch(&logs)?;
        let mut rest = Vec::new();
        for head in going {
            let (number, stopped) = (head.number, given_up.contains(&head.number));
            if head.is_finished() || stopped {
                let stopped = stopped && !head.is_finished();
                watch.ended(number, head.end(&shape, &fitted, stopped))?;
            } else {
                rest.push(head);
            }
        }
        tiles = Tile::of(rest, &shape, batch_size);
    }
    Ok(())
}
