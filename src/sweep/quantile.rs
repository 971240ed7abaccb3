//! Distribution functions and their inverses.

/// The standard normal distribution function, by the error function's continued fraction and series in f64.
pub(super) fn normal_cdf(z: f64) -> f64 {
    0.5 * (1.0 + <f64 as crate::graph::Real>::erf(z / std::f64::consts::SQRT_2))
}

/// The inverse of the standard normal distribution function: P. J. Acklam's rational approximation with one step
/// of Halley's method.
pub(super) fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416];
    let p = p.clamp(1e-12, 1.0 - 1e-12);
    let poly = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |q: f64| poly(&C, q) / (poly(&D, q) * q + 1.0);
    let x = if p < 0.024_25 {
        tail((-2.0 * p.ln()).sqrt())
    } else if p > 1.0 - 0.024_25 {
        -tail((-2.0 * (1.0 - p).ln()).sqrt())
    } else {
        let q = p - 0.5;
        poly(&A, q * q) * q / (poly(&B, q * q) * q * q + 1.0)
    };
    let e = normal_cdf(x) - p;
    let u = e * (2.0 * std::f64::consts::PI).sqrt() * (x * x / 2.0).exp();
    x - u / (1.0 + x * u / 2.0)
}

/// The distribution function of the beta distribution with shapes `a` and `b` (the regularised incomplete beta
/// function): its continued fraction by Lentz's method, on the side of the mean where that converges fast.
pub(super) fn beta_cdf(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    let share = if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, 1.0 - x) / b
    };
    share.clamp(0.0, 1.0)
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let kept = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut c, mut d) = (1.0, 1.0 / kept(1.0 - (a + b) * x / (a + 1.0)));
    let mut value = d;
    for step in 1..1000 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut factor = 1.0;
        for term in [even, odd] {
            d = 1.0 / kept(1.0 + term * d);
            c = kept(1.0 + term / c);
            factor = c * d;
            value *= factor;
        }
        if (factor - 1.0).abs() < 1e-15 {
            break;
        }
    }
    value
}

/// The inverse of [`beta_cdf`] by halving.
pub(super) fn beta_quantile(a: f64, b: f64, p: f64) -> f64 {
    if p <= 0.0 {
        return 0.0;
    }
    if p >= 1.0 {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    loop {
        let middle: f64 = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if beta_cdf(a, b, middle) < p { low = middle } else { high = middle }
    }
}

/// The number beyond which, on both sides together, Student's t with so many degrees of freedom lies with probability
/// `outside`: t² = ν (1 − x) / x for the quantile x of the beta distribution with shapes ν/2 and 1/2.
pub fn student_t(freedom: f64, outside: f64) -> f64 {
    let x = beta_quantile(0.5 * freedom, 0.5, outside);
    (freedom * (1.0 - x) / x).sqrt()
}

/// The logarithm of the gamma function for `x` above 0: Lanczos' approximation with the nine terms of g = 7.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        let pi = std::f64::consts::PI;
        return (pi / (pi * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let sum = TERMS.iter().enumerate().skip(1).fold(TERMS[0], |sum, (i, term)| sum + term / (x + i as f64));
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn betas_are_those_of_scipy() {
        // a, b, x, scipy.stats.beta.cdf(x, a, b)
        let known = [
            (2.0, 5.0, 0.3, 0.579_825),
            (0.5, 0.5, 0.1, 0.204_832_764_699_133_45),
            (0.1, 3.0, 0.0001, 0.459_805_421_957_666_7),
            (8.0, 1.0, 0.9, 0.430_467_21),
            (50.0, 60.0, 0.45, 0.464_235_291_430_603_1),
            (1.0, 1.0, 0.25, 0.25),
            (400.0, 3.0, 0.995, 0.673_963_504_844_697_8),
        ];
        for (a, b, x, share) in known {
            assert!((beta_cdf(a, b, x) - share).abs() < 1e-12, "{a} {b} {x}: {}", beta_cdf(a, b, x));
            assert!((beta_cdf(a, b, beta_quantile(a, b, share)) - share).abs() < 1e-12);
        }
        assert_eq!((beta_quantile(2.0, 3.0, 0.0), beta_quantile(2.0, 3.0, 1.0)), (0.0, 1.0));
    }

    #[test]
    fn students_t_is_that_of_scipy() {
        // Degrees of freedom, scipy.stats.t.ppf(0.975, freedom)
        let known = [
            (1.0, 12.706_204_736_174_694),
            (2.0, 4.302_652_729_749_462),
            (4.0, 2.776_445_105_197_793_3),
            (9.0, 2.262_157_162_798_205),
            (29.0, 2.045_229_642_132_703),
            (99.0, 1.984_216_951_586_417),
            (1000.0, 1.962_339_080_826_408),
        ];
        for (freedom, t) in known {
            assert!((student_t(freedom, 0.05) - t).abs() < 1e-9 * t, "{freedom}: {}", student_t(freedom, 0.05));
        }
    }
}
