//! Small pictures for people.

use ::image::codecs::jpeg::JpegEncoder;
use ::image::{ExtendedColorType, RgbImage, imageops};

use super::decode::{Pixels, decode};
use crate::base::{Error, Result};
use crate::sample::Encoding;

const QUALITY: u8 = 75;

/// A JPEG of a picture, whose longer side is at most `side` pixels.
///
/// # Errors
/// Those of [`decode`](super::decode::decode()).
pub fn thumbnail(bytes: &[u8], encoding: &Encoding, side: u32) -> Result<Vec<u8>> {
    let mut pixels = Pixels::default();
    decode(bytes, encoding, &mut pixels)?;
    jpeg(pixels.width, pixels.height, pixels.rgb, side)
}

/// A JPEG of pixels `[height, width, 3]`, made smaller where the longer side is more than `side` pixels.
///
/// # Errors
/// There are not as many.
pub fn jpeg(width: u32, height: u32, rgb: Vec<u8>, side: u32) -> Result<Vec<u8>> {
    let longer = width.max(height).max(1);
    let scaled = |x: u32| (u64::from(x) * u64::from(side) / u64::from(longer)).max(1) as u32;
    let whole = RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| Error::failed(format!("a picture of {width}×{height} has another number of pixels")))?;
    let small = if longer > side { imageops::thumbnail(&whole, scaled(width), scaled(height)) } else { whole };
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode(&small, small.width(), small.height(), ExtendedColorType::Rgb8)
        .map_err(|e| Error::failed("a thumbnail cannot be encoded").because(e))?;
    Ok(jpeg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_side_shrinks_and_a_small_picture_keeps_its_size() {
        let size = |bytes: &[u8], encoding: Encoding| {
            let jpeg = thumbnail(bytes, &encoding, 8).unwrap();
            crate::sample::image::decode::header(&jpeg, &Encoding::Encoded).unwrap()
        };
        assert_eq!(size(&[200; 40 * 10], Encoding::Grey { width: 40, height: 10 }), (8, 2));
        assert_eq!(size(&[200; 12], Encoding::PlanarRgb { width: 2, height: 2 }), (2, 2));
        assert!(thumbnail(b"no picture", &Encoding::Encoded, 8).is_err());
    }
}
