//! How the values of a tensor are distributed, gathered in one pass, and the range that 8 bits should span.

use crate::graph::onnx::quantize::Range;
use crate::recipe::{CalibrationConfig, CalibrationMethod};

/// Bins on each side of zero.
const HALF: usize = 2048;

/// Counts of values in bins of one width, a power of two that doubles whenever a value lies outside. So the counts
/// depend on the values alone, not on their order.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    /// The width is two to this.
    exponent: i32,
    low: f32,
    high: f32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; 2 * HALF], exponent: -126, low: 0.0, high: 0.0 }
    }
}

impl Histogram {
    /// Counts some values. Gives `None` if one is not finite.
    pub fn add(&mut self, values: &[f32]) -> Option<()> {
        let (mut low, mut high, mut sum) = (0f32, 0f32, 0f32);
        for &value in values {
            low = low.min(value);
            high = high.max(value);
            // Only what is not finite leaves anything but zero.
            sum += value * 0.0;
        }
        if sum != 0.0 || sum.is_nan() {
            return None;
        }
        (self.low, self.high) = (self.low.min(low), self.high.max(high));
        let largest = high.max(-low);
        while largest >= (HALF as f32) * self.width() {
            self.widen();
        }
        let scale = self.width().recip();
        for &value in values {
            // A value at the very end of the least bin rounds into none.
            let at = ((value * scale).floor() as i32 + HALF as i32).clamp(0, 2 * HALF as i32 - 1);
            self.counts[at as usize] += 1;
        }
        Some(())
    }

    fn width(&self) -> f32 {
        (self.exponent as f32).exp2()
    }

    /// Two bins become one.
    fn widen(&mut self) {
        self.exponent += 1;
        let mut wider = vec![0; 2 * HALF];
        for (at, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let place = (at as i64 - HALF as i64).div_euclid(2) + HALF as i64;
            wider[place as usize] += count;
        }
        self.counts = wider;
    }

    /// The range that a method chooses.
    pub fn range(&self, config: &CalibrationConfig) -> Range {
        match config.method {
            CalibrationMethod::Minmax => Range { low: self.low, high: self.high },
            CalibrationMethod::Percentile => self.percentile(config.percentile / 100.0),
            CalibrationMethod::Entropy => self.entropy(),
        }
    }

    /// The lower and upper ends of a number of bins, within what was seen.
    fn between(&self, first: usize, last: usize) -> Range {
        let edge = |bin: usize| (bin as f32 - HALF as f32) * self.width();
        Range { low: edge(first).max(self.low), high: edge(last + 1).min(self.high) }
    }

    fn percentile(&self, share: f64) -> Range {
        let total: u64 = self.counts.iter().sum();
        let outside = ((1.0 - share).max(0.0) * total as f64).floor() as u64;
        let first = reach(self.counts.iter().enumerate(), outside);
        let last = reach(self.counts.iter().enumerate().rev(), outside);
        let range = self.between(first.min(HALF), last.max(HALF));
        Range { low: range.low.min(0.0), high: range.high.max(0.0) }
    }

    /// Of ever narrower ranges the one whose 255 steps keep most of the distribution. Zero has a number of its own, so
    /// the values in its bin, most of them zeros of a relu, count for nothing.
    fn entropy(&self) -> Range {
        let mut counts = self.counts.clone();
        counts[HALF] = 0;
        let first = reach(counts.iter().enumerate(), 0).min(HALF);
        let last = reach(counts.iter().enumerate().rev(), 0).max(HALF);
        let reach = (HALF - first).max(last + 1 - HALF);
        let least = if first < HALF { 128 } else { 256 };
        let candidates = (0..=96).map(|i| least + (reach.saturating_sub(least)) * i / 96);
        let divergence = |reach: usize| {
            let (first, last) = (first.max(HALF - reach.min(HALF)), last.min(HALF + reach - 1));
            (divergence(&counts, first, last), first, last)
        };
        // Of equals the widest.
        let best = candidates.rev().map(divergence).min_by(|a, b| a.0.total_cmp(&b.0));
        best.map_or(self.between(first, last), |(_, first, last)| self.between(first, last))
    }
}

