//! Ranking of pairs against the other pairs of a batch.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::similarity::Similarity;
use super::{Loss, LossSum};
use crate::graph::op::Softmax;
use crate::graph::{Real, Targets};

/// Multiple negatives ranking (Henderson and others, 2017; Sentence Transformers' `MultipleNegativesRankingLoss`) of
/// embeddings `[batch, dim]` of length one. Rows of a class in a batch are taken two by two: of each pair the first is
/// to be nearer to its own second than to the seconds of the other classes and to the rows that are left over, by the
/// cross-entropy of scaled cosines. Label both rows of a pair with the pair's name; `train.sampler: {kind: pk,
/// rows_per_class: 2}` fills batches with pairs. Large batches have more to tell apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MultipleNegativesRanking {
    /// What cosines are multiplied by.
    #[schemars(range(min = 1.0e-6))]
    pub scale: f64,
    /// Whether seconds are told apart by their firsts too, as in CLIP.
    pub symmetric: bool,
}

impl Default for MultipleNegativesRanking {
    fn default() -> Self {
        Self { scale: 20.0, symmetric: false }
    }
}

impl MultipleNegativesRanking {
    pub(super) fn build<F: Real>(&self, width: usize) -> Box<dyn Loss<F>> {
        Box::new(Ready {
            config: self.clone(),
            width,
            similarity: Similarity::default(),
            firsts: Vec::new(),
            others: Vec::new(),
            sides: Default::default(),
            slopes: Vec::new(),
            line: Vec::new(),
        })
    }
}

struct Ready<F> {
    config: MultipleNegativesRanking,
    width: usize,
    similarity: Similarity<F>,
    /// The first row of each pair.
    firsts: Vec<usize>,
    /// The second row of each pair, then the rows that are left over.
    others: Vec<usize>,
    /// Firsts, others and their gradients, `[rows, dim]` each.
    sides: [Vec<F>; 4],
    slopes: Vec<F>,
    line: Vec<F>,
}

impl<F: Real> Ready<F> {
    /// Parts the rows into pairs, class by class, and those left over.
    fn pair(&mut self, classes: &[u32]) {
        let order = &mut self.others;
        order.clear();
        order.extend(0..classes.len());
        order.sort_by_key(|row| classes[*row]);
        self.firsts.clear();
        let (mut seconds, mut rest) = (Vec::new(), Vec::new());
        for rows in order.chunk_by(|a, b| classes[*a] == classes[*b]) {
            let (pairs, left) = rows.as_chunks::<2>();
            self.firsts.extend(pairs.iter().map(|[first, _]| *first));
            seconds.extend(pairs.iter().map(|[_, second]| *second));
            rest.extend_from_slice(left);
        }
        seconds.append(&mut rest);
        self.others = seconds;
    }
}

impl<F: Real> Loss<F> for Ready<F> {
    fn compute(&mut self, outputs: &[F], targets: Targets<'_>, row_losses: &mut [f64], grad: &mut [F]) -> LossSum {
        let Targets::Classes(classes) = targets else { return LossSum::default() };
        let width = self.width;
        grad.fill(F::ZERO);
        row_losses.fill(0.0);
        self.pair(classes);
        let Self { config, similarity, firsts, others, sides: [a, b, da, db], slopes, line, .. } = self;
        let (pairs, count) = (firsts.len(), others.len());
        if pairs == 0 {
            return LossSum::default();
        }
        for (side, gradient, rows) in [(&mut *a, &mut *da, &*firsts), (&mut *b, &mut *db, &*others)] {
            side.clear();
            rows.iter().for_each(|row| side.extend_from_slice(&outputs[row * width..][..width]));
            gradient.clear();
            gradient.resize(rows.len() * width, F::ZERO);
        }
        similarity.forward(a, b, width, config.scale);
        slopes.clear();
        slopes.resize(pairs * count, F::ZERO);
        let share = if config.symmetric { 0.5 } else { 1.0 };
        let scale = F::of(share * config.scale / pairs as f64);
        for (i, first) in firsts.iter().enumerate() {
            let class = classes[*first];
            // From the first to all others; then from the second to all firsts.
            for (back, length) in [(false, count), (true, pairs)] {
                if back && !config.symmetric {
                    continue;
                }
                let at = |j: usize| if back { j * count + i } else { i * count + j };
                let row = |j: usize| if back { firsts[j] } else { others[j] };
                line.clear();
                line.extend((0..length).map(|j| match j != i && classes[row(j)] == class {
                    // Another of the class is no negative.
                    true => F::of(f64::NEG_INFINITY),
                    false => similarity.products[at(j)],
                }));
                let own = line[i].wide();
                row_losses[*first] += share * (Softmax::row(line).wide() - own);
                line[i] -= F::ONE;
                line.iter().enumerate().for_each(|(j, slope)| slopes[at(j)] += *slope * scale);
            }
        }
        std::mem::swap(&mut similarity.products, slopes);
        similarity.backward(a, b, width, da, Some(db));
        for (rows, gradient) in [(&*firsts, &*da), (&*others, &*db)] {
            for (row, gradient) in rows.iter().zip(gradient.chunks_exact(width.max(1))) {
                grad[row * width..][..width].copy_from_slice(gradient);
            }
        }
        LossSum { sum: row_losses.iter().sum(), weight: pairs as f64 }
    }
}
