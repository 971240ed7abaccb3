//! Maps of another size.

use rayon::prelude::*;

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, Tensor, arity};
use crate::base::Result;

/// Maps `[channels, height, width]` as maps of another height and width. ONNX `Resize`.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    /// The height and the width to come.
    pub size: [usize; 2],
    /// How places between those of the map are filled.
    pub mode: ResizeMode,
    /// Which place of the map a place of the output lies at.
    pub coordinates: Coordinates,
}

/// How places between those of a map are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResizeMode {
    /// The nearest place: with half-pixel coordinates the lower of two, else the one before (PyTorch's `nearest`).
    Nearest,
    /// A mean of the four places around, by distance.
    Bilinear,
}

/// Which place of a map a place of the output lies at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinates {
    /// Pixels are areas: `(x + 1/2) · scale − 1/2`.
    HalfPixel,
    /// The first places are the same: `x · scale`.
    Asymmetric,
    /// The first places and the last are the same.
    AlignCorners,
}

impl Resize {
    /// The places of the map around a place of the output along an axis, and the share of the second.
    fn around(&self, place: usize, from: usize, to: usize) -> (usize, usize, f64) {
        let (x, last) = (place as f64, from - 1);
        let scale = from as f64 / to as f64;
        let at = match self.coordinates {
            Coordinates::HalfPixel => (x + 0.5) * scale - 0.5,
            Coordinates::Asymmetric => x * scale,
            Coordinates::AlignCorners => x * last as f64 / (to - 1).max(1) as f64,
        };
        let at = at.clamp(0.0, last as f64);
        match self.mode {
            ResizeMode::Nearest => {
                let near = if self.coordinates == Coordinates::Asymmetric { at.floor() } else { (at - 0.5).ceil() };
                (near as usize, near as usize, 0.0)
            }
            ResizeMode::Bilinear => {
                let low = at.floor();
                (low as usize, (low as usize + 1).min(last), at - low)
            }
        }
    }

    /// The shares `[to, from]` of an axis's places in those of the output.
    #[cfg(feature = "libtorch")]
    pub(crate) fn matrix(&self, from: usize, to: usize) -> Vec<f32> {
        let mut shares = vec![0.0; to * from];
        for (place, row) in shares.chunks_exact_mut(from).enumerate() {
            let (low, high, share) = self.around(place, from, to);
            row[low] += (1.0 - share) as f32;
            row[high] += share as f32;
        }
        shares
    }

    /// Calls `body(place of the output, [(place of the map, share)])` for each place.
    fn each(&self, map: [usize; 2], mut body: impl FnMut(usize, [(usize, f64); 4])) {
        for row in 0..self.size[0] {
            let (top, bottom, v) = self.around(row, map[0], self.size[0]);
            for column in 0..self.size[1] {
                let (left, right, h) = self.around(column, map[1], self.size[1]);
                let at = |row: usize, column: usize| row * map[1] + column;
                body(
                    row * self.size[1] + column,
                    [
                        (at(top, left), (1.0 - v) * (1.0 - h)),
                        (at(top, right), (1.0 - v) * h),
                        (at(bottom, left), v * (1.0 - h)),
                        (at(bottom, right), v * h),
                    ],
                );
            }
        }
    }
}

/// The factor by which ONNX makes `to` places of `from`: it rounds their product down.
fn factor(from: usize, to: usize) -> f32 {
    let mut factor = to as f32 / from as f32;
    // In f32 as the runtime does it, and exactly.
    while (from as f32 * factor).floor() < to as f32 || (from as f64 * f64::from(factor)).floor() < to as f64 {
        factor = factor.next_up();
    }
    factor
}

impl Operator for Resize {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("Resize", inputs)?;
        match x.dims[..] {
            [channels, height, width] if x.batched && height * width > 0 && !self.size.contains(&0) => {
                Ok(Shape::rows([channels, self.size[0], self.size[1]]))
            }
            _ => Err(Shape::refuse("Resize", "it needs maps `[channels, height, width]`", inputs)),
        }
    }

    fn onnx(&self, inputs: &[&Shape]) -> Vec<OnnxNode> {
        let map = &inputs[0].dims;
        let scales = vec![1.0, 1.0, factor(map[1], self.size[0]), factor(map[2], self.size[1])];
        let tensor = |values: Vec<f32>| OnnxInput::Tensor(Tensor { shape: vec![values.len()], values });
        let (mode, nearest) = match (self.mode, self.coordinates) {
            (ResizeMode::Bilinear, _) => ("linear", "floor"),
            (_, Coordinates::Asymmetric) => ("nearest", "floor"),
            _ => ("nearest", "round_prefer_floor"),
        };
        let coordinates = match self.coordinates {
            Coordinates::HalfPixel => "half_pixel",
            Coordinates::Asymmetric => "asymmetric",
            Coordinates::AlignCorners => "align_corners",
        };
        let node = OnnxNode::new("Resize", [OnnxInput::Input(0), tensor(Vec::new()), tensor(scales)])
            .with("mode", OnnxAttribute::Text(mode.into()))
            .with("nearest_mode", OnnxAttribute::Text(nearest.into()));
        vec![node.with("coordinate_transformation_mode", OnnxAttribute::Text(coordinates.into()))]
    }
}

impl<F: Real> Kernel<F> for Resize {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let (x, map) = (run.input(0), [run.input_shape(0).dims[1], run.input_shape(0).dims[2]]);
        let area = map[0] * map[1];
        run.output.par_chunks_exact_mut(self.size[0] * self.size[1]).enumerate().for_each(|(i, y)| {
            let x = &x[i * area..][..area];
            self.each(map, |to, parts| {
                y[to] = parts.iter().fold(F::ZERO, |sum, (at, share)| sum + x[*at] * F::of(*share));
            });
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let map = [run.input_shape(0).dims[1], run.input_shape(0).dims[2]];
        let places = self.size[0] * self.size[1];
        run.grad(0, |dx, accumulate, run| {
            let dy = run.output_grad();
            dx.par_chunks_exact_mut(map[0] * map[1]).enumerate().for_each(|(i, dx)| {
                if !accumulate {
                    dx.fill(F::ZERO);
                }
                let dy = &dy[i * places..][..places];
                self.each(map, |from, parts| {
                    parts.iter().for_each(|(at, share)| dx[*at] += dy[from] * F::of(*share));
                });
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;
    use super::*;

    #[test]
    fn backward_agrees_with_finite_differences() {
        for mode in [ResizeMode::Nearest, ResizeMode::Bilinear] {
            for coordinates in [Coordinates::HalfPixel, Coordinates::Asymmetric, Coordinates::AlignCorners] {
                Check::new(Resize { size: [5, 3], mode, coordinates }).rows(&[2, 3, 4]).run();
            }
        }
    }

    #[test]
    fn factors_give_the_size_asked_for() {
        for from in 1..40usize {
            for to in 1..80usize {
                assert_eq!((from as f32 * factor(from, to)).floor() as usize, to, "{from} {to}");
            }
        }
    }
}
