//! Pictures: what a network expects of them, and how they are made into that.
//!
//! [`ImagePreprocess`] names every step with its value, as the torchvision or timm transform that the
//! network was trained with: resize, centre crop, scale, normalise.

pub mod augment;
mod config;
pub mod decode;
pub mod mask;
mod orientation;
mod preprocess;
mod thumbnail;

pub use config::{Filter, ImageSteps, ResizeConfig, ResizeMode};
pub use preprocess::{Place, Preprocessor};
pub use thumbnail::{jpeg, thumbnail};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Encoding;
use crate::base::{Error, Result};

/// A number in the cache key of every activation: it goes up when the same bytes and the same
/// [`ImagePreprocess`] give other values.
pub const PIXELS_VERSION: u32 = 2;

/// The largest side of a network input.
pub const MAX_INPUT_SIDE: u32 = 4096;

/// How a picture becomes a network input `[3, height, width]`: decode to 8-bit RGB, resize, crop,
/// then `(value × scale − mean) / std` per channel. Every step is named; there are no defaults that
/// depend on the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagePreprocess {
    /// The resize, or `null` to leave the size as it is (then a `crop` must fix it).
    #[serde(default)]
    pub resize: Option<Resize>,
    /// Side of the square cut out of the centre, with torchvision's rounding; a smaller picture is
    /// padded with zeros (black). `null` for none.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4096))]
    pub crop: Option<u32>,
    /// What the 0…255 values are multiplied with: 1/255 for most networks.
    #[serde(default = "one_255th")]
    pub scale: f32,
    /// Subtracted per channel (red, green, blue) after scaling.
    pub mean: [f32; 3],
    /// Divided by per channel (red, green, blue) after subtracting the mean.
    pub std: [f32; 3],
}

/// How a picture is resized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// The new size in pixels of the side or sides that `mode` says.
    #[schemars(range(min = 1, max = 4096))]
    pub size: u32,
    /// Which sides get that size.
    #[serde(default)]
    pub mode: ResizeMode,
    /// The interpolation filter.
    #[serde(default)]
    pub filter: Filter,
    /// Whether the filter widens when shrinking, as Pillow always does and torchvision does by
    /// default. `false` is a plain interpolation between the nearest pixels, as in older exports.
    #[serde(default = "yes")]
    pub antialias: bool,
}

impl ImagePreprocess {
    /// Pictures stretched to a square of `side` pixels, with values from 0 to 1: for a network that does not say
    /// how it was trained.
    pub fn plain(side: u32) -> Self {
        let resize = Resize { size: side, mode: ResizeMode::Exact, filter: Filter::Bilinear, antialias: true };
        Self { resize: Some(resize), crop: None, scale: one_255th(), mean: [0.0; 3], std: [1.0; 3] }
    }

    /// The same steps for inputs of another size: the resize grows or shrinks with the crop.
    #[must_use]
    pub fn at_size(&self, size: u32) -> Self {
        let old = self.output_shape()[1].max(1) as f64;
        let resize = self.resize.as_ref().map(|resize| {
            let scaled = (f64::from(resize.size) * f64::from(size) / old).round() as u32;
            Resize { size: if self.crop.is_some() { scaled.max(size) } else { size }, ..resize.clone() }
        });
        let crop = if resize.is_some() { self.crop.map(|_| size) } else { Some(size) };
        Self { resize, crop, ..self.clone() }
    }

    /// The shape of one network input: `[3, height, width]`. Call [`Self::check`] first; a size that
    /// nothing fixes is 0.
    pub fn output_shape(&self) -> [usize; 3] {
        let exact = self.resize.as_ref().filter(|r| r.mode == ResizeMode::Exact).map(|r| r.size);
        let side = self.crop.or(exact).unwrap_or(0) as usize;
        [3, side, side]
    }

    /// What serde and the schema cannot see.
    ///
    /// # Errors
    /// A size is 0 or too large, nothing fixes the size of the output, a deviation is 0, or a number
    /// is not finite.
    pub fn check(&self) -> Result<()> {
        let sides = [("crop", self.crop), ("resize.size", self.resize.as_ref().map(|r| r.size))];
        for (name, side) in sides {
            if side.is_some_and(|side| side == 0 || side > MAX_INPUT_SIDE) {
                return Err(Error::bad_input(format!("preprocess: `{name}` is not between 1 and {MAX_INPUT_SIDE}")));
            }
        }
        if self.output_shape()[1] == 0 {
            return Err(Error::bad_input("preprocess: nothing fixes the size of the network's input")
                .hint("give a `crop`, or a `resize` with `mode: exact`"));
        }
        let finite = self.mean.iter().chain(&self.std).chain([&self.scale]).all(|value| value.is_finite());
        if !finite || self.scale <= 0.0 || self.std.iter().any(|value| *value <= 0.0) {
            return Err(Error::bad_input("preprocess: `scale` and `std` must be above 0, and all numbers finite"));
        }
        Ok(())
    }

    /// Makes one network input of a picture's bytes; for many, a [`Preprocessor`] keeps its buffers.
    ///
    /// # Errors
    /// As [`Preprocessor::apply`].
    pub fn apply(&self, bytes: &[u8], encoding: &Encoding, out: &mut [f32]) -> Result<()> {
        Preprocessor::new(self).apply(bytes, encoding, out)
    }
}

fn one_255th() -> f32 {
    1.0 / 255.0
}

fn yes() -> bool {
    true
}
