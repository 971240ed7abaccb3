//! Resize, crop and normalise: from pixels to a network's input.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{Filter as CustomFilter, FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::augment::View;
use super::decode::{self, Pixels};
use super::{Filter, ImagePreprocess, Resize, ResizeMode};
use crate::base::{Error, Result, cubic, vectors};
use crate::sample::Encoding;

/// An [`ImagePreprocess`] with the buffers it needs, for one thread.
pub struct Preprocessor {
    steps: ImagePreprocess,
    lines: Lines,
    resizer: Resizer,
    decoded: Pixels,
    resized: Vec<u8>,
    cropped: Pixels,
}

impl Preprocessor {
    /// Prepares the steps, which have passed [`ImagePreprocess::check`].
    pub fn new(steps: &ImagePreprocess) -> Self {
        let line = |channel: usize| {
            let [scale, mean, std] = [steps.scale, steps.mean[channel], steps.std[channel]].map(f64::from);
            ((scale / std) as f32, (-mean / std) as f32)
        };
        let lines = [0, 1, 2].map(line);
        let (resizer, decoded, resized, cropped) = (Resizer::new(), Pixels::default(), Vec::new(), Pixels::default());
        Self { steps: steps.clone(), lines, resizer, decoded, resized, cropped }
    }

    /// Makes a network input of a picture's bytes. `out` is `[3, height, width]` of
    /// [`ImagePreprocess::output_shape`].
    ///
    /// # Errors
    /// The bytes are no picture that can be read, or one that is too large.
    pub fn apply(&mut self, bytes: &[u8], encoding: &Encoding, out: &mut [f32]) -> Result<()> {
        self.apply_view(bytes, encoding, None, out)
    }

    fn resized_size(&self, from: (u32, u32)) -> (u32, u32) {
        self.steps.resize.as_ref().map_or(from, |resize| resized_size(from, resize))
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
        let [_, height, width] = self.steps.output_shape();
        if out.len() != 3 * height * width {
            return Err(Error::failed(format!("an input of {} values, not 3×{height}×{width}", out.len())));
        }
        if let Encoding::PlanarRgb { width: from_width, height: from_height } = *encoding
            && view.is_none()
            && self.resized_size((from_width, from_height)) == (from_width, from_height)
        {
            let planes = decode::planes(bytes, from_width, from_height)?;
            normalise_planes(&self.lines, planes, (from_width as usize, from_height as usize), (width, height), out);
            return Ok(());
        }
        decode::decode(bytes, encoding, &mut self.decoded)?;
        if let Some(view) = view.filter(|view| view.crops()) {
            view.change(&mut self.decoded, (width as u32, height as u32))?;
            normalise(&self.lines, &self.decoded.rgb, (width, height), (width, height), out);
            view.erase(out, (width, height));
            return Ok(());
        }
        let from = (self.decoded.width, self.decoded.height);
        let to = self.resized_size(from);
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
            None => normalise(&self.lines, pixels, have, (width, height), out),
            Some(view) => {
                centred(pixels, have, (width, height), &mut self.cropped);
                view.change(&mut self.cropped, (width as u32, height as u32))?;
                normalise(&self.lines, &self.cropped.rgb, (width, height), (width, height), out);
                view.erase(out, (width, height));
            }
        }
        Ok(())
    }
}

/// Where the pixels of a picture come to lie in a network's input.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    from: (u32, u32),
    resized: (u32, u32),
    input: (usize, usize),
}

impl ImagePreprocess {
    /// Where those of a picture of `size` (width, height) do.
    pub fn place(&self, size: (u32, u32)) -> Place {
        let [_, height, width] = self.output_shape();
        let resized = self.resize.as_ref().map_or(size, |resize| resized_size(size, resize));
        Place { from: size, resized, input: (width, height) }
    }
}

impl Place {
    /// The column and the row of the input that a pixel lies on; `None` outside of what is cut out.
    pub fn of(&self, x: u32, y: u32) -> Option<(usize, usize)> {
        let along = |at: u32, from: u32, resized: u32, input: usize| {
            let at = (2 * u64::from(at) + 1) * u64::from(resized) / (2 * u64::from(from.max(1)));
            let (pad, skip) = centre(resized as usize, input);
            (at as usize + pad).checked_sub(skip).filter(|at| *at < input)
        };
        let column = along(x, self.from.0, self.resized.0, self.input.0)?;
        Some((column, along(y, self.from.1, self.resized.1, self.input.1)?))
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
    cubic(-0.75, x)
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
fn normalise(lines: &Lines, pixels: &[u8], from: (usize, usize), (width, height): (usize, usize), out: &mut [f32]) {
    let crop = Crop::new(from, (width, height), lines, out);
    let (red, rest) = out.split_at_mut(width * height);
    let (green, blue) = rest.split_at_mut(width * height);
    let pixels = pixels.as_chunks::<3>().0;
    let [red_line, green_line, blue_line] = *lines;
    vectors!({
        for (from, at) in crop.rows() {
            let from = &pixels[from..][..crop.columns];
            let [red, green, blue] = [&mut *red, &mut *green, &mut *blue].map(|plane| &mut plane[at..][..crop.columns]);
            for (((red, green), blue), [r, g, b]) in red.iter_mut().zip(green).zip(blue).zip(from) {
                *red = on(red_line, *r);
                *green = on(green_line, *g);
                *blue = on(blue_line, *b);
            }
        }
    });
}

/// The same for pixels that are channels first already.
fn normalise_planes(
    lines: &Lines,
    planes: [&[u8]; 3],
    from: (usize, usize),
    (width, height): (usize, usize),
    out: &mut [f32],
) {
    let crop = Crop::new(from, (width, height), lines, out);
    vectors!({
        for ((plane, out), line) in planes.into_iter().zip(out.chunks_exact_mut(width * height)).zip(*lines) {
            for (from, at) in crop.rows() {
                let values = out[at..][..crop.columns].iter_mut().zip(&plane[from..][..crop.columns]);
                values.for_each(|(out, value)| *out = on(line, *value));
            }
        }
    });
}

/// What a channel's pixels are multiplied with and what is added then.
type Lines = [(f32, f32); 3];

#[inline(always)]
fn on((factor, offset): (f32, f32), value: u8) -> f32 {
    f32::from(value) * factor + offset
}

/// Where the rows of a picture come to lie.
struct Crop {
    from_width: usize,
    width: usize,
    skip: (usize, usize),
    pad: (usize, usize),
    columns: usize,
    rows: usize,
}

impl Crop {
    /// The centre of a picture; what it does not fill of `out` becomes black.
    fn new(from: (usize, usize), (width, height): (usize, usize), lines: &Lines, out: &mut [f32]) -> Self {
        let ((pad_x, skip_x), (pad_y, skip_y)) = (centre(from.0, width), centre(from.1, height));
        let (columns, rows) = (from.0.min(width), from.1.min(height));
        if columns < width || rows < height {
            for (values, line) in out.chunks_exact_mut(width * height).zip(lines) {
                values.fill(on(*line, 0));
            }
        }
        Self { from_width: from.0, width, skip: (skip_x, skip_y), pad: (pad_x, pad_y), columns, rows }
    }

    /// The first pixel of each row, and where it goes.
    fn rows(&self) -> impl Iterator<Item = (usize, usize)> {
        let from = |row: usize| (self.skip.1 + row) * self.from_width + self.skip.0;
        (0..self.rows).map(move |row| (from(row), (self.pad.1 + row) * self.width + self.pad.0))
    }
}
