//! Flips.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Draw, Pixels};

/// Left becomes right with probability `p` (torchvision's `RandomHorizontalFlip`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HorizontalFlip {
    /// How often.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

/// Top becomes bottom with probability `p` (torchvision's `RandomVerticalFlip`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerticalFlip {
    /// How often.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for HorizontalFlip {
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

impl Default for VerticalFlip {
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

impl HorizontalFlip {
    pub(super) fn apply(&self, mut draw: Draw, pixels: &mut Pixels) {
        if draw.happens(self.p) {
            horizontally(pixels);
        }
    }
}

impl VerticalFlip {
    pub(super) fn apply(&self, mut draw: Draw, pixels: &mut Pixels) {
        if draw.happens(self.p) {
            vertically(pixels);
        }
    }
}

pub(super) fn horizontally(pixels: &mut Pixels) {
    let width = pixels.width as usize;
    pixels.rgb.as_chunks_mut::<3>().0.chunks_exact_mut(width.max(1)).for_each(<[_]>::reverse);
}

pub(super) fn vertically(pixels: &mut Pixels) {
    let row = pixels.width as usize * 3;
    let mut rows: Vec<&mut [u8]> = pixels.rgb.chunks_exact_mut(row.max(1)).collect();
    let (top, bottom) = rows.split_at_mut(pixels.height as usize / 2);
    top.iter_mut().zip(bottom.iter_mut().rev()).for_each(|(a, b)| a.swap_with_slice(b));
}
