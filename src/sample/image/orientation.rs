//! The EXIF orientation, applied to pixels.

use image::metadata::Orientation;

use super::decode::Pixels;

/// Whether width and height change places.
pub fn swaps(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    )
}

/// Turns and mirrors the pixels so that they stand as they should.
pub fn apply(pixels: &mut Pixels, orientation: Orientation) {
    let (width, height) = (pixels.width as usize, pixels.height as usize);
    // For every output pixel (x, y): the input pixel.
    let from: fn(usize, usize, usize, usize) -> (usize, usize) = match orientation {
        Orientation::NoTransforms => return,
        Orientation::FlipHorizontal => |x, y, w, _| (w - 1 - x, y),
        Orientation::Rotate180 => |x, y, w, h| (w - 1 - x, h - 1 - y),
        Orientation::FlipVertical => |x, y, _, h| (x, h - 1 - y),
        Orientation::Rotate90FlipH => |x, y, _, _| (y, x),
        Orientation::Rotate90 => |x, y, _, h| (y, h - 1 - x),
        Orientation::Rotate270FlipH => |x, y, w, h| (w - 1 - y, h - 1 - x),
        Orientation::Rotate270 => |x, y, w, _| (w - 1 - y, x),
    };
    let (new_width, new_height) = if swaps(orientation) { (height, width) } else { (width, height) };
    let old = pixels.rgb.as_chunks::<3>().0;
    let mut rgb = Vec::with_capacity(pixels.rgb.len());
    for y in 0..new_height {
        for x in 0..new_width {
            let (from_x, from_y) = from(x, y, width, height);
            rgb.extend_from_slice(&old[from_y * width + from_x]);
        }
    }
    pixels.rgb = rgb;
    (pixels.width, pixels.height) = (new_width as u32, new_height as u32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 3×2 pixels `abc/def`, as each of the eight orientations shows it.
    #[test]
    fn every_orientation_puts_every_pixel_in_its_place() {
        let cases = ["abc/def", "cba/fed", "fed/cba", "def/abc", "ad/be/cf", "da/eb/fc", "fc/eb/da", "cf/be/ad"];
        for (exif, expected) in (1..=8).zip(cases) {
            let rgb = b"abcdef".iter().flat_map(|value| [*value; 3]).collect();
            let mut pixels = Pixels { width: 3, height: 2, rgb };
            apply(&mut pixels, Orientation::from_exif(exif).unwrap());
            let rows: Vec<String> = pixels
                .rgb
                .chunks(pixels.width as usize * 3)
                .map(|row| row.iter().step_by(3).map(|value| char::from(*value)).collect())
                .collect();
            assert_eq!(rows.join("/"), expected, "orientation {exif}");
            assert_eq!(rows.len(), pixels.height as usize);
        }
    }
}
