//! Batch normalisation.

use rayon::prelude::*;

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;

/// `(x − mean) / sqrt(variance + eps) · scale + bias` per channel of maps `[channels, …]` (Ioffe and Szegedy,
/// 2015). The inputs are x, scale, bias and the buffers of mean and variance. In training mean and variance
/// are those of the batch, and the buffers follow them as PyTorch's do: by `momentum`, with the variance of
/// a sample (divided by n − 1); in evaluation they are the buffers. ONNX `BatchNormalization`.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f32,
    /// The share of the newest batch in the buffers (PyTorch's sense; one minus ONNX's).
    pub momentum: f32,
}

/// Places of `saved`, by channel: mean, `1 / sqrt(variance + eps)`, the sample's variance.
const SAVED: usize = 3;
const MEAN: usize = 3;
const VARIANCE: usize = 4;

impl BatchNorm {
    fn channels(x: &Shape) -> usize {
        x.dims.first().copied().unwrap_or(0)
    }
}

impl Operator for BatchNorm {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x, rest @ ..]: [&Shape; 5] = arity("BatchNorm", inputs)?;
        let fits = x.batched && rest.iter().all(|s| !s.batched && s.dims == [Self::channels(x)]);
        if x.dims.is_empty() || !fits {
            return Err(Shape::refuse("BatchNorm", "it needs one number of each kind per channel", inputs));
        }
        Ok(x.clone())
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        let node = OnnxNode::new("BatchNormalization", [0, 1, 2, 3, 4].map(OnnxInput::Input));
        vec![node.with("epsilon", OnnxAttribute::Float(self.eps))]
    }
}

impl<F: Real> Kernel<F> for BatchNorm {
    fn saved_len(&self, inputs: &[&Shape], _: usize) -> usize {
        SAVED * Self::channels(inputs[0])
    }

