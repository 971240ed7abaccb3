//! Pooling over windows of maps.

use rayon::prelude::*;

use super::conv::window_attributes;
use super::window::{Map, Window};
use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;

/// The largest or the mean of each window of maps `[channels, height, width]`. ONNX `MaxPool` and
/// `AveragePool`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// What is kept of a window.
    pub kind: PoolKind,
    /// How it moves.
    pub window: Window,
}

/// What [`Pool`] keeps of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest; the gradient goes to the first of equals.
    Max,
    /// The mean of what is inside the map.
    Mean,
    /// The mean where pads count as zeros.
    MeanWithPads,
}

impl Pool {
    fn map(&self, x: &Shape) -> Option<Map> {
        self.window.over("Pool", x, &[]).ok()
    }

    /// Calls `body` with the offset in the map of each element of the window at a place.
    fn each(&self, map: &Map, place: usize, mut body: impl FnMut(usize)) {
        let (row, column) = (place / map.places[1], place % map.places[1]);
        for i in 0..self.window.kernel[0] {
            let Some(top) = self.window.at(0, row, i, map.size[0]) else { continue };
            for j in 0..self.window.kernel[1] {
                if let Some(left) = self.window.at(1, column, j, map.size[1]) {
                    body(top * map.size[1] + left);
                }
            }
        }
    }

    /// By how many elements the sum at a place is divided.
    fn divisor(&self, map: &Map, place: usize) -> usize {
        let mut count = 0;
        if self.kind == PoolKind::Mean {
            self.each(map, place, |_| count += 1);
            return count.max(1);
        }
        // Pads count, what a last window takes beyond them does not.
        let window = &self.window;
        let along = |i: usize, place: usize| {
            let end = map.size[i] + window.pads[i] + window.pads[i + 2];
            (0..window.kernel[i]).filter(|k| place * window.strides[i] + k * window.dilations[i] < end).count()
        };
        (along(0, place / map.places[1]) * along(1, place % map.places[1])).max(1)
    }
}

impl Operator for Pool {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("Pool", inputs)?;
        let map = self.window.over("Pool", x, inputs)?;
        Ok(Shape::rows([map.channels, map.places[0], map.places[1]]))
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        let op_type = if self.kind == PoolKind::Max { "MaxPool" } else { "AveragePool" };
        let mut node = window_attributes(OnnxNode::new(op_type, [OnnxInput::Input(0)]), &self.window);
        if op_type == "AveragePool" {
            // Dilated means are younger than opset 17.
            node.attributes.retain(|(name, _)| *name != "dilations");
            let with_pads = (self.kind == PoolKind::MeanWithPads).into();
            node = node.with("count_include_pad", OnnxAttribute::Int(with_pads));
        }
        vec![node.with("ceil_mode", OnnxAttribute::Int(self.window.ceil.into()))]
    }
}

impl<F: Real> Kernel<F> for Pool {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let Some(map) = self.map(run.input_shape(0)) else { return };
        let x = run.input(0);
        run.output.par_chunks_exact_mut(map.stops()).enumerate().for_each(|(i, out)| {
            let x = &x[i * map.area()..][..map.area()];
            for (place, y) in out.iter_mut().enumerate() {
                if self.kind == PoolKind::Max {
                    *y = F::of(f64::NEG_INFINITY);
                    self.each(&map, place, |at| *y = y.max(x[at]));
                } else {
                    let mut sum = F::ZERO;
                    self.each(&map, place, |at| sum += x[at]);
                    *y = sum / F::of(self.divisor(&map, place) as f64);
                }
            }
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let Some(map) = self.map(run.input_shape(0)) else { return };
        run.grad(0, |dx, accumulate, run| {
            let (x, y, dy) = (run.input(0), run.output(), run.output_grad());
            dx.par_chunks_exact_mut(map.area()).enumerate().for_each(|(i, dx)| {
                if !accumulate {
                    dx.fill(F::ZERO);
                }
                let x = &x[i * map.area()..][..map.area()];
                for place in 0..map.stops() {
                    let (y, dy) = (y[i * map.stops() + place], dy[i * map.stops() + place]);
                    if self.kind == PoolKind::Max {
                        let mut first = None;
                        self.each(&map, place, |at| {
                            if first.is_none() && x[at] == y {
                                first = Some(at);
                            }
                        });
                        first.into_iter().for_each(|at| dx[at] += dy);
                    } else {
                        let step = dy / F::of(self.divisor(&map, place) as f64);
                        self.each(&map, place, |at| dx[at] += step);
                    }
                }
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
        for kind in [PoolKind::Max, PoolKind::Mean, PoolKind::MeanWithPads] {
            let window = Window { strides: [2, 1], pads: [1, 0, 1, 1], ceil: true, ..Window::new([3, 2]) };
            Check::new(Pool { kind, window }).rows(&[2, 4, 3]).run();
        }
    }

    #[test]
    fn vectors_are_refused() {
        let pool = Pool { kind: PoolKind::Max, window: Window::new([2, 2]) };
        assert!(pool.infer(&[&Shape::rows([4])]).is_err());
        assert!(pool.infer(&[&Shape::rows([1, 1, 4])]).is_err());
    }
}
