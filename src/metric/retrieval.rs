//! Metrics of retrieval by the cosine of embeddings: each row of a split looks for the others of its class, or the first
//! field of each row for the second among those of all rows.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use super::Metric;
use crate::graph::{Matrix, Targets, gemm};

/// Queries that look at once.
const BLOCK: usize = 64;

/// Keeps all embeddings, divided by their lengths: 4 bytes per row and dimension, of pairs per sample and dimension.
pub struct Retrieval {
    /// Outputs per row.
    width: usize,
    /// Of rows with classes.
    embeddings: Vec<f32>,
    classes: Vec<u32>,
    /// Of rows that are pairs: what looks, what is looked at, and for each of the former which of the latter are right.
    first: Side,
    others: Side,
    right: Vec<HashSet<usize>>,
    /// How many of the nearest count, of so many that there are to find.
    depth: fn(usize) -> usize,
    /// From which of the nearest are right, and how many there are to find.
    of_query: fn(&[bool], usize) -> f64,
}

/// The different samples of a side of pairs.
#[derive(Default)]
struct Side {
    embeddings: Vec<f32>,
    /// The place of each sample that was seen.
    places: HashMap<u32, usize>,
}

impl Side {
    /// The place of a sample, which is added if it is new.
    fn place(&mut self, sample: u32, embedding: &[f32]) -> usize {
        let new = self.places.len();
        let place = *self.places.entry(sample).or_insert(new);
        if place == new {
            push_unit(&mut self.embeddings, embedding);
        }
        place
    }
}

/// Adds a vector divided by its length.
fn push_unit(all: &mut Vec<f32>, embedding: &[f32]) {
    let length = embedding.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(1e-12);
    all.extend(embedding.iter().map(|x| (f64::from(*x) / length) as f32));
}

impl Retrieval {
    /// No rows yet; of a row there are `width` outputs.
    pub fn new(width: usize, depth: fn(usize) -> usize, of_query: fn(&[bool], usize) -> f64) -> Self {
        let (embeddings, classes, right) = Default::default();
        let (first, others) = Default::default();
        Self { width, embeddings, classes, first, others, right, depth, of_query }
    }

    /// The value of a query with the cosines to all candidates, of which `itself` is passed over, if `wanted` of them
    /// are right; `None` if none is.
    fn query(
        &self,
        cosines: &[f32],
        itself: Option<usize>,
        wanted: usize,
        is_right: impl Fn(usize) -> bool,
    ) -> Option<f64> {
        if wanted == 0 {
            return None;
        }
        let nearer = |a: &usize, b: &usize| cosines[*b].total_cmp(&cosines[*a]).then(a.cmp(b));
        let mut order: Vec<usize> = (0..cosines.len()).filter(|j| Some(*j) != itself).collect();
        let depth = (self.depth)(wanted).min(order.len());
        if depth < order.len() {
            order.select_nth_unstable_by(depth, nearer);
            order.truncate(depth);
        }
        order.sort_unstable_by(nearer);
        let hits: Vec<bool> = order.iter().map(|j| is_right(*j)).collect();
        Some((self.of_query)(&hits, wanted))
    }

    /// The value of query `i` with the cosines to all candidates.
    fn of(&self, i: usize, cosines: &[f32]) -> Option<f64> {
        if let Some(right) = self.right.get(i) {
            return self.query(cosines, None, right.len(), |j| right.contains(&j));
        }
        let class = self.classes[i];
        let wanted = self.classes.iter().filter(|c| **c == class).count() - 1;
        self.query(cosines, Some(i), wanted, |j| self.classes[j] == class)
    }
}

impl Metric for Retrieval {
    fn bytes_per_row(&self) -> usize {
        8 * (self.width + 1)
    }

    fn update(&mut self, outputs: &[f32], targets: Targets<'_>) {
        match targets {
            Targets::Classes(classes) => {
                outputs.chunks_exact(self.width).for_each(|row| push_unit(&mut self.embeddings, row));
                self.classes.extend_from_slice(classes);
            }
            Targets::Pairs { fields, samples } => {
                let rows = outputs.chunks_exact(self.width).zip(samples.chunks_exact(fields));
                for (row, samples) in rows {
                    let mut embeddings = row.chunks_exact(self.width / fields).zip(samples);
                    let Some((embedding, sample)) = embeddings.next() else { continue };
                    let query = self.first.place(*sample, embedding);
                    self.right.resize_with(self.first.places.len(), HashSet::new);
                    for (field, (embedding, sample)) in embeddings.enumerate() {
                        let place = self.others.place(*sample, embedding);
                        if field == 0 {
                            self.right[query].insert(place);
                        }
                    }
                }
            }
            Targets::MultiLabel { .. } | Targets::Values { .. } => {}
        }
    }

    /// The mean over the queries that have something to find, by the cosines of all pairs.
    fn value(&self) -> f64 {
        let is_pairs = !self.right.is_empty();
        let (asking, candidates) = match is_pairs {
            true => (&self.first.embeddings, &self.others.embeddings),
            false => (&self.embeddings, &self.embeddings),
        };
        let rows = if is_pairs { self.others.places.len() } else { self.classes.len() };
        if rows == 0 {
            return 0.0;
        }
        let width = candidates.len() / rows;
        let all = Matrix::new(candidates, rows, width).t();
        let (mut sum, mut count) = (0.0, 0u64);
        let mut cosines = Vec::new();
        for (number, block) in asking.chunks((BLOCK * width).max(1)).enumerate() {
            let queries = block.len() / width;
            cosines.resize(queries * rows, 0.0);
            gemm(&mut cosines, Matrix::new(block, queries, width), all, false);
            let found: Vec<Option<f64>> = cosines
                .par_chunks_exact(rows)
                .enumerate()
                .map(|(i, cosines)| self.of(number * BLOCK + i, cosines))
                .collect();
            sum += found.iter().flatten().sum::<f64>();
            count += found.iter().flatten().count() as u64;
        }
        sum / count.max(1) as f64
    }
}

/// Whether one of the nearest is right.
pub fn found(hits: &[bool], _: usize) -> f64 {
    f64::from(u8::from(hits.contains(&true)))
}

/// The mean average precision at R (Musgrave, Belongie and Lim, 2020): over the R nearest, where R is how many
/// there are to find, the precision at each hit, divided by R.
pub fn map_at_r(hits: &[bool], wanted: usize) -> f64 {
    let (mut right, mut sum) = (0.0, 0.0);
    for (i, hit) in hits.iter().enumerate().filter(|(_, hit)| **hit) {
        right += f64::from(u8::from(*hit));
        sum += right / (i + 1) as f64;
    }
    sum / wanted as f64
}

/// One over the rank of the first hit, 0 without any.
pub fn reciprocal_rank(hits: &[bool], _: usize) -> f64 {
    hits.iter().position(|hit| *hit).map_or(0.0, |at| 1.0 / (at + 1) as f64)
}

/// The discounted cumulative gain of hits, `Σ 1 / log₂(rank + 1)`, divided by the best that could be
/// (Järvelin and Kekäläinen, 2002).
pub fn ndcg(hits: &[bool], wanted: usize) -> f64 {
    let gain = |i: usize| 1.0 / ((i + 2) as f64).log2();
    let best: f64 = (0..wanted.min(hits.len())).map(gain).sum();
    let ours: f64 = hits.iter().enumerate().filter(|(_, hit)| **hit).map(|(i, _)| gain(i)).sum();
    ours / best
}
