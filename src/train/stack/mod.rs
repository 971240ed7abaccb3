//! Stacked heads: trials that read the same batches train together.
//!
//! A stack reads each batch of features once, whatever is above them. Folds and shares of the same rows are masks
//! over one order ([`Data::pool`]): each head takes its own rows as they come by, in batches of its own. What heads
//! compute alike, such as standardized features, is computed once for all of them (`source`).
//!
//! Heads whose graphs have one shape stand in tiles. If all that they read goes into a fully connected layer, that is
//! computed for a whole tile at once: its weights are one matrix `[heads · outputs, width]`, so that the layer and its
//! gradient are one matrix product each, with features that were laid out once for all of them (`factor`). The rest of
//! its graph each head computes by itself, and its optimiser is applied to its part of the gradient while that is in the
//! processor's cache. A tile takes all steps of a window of batches before the next tile does, so that its weights and
//! the optimisers' state stay near.
//!
//! Every head gets the bits that it would get alone: products add up in an order that does not depend on how many
//! columns they have ([`gemm`](crate::graph::gemm)), and operators, losses, optimisers, schedules and metrics are the
//! very ones of the trainer.

mod factor;
mod fits;
mod head;
mod kin;
mod memory;
mod parts;
mod shape;
mod source;
mod tile;
mod window;

use std::time::Instant;

use super::batch::Reader;
use super::order::epoch_order;
use super::{Data, Member, TrialLog, Watch, embedded};
use crate::base::{Cancel, Error, Result};
use crate::graph::Task;
use crate::loss::TargetFacts;
use head::Head;
pub(super) use kin::Kin;
use parts::Parts;
use shape::Shape;
use source::Source;
use tile::{Seat, Tile};

