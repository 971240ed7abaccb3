//! Transposed convolution.

use super::conv::{Columns, Plan, channel_sums, depthwise, window_attributes};
use super::window::{Map, Window};
use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape};
use crate::base::Result;
use crate::graph::Arithmetic;
use crate::graph::parallel::{CHUNK, chunks};

/// The gradient of a convolution as an operator of its own: maps `[batch, in, height, width]`, a weight
/// `[in, out / groups, kernel…]` and perhaps a bias `[out]` give maps that such a convolution would bring back to
/// the input's size. ONNX `ConvTranspose`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvTranspose {
    /// How the kernel of that convolution moves over the output.
    pub window: Window,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Rows and columns added to the output, of the several that such a convolution would bring back.
    pub output_padding: [usize; 2],
}

impl ConvTranspose {
    /// The convolution whose gradient this is: from the output to the input.
    fn plan(&self, inputs: &[&Shape]) -> Option<Plan> {
        let (x, weight) = (inputs.first()?, inputs.get(1)?);
        let (&[channels, height, width], &[of_in, of_group, rows, columns]) = (&x.dims[..], &weight.dims[..]) else {
            return None;
        };
        let window = &self.window;
        let along = |i: usize, places: usize| {
            let reach = window.dilations[i] * window.kernel[i].checked_sub(1)? + 1;
            let all = (places.checked_sub(1)?).checked_mul(window.strides[i])? + reach + self.output_padding[i];
            all.checked_sub(window.pads[i] + window.pads[i + 2])
        };
        let size = [along(0, height)?, along(1, width)?];
        let fits = x.batched
            && !weight.batched
            && of_in == channels
            && [rows, columns] == window.kernel
            && self.groups > 0
            && channels.is_multiple_of(self.groups)
            && window.places(size) == Some([height, width]);
        let map = Map { channels: of_group.checked_mul(self.groups)?, size, places: [height, width] };
        fits.then_some(Plan { window: self.window, groups: self.groups, map, out: channels })
    }
}

impl Operator for ConvTranspose {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let refuse = |why| Shape::refuse("ConvTranspose", why, inputs);
        let plan = self.plan(inputs).ok_or_else(|| refuse("the weight must be `[in, out / groups, height, width]`"))?;
        let Map { channels, size, .. } = plan.map;
        match inputs {
            [_, _] => {}
            [_, _, bias] if !bias.batched && bias.dims == [channels] => {}
            _ => return Err(refuse("the bias needs one number per output channel")),
        }
        Ok(Shape::rows([channels, size[0], size[1]]))
    }

    fn onnx(&self, inputs: &[&Shape]) -> Vec<OnnxNode> {
        let all: Vec<_> = (0..inputs.len()).map(OnnxInput::Input).collect();
        let padding = self.output_padding.map(|p| p as i64).to_vec();
        let node = window_attributes(OnnxNode::new("ConvTranspose", all), &self.window);
        vec![
            node.with("group", OnnxAttribute::Int(self.groups as i64))
                .with("output_padding", OnnxAttribute::Ints(padding)),
        ]
    }
}

impl<F: Real> Kernel<F> for ConvTranspose {
    fn scratch_len(&self, inputs: &[&Shape], rows: usize) -> usize {
        // The last part holds a gradient that is to be added to another.
        self.plan(inputs)
            .map_or(0, |plan| Columns::new(plan, rows, Arithmetic::default()).room() + rows * plan.out_row())
    }

    fn forward(&self, run: &mut Forward<'_, F>) {
        let Some(plan) = self.plan(&[run.input_shape(0), run.input_shape(1)]) else { return };
        let (x, weight) = (run.input(0), run.input(1));
        let area = plan.map.area();
        if run.inputs() == 3 {
            let bias = run.input(2);
            let maps = run.output.chunks_exact_mut(area).enumerate();
            maps.for_each(|(i, map)| map.fill(bias[i % bias.len()]));
        }
        let accumulate = run.inputs() == 3;
        if plan.is_depthwise() {
            depthwise::input_grad(&plan, weight, x, run.output, accumulate);
        } else {
            Columns::new(plan, run.rows, run.pass.arithmetic).input_grad(
                weight,
                x,
                run.output,
                accumulate,
                run.scratch,
            );
        }
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let Some(plan) = self.plan(&[run.input_shape(0), run.input_shape(1)]) else { return };
        let columns = Columns::new(plan, run.rows, run.pass.arithmetic);
        let (scratch, apart) = std::mem::take(&mut run.scratch).split_at_mut(columns.room());
        run.grad(1, |dw, accumulate, run| {
            let (x, dy) = (run.input(0), run.output_grad());
            if plan.is_depthwise() {
                depthwise::weight_grad(&plan, dy, x, dw, accumulate);
            } else {
                columns.weight_grad(dy, x, dw, accumulate, scratch);
            }
        });
        run.grad(0, |dx, accumulate, run| {
            let (weight, dy) = (run.input(1), run.output_grad());
            let apart = &mut apart[..dx.len()];
            let out: &mut [F] = if accumulate { &mut *apart } else { &mut *dx };
            if plan.is_depthwise() {
                depthwise::forward(&plan, dy, weight, None, out);
            } else {
                columns.forward(dy, weight, None, out, scratch);
            }
            if accumulate {
                let apart = &*apart;
                chunks(dx, CHUNK, |start, dx| dx.iter_mut().zip(&apart[start..]).for_each(|(dx, step)| *dx += *step));
            }
        });
        if run.inputs() == 3 {
            run.grad(2, |db, accumulate, run| channel_sums(run.output_grad(), plan.map.area(), db, accumulate));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;
    use super::*;

    #[test]
    fn backward_agrees_with_finite_differences() {
        let window = Window { strides: [2, 2], pads: [1, 0, 0, 1], ..Window::new([3, 2]) };
        let op = |groups| ConvTranspose { window, groups, output_padding: [1, 0] };
        Check::new(op(1)).rows(&[2, 3, 2]).fixed(&[2, 3, 3, 2]).fixed(&[3]).run();
        Check::new(op(2)).rows(&[4, 2, 3]).fixed(&[4, 2, 3, 2]).run();
        Check::new(op(2)).rows(&[2, 2, 3]).fixed(&[2, 1, 3, 2]).fixed(&[2]).run();
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let op = ConvTranspose { window: Window::new([2, 2]), groups: 1, output_padding: [0, 0] };
        assert_eq!(op.infer(&[&Shape::rows([2, 3, 3]), &Shape::fixed([2, 4, 2, 2])]).unwrap(), Shape::rows([4, 4, 4]));
        assert!(op.infer(&[&Shape::rows([2, 3, 3]), &Shape::fixed([3, 4, 2, 2])]).is_err());
        assert!(op.infer(&[&Shape::rows([2, 3, 3])]).is_err());
    }
}
