//! TrivialAugment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::automatic::{CHANGES, Change, step};
use super::{Draw, Pixels};
use crate::base::{Error, Result};

/// One random change of random strength (torchvision's `TrivialAugmentWide`, after Müller and Hutter, 2021).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrivialAugment {
    /// How many strengths there are.
    #[schemars(range(min = 2, max = 1000))]
    pub num_magnitude_bins: u32,
}

impl Default for TrivialAugment {
    fn default() -> Self {
        Self { num_magnitude_bins: 31 }
    }
}

impl TrivialAugment {
    pub(super) fn check(&self) -> Result<()> {
        match self.num_magnitude_bins {
            2..=1000 => Ok(()),
            bins => Err(Error::bad_input(format!("`num_magnitude_bins` is {bins}, not from 2 to 1000"))),
        }
    }

    pub(super) fn apply(&self, mut draw: Draw, pixels: &mut Pixels, moves_only: bool) {
        let change = CHANGES[draw.below(CHANGES.len())];
        let magnitude = self.magnitude_of(change, draw.below(self.num_magnitude_bins as usize) as u32);
        let negative = change.is_signed() && draw.happens(0.5);
        if change.moves() || !moves_only {
            change.apply(pixels, if negative { -magnitude } else { magnitude });
        }
    }

    pub(super) fn magnitude_of(&self, change: Change, at: u32) -> f64 {
        let even = |last: f64| step(0.0, last, at, self.num_magnitude_bins);
        match change {
            Change::Identity | Change::AutoContrast | Change::Equalize => 0.0,
            Change::ShearX | Change::ShearY => even(0.99),
            Change::TranslateX | Change::TranslateY => even(32.0),
            Change::Rotate => even(135.0),
            Change::Brightness | Change::Color | Change::Contrast | Change::Sharpness => even(0.99),
            Change::Posterize => 8.0 - even(6.0).round_ties_even(),
            Change::Solarize => step(255.0, 0.0, at, self.num_magnitude_bins),
        }
    }
}
