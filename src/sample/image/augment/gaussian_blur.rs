//! A random blur.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Draw, Pixels, range};
use crate::base::{Error, Result};

/// Blurs by a Gaussian of random width (torchvision's `GaussianBlur`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GaussianBlur {
    /// Pixels of the kernel along each side; odd.
    #[schemars(range(min = 1, max = 99))]
    pub kernel_size: u32,
    /// The least and the greatest standard deviation, in pixels.
    #[serde(default = "usual")]
    pub sigma: [f64; 2],
}

fn usual() -> [f64; 2] {
    [0.1, 2.0]
}

impl GaussianBlur {
    pub(super) fn check(&self) -> Result<()> {
        if self.kernel_size.is_multiple_of(2) || self.kernel_size > 99 {
            return Err(Error::bad_input(format!("`kernel_size` is {}, not odd and at most 99", self.kernel_size)));
        }
        range("sigma", self.sigma, f64::MIN_POSITIVE)
    }

    pub(super) fn apply(&self, mut draw: Draw, pixels: &mut Pixels) {
        gaussian_blur(pixels, self.kernel_size as usize, draw.uniform(self.sigma[0], self.sigma[1]));
    }
}

/// torchvision's `gaussian_blur`, with the picture mirrored at its borders.
pub(super) fn gaussian_blur(pixels: &mut Pixels, size: usize, sigma: f64) {
    let (width, height, half) = (pixels.width as usize, pixels.height as usize, size / 2);
    let weights: Vec<f64> = (0..size).map(|i| (-0.5 * ((i as f64 - half as f64) / sigma).powi(2)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let kernel: Vec<f32> = weights.iter().map(|weight| (weight / sum) as f32).collect();
    // A picture smaller than the kernel is mirrored as often as needed.
    let mirrored = |at: usize, len: usize| {
        let period = (2 * len - 2).max(1) as i64;
        let place = (at as i64 - half as i64).rem_euclid(period);
        if place < len as i64 { place as usize } else { (period - place) as usize }
    };
    let mut across = vec![0.0f32; pixels.rgb.len()];
    for y in 0..height {
        for x in 0..width {
            let out = &mut across[(y * width + x) * 3..][..3];
            for (i, weight) in kernel.iter().enumerate() {
                let pixel = &pixels.rgb[(y * width + mirrored(x + i, width)) * 3..][..3];
                out.iter_mut().zip(pixel).for_each(|(out, value)| *out += weight * f32::from(*value));
            }
        }
    }
    for y in 0..height {
        for x in 0..width {
            let mut sum = [0.0f32; 3];
            for (i, weight) in kernel.iter().enumerate() {
                let pixel = &across[(mirrored(y + i, height) * width + x) * 3..][..3];
                sum.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += weight * value);
            }
            let out = &mut pixels.rgb[(y * width + x) * 3..][..3];
            out.iter_mut().zip(sum).for_each(|(out, sum)| *out = sum.round_ties_even().clamp(0.0, 255.0) as u8);
        }
    }
}
