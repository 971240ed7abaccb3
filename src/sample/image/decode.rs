//! From a file's bytes to 8-bit RGB pixels.
//!
//! What a picture is, its bytes say; extensions are not looked at. The result is that of Pillow's
//! `ImageOps.exif_transpose(image).convert("RGB")`:
//!
//! - alpha and transparent palette entries are dropped, the colours below them stay;
//! - grey is repeated in all channels, palettes and 1-bit pictures are expanded;
//! - of animations the first frame is taken;
//! - CMYK JPEGs are read by Adobe's convention (inverted), colour profiles are ignored;
//! - 16-bit values are divided by 257 and rounded. (Pillow cuts grey ones at 255, which loses the
//!   picture, and takes the high byte of colours, which differs by at most 1.)

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::orientation;
use crate::base::{Error, Result};
use crate::sample::Encoding;

/// No picture with more pixels is decoded; the limit at which Pillow speaks of a decompression bomb.
pub const MAX_PIXELS: u64 = 178_956_970;

/// Decoded pixels; the buffer is used again from picture to picture.
#[derive(Debug, Default)]
pub struct Pixels {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `[height, width, 3]`: red, green, blue.
    pub rgb: Vec<u8>,
}

impl Pixels {
    /// Sets the size, keeping the buffer; what is in it is to be overwritten.
    pub fn reset(&mut self, width: u32, height: u32) {
        (self.width, self.height) = (width, height);
        self.rgb.resize(width as usize * height as usize * 3, 0);
    }
}

/// The size in pixels that a picture's header states, before its orientation is applied; nothing is
/// decoded.
///
/// # Errors
/// The bytes are empty, no known picture, or state a size of nothing or of more than [`MAX_PIXELS`].
pub fn header(bytes: &[u8], encoding: &Encoding) -> Result<(u32, u32)> {
    match *encoding {
        Encoding::PlanarRgb { width, height } => raw_size(bytes.len() as u64, width, height, 3),
        Encoding::Grey { width, height } => raw_size(bytes.len() as u64, width, height, 1),
        Encoding::Text => Err(no_picture()),
        Encoding::Encoded if is_jpeg(bytes) => jpeg_header(bytes).map(|(_, size)| size),
        Encoding::Encoded => {
            let decoder = open(bytes)?;
            let (width, height) = decoder.dimensions();
            check_size(width, height)
        }
    }
}

/// Checks raw pixels, which have no header, by how many bytes there are; `None` for other encodings.
pub fn raw(len: u64, encoding: &Encoding) -> Option<Result<()>> {
    match *encoding {
        Encoding::PlanarRgb { width, height } => Some(raw_size(len, width, height, 3).map(|_| ())),
        Encoding::Grey { width, height } => Some(raw_size(len, width, height, 1).map(|_| ())),
        Encoding::Text | Encoding::Encoded => None,
    }
}

/// Decodes a picture.
///
/// # Errors
/// As [`header`], and the data behind the header are damaged or cut off.
pub fn decode(bytes: &[u8], encoding: &Encoding, pixels: &mut Pixels) -> Result<()> {
    match *encoding {
        Encoding::PlanarRgb { width, height } => decode_planar(bytes, width, height, pixels),
        Encoding::Grey { width, height } => {
            raw_size(bytes.len() as u64, width, height, 1)?;
            pixels.reset(width, height);
            each(pixels.rgb.as_chunks_mut::<3>().0, bytes, |[l]| [l; 3]);
            Ok(())
        }
        Encoding::Text => Err(no_picture()),
        Encoding::Encoded if is_jpeg(bytes) => decode_jpeg(bytes, pixels),
        Encoding::Encoded => decode_other(bytes, pixels),
    }
}

fn no_picture() -> Error {
    Error::bad_input("a text is no picture")
}

