//! Masks: pictures of class numbers.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::{Filter, ImagePreprocess, Preprocessor, Resize};
use crate::base::{Error, Result};
use crate::sample::Encoding;

/// The steps that put a mask where a picture's steps put the picture: the same resize and crop, by the nearest pixel.
pub fn steps(picture: &ImagePreprocess) -> ImagePreprocess {
    let resize = picture.resize.clone().map(|resize| Resize { filter: Filter::Nearest, antialias: false, ..resize });
    ImagePreprocess { resize, crop: picture.crop, scale: 1.0, mean: [0.0; 3], std: [1.0; 3] }
}

/// The values of a mask's pixels `[height, width]` after [`steps`].
///
/// # Errors
/// The bytes are no picture, or one that is not grey.
pub fn read(bytes: &[u8], steps: &ImagePreprocess) -> Result<Vec<u8>> {
    let [_, height, width] = steps.output_shape();
    let mut planes = vec![0.0; 3 * height * width];
    Preprocessor::new(steps).apply(bytes, &Encoding::Encoded, &mut planes)?;
    let (red, others) = planes.split_at(height * width);
    if others.chunks_exact(height * width).any(|plane| plane != red) {
        return Err(Error::bad_input("the mask has colours, and should be grey: its values are class numbers")
            .hint("write masks as 8-bit grey PNG; one with a palette can be converted by its indices"));
    }
    Ok(red.iter().map(|value| *value as u8).collect())
}

/// A mask as an 8-bit grey PNG.
///
/// # Errors
/// None for as many values as pixels.
pub fn to_png(classes: &[u8], [height, width]: [usize; 2]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(classes, width as u32, height as u32, ExtendedColorType::L8)
        .map_err(|e| Error::failed("a mask cannot be written as PNG").because(e))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_resized_by_its_nearest_pixels() {
        let png = to_png(&[0, 1, 2, 255], [2, 2]).unwrap();
        let steps = steps(&ImagePreprocess::plain(4));
        let row = |a, b| [a, a, b, b].repeat(2);
        assert_eq!(read(&png, &steps).unwrap(), [row(0, 1), row(2, 255)].concat());
        let mut colours = Vec::new();
        PngEncoder::new(&mut colours).write_image(&[1, 2, 3], 1, 1, ExtendedColorType::Rgb8).unwrap();
        assert!(read(&colours, &steps).unwrap_err().to_string().contains("should be grey"));
    }
}
