//! What a dataset is made of, each part by itself, so that of another one it can be said what is different in it.

use serde::{Deserialize, Serialize};

use super::resolve::Resolved;
use crate::base::Digest;

/// Digests of the parts of a dataset, in no order of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// Of the samples' bytes.
    pub samples: Digest,
    /// Of what each sample is labelled with.
    pub targets: Digest,
    /// Of the split that each sample is in.
    pub splits: Digest,
}

impl Contents {
    /// Those of the rows of a resolved plan.
    pub fn of(resolved: &Resolved) -> Self {
        let splits = &resolved.dataset.splits;
        let towers: Vec<&Resolved> = std::iter::once(resolved).chain(&resolved.others).collect();
        let sample = |row: usize| -> Vec<u8> { towers.iter().flat_map(|tower| tower.digests[row].0).collect() };
        let (mut samples, mut targets, mut of_splits) = (Vec::new(), Vec::new(), Vec::new());
        for (split, rows) in [(b't', &splits.train), (b'v', &splits.valid), (b'e', &splits.test)] {
            for row in rows.iter().map(|row| *row as usize) {
                let sample = sample(row);
                let mut target = sample.clone();
                resolved.dataset.targets.write_row(row, &mut target);
                targets.push(Digest::of(&target));
                of_splits.push(Digest::of(&[&sample[..], &[split]].concat()));
                samples.push(Digest::of(&sample));
            }
        }
        Self { samples: of_all(samples), targets: of_all(targets), splits: of_all(of_splits) }
    }

    /// The first part that is another one, by what explains the rest: other samples have other targets and splits too.
    pub fn first_difference(&self, other: &Self) -> Option<(&'static str, Digest, Digest)> {
        let parts = [
            ("contents of samples", self.samples, other.samples),
            ("targets", self.targets, other.targets),
            ("splits", self.splits, other.splits),
        ];
        parts.into_iter().find(|(_, a, b)| a != b)
    }
}

fn of_all(mut digests: Vec<Digest>) -> Digest {
    digests.sort_unstable_by_key(|digest| digest.0);
    Digest::of(&digests.iter().flat_map(|digest| digest.0).collect::<Vec<u8>>())
}