/// Whether a file of `len` bytes ends as a whole picture does. `false` is only a suspicion, and `true` only says
/// that the file was not cut off.
pub fn ends_well(head: &[u8], tail: &[u8], len: u64) -> bool {
    let has = |end: &[u8]| tail.windows(end.len()).any(|window| window == end);
    let stated =
        |at: usize| head.get(at..at + 4).map_or(0, |four| four.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)));
    if is_jpeg(head) {
        return has(&[0xff, 0xd9]);
    }
    match image::guess_format(head) {
        Ok(ImageFormat::Png) => has(b"IEND"),
        Ok(ImageFormat::Gif) => tail.iter().rev().find(|byte| **byte != 0) == Some(&b';'),
        Ok(ImageFormat::Bmp) => (1..=len).contains(&stated(2)),
        Ok(ImageFormat::WebP) => (1..=len).contains(&(stated(4) + 8)),
        // Others do not say; they are decoded to be sure.
        _ => false,
    }
}

pub(super) fn check_size(width: u32, height: u32) -> Result<(u32, u32)> {
    if width == 0 || height == 0 {
        return Err(Error::bad_input(format!("a picture of {width}×{height} pixels has no content")));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Error::bad_input(format!(
            "a picture of {width}×{height} pixels; at most {MAX_PIXELS} pixels are read"
        )));
    }
    Ok((width, height))
}

fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let cause = cause.into();
    Error::bad_input(format!("the picture is damaged: {cause}")).because(cause)
}

fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}

type Jpeg<'a> = JpegDecoder<ZCursor<&'a [u8]>>;

fn jpeg_header(bytes: &[u8]) -> Result<(Jpeg<'_>, (u32, u32))> {
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| damaged(error.to_string()))?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    let size = check_size(width as u32, height as u32)?;
    // Odd headers are fine, data that end too early are not.
    decoder.set_options(options.set_strict_mode(true));
    Ok((decoder, size))
}

fn decode_jpeg(bytes: &[u8], pixels: &mut Pixels) -> Result<()> {
    let (mut decoder, (width, height)) = jpeg_header(bytes)?;
    pixels.reset(width, height);
    decoder.decode_into(&mut pixels.rgb).map_err(|error| damaged(error.to_string()))?;
    if let Some(orientation) = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif)) {
        orientation::apply(pixels, orientation);
    }
    Ok(())
}

fn open(bytes: &[u8]) -> Result<impl ImageDecoder + '_> {
    if bytes.is_empty() {
        return Err(Error::bad_input("the file is empty"));
    }
    let format = image::guess_format(bytes).ok().filter(ImageFormat::reading_enabled).ok_or_else(|| {
        Error::bad_input("the bytes are no picture that is known")
            .hint("PNG, JPEG, GIF, BMP, TIFF, WebP and PNM are read")
    })?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_PIXELS * 8);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    reader.into_decoder().map_err(damaged)
}

/// A picture as it is stored, but for palettes and small depths, which are expanded, and without its orientation.
pub(super) fn other(bytes: &[u8]) -> Result<DynamicImage> {
    let decoder = open(bytes)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    DynamicImage::from_decoder(decoder).map_err(damaged)
}

/// The size in pixels of a picture as [`decode`] gives it, of which nothing behind the header is read.
///
/// # Errors
/// Those of [`header`].
pub fn size(bytes: &[u8], encoding: &Encoding) -> Result<(u32, u32)> {
    let (width, height) = header(bytes, encoding)?;
    let orientation = match encoding {
        Encoding::Encoded if is_jpeg(bytes) => {
            let (decoder, _) = jpeg_header(bytes)?;
            decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif))
        }
        Encoding::Encoded => open(bytes)?.orientation().ok(),
        Encoding::PlanarRgb { .. } | Encoding::Grey { .. } | Encoding::Text => None,
    };
    let swaps = orientation.is_some_and(orientation::swaps);
    Ok(if swaps { (height, width) } else { (width, height) })
}

