//! Some heads of a stack that take their steps together.

use rayon::prelude::*;

use super::head::{Head, Held};
use super::parts::Layer;
use super::shape::Shape;
use super::source::{Features, Ready, Source};
use crate::graph::bf16::{self, Left, Right};
use crate::graph::{Execution, Matrix, gemm, gemm_alone};

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
    /// `[rows, heads · outputs]`: what the layer gives, then its gradient.
    given: Vec<f32>,
    /// Slopes and weights as factors of products in bf16.
    packed: (Left, Right),
    /// Whether other tiles keep the other threads busy.
    is_one_of_many: bool,
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
                    given: Vec::new(),
                    packed: Default::default(),
                    is_one_of_many: true,
                });
            }
        }
        let is_one_of_many = tiles.len() >= threads;
        tiles.iter_mut().for_each(|tile| tile.is_one_of_many = is_one_of_many);
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

    /// The layer's rows of a batch, and columns of all heads.
    fn sizes(&self, layer: &Layer, ready: &Ready) -> (usize, usize) {
        (ready.batch.rows * layer.times, self.heads.len() * layer.outputs)
    }

    /// What the common layer gives for all heads; without one, what they read is put into the execution.
    fn forward(&mut self, ready: &Ready, run: &mut Execution<f32>) {
        let Some(layer) = &self.shape.parts.layer else {
            for (id, values) in self.shape.parts.frontier.iter().zip(&ready.batch.inputs) {
                run.value_mut(*id)[..values.len()].copy_from_slice(values);
            }
            return;
        };
        let (rows, columns) = self.sizes(layer, ready);
        self.given.resize(self.given.len().max(rows * columns), 0.0);
        let given = &mut self.given[..rows * columns];
        if layer.bias.is_some() {
            for row in given.chunks_exact_mut(columns) {
                for (head, part) in self.heads.iter().zip(row.chunks_exact_mut(layer.outputs)) {
                    part.copy_from_slice(head.bias());
                }
            }
        }
        let (weights, add) = (Matrix::new(&self.weights, columns, layer.width).t(), layer.bias.is_some());
        match ready.features(layer.width) {
            Features::Plain(features) if self.is_one_of_many => gemm_alone(given, features, weights, add),
            Features::Plain(features) => gemm(given, features, weights, add),
            Features::Packed(features, _) => {
                self.packed.1.pack(weights);
                match self.is_one_of_many {
                    true => bf16::product_alone(given, features, &self.packed.1, add),
                    false => bf16::product(given, features, &self.packed.1, add),
                }
            }
        }
    }

    /// Puts what the layer gives for a head into the execution.
    fn lend(&self, h: usize, ready: &Ready, run: &mut Execution<f32>) {
        let Some(layer) = &self.shape.parts.layer else { return };
        let (rows, columns) = self.sizes(layer, ready);
        let own = &mut run.value_mut(layer.output)[..rows * layer.outputs];
        for (row, own) in self.given.chunks_exact(columns).zip(own.chunks_exact_mut(layer.outputs)) {
            own.copy_from_slice(&row[h * layer.outputs..][..layer.outputs]);
        }
    }

    /// Puts the gradient of what the layer gave in its place.
    fn take_back(&mut self, h: usize, ready: &Ready, run: &Execution<f32>) {
        let Some(layer) = &self.shape.parts.layer else { return };
        let (_, columns) = self.sizes(layer, ready);
        let own = run.grad(layer.output).chunks_exact(layer.outputs);
        for (row, own) in self.given.chunks_exact_mut(columns).zip(own) {
            row[h * layer.outputs..][..layer.outputs].copy_from_slice(own);
        }
    }

    /// The gradient of the layer's weights, for all heads.
    fn differentiate(&mut self, ready: &Ready) {
        let Some(layer) = &self.shape.parts.layer else { return };
        let (rows, columns) = self.sizes(layer, ready);
        let slopes = Matrix::new(&self.given[..rows * columns], rows, columns).t();
        let gradient = &mut self.gradient;
        match ready.features(layer.width) {
            Features::Plain(features) if self.is_one_of_many => gemm_alone(gradient, slopes, features, false),
            Features::Plain(features) => gemm(gradient, slopes, features, false),
            Features::Packed(_, features) => {
                self.packed.0.pack(slopes);
                match self.is_one_of_many {
                    true => bf16::product_alone(gradient, &self.packed.0, features, false),
                    false => bf16::product(gradient, &self.packed.0, features, false),
                }
            }
        }
    }
}