/// Trains members that read the same batches. A head that fails is told to `watch`, and the others go on.
///
/// # Errors
/// The features cannot be read; those of `watch`; [`Error::Interrupted`].
pub(super) fn train(members: &[&Member<'_>], cancel: &Cancel, watch: &mut dyn Watch) -> Result<()> {
    embedded::on_workers(|| run(members, cancel, watch))
}

fn run(members: &[&Member<'_>], cancel: &Cancel, watch: &mut dyn Watch) -> Result<()> {
    let [first, ..] = members else { return Ok(()) };
    let Data { features, targets, .. } = first.data;
    let mut reader = Reader::new(&first.graph, features, targets, first.config.batch_size())?;
    let (mut seats, mut sources, shapes) = seat(members, &mut reader, cancel, watch)?;
    let valid = union(&sources);
    // Rows are put in order before anyone's are left out.
    let pool = super::order::pool(&first.data, &first.config);
    let whole = Data { train: pool, pool, ..first.data };
    let mut epoch = 0;
    while !seats.is_empty() {
        let began = Instant::now();
        let mut order = epoch_order(&whole, &first.config, epoch)?;
        for (number, source) in sources.iter_mut().enumerate() {
            source.is_read = seats.iter().any(|seat| seat.source == number);
            source.begin(order.len(), valid.len(), epoch);
        }
        order.retain(|row| sources.iter().any(|source| source.is_read && source.trains(*row)));
        let mut tiles = Tile::of(seats, &shapes);
        window::each(&mut reader, features, &mut sources, &order, Some(epoch), cancel, |sources| {
            Tile::all(&mut tiles, |tile| tile.train(sources));
            Ok(())
        })?;
        Tile::all(&mut tiles, Tile::begin_measure);
        window::each(&mut reader, features, &mut sources, &valid, None, cancel, |sources| {
            Tile::all(&mut tiles, |tile| tile.measure(sources));
            Ok(())
        })?;
        epoch += 1;
        let mut all = Tile::into_seats(tiles);
        let seconds = began.elapsed().as_secs_f64() / all.len().max(1) as f64;
        all.iter_mut().for_each(|seat| seat.head.end_epoch(seconds, !sources[seat.source].data.valid.is_empty()));
        seats = leave(all, watch)?;
    }
    Ok(())
}

/// Makes a head of each member, and what they read and share.
fn seat<'a>(
    members: &[&Member<'a>],
    reader: &mut Reader<'_>,
    cancel: &Cancel,
    watch: &mut dyn Watch,
) -> Result<(Vec<Seat>, Vec<Source<'a>>, Vec<Shape>)> {
    let (mut sources, mut shapes): (Vec<Source<'_>>, Vec<Shape>) = Default::default();
    let mut places = Vec::new();
    for member in members {
        match place(member, &mut sources, &mut shapes) {
            Ok((source, shape)) => places.push((*member, source, shape)),
            Err(error) => watch.ended(member.number, Err(error))?,
        }
    }
    fits::all(&mut sources, reader, cancel)?;
    let mut seats = Vec::new();
    let mut known: Vec<(usize, usize, Task, TargetFacts)> = Vec::new();
    let mut begin = |member: &Member<'a>, source: usize, shape: usize| -> Result<Seat> {
        let (graph, of) = (&member.graph, &sources[source]);
        if let Some(failure) = &of.failure {
            return Err(Error::bad_input(failure));
        }
        let task = member.config.recipe.loss().task();
        let facts = match known.iter().find(|(a, b, c, _)| (*a, *b, *c) == (source, shape, task)) {
            Some((.., facts)) => facts.clone(),
            None => {
                let facts = member.data.facts(graph, &member.config)?;
                known.push((source, shape, task, facts.clone()));
                facts
            }
        };
        let mut fitted = of.fitted();
        if graph.fits().len() > of.shared.fits().len() {
            let mut weights = graph.initial_weights(member.config.seed);
            weights.0.extend(fitted.0);
            fitted = fits::of_weights(graph, &weights, (&member.data, of.batch_size), reader, cancel)?;
        }
        let mut head = Head::new(member, &shapes[shape].parts, &fitted, &facts)?;
        head.graph = (shapes[shape].graph() != graph).then(|| graph.clone());
        Ok(Seat { source, shape, head })
    };
    for (member, source, shape) in places {
        match begin(member, source, shape) {
            Ok(seat) => seats.push(seat),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => watch.ended(member.number, Err(error))?,
        }
    }
    Ok((seats, sources, shapes))
}

/// The source and the shape of a member, by number; those that are new are added.
fn place<'a>(member: &Member<'a>, sources: &mut Vec<Source<'a>>, shapes: &mut Vec<Shape>) -> Result<(usize, usize)> {
    let graph = &member.graph;
    let shape = match shapes.iter().position(|shape| shape.is_of(graph)) {
        Some(shape) => shape,
        None => {
            let nothing = || Error::failed("a graph without weights came into a stack");
            let parts = Parts::of(graph)?.ok_or_else(nothing)?;
            shapes.push(Shape::new(graph, parts, member.config.batch_size())?);
            shapes.len() - 1
        }
    };
    let parts = &shapes[shape].parts;
    let source = match sources.iter().position(|source| source.is_of(member, parts)) {
        Some(source) => source,
        None => {
            sources.push(Source::new(member, parts)?);
            sources.len() - 1
        }
    };
    Ok((source, shape))
}

/// All rows that any source validates on, in the order in which each has its own.
fn union(sources: &[Source<'_>]) -> Vec<u32> {
    let mut lists = sources.iter().map(|source| source.data.valid);
    let Some(first) = lists.next() else { return Vec::new() };
    if lists.all(|list| list == first) {
        return first.to_vec();
    }
    let mut all: Vec<u32> = sources.iter().flat_map(|source| source.data.valid).copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Tells `watch` of an epoch; gives the heads that go on.
fn leave(seats: Vec<Seat>, watch: &mut dyn Watch) -> Result<Vec<Seat>> {
    let (going, failed): (Vec<Seat>, Vec<Seat>) = seats.into_iter().partition(|seat| seat.head.error.is_none());
    for Seat { head, .. } in failed {
        watch.ended(head.number, head.end(false))?;
    }
    let mut logs: Vec<TrialLog<'_>> = Vec::new();
    for Seat { head, .. } in &going {
        logs.extend(head.last_log().map(|log| TrialLog { member: head.number, log }));
    }
    let given_up = watch.epoch(&logs)?;
    let mut rest = Vec::new();
    for seat in going {
        let stopped = given_up.contains(&seat.head.number);
        if seat.head.is_finished() || stopped {
            let stopped = stopped && !seat.head.is_finished();
            watch.ended(seat.head.number, seat.head.end(stopped))?;
        } else {
            rest.push(seat);
        }
    }
    Ok(rest)
}

#[cfg(test)]
mod tests;
