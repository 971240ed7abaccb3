//! Resize, crop and normalise: from pixels to a network's input.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{Filter as CustomFilter, FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::augment::View;
use super::decode::{self, Pixels};
use super::{Filter, ImagePreprocess, Resize, ResizeMode};
use crate::base::{Error, Result};
use crate::sample::Encoding;

/// An [`ImagePreprocess`] with the buffers it needs, for one thread.
pub struct Preprocessor {
    steps: ImagePreprocess,
    /// `table[channel][value]` is the normalised value.
    table: Box<[[f32; 256]; 3]>,
    resizer: Resizer,
    decoded: Pixels,
    resized: Vec<u8>,
    cropped: Pixels,
}

impl Preprocessor {
    /// Prepares the steps, which have passed [`ImagePreprocess::check`].
    pub fn new(steps: &ImagePreprocess) -> Self {
        let mut table = Box::new([[0.0; 256]; 3]);
        for (channel, values) in table.iter_mut().enumerate() {
            for (value, out) in values.iter_mut().enumerate() {
                *out = (value as f32 * steps.scale - steps.mean[channel]) / steps.std[channel];
            }
        }
        let (resizer, decoded, resized, cropped) = (Resizer::new(), Pixels::default(), Vec::new(), Pixels::default());
        Self { steps: steps.clone(), table, resizer, decoded, resized, cropped }
    }

    /// Makes a network input of a picture's bytes. `out` is `[3, height, width]` of
    /// [`ImagePreprocess::output_shape`].
    ///
    /// # Errors
    /// The bytes are no picture that can be read, or one that is too large.
    pub fn apply(&mut self, bytes: &[u8], encoding: &Encoding, out: &mut [f32]) -> Result<()> {
        self.apply_view(bytes, encoding, None, out)
    }

    /// The same of a view of the picture.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_view(
        &mut self,
        bytes: &[u8],
        encoding: &Encoding,
        view: Option<&View<'_>>,
        out: &mut [f32],
    ) -> Result<()> {
        decode::decode(bytes, encoding, &mut self.decoded)?;
        let [_, height, width] = self.steps.output_shape();
        if out.len() != 3 * height * width {
            return Err(Error::failed(format!("an input of {} values, not 3×{height}×{width}", out.len())));
        }
        if let Some(view) = view.filter(|view| view.crops()) {
            view.change(&mut self.decoded, (width as u32, height as u32))?;
            normalise(&self.table, &self.decoded.rgb, (width, height), (width, height), out);
            view.erase(out, (width, height));
            return Ok(());
        }
        let from = (self.decoded.width, self.decoded.height);
        let to = self.steps.resize.as_ref().map_or(from, |resize| resized_size(from, resize));
        if u64::from(to.0) * u64::from(to.1) > decode::MAX_PIXELS {
            let [from, to] = [from, to].map(|(width, height)| format!("{width}×{height}"));
            return Err(Error::bad_input(format!("a picture of {from} pixels is too thin: resized it has {to}")));
        }
        let mut have = (to.0 as usize, to.1 as usize);
        let pixels = match &self.steps.resize {
            Some(resize) if to != from => {
                let options = ResizeOptions::new().resize_alg(algorithm(resize)).use_alpha(false);
                // What the crop leaves out is not computed. The filters' weights at their edges are 0, so that
                // rounding of the box does no harm; those of the other two are not.
                let options = if matches!(resize.filter, Filter::Nearest | Filter::Box) {
                    options
                } else {
                    let [(left, box_width), (top, box_height)] = [(from.0, have.0, width), (from.1, have.1, height)]
                        .map(|(from, to, size)| {
                            let scale = f64::from(from) / to as f64;
                            (centre(to, size).1 as f64 * scale, to.min(size) as f64 * scale)
                        });
                    have = (have.0.min(width), have.1.min(height));
                    options.crop(
                        left,
                        top,
                        box_width.min(f64::from(from.0) - left),
                        box_height.min(f64::from(from.1) - top),
                    )
                };
                self.resized.resize(have.0 * have.1 * 3, 0);
                let failed = |error: &dyn std::fmt::Display| Error::failed(format!("cannot resize: {error}"));
                let source =
                    ImageRef::new(from.0, from.1, &self.decoded.rgb, PixelType::U8x3).map_err(|e| failed(&e))?;
                let (target, size) = (&mut self.resized, (have.0 as u32, have.1 as u32));
                let mut target =
                    Image::from_slice_u8(size.0, size.1, target, PixelType::U8x3).map_err(|e| failed(&e))?;
                self.resizer.resize(&source, &mut target, &options).map_err(|e| failed(&e))?;
                &self.resized
            }
            _ => &self.decoded.rgb,
        };
        match view {
            None => normalise(&self.table, pixels, have, (width, height), out),
            Some(view) => {
                centred(pixels, have, (width, height), &mut self.cropped);
                view.change(&mut self.cropped, (width as u32, height as u32))?;
                normalise(&self.table, &self.cropped.rgb, (width, height), (width, height), out);
                view.erase(out, (width, height));
            }
        }
        Ok(())
    }
}