/// The bin at which more values were passed than may be left outside; the bin of zero if there are no more.
fn reach<'a>(mut counts: impl Iterator<Item = (usize, &'a u64)>, outside: u64) -> usize {
    let mut sum = 0;
    let found = counts.find(|(_, count)| {
        sum += **count;
        sum > outside
    });
    found.map_or(HALF, |(at, _)| at)
}

/// The Kullback-Leibler divergence between the counts, those outside the bins put into the outermost ones, and
/// the same rounded to 255 steps.
fn divergence(counts: &[u64], first: usize, last: usize) -> f64 {
    const STEPS: usize = 255;
    let inside = &counts[first..=last];
    let mut wanted: Vec<f64> = inside.iter().map(|&count| count as f64).collect();
    wanted[0] += counts[..first].iter().sum::<u64>() as f64;
    let end = wanted.len() - 1;
    wanted[end] += counts[last + 1..].iter().sum::<u64>() as f64;
    let mut rounded = vec![0.0; inside.len()];
    for step in 0..STEPS.min(inside.len()) {
        let steps = STEPS.min(inside.len());
        let bins = step * inside.len() / steps..(step + 1) * inside.len() / steps;
        let (sum, used) = inside[bins.clone()].iter().fold((0u64, 0u64), |(s, n), &c| (s + c, n + u64::from(c > 0)));
        for bin in bins.filter(|&bin| inside[bin] > 0) {
            rounded[bin] = sum as f64 / used as f64;
        }
    }
    let (all, kept) = (wanted.iter().sum::<f64>(), rounded.iter().sum::<f64>());
    if all == 0.0 || kept == 0.0 {
        return f64::INFINITY;
    }
    let term = |(p, q): (&f64, &f64)| match *p > 0.0 {
        true => p / all * ((p / all) / (q / kept).max(1e-9)).ln(),
        false => 0.0,
    };
    wanted.iter().zip(&rounded).map(term).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Stream;

    fn of(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        values.chunks(100).for_each(|part| histogram.add(part).unwrap());
        histogram
    }

    fn config(method: CalibrationMethod) -> CalibrationConfig {
        CalibrationConfig { method, percentile: 99.0, ..CalibrationConfig::default() }
    }

    #[test]
    fn counts_do_not_depend_on_the_order() {
        let mut values: Vec<f32> = (0..1000).map(|i| (i as f32 - 300.0) * 0.01).collect();
        let ahead = of(&values);
        values.reverse();
        let back = of(&values);
        assert_eq!((ahead.counts.clone(), ahead.exponent), (back.counts, back.exponent));
        assert_eq!(ahead.counts.iter().sum::<u64>(), 1000);
        assert!(Histogram::default().add(&[1.0, f32::NAN]).is_none());
        assert!(Histogram::default().add(&[f32::INFINITY]).is_none());
    }

    #[test]
    fn each_method_chooses_its_range() {
        let stream = Stream::new(0, 0);
        let mut values: Vec<f32> = (0..100_000).map(|i| stream.normal(i).max(0.0)).collect();
        values.push(40.0);
        let histogram = of(&values);
        assert_eq!(histogram.range(&config(CalibrationMethod::Minmax)), Range { low: 0.0, high: 40.0 });
        let percentile = histogram.range(&config(CalibrationMethod::Percentile));
        // The quantile of 0.99 of a normal distribution is 2.33.
        assert!(percentile.low == 0.0 && (percentile.high - 2.33).abs() < 0.06, "{percentile:?}");
        let entropy = histogram.range(&config(CalibrationMethod::Entropy));
        assert!(entropy.low == 0.0 && entropy.high > 3.0 && entropy.high < 30.0, "{entropy:?}");
    }

    #[test]
    fn both_signs_and_nothing_are_ranges_too() {
        let stream = Stream::new(0, 0);
        let histogram = of(&(0..10_000).map(|i| stream.normal(i)).collect::<Vec<_>>());
        for method in [CalibrationMethod::Minmax, CalibrationMethod::Entropy, CalibrationMethod::Percentile] {
            let range = histogram.range(&config(method));
            assert!(range.low < -1.5 && range.high > 1.5, "{method:?} {range:?}");
            assert_eq!(of(&[0.0, 0.0]).range(&config(method)), Range { low: 0.0, high: 0.0 });
        }
    }
}
