//! Changes to the features of a training batch. Every number drawn is a function of (seed, batch, op, input,
//! element), and masks are left alone.

use rayon::prelude::*;

use super::{Batch, InputSpec};
use crate::base::random::Stream;
use crate::recipe::{FeatureAugment, Mixup};

/// Kept apart from the seeds of weights and dropout.
const SALT: u64 = 0x6175_676d_656e_7400;

/// Changes a batch by all ops, in order. `number` is the batch's, counted from the beginning of training.
pub(super) fn change(ops: &[FeatureAugment], batch: &mut Batch, inputs: &[InputSpec], seed: u64, number: u64) {
    for (at, op) in ops.iter().enumerate() {
        let stream = |input: usize| Stream::named(seed ^ SALT, &format!("{at}/{input}/{number}"));
        if let FeatureAugment::Mixup(mixup) = op {
            mix(mixup, batch, inputs, stream(inputs.len()));
            continue;
        }
        let rows = batch.rows;
        for (input, (spec, values)) in inputs.iter().zip(&mut batch.inputs).enumerate() {
            if is_mask(spec) {
                continue;
            }
            let (width, stream) = (spec.elements().max(1), stream(input));
            let values = &mut values[..rows * width];
            match op {
                FeatureAugment::Noise(noise) => {
                    batch.squares.clear();
                    values.par_chunks(width).map(squares).collect_into_vec(&mut batch.squares);
                    let mean = batch.squares.iter().sum::<f64>() / values.len().max(1) as f64;
                    let std = (noise.std * mean.sqrt()) as f32;
                    by_fours(values, |index, four| {
                        let noise = normals(stream.block(index));
                        four.iter_mut().zip(noise).for_each(|(value, noise)| *value += std * noise);
                    });
                }
                FeatureAugment::Dropout(dropout) => {
                    let (keep, limit) = ((1.0 / (1.0 - dropout.rate)) as f32, (dropout.rate * 4_294_967_296.0) as u64);
                    by_fours(values, |index, four| {
                        for (value, drawn) in four.iter_mut().zip(stream.block(index)) {
                            *value *= if u64::from(drawn) < limit { 0.0 } else { keep };
                        }
                    });
                }
                FeatureAugment::Scale(scale) => {
                    values.par_chunks_mut(width).enumerate().for_each(|(row, values)| {
                        let factor = 1.0 + scale.range as f32 * (2.0 * stream.uniform(row as u64) - 1.0);
                        values.iter_mut().for_each(|value| *value *= factor);
                    });
                }
                FeatureAugment::Mixup(_) => {}
            }
        }
    }
}

/// Ragged inputs have one beside them that says which positions are real.
fn is_mask(spec: &InputSpec) -> bool {
    spec.name.ends_with(".mask")
}

fn squares(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum()
}

/// Calls `body` with every four neighbours and their number; the last may be fewer.
fn by_fours(values: &mut [f32], body: impl Fn(u64, &mut [f32]) + Sync) {
    const RUN: usize = 4096;
    values.par_chunks_mut(4 * RUN).enumerate().for_each(|(run, values)| {
        values.chunks_mut(4).zip(run as u64 * RUN as u64..).for_each(|(four, index)| body(index, four));
    });
}

/// Four standard normal numbers of a block, by Box and Muller's transform.
fn normals(block: [u32; 4]) -> [f32; 4] {
    let unit = |bits: u32| (bits >> 8) as f32 / (1u32 << 24) as f32;
    let pair = |a: u32, b: u32| {
        let radius = (-2.0 * (1.0 - unit(a)).ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * unit(b)).sin_cos();
        [radius * cos, radius * sin]
    };
    let ([a, b], [c, d]) = (pair(block[0], block[1]), pair(block[2], block[3]));
    [a, b, c, d]
}

