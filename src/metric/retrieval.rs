//! Metrics of retrieval: each row of a split looks for the others of its class, by the cosine of embeddings.

use rayon::prelude::*;

use super::Metric;
use crate::graph::{Matrix, Targets, gemm};

/// Rows that look at once.
const BLOCK: usize = 64;

/// Keeps all embeddings, divided by their lengths: 4 bytes per row and dimension.
pub struct Retrieval {
    width: usize,
    embeddings: Vec<f32>,
    classes: Vec<u32>,
    /// How many of the nearest count, of so many that there are to find.
    depth: fn(usize) -> usize,
    /// From which of the nearest are of the class, and how many there are to find.
    of_query: fn(&[bool], usize) -> f64,
}

impl Retrieval {
    /// No rows yet.
    pub fn new(width: usize, depth: fn(usize) -> usize, of_query: fn(&[bool], usize) -> f64) -> Self {
        Self { width, embeddings: Vec::new(), classes: Vec::new(), depth, of_query }
    }

    /// The value of row `i` with the cosines to all rows; `None` if no other row is of its class.
    fn query(&self, i: usize, cosines: &[f32]) -> Option<f64> {
        let class = self.classes[i];
        let wanted = self.classes.iter().filter(|c| **c == class).count() - 1;
        if wanted == 0 {
            return None;
        }
        let nearer = |a: &usize, b: &usize| cosines[*b].total_cmp(&cosines[*a]).then(a.cmp(b));
        let mut order: Vec<usize> = (0..cosines.len()).filter(|j| *j != i).collect();
        let depth = (self.depth)(wanted).min(order.len());
        if depth < order.len() {
            order.select_nth_unstable_by(depth, nearer);
            order.truncate(depth);
        }
        order.sort_unstable_by(nearer);
        let hits: Vec<bool> = order.iter().map(|j| self.classes[*j] == class).collect();
        Some((self.of_query)(&hits, wanted))
    }
}

impl Metric for Retrieval {
    fn update(&mut self, outputs: &[f32], targets: Targets<'_>) {
        let Targets::Classes(classes) = targets else { return };
        for row in outputs.chunks_exact(self.width) {
            let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(1e-12);
            self.embeddings.extend(row.iter().map(|x| (f64::from(*x) / length) as f32));
        }
        self.classes.extend_from_slice(classes);
    }

    /// The mean over the rows whose class has others, by the cosines of all pairs.
    fn value(&self) -> f64 {
        let (rows, width) = (self.classes.len(), self.width);
        let all = Matrix::new(&self.embeddings, rows, width).t();
        let (mut sum, mut count) = (0.0, 0u64);
        let mut cosines = Vec::new();
        for (number, block) in self.embeddings.chunks((BLOCK * width).max(1)).enumerate() {
            let queries = block.len() / width;
            cosines.resize(queries * rows, 0.0);
            gemm(&mut cosines, Matrix::new(block, queries, width), all, false);
            let found: Vec<Option<f64>> = cosines
                .par_chunks_exact(rows)
                .enumerate()
                .map(|(i, cosines)| self.query(number * BLOCK + i, cosines))
                .collect();
            sum += found.iter().flatten().sum::<f64>();
            count += found.iter().flatten().count() as u64;
        }
        sum / count.max(1) as f64
    }
}

/// Whether one of the nearest is of the class.
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

/// The discounted cumulative gain of hits, `Σ 1 / log₂(rank + 1)`, divided by the best that could be
/// (Järvelin and Kekäläinen, 2002).
pub fn ndcg(hits: &[bool], wanted: usize) -> f64 {
    let gain = |i: usize| 1.0 / ((i + 2) as f64).log2();
    let best: f64 = (0..wanted.min(hits.len())).map(gain).sum();
    let ours: f64 = hits.iter().enumerate().filter(|(_, hit)| **hit).map(|(i, _)| gain(i)).sum();
    ours / best
}
