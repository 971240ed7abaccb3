//! Masks: pictures whose pixels are classes, as numbers, as indices of a palette, or as colours.
//!
//! A PNG is read as it is stored: the values of a grey one (1 to 16 bits) and the indices of one with a palette are class
//! numbers. Where the meaning has colours, those of the pixels are looked up instead, through the palette if there is
//! one. Other formats are decoded to grey or to colours. Transparency is not looked at.

use std::collections::HashMap;
use std::io::Cursor;

use image::codecs::png::PngEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder};

use super::augment::View;
use super::decode::{self, MAX_PIXELS};
use super::{Filter, ImagePreprocess, Preprocessor, Resize};
use crate::base::{Error, Result};
use crate::sample::Encoding;

/// The class number of pixels of no class.
pub const VOID: u8 = 255;

/// What the pixels of masks mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meaning {
    /// How many classes there are; at most 255.
    pub classes: usize,
    /// The value of pixels of no class.
    pub void: Option<u16>,
    /// The colour of each class; none where pixels have class numbers.
    pub colors: Vec<[u8; 3]>,
    /// The colour of pixels of no class.
    pub void_color: Option<[u8; 3]>,
}

/// The class of each pixel of a mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassMap {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Row by row; [`VOID`] for none.
    pub classes: Vec<u8>,
}

/// Pixels as they are stored.
enum Stored {
    Numbers(Vec<u16>),
    Colors(Vec<[u8; 3]>),
}

impl Meaning {
    /// The classes of a mask's pixels.
    ///
    /// # Errors
    /// The bytes are no picture; a value or a colour is of no class.
    pub fn read(&self, bytes: &[u8]) -> Result<ClassMap> {
        let (width, height, stored) = stored(bytes, !self.colors.is_empty())?;
        let classes = match stored {
            Stored::Numbers(values) => values.into_iter().map(|value| self.of_number(value)).collect::<Result<_>>()?,
            Stored::Colors(pixels) if self.colors.is_empty() => {
                // A grey picture may be stored as a coloured one.
                if let Some(color) = pixels.iter().find(|color| color.iter().any(|value| *value != color[0])) {
                    return Err(Error::bad_input(format!("it has the colour {color:?}"))
                        .hint("say which colour is which class as `data.colors: {road: [128, 64, 128], …}`"));
                }
                pixels.into_iter().map(|color| self.of_number(u16::from(color[0]))).collect::<Result<_>>()?
            }
            Stored::Colors(pixels) => {
                let named = self.colors.iter().zip(0..).map(|(color, class)| (*color, class));
                let known: HashMap<[u8; 3], u8> = named.chain(self.void_color.map(|color| (color, VOID))).collect();
                let class = |color: [u8; 3]| {
                    known.get(&color).copied().ok_or_else(|| {
                        Error::bad_input(format!("it has the colour {color:?}, which is of no class"))
                            .hint("list it in `data.colors`, as a class or as `void`")
                    })
                };
                pixels.into_iter().map(class).collect::<Result<_>>()?
            }
        };
        Ok(ClassMap { width, height, classes })
    }

    fn of_number(&self, value: u16) -> Result<u8> {
        match value {
            value if Some(value) == self.void => Ok(VOID),
            value if usize::from(value) < self.classes => Ok(value as u8),
            value => Err(Error::bad_input(format!("it has the value {value}, and there are {} classes", self.classes))
                .hint("`data.names` names them in the order of their numbers from 0; `data.void` is of none")),
        }
    }
}

impl ClassMap {
    /// The classes where a network sees a picture that is prepared by `picture`, `[height, width]`: resized and cut alike,
    /// by the nearest pixel, and as a view of it. What is outside of the picture is [`VOID`].
    ///
    /// # Errors
    /// It is too thin to be resized.
    pub fn prepared(&self, picture: &ImagePreprocess, view: Option<View<'_>>) -> Result<Vec<u8>> {
        let resize = picture.resize.clone();
        let resize = resize.map(|resize| Resize { filter: Filter::Nearest, antialias: false, ..resize });
        let steps = ImagePreprocess { resize, crop: picture.crop, scale: 1.0, mean: [0.0; 3], std: [1.0; 3] };
        let [_, height, width] = steps.output_shape();
        let mut planes = vec![0.0; 3 * height * width];
        // What is added around pictures is 0.
        let turned: Vec<u8> = self.classes.iter().map(|class| VOID - class).collect();
        let encoding = Encoding::Grey { width: self.width, height: self.height };
        let view = view.map(View::of_classes);
        Preprocessor::new(&steps).apply_view(&turned, &encoding, view.as_ref(), &mut planes)?;
        Ok(planes[..height * width].iter().map(|value| VOID - *value as u8).collect())
    }