fn decode_other(bytes: &[u8], pixels: &mut Pixels) -> Result<()> {
    let mut decoder = open(bytes)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    pixels.reset(width, height);
    let out = pixels.rgb.as_chunks_mut::<3>().0;
    match image {
        DynamicImage::ImageRgb8(image) => pixels.rgb = image.into_raw(),
        DynamicImage::ImageRgba8(image) => each(out, image.as_raw(), |[r, g, b, _]| [r, g, b]),
        DynamicImage::ImageLuma8(image) => each(out, image.as_raw(), |[l]| [l; 3]),
        DynamicImage::ImageLumaA8(image) => each(out, image.as_raw(), |[l, _]| [l; 3]),
        DynamicImage::ImageRgb16(image) => each(out, image.as_raw(), |rgb: [u16; 3]| rgb.map(to_8_bit)),
        DynamicImage::ImageRgba16(image) => each(out, image.as_raw(), |[r, g, b, _]| [r, g, b].map(to_8_bit)),
        DynamicImage::ImageLuma16(image) => each(out, image.as_raw(), |[l]| [to_8_bit(l); 3]),
        DynamicImage::ImageLumaA16(image) => each(out, image.as_raw(), |[l, _]| [to_8_bit(l); 3]),
        _ => {
            return Err(Error::bad_input("the picture has floating-point pixels, whose range nobody knows")
                .hint("save it with 8 or 16 bits per value"));
        }
    }
    orientation::apply(pixels, orientation);
    Ok(())
}

fn each<const N: usize, T: Copy>(out: &mut [[u8; 3]], values: &[T], pixel: impl Fn([T; N]) -> [u8; 3]) {
    for (out, values) in out.iter_mut().zip(values.as_chunks::<N>().0) {
        *out = pixel(*values);
    }
}

fn to_8_bit(value: u16) -> u8 {
    ((u32::from(value) + 128) / 257) as u8
}

fn raw_size(found: u64, width: u32, height: u32, channels: u64) -> Result<(u32, u32)> {
    let size = check_size(width, height)?;
    let expected = u64::from(width) * u64::from(height) * channels;
    if found != expected {
        return Err(Error::bad_input(format!("{found} bytes, where {width}×{height} pixels have {expected}")));
    }
    Ok(size)
}

/// The red, green and blue pixels of [`Encoding::PlanarRgb`].
///
/// # Errors
/// As [`header`].
pub fn planes(bytes: &[u8], width: u32, height: u32) -> Result<[&[u8]; 3]> {
    raw_size(bytes.len() as u64, width, height, 3)?;
    let (red, rest) = bytes.split_at(bytes.len() / 3);
    let (green, blue) = rest.split_at(rest.len() / 2);
    Ok([red, green, blue])
}

