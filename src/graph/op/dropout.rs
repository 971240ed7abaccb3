//! Dropout.

use super::{Backward, Forward, Kernel, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;
use crate::base::random::Stream;
use crate::graph::execution::Pass;
use crate::graph::parallel::{CHUNK, chunks};

/// In training, each element is zero with probability `rate`, and else divided by `1 − rate`; in evaluation
/// nothing happens. Which elements drop is a function of (seed, step, node, element). ONNX `Identity`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropout {
    /// The share that drops, in 0..1.
    pub rate: f32,
}

impl Dropout {
    /// Calls `body(i, factor)` for the elements `start..start + n`, in order.
    fn factors<F: Real>(&self, stream: Stream, start: usize, n: usize, mut body: impl FnMut(usize, F)) {
        let keep = F::of(1.0 / (1.0 - f64::from(self.rate)));
        let threshold = (f64::from(self.rate) * 4_294_967_296.0) as u64;
        let mut block = [0; 4];
        for i in 0..n {
            let element = start + i;
            if i == 0 || element.is_multiple_of(4) {
                block = stream.block((element / 4) as u64);
            }
            body(i, if u64::from(block[element % 4]) < threshold { F::ZERO } else { keep });
        }
    }

    fn stream(pass: Pass, node: usize) -> Stream {
        // A key of its own, so that dropout shares no numbers with the initial weights.
        Stream::new(pass.seed ^ 0x6472_6f70_6f75_7400, pass.step << 16 | node as u64)
    }

    /// What the elements of the node of this number are multiplied with in a training pass.
    #[cfg(feature = "libtorch")]
    pub(crate) fn fill(&self, pass: Pass, node: usize, out: &mut [f32]) {
        let stream = Self::stream(pass, node);
        chunks(out, CHUNK, |start, out| {
            self.factors(stream, start, out.len(), |i, factor: f32| out[i] = factor);
        });
    }
}

impl Operator for Dropout {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("Dropout", inputs)?;
        if !(0.0..1.0).contains(&self.rate) {
            return Err(Shape::refuse("Dropout", "its rate must be at least 0 and below 1", inputs));
        }
        Ok(x.clone())
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        vec![OnnxNode::new("Identity", [OnnxInput::Input(0)])]
    }
}

impl<F: Real> Kernel<F> for Dropout {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let x = run.input(0);
        if !run.pass.training {
            return run.output.copy_from_slice(x);
        }
        let stream = Self::stream(run.pass, run.index);
        chunks(run.output, CHUNK, |start, out| {
            let x = &x[start..];
            self.factors(stream, start, out.len(), |i, factor: F| out[i] = x[i] * factor);
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let stream = Self::stream(run.pass, run.index);
        let training = run.pass.training;
        run.grad(0, |dx, accumulate, run| {
            let dy = run.output_grad();
            chunks(dx, CHUNK, |start, dx| {
                let dy = &dy[start..];
                let mut set = |i: usize, step: F| dx[i] = if accumulate { dx[i] + step } else { step };
                if training {
                    self.factors(stream, start, dy.len().min(CHUNK), |i, factor: F| set(i, dy[i] * factor));
                } else {
                    dy.iter().take(CHUNK).enumerate().for_each(|(i, dy)| set(i, *dy));
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
        Check::new(Dropout { rate: 0.5 }).rows(&[9]).run();
        assert!(Dropout { rate: 1.0 }.infer(&[&Shape::rows([2])]).is_err());
    }

    #[test]
    fn the_right_share_drops_and_chunks_do_not_matter() {
        let dropout = Dropout { rate: 0.25 };
        let factors = |start: usize, n: usize| {
            let mut all = Vec::new();
            dropout.factors(Stream::new(1, 2), start, n, |_, f: f32| all.push(f));
            all
        };
        let all = factors(0, 10_000);
        let dropped = all.iter().filter(|f| **f == 0.0).count();
        assert!((2300..2700).contains(&dropped), "{dropped}");
        assert_eq!(all[777..900], factors(777, 123));
    }
}