/// Crops the centre, or pads with black, without more.
fn centred(pixels: &[u8], from: (usize, usize), (width, height): (usize, usize), out: &mut Pixels) {
    let ((pad_x, skip_x), (pad_y, skip_y)) = (centre(from.0, width), centre(from.1, height));
    let columns = from.0.min(width) * 3;
    out.reset(width as u32, height as u32);
    out.rgb.fill(0);
    for row in 0..from.1.min(height) {
        let line = &pixels[((skip_y + row) * from.0 + skip_x) * 3..][..columns];
        out.rgb[((pad_y + row) * width + pad_x) * 3..][..columns].copy_from_slice(line);
    }
}

/// The size after a resize. The longer side is rounded down, as torchvision's
/// `_compute_resized_output_size` does.
fn resized_size((width, height): (u32, u32), resize: &Resize) -> (u32, u32) {
    let size = resize.size;
    let scaled = |long: u32, short: u32| (u64::from(size) * u64::from(long) / u64::from(short)).max(1);
    // A strip so thin that its length overflows has been refused by the limit on pixels long before.
    let scaled = |long, short| u32::try_from(scaled(long, short)).unwrap_or(u32::MAX);
    match resize.mode {
        ResizeMode::Exact => (size, size),
        ResizeMode::Shortest if width <= height => (size, scaled(height, width)),
        ResizeMode::Shortest => (scaled(width, height), size),
    }
}

fn algorithm(resize: &Resize) -> ResizeAlg {
    let filter = match (resize.filter, resize.antialias) {
        (Filter::Nearest, _) => return ResizeAlg::Nearest,
        (Filter::Box, _) => FilterType::Box,
        (Filter::Bilinear, _) => FilterType::Bilinear,
        (Filter::Bicubic, true) => FilterType::CatmullRom,
        (Filter::Bicubic, false) => match CustomFilter::new("bicubic_torch", cubic_of_torch, 2.0) {
            Ok(filter) => FilterType::Custom(filter),
            Err(error) => unreachable!("a support of 2 is fine: {error}"),
        },
        (Filter::Lanczos, _) => FilterType::Lanczos3,
    };
    if resize.antialias { ResizeAlg::Convolution(filter) } else { ResizeAlg::Interpolation(filter) }
}

/// Keys' cubic with a = −0.75, as torch's `interpolate(mode="bicubic", antialias=False)` has it.
fn cubic_of_torch(x: f64) -> f64 {
    const A: f64 = -0.75;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Where a crop of `size` begins in `from` pixels, and how many of them are skipped, as torchvision's
/// `center_crop`: a smaller picture is padded, the odd pixel after it; a larger one is cut at half the
/// difference, rounded to even.
fn centre(from: usize, size: usize) -> (usize, usize) {
    if from < size {
        return ((size - from) / 2, 0);
    }
    let spare = from - size;
    let half = spare / 2;
    (0, if spare % 2 == 1 && half % 2 == 1 { half + 1 } else { half })
}

/// Crops the centre (or pads with black), normalises, and puts the channels first, in one pass.
fn normalise(
    table: &[[f32; 256]; 3],
    pixels: &[u8],
    (from_width, from_height): (usize, usize),
    (width, height): (usize, usize),
    out: &mut [f32],
) {
    let (pad_x, skip_x) = centre(from_width, width);
    let (pad_y, skip_y) = centre(from_height, height);
    let (columns, rows) = (from_width.min(width), from_height.min(height));
    let plane = width * height;
    if columns < width || rows < height {
        for (values, table) in out.chunks_exact_mut(plane).zip(table) {
            values.fill(table[0]);
        }
    }
    let (red, rest) = out.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    let pixels = pixels.as_chunks::<3>().0;
    for row in 0..rows {
        let from = &pixels[(skip_y + row) * from_width + skip_x..][..columns];
        let at = (pad_y + row) * width + pad_x;
        let channels = red[at..][..columns].iter_mut().zip(&mut green[at..][..columns]).zip(&mut blue[at..][..columns]);
        for (((red, green), blue), [r, g, b]) in channels.zip(from) {
            *red = table[0][usize::from(*r)];
            *green = table[1][usize::from(*g)];
            *blue = table[2][usize::from(*b)];
        }
    }
}
