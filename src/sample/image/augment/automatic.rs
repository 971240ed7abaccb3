//! The changes that RandAugment and TrivialAugment choose from.

use super::rotation::rotate;
use super::{Interpolation, Pixels, affine, colour};

/// A change of a picture that a number sets the strength of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

/// All changes, in torchvision's order.
pub const CHANGES: [Change; 14] = [
    Change::Identity,
    Change::ShearX,
    Change::ShearY,
    Change::TranslateX,
    Change::TranslateY,
    Change::Rotate,
    Change::Brightness,
    Change::Color,
    Change::Contrast,
    Change::Sharpness,
    Change::Posterize,
    Change::Solarize,
    Change::AutoContrast,
    Change::Equalize,
];

impl Change {
    /// Whether the strength may be negative.
    pub fn is_signed(self) -> bool {
        use Change::*;
        !matches!(self, Identity | Posterize | Solarize | AutoContrast | Equalize)
    }

    /// Whether it moves pixels, and does nothing else.
    pub fn moves(self) -> bool {
        use Change::*;
        matches!(self, Identity | ShearX | ShearY | TranslateX | TranslateY | Rotate)
    }

    /// torchvision's `_apply_op`.
    pub fn apply(self, pixels: &mut Pixels, magnitude: f64) {
        let shear = magnitude.atan().to_degrees();
        // torchvision shears around the corner, which it counts from the centre.
        let corner = [-0.5 * f64::from(pixels.width), -0.5 * f64::from(pixels.height)];
        let moved = magnitude.trunc();
        let mut sample = |matrix| affine::sample(pixels, matrix, Interpolation::Nearest, 0.0);
        match self {
            Self::Identity => {}
            Self::ShearX => sample(affine::inverse(corner, 0.0, [0.0; 2], [shear, 0.0])),
            Self::ShearY => sample(affine::inverse(corner, 0.0, [0.0; 2], [0.0, shear])),
            Self::TranslateX => sample(affine::inverse([0.0; 2], 0.0, [moved, 0.0], [0.0; 2])),
            Self::TranslateY => sample(affine::inverse([0.0; 2], 0.0, [0.0, moved], [0.0; 2])),
            Self::Rotate => rotate(pixels, magnitude, Interpolation::Nearest, 0.0),
            Self::Brightness => colour::brightness(pixels, 1.0 + magnitude),
            Self::Color => colour::saturation(pixels, 1.0 + magnitude),
            Self::Contrast => colour::contrast(pixels, 1.0 + magnitude),
            Self::Sharpness => colour::sharpness(pixels, 1.0 + magnitude),
            Self::Posterize => colour::posterize(pixels, magnitude as u32),
            Self::Solarize => colour::solarize(pixels, magnitude),
            Self::AutoContrast => colour::autocontrast(pixels),
            Self::Equalize => colour::equalize(pixels),
        }
    }
}

/// The `at`th of `count` even steps from `first` to `last`.
pub fn step(first: f64, last: f64, at: u32, count: u32) -> f64 {
    first + (last - first) * f64::from(at) / f64::from(count.max(2) - 1)
}
