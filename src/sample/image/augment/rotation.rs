//! A random turn.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Draw, Pixels, affine};
use crate::base::{Error, Result};

/// Turns the picture around its centre; it keeps its size (torchvision's `RandomRotation`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// The angle is drawn from 0 ± this many degrees.
    #[schemars(range(min = 0.0, max = 360.0))]
    pub degrees: f64,
    /// How pixels between pixels are made.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// What the corners are filled with, from 0 to 255.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 255.0))]
    pub fill: f32,
}

/// How pixels between pixels are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The nearest pixel.
    #[default]
    Nearest,
    /// A mixture of the four nearest.
    Bilinear,
}

impl Rotation {
    pub(super) fn check(&self) -> Result<()> {
        if !(0.0..=360.0).contains(&self.degrees) || !(0.0..=255.0).contains(&self.fill) {
            return Err(Error::bad_input("`degrees` is from 0 to 360, and `fill` from 0 to 255"));
        }
        Ok(())
    }

    pub(super) fn apply(&self, mut draw: Draw, pixels: &mut Pixels, is_of_classes: bool) {
        let made = if is_of_classes { (Interpolation::Nearest, 0.0) } else { (self.interpolation, self.fill) };
        rotate(pixels, draw.uniform(-self.degrees, self.degrees), made.0, made.1);
    }
}

/// torchvision's `rotate`: counter-clockwise.
pub(super) fn rotate(pixels: &mut Pixels, angle: f64, interpolation: Interpolation, fill: f32) {
    affine::sample(pixels, affine::inverse([0.0; 2], -angle, [0.0; 2], [0.0; 2]), interpolation, fill);
}
