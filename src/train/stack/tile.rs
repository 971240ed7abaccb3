//! Some heads of a stack that take their steps together.

use rayon::prelude::*;

use super::factor::{Place, Room};
use super::head::{Head, Held};
use super::parts::Parts;
use super::shape::Shape;
use super::source::{Ready, Source};
use crate::base::vectors;
use crate::graph::Execution;

/// Columns of what the common layer of a tile gives: enough for a matrix product to be quick, few enough that the
/// weights with the optimisers' state stay in the processor's cache.
const COLUMNS: usize = 128;

/// A head with what it reads and its shape, by number.
pub(super) struct Seat {
    pub source: usize,
    pub shape: usize,
    pub head: Head,
}

/// Some heads of one shape that read the same, and room for their steps.
pub(super) struct Tile<'a> {
    source: usize,
    number: usize,
    shape: &'a Shape,
    heads: Vec<Head>,
    /// Of the common layer: `[heads · outputs, width]`.
    weights: Vec<f32>,
    gradient: Vec<f32>,
    biases: Vec<f32>,
    /// `[heads · outputs, rows]`: what the layer gives, then its gradient.
    given: Vec<f32>,
    room: Room,
    place: Place,
}

impl<'a> Tile<'a> {
    /// Parts heads into tiles, at least as many as there are threads.
    pub fn of(seats: Vec<Seat>, shapes: &'a [Shape]) -> Vec<Self> {
        let mut kinds: Vec<(usize, usize, Vec<Head>)> = Vec::new();
        for Seat { source, shape, head } in seats {
            match kinds.iter_mut().find(|kind| (kind.0, kind.1) == (source, shape)) {
                Some((_, _, heads)) => heads.push(head),
                None => kinds.push((source, shape, vec![head])),
            }
        }
        let threads = rayon::current_num_threads();
        let of_each = threads.div_ceil(kinds.len().max(1));
        let mut tiles = Vec::new();
        for (source, number, heads) in kinds {
            let shape = &shapes[number];
            let most = shape.parts.layer.as_ref().map_or(usize::MAX, |layer| (COLUMNS / layer.outputs).max(1));
            let each = most.min(heads.len().div_ceil(of_each)).max(1);
            let mut heads = heads.into_iter().peekable();
            while heads.peek().is_some() {
                let mut heads: Vec<Head> = heads.by_ref().take(each).collect();
                let mut weights = Vec::new();
                for own in heads.iter_mut().filter_map(Head::layer_weights) {
                    weights.append(own);
                    own.shrink_to_fit();
                }
                tiles.push(Self {
                    source,
                    number,
                    shape,
                    heads,
                    gradient: vec![0.0; weights.len()],
                    weights,
                    biases: Vec::new(),
                    given: Vec::new(),
                    room: Room::default(),
                    place: Place::Here,
                });
            }
        }
        if tiles.len() < threads {
            tiles.iter_mut().for_each(|tile| tile.place = Place::Everywhere);
        }
        tiles
    }

    /// Does something to all tiles, each on one thread.
    pub fn all(tiles: &mut [Self], body: impl Fn(&mut Self) + Send + Sync) {
        tiles.par_iter_mut().with_max_len(1).for_each(body);
    }

    /// The heads, with their weights.
    pub fn into_seats(tiles: Vec<Self>) -> Vec<Seat> {
        let seats = |mut tile: Self| {
            let each = tile.weights.len() / tile.heads.len().max(1);
            for (head, values) in tile.heads.iter_mut().zip(tile.weights.chunks_exact(each.max(1))) {
                if let Some(own) = head.layer_weights() {
                    *own = values.to_vec();
                }
            }
            let (source, shape) = (tile.source, tile.number);
            tile.heads.into_iter().map(move |head| Seat { source, shape, head })
        };
        tiles.into_iter().flat_map(seats).collect()
    }

