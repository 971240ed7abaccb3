//! Convolution.

use rayon::prelude::*;

use super::window::{Map, Window};
use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape};
use crate::base::Result;
use crate::graph::{Arithmetic, Matrix};

mod columns;
pub(super) mod depthwise;

pub(super) use columns::Columns;

/// Cross-correlation of maps `[batch, in, height, width]` with a weight `[out, in / groups, kernel…]` and
/// perhaps a bias `[out]`. ONNX `Conv` in two dimensions. With one input channel per group it is computed
/// directly, else as matrix products over the windows' elements in columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// How the kernel moves.
    pub window: Window,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Conv {
    fn map(&self, inputs: &[&Shape]) -> Result<Map> {
        let refuse = |why| Shape::refuse("Conv", why, inputs);
        let (x, weight, bias) = match inputs {
            [x, weight] => (x, weight, None),
            [x, weight, bias] => (x, weight, Some(bias)),
            _ => return Err(refuse("it takes x, a weight and perhaps a bias")),
        };
        let map = self.window.over("Conv", x, inputs)?;
        let fits = !weight.batched
            && self.groups > 0
            && matches!(weight.dims[..], [out, of_group, height, width]
                if [height, width] == self.window.kernel
                    && of_group.checked_mul(self.groups) == Some(map.channels)
                    && out.is_multiple_of(self.groups));
        if !fits {
            return Err(refuse("the weight must be `[out, in / groups, height, width]`"));
        }
        if bias.is_some_and(|b| b.batched || b.dims != [weight.dims[0]]) {
            return Err(refuse("the bias needs one number per output channel"));
        }
        Ok(map)
    }

    /// What of the operator and its shapes the computation needs.
    fn plan(&self, inputs: &[&Shape]) -> Option<Plan> {
        let map = self.map(inputs).ok()?;
        Some(Plan { window: self.window, groups: self.groups, map, out: inputs[1].dims[0] })
    }
}

/// A convolution of known sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub window: Window,
    pub groups: usize,
    pub map: Map,
    pub out: usize,
}

impl Plan {
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.map.channels
    }

    fn in_row(&self) -> usize {
        self.map.channels * self.map.area()
    }

    pub fn out_row(&self) -> usize {
        self.out * self.map.stops()
    }
}

impl Operator for Conv {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let map = self.map(inputs)?;
        Ok(Shape::rows([inputs[1].dims[0], map.places[0], map.places[1]]))
    }

    fn onnx(&self, inputs: &[&Shape]) -> Vec<OnnxNode> {
        let all: Vec<_> = (0..inputs.len()).map(OnnxInput::Input).collect();
        let node = window_attributes(OnnxNode::new("Conv", all), &self.window);
        vec![node.with("group", OnnxAttribute::Int(self.groups as i64))]
    }
}

/// The attributes of a window, without `ceil_mode`.
pub(super) fn window_attributes(node: OnnxNode, window: &Window) -> OnnxNode {
    let ints = |values: &[usize]| OnnxAttribute::Ints(values.iter().map(|v| *v as i64).collect());
    node.with("kernel_shape", ints(&window.kernel))
        .with("strides", ints(&window.strides))
        .with("dilations", ints(&window.dilations))
        .with("pads", ints(&window.pads))
}

impl<F: Real> Kernel<F> for Conv {
    fn scratch_len(&self, inputs: &[&Shape], rows: usize) -> usize {
        match self.plan(inputs) {
            Some(plan) if !plan.is_depthwise() => Columns::new(plan, rows, Arithmetic::default()).room(),
            _ => 0,
        }
    }

