//! Some heads of a stack that take their steps together.

use rayon::prelude::*;

use super::head::Head;
use super::shape::Shape;
use super::window::{Features, Ready};
use crate::graph::bf16::{self, Left, Right};
use crate::graph::parallel::sum_rows;
use crate::graph::{Matrix, gemm_alone};

/// Columns of logits of a tile: enough for a matrix product to be quick, few enough that the weights with the
/// optimisers' state stay in the processor's cache.
const COLUMNS: usize = 128;

/// Some heads, and room for their steps.
pub(super) struct Tile {
    heads: Vec<Head>,
    width: usize,
    outputs: usize,
    /// `[heads · outputs, width]`.
    weights: Vec<f32>,
    gradient: Vec<f32>,
    /// `[rows, heads · outputs]`: logits, then their gradient.
    logits: Vec<f32>,
    /// `[rows, outputs]` of one head.
    own: Vec<f32>,
    own_gradient: Vec<f32>,
    bias_gradient: Vec<f32>,
    row_losses: Vec<f64>,
    /// Slopes and weights as factors of products in bf16.
    packed: (Left, Right),
}

impl Tile {
    /// Parts heads into tiles, at least as many as there are threads.
    pub fn of(heads: Vec<Head>, shape: &Shape, batch_size: usize) -> Vec<Self> {
        let threads = rayon::current_num_threads();
        let most = (COLUMNS / shape.outputs.max(1)).max(1);
        let each = most.min(heads.len().div_ceil(threads)).max(1);
        let mut tiles = Vec::new();
        let mut heads = heads.into_iter().peekable();
        while heads.peek().is_some() {
            let mut heads: Vec<Head> = heads.by_ref().take(each).collect();
            let mut weights = Vec::with_capacity(heads.len() * shape.outputs * shape.width);
            heads.iter_mut().for_each(|head| weights.extend_from_slice(&std::mem::take(&mut head.weight)));
            let columns = heads.len() * shape.outputs;
            tiles.push(Self {
                width: shape.width,
                outputs: shape.outputs,
                gradient: vec![0.0; weights.len()],
                weights,
                logits: vec![0.0; batch_size * columns],
                own: vec![0.0; batch_size * shape.outputs],
                own_gradient: vec![0.0; batch_size * shape.outputs],
                bias_gradient: vec![0.0; shape.outputs],
                row_losses: vec![0.0; batch_size],
                packed: Default::default(),
                heads,
            });
        }
        tiles
    }

    /// Does something to all tiles, each on one thread.
    pub fn all(tiles: &mut [Self], body: impl Fn(&mut Self) + Send + Sync) {
        tiles.par_iter_mut().with_max_len(1).for_each(body);
    }

    /// The heads, with their weights.
    pub fn into_heads(tiles: Vec<Self>) -> Vec<Head> {
        let heads = |mut tile: Self| {
            let each = tile.outputs * tile.width;
            for (head, weights) in tile.heads.iter_mut().zip(tile.weights.chunks_exact(each.max(1))) {
                head.weight = weights.to_vec();
            }
            tile.heads
        };
        tiles.into_iter().flat_map(heads).collect()
    }

    /// Takes a step on each batch.
    pub fn train(&mut self, batches: &[Ready], _: u64, steps_per_epoch: u64) {
        for batch in batches {
            self.forward(batch);
            let (rows, outputs, columns) = (batch.rows, self.outputs, self.heads.len() * self.outputs);
            for (h, head) in self.heads.iter_mut().enumerate() {
                let own = &mut self.own[..rows * outputs];
                let gradient = &mut self.own_gradient[..rows * outputs];
                gather(&self.logits, columns, h * outputs, own, outputs);
                head.loss(own, batch.targets(), &mut self.row_losses[..rows], gradient);
                scatter(&mut self.logits, columns, h * outputs, gradient, outputs);
            }
            let slopes = Matrix::new(&self.logits[..rows * columns], rows, columns).t();
            match batch.features() {
                Features::Plain(features) => gemm_alone(&mut self.gradient, slopes, features, false),
                Features::Packed(_, features) => {
                    self.packed.0.pack(slopes);
                    bf16::product_alone(&mut self.gradient, &self.packed.0, features, false);
                }
            }
            let each = outputs * self.width;
            let parts = self.weights.chunks_exact_mut(each).zip(self.gradient.chunks_exact_mut(each));
            for (h, (head, (weight, gradient))) in self.heads.iter_mut().zip(parts).enumerate() {
                let mut bias = std::mem::take(&mut head.bias);
                if !bias.is_empty() {
                    let own = &mut self.own[..rows * outputs];
                    gather(&self.logits, columns, h * outputs, own, outputs);
                    sum_rows(own, outputs, &mut self.bias_gradient, false);
                }
                let bias_gradient = &mut self.bias_gradient[..bias.len()];
                head.update(steps_per_epoch, (weight, gradient), (&mut bias, bias_gradient));
                head.bias = bias;
            }
        }
    }

    pub fn begin_measure(&mut self) {
        self.heads.iter_mut().for_each(Head::begin_measure);
    }

    /// Measures each batch.
    pub fn measure(&mut self, batches: &[Ready]) {
        for batch in batches {
            self.forward(batch);
            let (rows, outputs, columns) = (batch.rows, self.outputs, self.heads.len() * self.outputs);
            for (h, head) in self.heads.iter_mut().enumerate() {
                let own = &mut self.own[..rows * outputs];
                gather(&self.logits, columns, h * outputs, own, outputs);
                let gradient = &mut self.own_gradient[..rows * outputs];
                head.measure(own, batch.targets(), &mut self.row_losses[..rows], gradient);
            }
        }
    }

    /// The logits of all heads.
    fn forward(&mut self, batch: &Ready) {
        let (rows, columns) = (batch.rows, self.heads.len() * self.outputs);
        let logits = &mut self.logits[..rows * columns];
        let biased = self.heads.iter().any(|head| !head.bias.is_empty());
        if biased {
            for row in logits.chunks_exact_mut(columns) {
                for (head, part) in self.heads.iter().zip(row.chunks_exact_mut(self.outputs)) {
                    part.copy_from_slice(&head.bias);
                }
            }
        }
        let weights = Matrix::new(&self.weights, columns, self.width).t();
        match batch.features() {
            Features::Plain(features) => gemm_alone(logits, features, weights, biased),
            Features::Packed(features, _) => {
                self.packed.1.pack(weights);
                bf16::product_alone(logits, features, &self.packed.1, biased);
            }
        }
    }
}

/// Copies some columns of `from` into a matrix of their own.
fn gather(from: &[f32], columns: usize, start: usize, out: &mut [f32], width: usize) {
    for (row, out) in from.chunks_exact(columns).zip(out.chunks_exact_mut(width)) {
        out.copy_from_slice(&row[start..start + width]);
    }
}

/// Copies a matrix into some columns of `to`.
fn scatter(to: &mut [f32], columns: usize, start: usize, from: &[f32], width: usize) {
    for (row, from) in to.chunks_exact_mut(columns).zip(from.chunks_exact(width)) {
        row[start..start + width].copy_from_slice(from);
    }
}
