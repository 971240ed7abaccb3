//! Convolution as matrix products: the elements that each window covers stand in a column.
//!
//! Samples are taken in groups whose size depends on shapes alone, so that small maps still give wide
//! products; of one product each element is computed by one thread.

use super::*;

/// Places per product that are enough to be efficient.
const PLACES: usize = 512;

/// A convolution over groups of samples.
#[derive(Debug, Clone, Copy)]
pub(in crate::graph::op) struct Columns {
    plan: Plan,
    /// Samples of one product.
    group: usize,
    /// Elements that a window covers, in all channels.
    covered: usize,
    /// Whether the input itself is already in columns.
    direct: bool,
    arithmetic: Arithmetic,
}

impl Columns {
    pub fn new(plan: Plan, rows: usize, arithmetic: Arithmetic) -> Self {
        let window = &plan.window;
        let group = PLACES.div_ceil(plan.map.stops().max(1)).clamp(1, rows.max(1));
        let covered = plan.map.channels * window.kernel[0] * window.kernel[1];
        let direct = *window == Window { ceil: window.ceil, ..Window::new([1, 1]) } && group == 1;
        Self { plan, group, covered, direct, arithmetic }
    }

    /// Elements of scratch: columns, and outputs with the channel first.
    pub fn room(&self) -> usize {
        (self.covered + self.plan.out) * self.group * self.plan.map.stops()
    }

    pub fn forward<F: Real>(&self, x: &[F], weight: &[F], bias: Option<&[F]>, out: &mut [F], scratch: &mut [F]) {
        let stops = self.plan.map.stops();
        let groups = x.chunks(self.group * self.plan.in_row());
        for (x, out) in groups.zip(out.chunks_mut(self.group * self.plan.out_row())) {
            let width = out.len() / self.plan.out;
            let (columns, turned) = scratch.split_at_mut(self.covered * width);
            let columns = if self.direct { x } else { self.gather(x, columns) };
            let start = |map: (usize, &mut [F])| map.1.fill(bias.map_or(F::ZERO, |bias| bias[map.0]));
            if self.group == 1 {
                if bias.is_some() {
                    out.par_chunks_exact_mut(stops).enumerate().for_each(start);
                }
                self.products(out, weight, columns, width, bias.is_some());
                continue;
            }
            let turned = &mut turned[..out.len()];
            self.products(turned, weight, columns, width, false);
            out.par_chunks_exact_mut(stops).enumerate().for_each(|(i, out)| {
                let (sample, channel) = (i / self.plan.out, i % self.plan.out);
                let bias = bias.map_or(F::ZERO, |bias| bias[channel]);
                let from = &turned[channel * width + sample * stops..][..stops];
                out.iter_mut().zip(from).for_each(|(y, x)| *y = *x + bias);
            });
        }
    }

    /// `out = weight · columns` for each group of channels.
    fn products<F: Real>(&self, out: &mut [F], weight: &[F], columns: &[F], width: usize, accumulate: bool) {
        let (m, k) = (self.plan.out / self.plan.groups, self.covered / self.plan.groups);
        each_group(self.plan.groups, out, m * width, |g, out| {
            let weight = Matrix::new(&weight[g * m * k..][..m * k], m, k);
            self.arithmetic.gemm(
                out,
                weight,
                Matrix::new(&columns[g * k * width..][..k * width], k, width),
                accumulate,
            );
        });
    }

    pub fn weight_grad<F: Real>(&self, x: &[F], dy: &[F], dw: &mut [F], accumulate: bool, scratch: &mut [F]) {
        let (m, k) = (self.plan.out / self.plan.groups, self.covered / self.plan.groups);
        let groups = x.chunks(self.group * self.plan.in_row());
        for (i, (x, dy)) in groups.zip(dy.chunks(self.group * self.plan.out_row())).enumerate() {
            let width = dy.len() / self.plan.out;
            let (columns, turned) = scratch.split_at_mut(self.covered * width);
            let columns = if self.direct { x } else { self.gather(x, columns) };
            let dy = self.turn(dy, turned);
            each_group(self.plan.groups, dw, m * k, |g, dw| {
                let dy = Matrix::new(&dy[g * m * width..][..m * width], m, width);
                let columns = Matrix::new(&columns[g * k * width..][..k * width], k, width);
                self.arithmetic.gemm(dw, dy, columns.t(), accumulate || i > 0);
            });
        }
    }