    fn forward(&self, run: &mut Forward<'_, F>) {
        let Some(plan) = self.plan(&[run.input_shape(0), run.input_shape(1)]) else { return };
        let (x, weight) = (run.input(0), run.input(1));
        let bias = (run.inputs() == 3).then(|| run.input(2));
        if plan.is_depthwise() {
            depthwise::forward(&plan, x, weight, bias, run.output);
        } else {
            Columns::new(plan, run.rows, run.pass.arithmetic).forward(x, weight, bias, run.output, run.scratch);
        }
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let Some(plan) = self.plan(&[run.input_shape(0), run.input_shape(1)]) else { return };
        let scratch = std::mem::take(&mut run.scratch);
        let columns = Columns::new(plan, run.rows, run.pass.arithmetic);
        run.grad(1, |dw, accumulate, run| {
            let (x, dy) = (run.input(0), run.output_grad());
            if plan.is_depthwise() {
                depthwise::weight_grad(&plan, x, dy, dw, accumulate);
            } else {
                columns.weight_grad(x, dy, dw, accumulate, scratch);
            }
        });
        run.grad(0, |dx, accumulate, run| {
            let (weight, dy) = (run.input(1), run.output_grad());
            if plan.is_depthwise() {
                depthwise::input_grad(&plan, weight, dy, dx, accumulate);
            } else {
                columns.input_grad(weight, dy, dx, accumulate, scratch);
            }
        });
        if run.inputs() == 3 {
            run.grad(2, |db, accumulate, run| channel_sums(run.output_grad(), plan.map.stops(), db, accumulate));
        }
    }
}

/// The sum of each channel over all rows and places, rows in order.
pub(super) fn channel_sums<F: Real>(maps: &[F], area: usize, out: &mut [F], accumulate: bool) {
    let row = out.len() * area;
    out.par_iter_mut().enumerate().for_each(|(channel, sum)| {
        let of_row = |row: &[F]| row[channel * area..][..area].iter().fold(F::ZERO, |sum, x| sum + *x);
        let total = maps.chunks_exact(row.max(1)).fold(F::ZERO, |sum, row| sum + of_row(row));
        *sum = if accumulate { *sum + total } else { total };
    });
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;
    use super::*;

    fn conv(kernel: [usize; 2], groups: usize) -> Conv {
        Conv { window: Window { pads: [1, 0, 0, 1], ..Window::new(kernel) }, groups }
    }

    #[test]
    fn backward_agrees_with_finite_differences() {
        Check::new(conv([3, 2], 1)).rows(&[2, 4, 3]).fixed(&[3, 2, 3, 2]).fixed(&[3]).run();
        Check::new(Conv { window: Window::new([1, 1]), groups: 1 }).rows(&[3, 2, 3]).fixed(&[2, 3, 1, 1]).run();
        Check::new(conv([2, 2], 2)).rows(&[4, 3, 3]).fixed(&[6, 2, 2, 2]).fixed(&[6]).run();
        Check::new(conv([2, 3], 2)).rows(&[2, 4, 4]).fixed(&[4, 1, 2, 3]).fixed(&[4]).run();
        let window = Window { strides: [2, 1], dilations: [1, 2], pads: [1; 4], ..Window::new([3, 2]) };
        Check::new(Conv { window, groups: 1 }).rows(&[2, 5, 4]).fixed(&[2, 2, 3, 2]).run();
        Check::new(Conv { window, groups: 2 }).rows(&[2, 5, 4]).fixed(&[2, 1, 3, 2]).run();
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let x = Shape::rows([2, 4, 4]);
        for weight in [vec![3, 1, 2, 2], vec![3, 2, 3, 2], vec![3, 2, 2]] {
            assert!(conv([2, 2], 1).infer(&[&x, &Shape::fixed(weight)]).is_err());
        }
        let weight = Shape::fixed([3, 2, 2, 2]);
        assert!(conv([2, 2], 1).infer(&[&x, &weight, &Shape::fixed([2])]).is_err());
        assert!(conv([2, 2], 0).infer(&[&x, &weight]).is_err());
        assert!(conv([2, 2], 1).infer(&[&Shape::rows([2, 4]), &weight]).is_err());
    }
}