/// Mixes every row with the row of its number in a random order of the batch.
fn mix(mixup: &Mixup, batch: &mut Batch, inputs: &[InputSpec], stream: Stream) {
    let (mut partners, mut before) = std::mem::take(&mut batch.room);
    partners.clear();
    partners.extend(0..batch.rows);
    Stream::new(stream.u64(u64::MAX), 1).shuffle(&mut partners);
    let share = beta(mixup.alpha, stream);
    for (spec, values) in inputs.iter().zip(&mut batch.inputs) {
        let width = spec.elements().max(1);
        before.clear();
        before.extend_from_slice(&values[..partners.len() * width]);
        for (row, partner) in values.chunks_exact_mut(width).zip(&partners) {
            for (value, other) in row.iter_mut().zip(&before[partner * width..]) {
                *value = if is_mask(spec) {
                    // What is real in either row is part of the mixture.
                    value.max(*other)
                } else {
                    share as f32 * *value + (1.0 - share) as f32 * *other
                };
            }
        }
    }
    batch.mix(share, &partners);
    batch.room = (partners, before);
}

/// A number of the Beta distribution whose parameters are both `alpha` (Jöhnk, 1964).
fn beta(alpha: f64, stream: Stream) -> f64 {
    let unit = |index: u64| ((stream.u64(index) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let drawn = (0..10_000u64).find_map(|attempt| {
        let (x, y) = (unit(2 * attempt).powf(1.0 / alpha), unit(2 * attempt + 1).powf(1.0 / alpha));
        (x + y <= 1.0 && x + y > 0.0).then(|| x / (x + y))
    });
    drawn.unwrap_or(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<InputSpec> {
        vec![InputSpec { name: "x".into(), shape: vec![1000] }, InputSpec { name: "x.mask".into(), shape: vec![3] }]
    }

    fn changed(op: serde_json::Value, number: u64) -> Vec<Vec<f32>> {
        let op: FeatureAugment = serde_json::from_value(op).unwrap();
        let mut batch = Batch::of([1000, 3].into_iter(), 8);
        (batch.rows, batch.inputs) = (6, vec![vec![2.0; 8000], vec![1.0; 24]]);
        change(&[op], &mut batch, &specs(), 5, number);
        batch.inputs
    }

    #[test]
    fn ops_change_what_they_say_and_nothing_else() {
        let noise = changed(serde_json::json!({"kind": "noise", "std": 0.1}), 1);
        let mean = noise[0][..6000].iter().sum::<f32>() / 6000.0;
        let variance = noise[0][..6000].iter().map(|value| (value - mean).powi(2)).sum::<f32>() / 6000.0;
        assert!((mean - 2.0).abs() < 0.02 && (variance.sqrt() - 0.2).abs() < 0.01, "{mean} {variance}");
        assert!(noise[0][6000..].iter().all(|value| *value == 2.0), "rows that are not in use stay");
        assert!(noise[1].iter().all(|value| *value == 1.0), "masks stay");
        let dropped = changed(serde_json::json!({"kind": "dropout", "rate": 0.25}), 1);
        let zeros = dropped[0][..6000].iter().filter(|value| **value == 0.0).count();
        assert!(
            (1350..1650).contains(&zeros)
                && dropped[0].iter().all(|v| *v == 0.0 || *v == 2.0 || (v - 2.0 / 0.75).abs() < 1e-6)
        );
        let scaled = changed(serde_json::json!({"kind": "scale", "range": 0.5}), 1);
        for row in scaled[0][..6000].chunks(1000) {
            assert!((1.0..=3.0).contains(&row[0]) && row.iter().all(|value| *value == row[0]));
        }
        assert_ne!(noise, changed(serde_json::json!({"kind": "noise", "std": 0.1}), 2));
        assert_eq!(noise, changed(serde_json::json!({"kind": "noise", "std": 0.1}), 1));
    }

    #[test]
    fn the_share_of_a_mixture_has_the_moments_of_its_distribution() {
        for alpha in [0.2, 1.0, 4.0] {
            let drawn: Vec<f64> = (0..2000).map(|i| beta(alpha, Stream::new(i, 3))).collect();
            let mean = drawn.iter().sum::<f64>() / 2000.0;
            let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2000.0;
            assert!((mean - 0.5).abs() < 0.03, "{alpha}: {mean}");
            assert!((variance - 1.0 / (4.0 * (2.0 * alpha + 1.0))).abs() < 0.012, "{alpha}: {variance}");
        }
    }
}
