//! Turned, sheared and moved pictures, as torchvision does it to tensors: a grid of places, one for each new
//! pixel, at which the old picture is sampled.

use super::{Interpolation, Pixels};

/// Where a new pixel comes from: `[a, b, c, d, e, f]` maps (x, y), counted from the centre, to
/// (ax + by + c, dx + ey + f).
pub type Matrix = [f64; 6];

/// The inverse of a turn by `angle` degrees, then shears of `shear` degrees, around `centre`, then a move
/// (torchvision's `_get_inverse_affine_matrix`).
pub fn inverse(centre: [f64; 2], angle: f64, moved: [f64; 2], shear: [f64; 2]) -> Matrix {
    let (turn, [sx, sy]) = (angle.to_radians(), shear.map(f64::to_radians));
    let [cx, cy] = centre;
    let a = (turn - sy).cos() / sy.cos();
    let b = -(turn - sy).cos() * sx.tan() / sy.cos() - turn.sin();
    let c = (turn - sy).sin() / sy.cos();
    let d = -(turn - sy).sin() * sx.tan() / sy.cos() + turn.cos();
    let (mx, my) = (-cx - moved[0], -cy - moved[1]);
    [d, -b, d * mx - b * my + cx, -c, a, -c * mx + a * my + cy]
}

/// Samples the picture at the places of a matrix; what comes from outside is `fill`.
pub fn sample(pixels: &mut Pixels, matrix: Matrix, interpolation: Interpolation, fill: f32) {
    let (width, height) = (pixels.width as usize, pixels.height as usize);
    let before = pixels.rgb.clone();
    let (half_width, half_height) = (0.5 * width as f32, 0.5 * height as f32);
    // In f32 and in torchvision's order, so that pixels on an edge fall on the same side.
    let [a, b, c, d, e, f] = matrix.map(|value| value as f32);
    let ([a, b, c], [d, e, f]) = ([a, b, c].map(|v| v / half_width), [d, e, f].map(|v| v / half_height));
    let at = |x: i64, y: i64| {
        let inside = (0..width as i64).contains(&x) && (0..height as i64).contains(&y);
        inside.then(|| &before[(y as usize * width + x as usize) * 3..][..3])
    };
    for row in 0..height {
        for column in 0..width {
            let (x, y) = (column as f32 + 0.5 - half_width, row as f32 + 0.5 - half_height);
            let (u, v) = (x * a + y * b + c, x * d + y * e + f);
            let (u, v) = (((u + 1.0) * width as f32 - 1.0) / 2.0, ((v + 1.0) * height as f32 - 1.0) / 2.0);
            let out = &mut pixels.rgb[(row * width + column) * 3..][..3];
            match interpolation {
                Interpolation::Nearest => match at(u.round_ties_even() as i64, v.round_ties_even() as i64) {
                    Some(pixel) => out.copy_from_slice(pixel),
                    None => out.fill(fill as u8),
                },
                Interpolation::Bilinear => {
                    let (left, top) = (u.floor(), v.floor());
                    let (right, bottom) = (u - left, v - top);
                    let corners = [
                        (0, 0, (1.0 - right) * (1.0 - bottom)),
                        (1, 0, right * (1.0 - bottom)),
                        (0, 1, (1.0 - right) * bottom),
                        (1, 1, right * bottom),
                    ];
                    let (mut sum, mut covered) = ([0.0f32; 3], 0.0f32);
                    for (dx, dy, weight) in corners {
                        if let Some(pixel) = at(left as i64 + dx, top as i64 + dy) {
                            covered += weight;
                            sum.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += weight * f32::from(*value));
                        }
                    }
                    for (out, sum) in out.iter_mut().zip(sum) {
                        *out = (sum * covered + (1.0 - covered) * fill).round_ties_even() as u8;
                    }
                }
            }
        }
    }
}
