//! RandAugment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::automatic::{CHANGES, Change, step};
use super::{Draw, Pixels};
use crate::base::{Error, Result};

/// Several random changes of one strength (torchvision's `RandAugment`, after Cubuk et al., 2020).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RandAugment {
    /// Changes of one picture.
    #[schemars(range(min = 1, max = 100))]
    pub num_ops: u32,
    /// Their strength, below `num_magnitude_bins`.
    pub magnitude: u32,
    /// How many strengths there are.
    #[schemars(range(min = 2, max = 1000))]
    pub num_magnitude_bins: u32,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { num_ops: 2, magnitude: 9, num_magnitude_bins: 31 }
    }
}

impl RandAugment {
    pub(super) fn check(&self) -> Result<()> {
        let Self { num_ops, magnitude, num_magnitude_bins: bins } = *self;
        if num_ops == 0 || num_ops > 100 || !(2..=1000).contains(&bins) || magnitude >= bins {
            let what =
                format!("`num_ops` is from 1 to 100, and `magnitude` below `num_magnitude_bins`, which is {bins}");
            return Err(Error::bad_input(what));
        }
        Ok(())
    }

    pub(super) fn apply(&self, mut draw: Draw, pixels: &mut Pixels, moves_only: bool) {
        for _ in 0..self.num_ops {
            let change = CHANGES[draw.below(CHANGES.len())];
            let magnitude = self.magnitude_of(change, (pixels.width, pixels.height));
            let negative = change.is_signed() && draw.happens(0.5);
            if change.moves() || !moves_only {
                change.apply(pixels, if negative { -magnitude } else { magnitude });
            }
        }
    }

    pub(super) fn magnitude_of(&self, change: Change, (width, height): (u32, u32)) -> f64 {
        let even = |last: f64| step(0.0, last, self.magnitude, self.num_magnitude_bins);
        match change {
            Change::Identity | Change::AutoContrast | Change::Equalize => 0.0,
            Change::ShearX | Change::ShearY => even(0.3),
            Change::TranslateX => even(150.0 / 331.0 * f64::from(width)),
            Change::TranslateY => even(150.0 / 331.0 * f64::from(height)),
            Change::Rotate => even(30.0),
            Change::Brightness | Change::Color | Change::Contrast | Change::Sharpness => even(0.9),
            Change::Posterize => 8.0 - even(4.0).round_ties_even(),
            Change::Solarize => step(255.0, 0.0, self.magnitude, self.num_magnitude_bins),
        }
    }
}