    /// The classes of a picture of `size` (width, height) of which a network saw these through `picture`. What it did not
    /// see is [`VOID`].
    pub fn of_whole(&self, picture: &ImagePreprocess, size: (u32, u32)) -> Self {
        let place = picture.place(size);
        let [_, height, width] = picture.output_shape();
        let (width, height) = ((width, self.width as usize), (height, self.height as usize));
        let near = |(seen, shown): (usize, usize), at: usize| (2 * at + 1) * shown / (2 * seen.max(1));
        let mut classes = Vec::with_capacity(size.0 as usize * size.1 as usize);
        for y in 0..size.1 {
            for x in 0..size.0 {
                let seen = place.of(x, y).map(|(x, y)| near(height, y) * width.1 + near(width, x));
                classes.push(seen.and_then(|at| self.classes.get(at).copied()).unwrap_or(VOID));
            }
        }
        Self { width: size.0, height: size.1, classes }
    }
}

fn stored(bytes: &[u8], wants_colors: bool) -> Result<(u32, u32, Stored)> {
    if image::guess_format(bytes).is_ok_and(|format| format == image::ImageFormat::Png)
        && let Some(found) = numbers_of_png(bytes, wants_colors)?
    {
        return Ok(found);
    }
    let decoded = decode::other(bytes)?;
    let (width, height) = (decoded.width(), decoded.height());
    let stored = match decoded {
        DynamicImage::ImageLuma8(image) if !wants_colors => Stored::Numbers(image.iter().map(|v| u16::from(*v)).collect()),
        DynamicImage::ImageLuma16(image) if !wants_colors => Stored::Numbers(image.into_raw()),
        DynamicImage::ImageLumaA8(_) | DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_) | DynamicImage::ImageLuma8(_) => {
            Stored::Colors(decoded.into_rgb8().into_raw().as_chunks::<3>().0.to_vec())
        }
        _ => return Err(Error::bad_input("it has 16 bits for each of several channels")
            .hint("write masks as PNG with 8 or 16 bits of grey, with a palette, or with 8 bits for each of red, green and blue")),
    };
    Ok((width, height, stored))
}

fn damaged(error: &png::DecodingError) -> Error {
    Error::bad_input(format!("the picture is damaged: {error}"))
}