fn decode_planar(bytes: &[u8], width: u32, height: u32, pixels: &mut Pixels) -> Result<()> {
    let [red, green, blue] = planes(bytes, width, height)?;
    pixels.reset(width, height);
    let planes = red.iter().zip(green).zip(blue);
    for (out, ((red, green), blue)) in pixels.rgb.as_chunks_mut::<3>().0.iter_mut().zip(planes) {
        *out = [*red, *green, *blue];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::{ExtendedColorType, ImageEncoder, RgbImage};

    pub fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([(x * 7 % 256) as u8, (y * 5 % 256) as u8, ((x * y) % 256) as u8])
        })
    }

    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let image = picture(width, height);
        JpegEncoder::new(&mut bytes).write_image(&image, width, height, ExtendedColorType::Rgb8).unwrap();
        bytes
    }

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture(40, 30).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn message(bytes: &[u8]) -> String {
        let error = decode(bytes, &Encoding::Encoded, &mut Pixels::default()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    const FORMATS: [ImageFormat; 6] =
        [ImageFormat::Png, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Pnm];

    #[test]
    fn every_format_is_known_by_its_bytes_and_states_its_size() {
        let mut pixels = Pixels::default();
        for bytes in FORMATS.map(encoded).into_iter().chain([jpeg(40, 30)]) {
            assert_eq!(header(&bytes, &Encoding::Encoded).unwrap(), (40, 30));
            decode(&bytes, &Encoding::Encoded, &mut pixels).unwrap();
            assert_eq!((pixels.width, pixels.height, pixels.rgb.len()), (40, 30, 3600));
        }
    }

    #[test]
    fn a_file_that_is_cut_off_is_damaged() {
        for bytes in FORMATS.map(encoded).into_iter().chain([jpeg(40, 30), jpeg(200, 100)]) {
            for part in [0.3, 0.6, 0.9] {
                let cut = &bytes[..(bytes.len() as f64 * part) as usize];
                assert!(message(cut).contains("damaged"), "{}", message(cut));
            }
        }
        let well = |bytes: &[u8], part: usize| ends_well(bytes, &bytes[..part], part as u64);
        for bytes in FORMATS[..5].iter().filter(|f| **f != ImageFormat::Tiff).map(|f| encoded(*f)).chain([jpeg(40, 30)])
        {
            assert!(well(&bytes, bytes.len()) && !well(&bytes, bytes.len() - 20));
        }
    }

    #[test]
    fn empty_and_foreign_bytes_are_refused() {
        assert_eq!(message(b""), "the file is empty");
        assert_eq!(message(b"<svg/>"), "the bytes are no picture that is known");
        assert!(message(b"\xff\xd8\xff garbage").contains("damaged"));
        assert!(message(b"\x89PNG\r\n\x1a\n").contains("damaged"));
        let mut png = encoded(ImageFormat::Png);
        let middle = png.len() / 2;
        png[middle] ^= 0x55;
        assert!(message(&png).contains("damaged"));
    }

    #[test]
    fn huge_and_empty_sizes_are_refused_before_anything_is_allocated() {
        let states: [fn(u16, u16) -> Vec<u8>; 5] = [jpeg_of, png_of, gif_of, bmp_of, pnm_of];
        for of in states {
            let huge = of(60_000, 60_000);
            assert!(message(&huge).contains("60000×60000 pixels; at most"), "{}", message(&huge));
            let told = header(&huge, &Encoding::Encoded).unwrap_err().to_string();
            assert_eq!(told, message(&huge));
            for (width, height) in [(0, 5), (5, 0), (0, 0)] {
                assert!(header(&of(width, height), &Encoding::Encoded).is_err(), "{width}×{height}");
            }
        }
        // Its strips belie the size.
        assert!(message(&tiff_of(60_000, 60_000)).contains("inconsistent sizes"));
        assert!(header(&tiff_of(0, 5), &Encoding::Encoded).is_err());
        // Nothing larger can be stated there, and nothing of no size.
        let mut webp = encoded(ImageFormat::WebP);
        webp[21..25].copy_from_slice(&(0x3ffe_u32 | 0x3ffe << 14).to_le_bytes());
        assert!(message(&webp).contains("16383×16383 pixels; at most"), "{}", message(&webp));
        assert!(decode(&[], &Encoding::PlanarRgb { width: 0, height: 5 }, &mut Pixels::default()).is_err());
    }

    fn jpeg_of(width: u16, height: u16) -> Vec<u8> {
        let mut jpeg = jpeg(40, 30);
        let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        jpeg[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
        jpeg[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
        jpeg
    }

    fn gif_of(width: u16, height: u16) -> Vec<u8> {
        let mut gif = encoded(ImageFormat::Gif);
        gif[6..8].copy_from_slice(&width.to_le_bytes());
        gif[8..10].copy_from_slice(&height.to_le_bytes());
        gif
    }

    fn bmp_of(width: u16, height: u16) -> Vec<u8> {
        let mut bmp = encoded(ImageFormat::Bmp);
        bmp[18..22].copy_from_slice(&u32::from(width).to_le_bytes());
        bmp[22..26].copy_from_slice(&u32::from(height).to_le_bytes());
        bmp
    }

    fn tiff_of(width: u16, height: u16) -> Vec<u8> {
        let mut tiff = encoded(ImageFormat::Tiff);
        for (tag, side) in [(256_u16, width), (257, height)] {
            // An entry of one number of 32 bits.
            let entry = [&tag.to_le_bytes()[..], &[4, 0, 1, 0, 0, 0]].concat();
            let at = tiff.windows(8).rposition(|window| window == entry).unwrap();
            tiff[at + 8..at + 12].copy_from_slice(&u32::from(side).to_le_bytes());
        }
        tiff
    }

    fn pnm_of(width: u16, height: u16) -> Vec<u8> {
        [format!("P6\n{width} {height}\n255\n").as_bytes(), &[7; 100]].concat()
    }

    /// A PNG's header of any size, with its checksum.
    fn png_of(width: u16, height: u16) -> Vec<u8> {
        let mut png = encoded(ImageFormat::Png);
        png[16..20].copy_from_slice(&u32::from(width).to_be_bytes());
        png[20..24].copy_from_slice(&u32::from(height).to_be_bytes());
        let crc = !png[12..29].iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        });
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        png
    }
}
