//! Bicubic resampling with antialias, as torch's `interpolate(mode="bicubic", antialias=True)`.

use crate::base::cubic;

/// Rows and columns of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    pub rows: usize,
    pub columns: usize,
}

impl Grid {
    pub fn area(self) -> usize {
        self.rows * self.columns
    }
}

/// Resamples `[rows, columns, dim]`.
pub fn resample(values: &[f32], from: Grid, to: Grid, dim: usize) -> Vec<f32> {
    let (down, across) = (weights(from.rows, to.rows), weights(from.columns, to.columns));
    // Columns first, as torch does.
    let mut wide = vec![0.0f64; from.rows * to.columns * dim];
    for row in 0..from.rows {
        for (column, (start, taps)) in across.iter().enumerate() {
            for (tap, weight) in taps.iter().enumerate() {
                let (source, target) = ((row * from.columns + start + tap) * dim, (row * to.columns + column) * dim);
                for c in 0..dim {
                    wide[target + c] += weight * f64::from(values[source + c]);
                }
            }
        }
    }
    let mut out = vec![0.0f64; to.area() * dim];
    let width = to.columns * dim;
    for (row, (start, taps)) in down.iter().enumerate() {
        for (tap, weight) in taps.iter().enumerate() {
            let (source, target) = ((start + tap) * width, row * width);
            for c in 0..width {
                out[target + c] += weight * wide[source + c];
            }
        }
    }
    out.into_iter().map(|value| value as f32).collect()
}

/// For each new place the first old one it takes from, and the weights of that and those that follow.
fn weights(from: usize, to: usize) -> Vec<(usize, Vec<f64>)> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let place = |i: usize| {
        let centre = scale * (i as f64 + 0.5);
        let start = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let taps: Vec<f64> = (start..end).map(|at| cubic(-0.5, (at as f64 - centre + 0.5) / stretch)).collect();
        let sum: f64 = taps.iter().sum();
        (start, taps.into_iter().map(|weight| weight / sum).collect())
    };
    (0..to).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of timm's `resample_abs_pos_embed`; `tests/reference/position.py` prints them.
    #[test]
    fn positions_are_those_of_timm() {
        let from = Grid { rows: 3, columns: 3 };
        let values: Vec<f32> = (0..9).map(|i| (i * i) as f32 / 8.0).collect();
        let close = |got: &[f32], wanted: &[f32]| {
            assert_eq!(got.len(), wanted.len());
            for (got, wanted) in got.iter().zip(wanted) {
                assert!((got - wanted).abs() < 2e-5, "{got} {wanted}");
            }
        };
        close(&resample(&values, from, Grid { rows: 2, columns: 2 }, 1), &SMALLER);
        close(&resample(&values, from, Grid { rows: 4, columns: 5 }, 1), &LARGER);
        let two: Vec<f32> = values.iter().flat_map(|v| [*v, 2.0 * v]).collect();
        let both = resample(&two, from, Grid { rows: 2, columns: 2 }, 2);
        close(&both.iter().step_by(2).copied().collect::<Vec<_>>(), &SMALLER);
    }

    const SMALLER: [f32; 4] = [0.358896, 1.024731, 3.785566, 5.880566];
    const LARGER: [f32; 20] = [
        -0.065246, -0.043704, 0.027052, 0.248928, 0.388218, 0.427372, 0.62309, 1.010758, 1.549545, 1.863011, 2.372498,
        2.821916, 3.671188, 4.67158, 5.238746, 4.550707, 5.174302, 6.340485, 7.657789, 8.39913,
    ];
}