    /// Trains on each batch that waits.
    pub fn train(&mut self, sources: &[Source<'_>]) {
        let (shape, source) = (self.shape, &sources[self.source]);
        let batches = source.batches();
        shape.with(|run| {
            for ready in &source.ready {
                self.forward(ready, run);
                for h in 0..self.heads.len() {
                    if self.differentiate_given(h, ready) {
                        continue;
                    }
                    self.lend(h, ready, run);
                    self.heads[h].differentiate(run, &shape.parts, &ready.batch);
                    self.take_back(h, ready, run);
                }
                self.differentiate(ready);
                self.each(|head, held| head.step(batches, held));
            }
        });
    }

    pub fn begin_measure(&mut self) {
        self.each(Head::begin_measure);
    }

    /// Measures each batch that waits.
    pub fn measure(&mut self, sources: &[Source<'_>]) {
        let (shape, source) = (self.shape, &sources[self.source]);
        shape.with(|run| {
            for ready in &source.ready {
                self.forward(ready, run);
                for h in 0..self.heads.len() {
                    self.lend(h, ready, run);
                    self.heads[h].measure(run, &shape.parts, &ready.batch);
                }
            }
        });
    }

    /// Does something to each head with what the tile holds of it.
    fn each(&mut self, mut body: impl FnMut(&mut Head, Held<'_>)) {
        let each = self.weights.len() / self.heads.len().max(1);
        if each == 0 {
            return self.heads.iter_mut().for_each(|head| body(head, None));
        }
        let parts = self.weights.chunks_exact_mut(each).zip(self.gradient.chunks_exact_mut(each));
        self.heads.iter_mut().zip(parts).for_each(|(head, held)| body(head, Some(held)));
    }

    /// What the common layer gives for all heads; without one, what they read is put into the execution.
    fn forward(&mut self, ready: &Ready, run: &mut Execution<f32>) {
        let Some((layer, factors)) = self.shape.parts.layer.as_ref().zip(ready.factors.as_ref()) else {
            for (id, values) in self.shape.parts.frontier.iter().zip(&ready.batch.inputs) {
                run.value_mut(*id)[..values.len()].copy_from_slice(values);
            }
            return;
        };
        let of_output = ready.batch.rows * layer.times;
        self.given.resize(self.heads.len() * layer.outputs * of_output, 0.0);
        self.biases.clear();
        self.heads.iter().for_each(|head| self.biases.extend_from_slice(head.bias()));
        let biases = layer.bias.map(|_| &self.biases[..]);
        factors.layer(&mut self.given, &self.weights, biases, (self.place, &mut self.room));
    }

    /// The loss and the gradient of what the layer gave for a head that has nothing else, where that has a quicker way.
    fn differentiate_given(&mut self, h: usize, ready: &Ready) -> bool {
        let Parts { layer: Some(layer), output, .. } = &self.shape.parts else { return false };
        let each = ready.batch.rows * layer.outputs;
        layer.output == *output
            && layer.times == 1
            && self.heads[h].differentiate_given(&mut self.given[h * each..][..each], &ready.batch)
    }

    /// Puts what the layer gives for a head into the execution.
    fn lend(&self, h: usize, ready: &Ready, run: &mut Execution<f32>) {
        let Some(layer) = &self.shape.parts.layer else { return };
        let rows = ready.batch.rows * layer.times;
        let each = rows * layer.outputs;
        transpose(&self.given[h * each..][..each], rows, &mut run.value_mut(layer.output)[..each]);
    }

    /// Puts the gradient of what the layer gave in its place.
    fn take_back(&mut self, h: usize, ready: &Ready, run: &Execution<f32>) {
        let Some(layer) = &self.shape.parts.layer else { return };
        let each = ready.batch.rows * layer.times * layer.outputs;
        transpose(&run.grad(layer.output)[..each], layer.outputs, &mut self.given[h * each..][..each]);
    }

    /// The gradient of the layer's weights, for all heads.
    fn differentiate(&mut self, ready: &Ready) {
        if let Some(factors) = &ready.factors {
            factors.gradient(&mut self.gradient, &self.given, (self.place, &mut self.room));
        }
    }
}

/// Puts columns in the place of rows; `from` has rows of `width` numbers.
fn transpose(from: &[f32], width: usize, to: &mut [f32]) {
    const SIDE: usize = 16;
    let height = from.len() / width.max(1);
    vectors!({
        for top in (0..height).step_by(SIDE) {
            for left in (0..width).step_by(SIDE) {
                let rows = SIDE.min(height - top);
                for column in left..width.min(left + SIDE) {
                    let to = &mut to[column * height + top..][..rows];
                    to.iter_mut().enumerate().for_each(|(row, to)| *to = from[(top + row) * width + column]);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transpose_of_any_shape_is_one() {
        for (height, width) in [(1, 1), (3, 20), (33, 16), (256, 10)] {
            let from: Vec<f32> = (0..height * width).map(|i| i as f32).collect();
            let mut to = vec![0.0; height * width];
            transpose(&from, width, &mut to);
            assert!((0..height * width).all(|i| to[i] == from[i % height * width + i / height]));
        }
    }
}
