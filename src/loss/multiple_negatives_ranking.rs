//! Ranking of pairs against the other pairs of a batch.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::similarity::Similarity;
use super::{Loss, LossSum};
use crate::graph::op::Softmax;
use crate::graph::{Real, Targets};

/// Multiple negatives ranking (Henderson and others, 2017; Sentence Transformers' `MultipleNegativesRankingLoss`) of
/// embeddings of length one. Of rows that are pairs (`data.label: {kind: pairs}`) the first field is to be nearer to
/// the second than to the seconds of all other rows of the batch and to the hard negatives of all rows, if there are
/// such fields, by the cross-entropy of scaled cosines; samples that equal what is looked for are no negatives. Of
/// rows labelled with classes those of a class are taken two by two as pairs, and rows that are left over are
/// negatives: label both rows of a pair with its name; `train.sampler: {kind: pk, rows_per_class: 2}` fills batches
/// with pairs. Large batches have more to tell apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MultipleNegativesRanking {
    /// What cosines are multiplied by: one over the temperature.
    #[schemars(range(min = 1.0e-6))]
    pub scale: f64,
    /// Whether seconds are told apart by their firsts too, as in CLIP: the mean of both directions.
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
            order: Vec::new(),
            rest: Vec::new(),
            sides: Default::default(),
            slopes: Vec::new(),
            line: Vec::new(),
        })
    }
}

/// All room is kept from step to step.
struct Ready<F> {
    config: MultipleNegativesRanking,
    /// Outputs per row.
    width: usize,
    similarity: Similarity<F>,
    /// The place, among all embeddings, of the first of each pair.
    firsts: Vec<usize>,
    /// The places of the seconds of each pair, then of what is in no pair: rows that are left over, hard negatives.
    others: Vec<usize>,
    order: Vec<usize>,
    rest: Vec<usize>,
    /// Firsts, others and their gradients, `[places, dim]` each.
    sides: [Vec<F>; 4],
    slopes: Vec<F>,
    line: Vec<F>,
}

impl<F> Ready<F> {
    /// Parts the embeddings into pairs and what is in none.
    fn pair(&mut self, targets: Targets<'_>) {
        let Self { firsts, others, order, rest, .. } = self;
        [&mut *firsts, others, order, rest].into_iter().for_each(Vec::clear);
        match targets {
            Targets::Classes(classes) => {
                order.extend(0..classes.len());
                order.sort_unstable_by_key(|row| (classes[*row], *row));
                for rows in order.chunk_by(|a, b| classes[*a] == classes[*b]) {
                    let (pairs, left) = rows.as_chunks::<2>();
                    firsts.extend(pairs.iter().map(|[first, _]| *first));
                    others.extend(pairs.iter().map(|[_, second]| *second));
                    rest.extend_from_slice(left);
                }
            }
            Targets::Pairs { fields, samples } => {
                let rows = samples.len() / fields.max(1);
                firsts.extend((0..rows).map(|row| row * fields));
                others.extend((0..rows).map(|row| row * fields + 1));
                rest.extend((0..rows).flat_map(|row| (2..fields).map(move |field| row * fields + field)));
            }
            Targets::MultiLabel { .. } | Targets::Values { .. } => {}
        }
        others.append(rest);
    }
}

/// Whether what is at `other` is a negative of the pair at `first` and `second`.
fn is_negative(targets: Targets<'_>, (first, second): (usize, usize), other: usize) -> bool {
    match targets {
        Targets::Classes(classes) => classes[other] != classes[first],
        Targets::Pairs { fields, samples } => {
            // The second of an equal first is as right as the own, and so is a sample that equals the own.
            let is_second = other % fields == 1;
            let of_equal = is_second && samples[other - 1] == samples[first];
            !of_equal && samples[other] != samples[second]
        }
        Targets::MultiLabel { .. } | Targets::Values { .. } => false,
    }
}

impl<F: Real> Loss<F> for Ready<F> {
    fn compute(&mut self, outputs: &[F], targets: Targets<'_>, row_losses: &mut [f64], grad: &mut [F]) -> LossSum {
        let fields = if let Targets::Pairs { fields, .. } = targets { fields.max(1) } else { 1 };
        let width = self.width / fields;
        grad.fill(F::ZERO);
        row_losses.fill(0.0);
        self.pair(targets);
        let Self { config, similarity, firsts, others, sides: [a, b, da, db], slopes, line, .. } = self;
        let (pairs, count) = (firsts.len(), others.len());
        if pairs == 0 {
            return LossSum::default();
        }
        for (side, gradient, places) in [(&mut *a, &mut *da, &*firsts), (&mut *b, &mut *db, &*others)] {
            side.clear();
            places.iter().for_each(|place| side.extend_from_slice(&outputs[place * width..][..width]));
            gradient.clear();
            gradient.resize(places.len() * width, F::ZERO);
        }
        similarity.forward(a, b, width, config.scale);
        slopes.clear();
        slopes.resize(pairs * count, F::ZERO);
        let share = if config.symmetric { 0.5 } else { 1.0 };
        let scale = F::of(share * config.scale / pairs as f64);
        for (i, first) in firsts.iter().enumerate() {
            // From the first to all others; then from the second to all firsts.
            for (back, length) in [(false, count), (true, pairs)] {
                if back && !config.symmetric {
                    continue;
                }
                let at = |j: usize| if back { j * count + i } else { i * count + j };
                let negative = |j: usize| match back {
                    false => is_negative(targets, (*first, others[i]), others[j]),
                    true => is_negative(targets, (firsts[j], others[j]), others[i]),
                };
                line.clear();
                line.extend((0..length).map(|j| match j == i || negative(j) {
                    true => similarity.products[at(j)],
                    false => F::of(f64::NEG_INFINITY),
                }));
                let own = line[i].wide();
                row_losses[*first / fields] += share * (Softmax::row(line).wide() - own);
                line[i] -= F::ONE;
                line.iter().enumerate().for_each(|(j, slope)| slopes[at(j)] += *slope * scale);
            }
        }
        std::mem::swap(&mut similarity.products, slopes);
        similarity.backward(a, b, width, da, Some(db));
        for (places, gradient) in [(&*firsts, &*da), (&*others, &*db)] {
            for (place, gradient) in places.iter().zip(gradient.chunks_exact(width.max(1))) {
                grad[place * width..][..width].copy_from_slice(gradient);
            }
        }
        LossSum { sum: row_losses.iter().sum(), weight: pairs as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_samples_are_no_negatives() {
        // Rows 0 and 1 have the same first, rows 1 and 2 the same second; row 2's negative is row 0's second.
        let targets = Targets::Pairs { fields: 3, samples: &[0, 1, 9, 0, 2, 8, 3, 2, 1] };
        let negatives = |row: usize| {
            let pair = (row * 3, row * 3 + 1);
            [1, 4, 7, 2, 5, 8].map(|other| other != pair.1 && is_negative(targets, pair, other))
        };
        assert_eq!(negatives(0), [false, false, true, true, true, false]);
        assert_eq!(negatives(1), [false, false, false, true, true, true]);
        assert_eq!(negatives(2), [true, false, false, true, true, true]);
    }
}