/// The values of a grey PNG or the indices of one with a palette, as they are stored; `None` of one with colours.
fn numbers_of_png(bytes: &[u8], wants_colors: bool) -> Result<Option<(u32, u32, Stored)>> {
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: MAX_PIXELS as usize * 2 });
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(|e| damaged(&e))?;
    let info = reader.info();
    let (width, height) = decode::check_size(info.width, info.height)?;
    if wants_colors || !matches!(info.color_type, png::ColorType::Grayscale | png::ColorType::Indexed) {
        return Ok(None);
    }
    let size = reader.output_buffer_size().ok_or_else(|| Error::bad_input("the picture is too large"))?;
    let mut buffer = vec![0; size];
    let frame = reader.next_frame(&mut buffer).map_err(|e| damaged(&e))?;
    let bits = frame.bit_depth as usize;
    let mut values = Vec::with_capacity(width as usize * height as usize);
    for line in buffer.chunks_exact(frame.line_size).take(height as usize) {
        match bits {
            16 => values.extend(line.as_chunks().0.iter().map(|two| u16::from_be_bytes(*two))),
            _ => values.extend((0..width as usize).map(|x| {
                let (byte, shift) = (line[x * bits / 8], 8 - bits - x * bits % 8);
                u16::from(byte >> shift) & ((1 << bits) - 1)
            })),
        }
    }
    Ok(Some((width, height, Stored::Numbers(values))))
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
    use crate::base::Digest;
    use crate::sample::image::ResizeMode;
    use crate::sample::image::augment::{Augment, AugmentOp};

    fn png(color: png::ColorType, depth: png::BitDepth, palette: &[u8], (width, data): (u32, &[u8])) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if !palette.is_empty() {
            encoder.set_palette(palette.to_vec());
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    #[test]
    fn values_indices_and_colours_are_classes() {
        use png::{BitDepth, ColorType};
        let numbers = Meaning { classes: 3, void: Some(255), ..Meaning::default() };
        let classes = |meaning: &Meaning, bytes: &[u8]| meaning.read(bytes).map(|map| map.classes);
        let grey = png(ColorType::Grayscale, BitDepth::Eight, &[], (3, &[0, 2, 255]));
        assert_eq!(classes(&numbers, &grey).unwrap(), [0, 2, VOID]);
        // Two bits a pixel, as stored, and not stretched to 255.
        let small = png(ColorType::Grayscale, BitDepth::Two, &[], (3, &[0b0001_1000]));
        assert_eq!(classes(&numbers, &small).unwrap(), [0, 1, 2]);
        let wide = png(ColorType::Grayscale, BitDepth::Sixteen, &[], (2, &[0, 1, 0xff, 0xff]));
        let void = Meaning { void: Some(65535), ..numbers.clone() };
        assert_eq!(classes(&void, &wide).unwrap(), [1, VOID]);
        assert!(classes(&numbers, &wide).unwrap_err().to_string().contains("the value 65535, and there are 3 classes"));
        let palette = [9, 9, 9, 128, 0, 0, 0, 128, 0];
        let indexed = png(ColorType::Indexed, BitDepth::Eight, &palette, (3, &[2, 0, 1]));
        assert_eq!(classes(&numbers, &indexed).unwrap(), [2, 0, 1]);
        let colors =
            Meaning { classes: 2, colors: vec![[128, 0, 0], [0, 128, 0]], void_color: Some([9; 3]), void: None };
        assert_eq!(classes(&colors, &indexed).unwrap(), [1, VOID, 0]);
        let rgb = png(ColorType::Rgb, BitDepth::Eight, &[], (2, &[0, 128, 0, 128, 0, 0]));
        assert_eq!(classes(&colors, &rgb).unwrap(), [1, 0]);
        let hint = classes(&numbers, &rgb).unwrap_err();
        assert!(hint.hint_text().unwrap().contains("data.colors"), "{hint}");
        let other = png(ColorType::Rgb, BitDepth::Eight, &[], (1, &[1, 2, 3]));
        assert!(classes(&colors, &other).unwrap_err().to_string().contains("[1, 2, 3], which is of no class"));
        assert!(classes(&numbers, b"nothing").is_err() && classes(&numbers, &grey[..40]).is_err());
    }

    #[test]
    fn a_mask_is_put_where_its_picture_is() {
        let map = ClassMap { width: 2, height: 2, classes: vec![0, 1, 2, VOID] };
        let row = |a, b| [a, a, b, b].repeat(2);
        assert_eq!(map.prepared(&ImagePreprocess::plain(4), None).unwrap(), [row(0, 1), row(2, VOID)].concat());
        // What a crop adds around a picture is of no class.
        let padded = ImagePreprocess { resize: None, crop: Some(4), ..ImagePreprocess::plain(4) };
        let found = map.prepared(&padded, None).unwrap();
        assert_eq!((found[5], found[6], found[0], found[15]), (0, 1, VOID, VOID));
        // Back to the picture's own size.
        let seen = ClassMap { width: 4, height: 4, classes: found };
        assert_eq!(seen.of_whole(&padded, (2, 2)), map);
    }

    #[test]
    fn a_mask_goes_back_to_its_picture_through_resize_and_crop() {
        // A picture of 8×4 pixels, of which the middle 4×4 are seen at half the size.
        let mut steps = ImagePreprocess { crop: Some(2), ..ImagePreprocess::plain(2) };
        steps.resize.iter_mut().for_each(|resize| resize.mode = ResizeMode::Shortest);
        let seen = ClassMap { width: 2, height: 2, classes: vec![0, 1, 2, 3] };
        let whole = seen.of_whole(&steps, (8, 4));
        let line = |a, b| vec![VOID, VOID, a, a, b, b, VOID, VOID];
        assert_eq!(whole.classes, [line(0, 1), line(0, 1), line(2, 3), line(2, 3)].concat());
        assert_eq!(whole.prepared(&steps, None).unwrap(), seen.classes);
    }

    #[test]
    fn views_of_a_mask_are_those_of_its_picture() {
        let ops = |json: serde_json::Value| -> Vec<AugmentOp> { serde_json::from_value(json).unwrap() };
        let steps = ImagePreprocess::plain(16);
        let digest = Digest([7; 32]);
        // A picture whose red is its mask's class, through ops that move pixels and others that change colours.
        let map = ClassMap { width: 16, height: 16, classes: (0..=255).map(|i| u8::from(i % 16 < 8)).collect() };
        let picture: Vec<u8> = map.classes.iter().map(|class| class * 255).collect();
        let all = [
            serde_json::json!([{"kind": "horizontal_flip", "p": 1.0}]),
            serde_json::json!([{"kind": "rotation", "degrees": 40.0}]),
            serde_json::json!([{"kind": "random_resized_crop", "scale": [0.2, 0.6]}, {"kind": "vertical_flip"}]),
        ];
        for json in all {
            let augment = Augment { ops: ops(json.clone()), seed: 3 };
            let mask = map.prepared(&steps, Some(augment.view(&digest, 1))).unwrap();
            let mut input = vec![0.0; 3 * 256];
            let encoding = Encoding::Grey { width: 16, height: 16 };
            let view = augment.view(&digest, 1);
            Preprocessor::new(&steps).apply_view(&picture, &encoding, Some(&view), &mut input).unwrap();
            let alike = (0..256).filter(|&i| mask[i] == VOID || (mask[i] == 1) == (input[i] > 0.5)).count();
            assert!(alike >= 240, "{json}: {alike}");
            let coloured = serde_json::json!([{"kind": "color_jitter", "brightness": 0.9}, json[0], {"kind": "gaussian_blur", "kernel_size": 3}]);
            let augment = Augment { ops: ops(coloured), seed: 3 };
            assert!(
                map.prepared(&steps, Some(augment.view(&digest, 1))).unwrap().iter().all(|c| [0, 1, VOID].contains(c))
            );
        }
    }
}
