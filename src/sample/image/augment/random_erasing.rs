//! A random rectangle is overwritten.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CropBox, Draw, probability, range};
use crate::base::Result;

/// Overwrites a rectangle of random size, place and proportions in the normalised input (torchvision's
/// `RandomErasing`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RandomErasing {
    /// How often.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
    /// The least and the greatest share of the input's area.
    pub scale: [f64; 2],
    /// The least and the greatest ratio of height to width.
    pub ratio: [f64; 2],
    /// What the rectangle is filled with: `zero` (the mean colour), or `random` numbers of a standard normal
    /// distribution.
    pub value: Fill,
}

/// What a rectangle is filled with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// 0, the mean colour after normalising.
    #[default]
    Zero,
    /// Standard normal numbers.
    Random,
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self { p: 0.5, scale: [0.02, 0.33], ratio: [0.3, 3.3], value: Fill::Zero }
    }
}

impl RandomErasing {
    pub(super) fn check(&self) -> Result<()> {
        probability(self.p)?;
        range("scale", self.scale, f64::MIN_POSITIVE)?;
        range("ratio", self.ratio, 1e-3)
    }

    pub(super) fn apply(&self, mut draw: Draw, input: &mut [f32], (width, height): (usize, usize)) {
        if !draw.happens(self.p) {
            return;
        }
        if let Some(part) = self.draw(&mut draw, (width, height)) {
            erase(input, (width, height), part, || match self.value {
                Fill::Zero => 0.0,
                Fill::Random => draw.normal(),
            });
        }
    }

    /// torchvision's `get_params`: ten attempts, then nothing.
    fn draw(&self, draw: &mut Draw, (width, height): (usize, usize)) -> Option<CropBox> {
        let area = (width * height) as f64;
        (0..10).find_map(|_| {
            let target = area * draw.uniform(self.scale[0], self.scale[1]);
            let ratio = draw.uniform(self.ratio[0].ln(), self.ratio[1].ln()).exp();
            let h = (target * ratio).sqrt().round_ties_even() as usize;
            let w = (target / ratio).sqrt().round_ties_even() as usize;
            (h < height && w < width).then(|| {
                let (top, left) = (draw.below(height - h + 1) as u32, draw.below(width - w + 1) as u32);
                CropBox { top, left, height: h as u32, width: w as u32 }
            })
        })
    }
}

/// torchvision's `erase`.
pub(super) fn erase(input: &mut [f32], (width, height): (usize, usize), part: CropBox, mut value: impl FnMut() -> f32) {
    for plane in input.chunks_exact_mut((width * height).max(1)) {
        for row in plane.chunks_exact_mut(width).skip(part.top as usize).take(part.height as usize) {
            row[part.left as usize..][..part.width as usize].fill_with(&mut value);
        }
    }
}