    pub fn input_grad<F: Real>(&self, weight: &[F], dy: &[F], dx: &mut [F], accumulate: bool, scratch: &mut [F]) {
        let (m, k) = (self.plan.out / self.plan.groups, self.covered / self.plan.groups);
        let groups = dx.chunks_mut(self.group * self.plan.in_row());
        for (dx, dy) in groups.zip(dy.chunks(self.group * self.plan.out_row())) {
            let width = dy.len() / self.plan.out;
            let (columns, turned) = scratch.split_at_mut(self.covered * width);
            let dy = self.turn(dy, turned);
            let product = |g: usize, out: &mut [F], accumulate| {
                let dy = Matrix::new(&dy[g * m * width..][..m * width], m, width);
                self.arithmetic.gemm(out, Matrix::new(&weight[g * m * k..][..m * k], m, k).t(), dy, accumulate);
            };
            if self.direct {
                each_group(self.plan.groups, dx, k * width, |g, dx| product(g, dx, accumulate));
            } else {
                each_group(self.plan.groups, columns, k * width, |g, columns| product(g, columns, false));
                self.scatter(columns, dx, accumulate);
            }
        }
    }

    /// The windows of some samples, in columns: `[channel, kernel place, sample, place]`.
    fn gather<'a, F: Real>(&self, x: &[F], columns: &'a mut [F]) -> &'a [F] {
        let Plan { window, map, .. } = &self.plan;
        let (area, stops) = (map.area(), map.stops());
        let samples = x.len() / self.plan.in_row();
        let step = window.strides[1];
        columns.par_chunks_exact_mut(samples * stops).enumerate().for_each(|(i, columns)| {
            let (channel, k) = self.place(i);
            for (sample, out) in columns.chunks_exact_mut(stops).enumerate() {
                let x = &x[(sample * map.channels + channel) * area..][..area];
                if window.pads != [0; 4] || window.ceil {
                    out.fill(F::ZERO);
                }
                window.runs(map, k, |to, count, from| {
                    if step == 1 {
                        out[to..to + count].copy_from_slice(&x[from..from + count]);
                    } else {
                        out[to..to + count].iter_mut().zip(x[from..].iter().step_by(step)).for_each(|(y, x)| *y = *x);
                    }
                });
            }
        });
        columns
    }

    /// Adds columns to the places they were gathered from.
    fn scatter<F: Real>(&self, columns: &[F], dx: &mut [F], accumulate: bool) {
        let Plan { window, map, .. } = &self.plan;
        let (area, stops) = (map.area(), map.stops());
        let width = dx.len() / self.plan.in_row() * stops;
        let places = window.kernel[0] * window.kernel[1];
        let step = window.strides[1];
        dx.par_chunks_exact_mut(area).enumerate().for_each(|(i, dx)| {
            let (sample, channel) = (i / map.channels, i % map.channels);
            if !accumulate {
                dx.fill(F::ZERO);
            }
            for place in 0..places {
                let row = channel * places + place;
                let from = &columns[row * width + sample * stops..][..stops];
                window.runs(map, self.place(row).1, |at, count, to| {
                    let pairs = dx[to..].iter_mut().step_by(step).zip(&from[at..at + count]);
                    pairs.for_each(|(dx, x)| *dx += *x);
                });
            }
        });
    }

    /// The channel and the place in the kernel of a row of columns.
    fn place(&self, row: usize) -> (usize, [usize; 2]) {
        let [height, width] = self.plan.window.kernel;
        (row / (height * width), [row / width % height, row % width])
    }

    /// Outputs' gradients with the channel first; of one sample they are so already.
    fn turn<'a, F: Real>(&self, dy: &'a [F], turned: &'a mut [F]) -> &'a [F] {
        if self.group == 1 {
            return dy;
        }
        let stops = self.plan.map.stops();
        let turned = &mut turned[..dy.len()];
        turned.par_chunks_exact_mut(dy.len() / self.plan.out).enumerate().for_each(|(channel, out)| {
            for (sample, out) in out.chunks_exact_mut(stops).enumerate() {
                out.copy_from_slice(&dy[(sample * self.plan.out + channel) * stops..][..stops]);
            }
        });
        turned
    }
}

/// Calls `body` with each group's part: one group uses all threads inside, several are shared out.
fn each_group<F: Real>(groups: usize, out: &mut [F], part: usize, body: impl Fn(usize, &mut [F]) + Sync) {
    if groups == 1 {
        body(0, out);
    } else {
        out.par_chunks_mut(part).enumerate().for_each(|(g, out)| body(g, out));
    }
}
