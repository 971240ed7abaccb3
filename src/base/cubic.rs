//! The cubic that pictures and position embeddings are resampled with.

/// Keys' cubic of four taps (IEEE Transactions on Acoustics, Speech and Signal Processing 29, 1981) at `x` pixels from the
/// centre. Pillow, and torch with antialias, have a = −0.5; torch without antialias has a = −0.75.
pub fn cubic(a: f64, x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_of_four_taps_are_one_in_all() {
        for a in [-0.5, -0.75] {
            assert_eq!((cubic(a, 0.0), cubic(a, 1.0), cubic(a, -2.0)), (1.0, 0.0, 0.0));
            let sum: f64 = [-1.25, -0.25, 0.75, 1.75].into_iter().map(|x| cubic(a, x)).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        }
    }
}
