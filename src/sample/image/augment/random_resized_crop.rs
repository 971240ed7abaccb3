//! A random part of the picture, resized.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Draw, Pixels, range};
use crate::base::{Error, Result};

/// A part of the picture, of random size, place and proportions, resized to the network's input with an
/// antialiased bilinear filter (torchvision's `RandomResizedCrop`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RandomResizedCrop {
    /// The least and the greatest share of the picture's area.
    pub scale: [f64; 2],
    /// The least and the greatest ratio of width to height, before the resize.
    pub ratio: [f64; 2],
}

impl Default for RandomResizedCrop {
    fn default() -> Self {
        Self { scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0] }
    }
}

/// How a part is resized.
pub(super) const BILINEAR: ResizeAlg = ResizeAlg::Convolution(FilterType::Bilinear);

/// A part of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropBox {
    /// The first row.
    pub top: u32,
    /// The first column.
    pub left: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

impl RandomResizedCrop {
    pub(super) fn check(&self) -> Result<()> {
        range("scale", self.scale, f64::MIN_POSITIVE)?;
        if self.scale[1] > 1.0 {
            return Err(Error::bad_input(format!("`scale` goes to {}, more than the whole picture", self.scale[1])));
        }
        range("ratio", self.ratio, 1e-3)
    }

    pub(super) fn apply(&self, draw: Draw, pixels: &mut Pixels, size: (u32, u32), is_of_classes: bool) -> Result<()> {
        let part = self.draw(draw, (pixels.width, pixels.height));
        resized_crop(pixels, part, size, if is_of_classes { ResizeAlg::Nearest } else { BILINEAR })
    }

    /// torchvision's `get_params`: ten attempts, then the largest centred part of an allowed ratio.
    fn draw(&self, mut draw: Draw, (width, height): (u32, u32)) -> CropBox {
        let area = f64::from(width) * f64::from(height);
        for _ in 0..10 {
            let target = area * draw.uniform(self.scale[0], self.scale[1]);
            let ratio = draw.uniform(self.ratio[0].ln(), self.ratio[1].ln()).exp();
            let w = (target * ratio).sqrt().round_ties_even() as u32;
            let h = (target / ratio).sqrt().round_ties_even() as u32;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let top = draw.below((height - h + 1) as usize) as u32;
                let left = draw.below((width - w + 1) as usize) as u32;
                return CropBox { top, left, height: h, width: w };
            }
        }
        let ratio = f64::from(width) / f64::from(height);
        let (w, h) = match () {
            () if ratio < self.ratio[0] => (width, (f64::from(width) / self.ratio[0]).round_ties_even() as u32),
            () if ratio > self.ratio[1] => ((f64::from(height) * self.ratio[1]).round_ties_even() as u32, height),
            () => (width, height),
        };
        let (w, h) = (w.clamp(1, width), h.clamp(1, height));
        CropBox { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
    }
}

/// Cuts a part out and resizes it to `size` (width, height), as Pillow does: only the part's own pixels count.
pub(super) fn resized_crop(pixels: &mut Pixels, part: CropBox, size: (u32, u32), algorithm: ResizeAlg) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| Error::failed(format!("cannot resize: {error}"));
    let row = pixels.width as usize * 3;
    let mut cut = Vec::with_capacity(part.width as usize * part.height as usize * 3);
    for line in pixels.rgb.chunks_exact(row).skip(part.top as usize).take(part.height as usize) {
        cut.extend_from_slice(&line[part.left as usize * 3..][..part.width as usize * 3]);
    }
    if (part.width, part.height) == size {
        pixels.reset(size.0, size.1);
        pixels.rgb.copy_from_slice(&cut);
        return Ok(());
    }
    let source = ImageRef::new(part.width, part.height, &cut, PixelType::U8x3).map_err(|e| failed(&e))?;
    pixels.reset(size.0, size.1);
    let mut target = Image::from_slice_u8(size.0, size.1, &mut pixels.rgb, PixelType::U8x3).map_err(|e| failed(&e))?;
    let options = ResizeOptions::new().resize_alg(algorithm).use_alpha(false);
    Resizer::new().resize(&source, &mut target, &options).map_err(|e| failed(&e))
}
