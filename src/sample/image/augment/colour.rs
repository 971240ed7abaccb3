//! Changes of colour, each as torchvision's functional of the same meaning does it on `uint8` tensors: in f32, and
//! cut, not rounded, to whole numbers.

use super::Pixels;

/// `ratio · pixel + (1 − ratio) · other`.
fn blend(pixel: u8, other: f32, ratio: f64) -> u8 {
    (ratio as f32 * f32::from(pixel) + (1.0 - ratio) as f32 * other).clamp(0.0, 255.0) as u8
}

fn grey([r, g, b]: [u8; 3]) -> u8 {
    (0.2989 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)) as u8
}

fn each(pixels: &mut Pixels, change: impl Fn([u8; 3]) -> [u8; 3]) {
    pixels.rgb.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = change(*pixel));
}

/// `adjust_brightness`.
pub fn brightness(pixels: &mut Pixels, factor: f64) {
    each(pixels, |pixel| pixel.map(|value| blend(value, 0.0, factor)));
}

/// `adjust_contrast`: away from the mean of the picture's greys.
pub fn contrast(pixels: &mut Pixels, factor: f64) {
    let greys = pixels.rgb.as_chunks::<3>().0.iter().map(|pixel| u64::from(grey(*pixel)));
    let count = (pixels.rgb.len() / 3).max(1);
    let mean = (greys.sum::<u64>() as f64 / count as f64) as f32;
    each(pixels, |pixel| pixel.map(|value| blend(value, mean, factor)));
}

/// `adjust_saturation`: away from each pixel's grey.
pub fn saturation(pixels: &mut Pixels, factor: f64) {
    each(pixels, |pixel| {
        let grey = f32::from(grey(pixel));
        pixel.map(|value| blend(value, grey, factor))
    });
}

/// `adjust_hue`: turns the hue by a share of the circle, from −0.5 to 0.5.
pub fn hue(pixels: &mut Pixels, factor: f64) {
    each(pixels, |pixel| {
        let (h, s, v) = to_hsv(pixel.map(|value| f32::from(value) / 255.0));
        to_rgb((h + factor as f32).rem_euclid(1.0), s, v).map(|value| (value * (255.0 + 1.0 - 1e-3)) as u8)
    });
}

fn to_hsv([r, g, b]: [f32; 3]) -> (f32, f32, f32) {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    let range = most - least;
    if range == 0.0 {
        return (0.0, 0.0, most);
    }
    let [rc, gc, bc] = [r, g, b].map(|value| (most - value) / range);
    let h = match () {
        () if most == r => bc - gc,
        () if most == g => 2.0 + rc - bc,
        () => 4.0 + gc - rc,
    };
    ((h / 6.0 + 1.0) % 1.0, range / most, most)
}

fn to_rgb(h: f32, s: f32, v: f32) -> [f32; 3] {
    let sector = (h * 6.0).floor();
    let f = h * 6.0 - sector;
    let p = (v * (1.0 - s)).clamp(0.0, 1.0);
    let q = (v * (1.0 - s * f)).clamp(0.0, 1.0);
    let t = (v * (1.0 - s * (1.0 - f))).clamp(0.0, 1.0);
    match sector as i32 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

/// `adjust_sharpness`: away from a slight blur of the inner pixels.
pub fn sharpness(pixels: &mut Pixels, factor: f64) {
    let (width, height) = (pixels.width as usize, pixels.height as usize);
    if width <= 2 || height <= 2 {
        return;
    }
    let before = pixels.rgb.clone();
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let at = |x: usize, y: usize| f32::from(before[(y * width + x) * 3 + channel]);
                let inner = (1..width - 1).contains(&x) && (1..height - 1).contains(&y);
                let blurred = if inner {
                    let around = (y - 1..=y + 1).flat_map(|v| (x - 1..=x + 1).map(move |u| (u, v)));
                    let sum: f32 = around.map(|(u, v)| at(u, v) * if (u, v) == (x, y) { 5.0 } else { 1.0 }).sum();
                    (sum / 13.0).round_ties_even()
                } else {
                    at(x, y)
                };
                let value = &mut pixels.rgb[(y * width + x) * 3 + channel];
                *value = blend(*value, blurred, factor);
            }
        }
    }
}

/// `posterize`: keeps the upper bits.
pub fn posterize(pixels: &mut Pixels, bits: u32) {
    let mask = if bits == 0 { 0 } else { 0xffu8 << 8u32.saturating_sub(bits) };
    pixels.rgb.iter_mut().for_each(|value| *value &= mask);
}

/// `solarize`: inverts what is not below the threshold.
pub fn solarize(pixels: &mut Pixels, threshold: f64) {
    for value in &mut pixels.rgb {
        if f64::from(*value) >= threshold {
            *value = 255 - *value;
        }
    }
}

/// `autocontrast`: stretches each channel to the whole range.
pub fn autocontrast(pixels: &mut Pixels) {
    let (mut least, mut most) = ([255u8; 3], [0u8; 3]);
    for pixel in pixels.rgb.as_chunks::<3>().0 {
        for channel in 0..3 {
            least[channel] = least[channel].min(pixel[channel]);
            most[channel] = most[channel].max(pixel[channel]);
        }
    }
    each(pixels, |pixel| {
        std::array::from_fn(|channel| {
            let (least, most) = (f32::from(least[channel]), f32::from(most[channel]));
            // A number divided by a tensor is, in torch, the product with the tensor's reciprocal.
            let (least, scale) = if most > least { (least, (1.0 / (most - least)) * 255.0) } else { (0.0, 1.0) };
            ((f32::from(pixel[channel]) - least) * scale).clamp(0.0, 255.0) as u8
        })
    });
}

/// `equalize`: makes each channel's histogram even.
pub fn equalize(pixels: &mut Pixels) {
    for channel in 0..3 {
        let mut histogram = [0u32; 256];
        pixels.rgb.as_chunks::<3>().0.iter().for_each(|pixel| histogram[usize::from(pixel[channel])] += 1);
        let last = histogram.iter().rposition(|count| *count > 0).unwrap_or(0);
        let step = histogram[..last].iter().sum::<u32>() / 255;
        if step == 0 {
            continue;
        }
        let mut below = 0;
        let table: Vec<u8> = histogram
            .iter()
            .map(|count| {
                let value = ((below + step / 2) / step).min(255);
                below += count;
                value as u8
            })
            .collect();
        pixels.rgb.as_chunks_mut::<3>().0.iter_mut().for_each(|p| p[channel] = table[usize::from(p[channel])]);
    }
}
