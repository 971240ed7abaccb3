//! Convolution with one input channel per group, computed directly, map by map.

use super::*;

/// The kernel's places.
fn places(window: &Window) -> impl Iterator<Item = [usize; 2]> + '_ {
    (0..window.kernel[0]).flat_map(|row| (0..window.kernel[1]).map(move |column| [row, column]))
}

pub(in crate::graph::op) fn forward<F: Real>(plan: &Plan, x: &[F], weight: &[F], bias: Option<&[F]>, out: &mut [F]) {
    let Plan { window, map, .. } = plan;
    let (each, kernel) = (plan.out / plan.groups, window.kernel[0] * window.kernel[1]);
    let step = window.strides[1];
    out.par_chunks_exact_mut(map.stops()).enumerate().for_each(|(i, y)| {
        let (sample, channel) = (i / plan.out, i % plan.out);
        let x = &x[(sample * map.channels + channel / each) * map.area()..][..map.area()];
        y.fill(bias.map_or(F::ZERO, |bias| bias[channel]));
        for (k, weight) in places(window).zip(&weight[channel * kernel..]) {
            window.runs(map, k, |to, count, from| {
                let y = &mut y[to..to + count];
                if step == 1 {
                    y.iter_mut().zip(&x[from..from + count]).for_each(|(y, x)| *y += *x * *weight);
                } else {
                    y.iter_mut().zip(x[from..].iter().step_by(step)).for_each(|(y, x)| *y += *x * *weight);
                }
            });
        }
    });
}

pub(in crate::graph::op) fn input_grad<F: Real>(plan: &Plan, weight: &[F], dy: &[F], dx: &mut [F], accumulate: bool) {
    let Plan { window, map, .. } = plan;
    let (each, kernel) = (plan.out / plan.groups, window.kernel[0] * window.kernel[1]);
    let step = window.strides[1];
    dx.par_chunks_exact_mut(map.area()).enumerate().for_each(|(i, dx)| {
        let (sample, channel) = (i / map.channels, i % map.channels);
        if !accumulate {
            dx.fill(F::ZERO);
        }
        for out in channel * each..(channel + 1) * each {
            let dy = &dy[(sample * plan.out + out) * map.stops()..][..map.stops()];
            for (k, weight) in places(window).zip(&weight[out * kernel..]) {
                window.runs(map, k, |from, count, to| {
                    let dy = &dy[from..from + count];
                    if step == 1 {
                        dx[to..to + count].iter_mut().zip(dy).for_each(|(dx, dy)| *dx += *dy * *weight);
                    } else {
                        dx[to..].iter_mut().step_by(step).zip(dy).for_each(|(dx, dy)| *dx += *dy * *weight);
                    }
                });
            }
        }
    });
}

pub(in crate::graph::op) fn weight_grad<F: Real>(plan: &Plan, x: &[F], dy: &[F], dw: &mut [F], accumulate: bool) {
    let Plan { window, map, .. } = plan;
    let (each, kernel) = (plan.out / plan.groups, window.kernel[0] * window.kernel[1]);
    dw.par_chunks_exact_mut(kernel).enumerate().for_each(|(channel, dw)| {
        if !accumulate {
            dw.fill(F::ZERO);
        }
        for (x, dy) in x.chunks_exact(plan.in_row()).zip(dy.chunks_exact(plan.out_row())) {
            let x = &x[channel / each * map.area()..][..map.area()];
            let dy = &dy[channel * map.stops()..][..map.stops()];
            for (k, dw) in places(window).zip(dw.iter_mut()) {
                window.runs(map, k, |at, count, from| {
                    let pairs = dy[at..at + count].iter().zip(x[from..].iter().step_by(window.strides[1]));
                    *dw += pairs.fold(F::ZERO, |sum, (dy, x)| sum + *dy * *x);
                });
            }
        }
    });
}