    fn tracked(&self) -> &'static [usize] {
        &[MEAN, VARIANCE]
    }

    fn track(&self, input: usize, saved: &[F], buffer: &mut [F]) {
        let momentum = F::of(f64::from(self.momentum));
        let place = if input == MEAN { 0 } else { 2 };
        for (value, saved) in buffer.iter_mut().zip(saved.chunks_exact(SAVED)) {
            *value = *value * (F::ONE - momentum) + saved[place] * momentum;
        }
    }

    fn forward(&self, run: &mut Forward<'_, F>) {
        let channels = Self::channels(run.output_shape());
        let row = run.output_shape().elements();
        let area = row / channels.max(1);
        let eps = F::of(f64::from(self.eps));
        let x = run.input(0);
        if run.pass.training {
            run.saved.par_chunks_exact_mut(SAVED).enumerate().for_each(|(channel, saved)| {
                let maps = || x.chunks_exact(row).map(|row| &row[channel * area..][..area]);
                let n = F::of((x.len() / channels) as f64);
                let sum = maps().fold(F::ZERO, |sum, map| sum + map.iter().fold(F::ZERO, |sum, x| sum + *x));
                let mean = sum / n;
                let square = |sum: F, x: &F| sum + (*x - mean) * (*x - mean);
                let squares = maps().fold(F::ZERO, |sum, map| sum + map.iter().fold(F::ZERO, square));
                saved[0] = mean;
                saved[1] = F::ONE / (squares / n + eps).sqrt();
                saved[2] = squares / (n - F::ONE).max(F::ONE);
            });
        } else {
            let (mean, variance) = (run.input(MEAN), run.input(VARIANCE));
            for (i, saved) in run.saved.chunks_exact_mut(SAVED).enumerate() {
                saved.copy_from_slice(&[mean[i], F::ONE / (variance[i] + eps).sqrt(), variance[i]]);
            }
        }
        let (scale, bias) = (run.input(1), run.input(2));
        let saved = &*run.saved;
        run.output.par_chunks_mut(area.max(1)).zip(x.par_chunks(area.max(1))).enumerate().for_each(|(i, (y, x))| {
            let channel = i % channels;
            let factor = saved[channel * SAVED + 1] * scale[channel];
            let (mean, bias) = (saved[channel * SAVED], bias[channel]);
            y.iter_mut().zip(x).for_each(|(y, x)| *y = (*x - mean) * factor + bias);
        });
    }

    fn backward(&self, run: &mut Backward<'_, F>) {
        let channels = Self::channels(run.output_shape());
        let row = run.output_shape().elements();
        let area = row / channels.max(1);
        let training = run.pass.training;
        let saved = run.saved;
        // Σ dy and Σ dy · (x − mean) / deviation of a channel.
        let sums = |x: &[F], dy: &[F], channel: usize| {
            let (mean, inverse) = (saved[channel * SAVED], saved[channel * SAVED + 1]);
            let (mut sum, mut dot) = (F::ZERO, F::ZERO);
            for (x, dy) in x.chunks_exact(row).zip(dy.chunks_exact(row)) {
                let (x, dy) = (&x[channel * area..][..area], &dy[channel * area..][..area]);
                sum += dy.iter().fold(F::ZERO, |sum, dy| sum + *dy);
                dot += x.iter().zip(dy).fold(F::ZERO, |sum, (x, dy)| sum + *dy * (*x - mean));
            }
            (sum, dot * inverse)
        };
        let by_channel = |out: &mut [F], accumulate: bool, value: &(dyn Fn(usize) -> F + Sync)| {
            out.par_iter_mut().enumerate().for_each(|(channel, out)| {
                let value = value(channel);
                *out = if accumulate { *out + value } else { value };
            });
        };
        let scratch = std::mem::take(&mut run.scratch);
        let (x, dy) = (run.input(0), run.output_grad());
        scratch[..2 * channels].par_chunks_exact_mut(2).enumerate().for_each(|(channel, pair)| {
            let (sum, dot) = sums(x, dy, channel);
            pair.copy_from_slice(&[sum, dot]);
        });
        let pairs = &scratch[..2 * channels];
        run.grad(1, |ds, accumulate, _| by_channel(ds, accumulate, &|channel| pairs[2 * channel + 1]));
        run.grad(2, |db, accumulate, _| by_channel(db, accumulate, &|channel| pairs[2 * channel]));
        run.grad(0, |dx, accumulate, run| {
            let (x, dy, scale) = (run.input(0), run.output_grad(), run.input(1));
            let n = F::of((x.len() / channels) as f64);
            dx.par_chunks_mut(area.max(1)).enumerate().for_each(|(i, dx)| {
                let (channel, at) = (i % channels, i * area);
                let (mean, inverse) = (saved[channel * SAVED], saved[channel * SAVED + 1]);
                let factor = inverse * scale[channel];
                // Constants in evaluation, functions of the batch in training.
                let (sum, dot) = match training {
                    true => (pairs[2 * channel] / n, pairs[2 * channel + 1] / n * inverse),
                    false => (F::ZERO, F::ZERO),
                };
                for (dx, (x, dy)) in dx.iter_mut().zip(x[at..].iter().zip(&dy[at..])) {
                    let step = (*dy - sum - (*x - mean) * dot) * factor;
                    *dx = if accumulate { *dx + step } else { step };
                }
            });
        });
    }

    fn scratch_len(&self, inputs: &[&Shape], _: usize) -> usize {
        2 * Self::channels(inputs[0])
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;
    use super::*;
    use crate::graph::execution::{Execution, Pass};
    use crate::graph::{Graph, Init};

    const NORM: BatchNorm = BatchNorm { eps: 1e-5, momentum: 0.1 };

    #[test]
    fn backward_agrees_with_finite_differences() {
        for check in [Check::new(NORM), Check::new(NORM).evaluating()] {
            check.rows(&[2, 3, 2]).fixed(&[2]).fixed(&[2]).spread(&[2]).spread(&[2]).run();
        }
    }

    #[test]
    fn statistics_follow_the_batches_of_training_only() {
        let mut graph = Graph::new();
        let x = graph.input("x", &[1, 2]).unwrap();
        let scale = graph.constant("scale", &[1], vec![1.0]).unwrap();
        let bias = graph.constant("bias", &[1], vec![0.0]).unwrap();
        let mean = graph.buffer("mean", &[1], Init::Fill(0.0)).unwrap();
        let variance = graph.buffer("variance", &[1], Init::Fill(1.0)).unwrap();
        graph.node("y", NORM, &[x, scale, bias, mean, variance]).unwrap();
        let mut run: Execution<f64> = Execution::new(&graph, &graph.initial_weights(0), 2, true).unwrap();
        run.value_mut(x).copy_from_slice(&[1.0, 2.0, 3.0, 6.0]);
        run.forward(2, Pass::EVALUATION);
        assert_eq!((run.value(mean)[0], run.value(variance)[0]), (0.0, 1.0));
        run.forward(2, Pass { training: true, seed: 0, step: 1, ..Pass::EVALUATION });
        // The mean is 3 and the sample's variance 14 / 3.
        assert!((run.value(mean)[0] - 0.3).abs() < 1e-7);
        assert!((run.value(variance)[0] - (0.9 + 1.4 / 3.0)).abs() < 1e-7);
    }
}
