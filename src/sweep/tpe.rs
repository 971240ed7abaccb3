//! Values guided by the trials before: a tree-structured Parzen estimator (Bergstra and others, "Algorithms for
//! hyper-parameter optimization", 2011), over all keys together (as BOHB's, Falkner and others, 2018).
//!
//! Finished trials are parted into the best few and the rest. A density is laid over each part, a sum of one
//! kernel per trial and a flat one; of some candidates drawn from the density of the best, the one is taken
//! where it exceeds that of the rest the most. Numbers are compared where they stand in their own distribution
//! ([`Numbers::unit`](super::Numbers::unit)), so that the flat kernel is that distribution.

use serde_json::Value;

use super::domain::Domain;
use super::space::{Dimension, Setting, Space};
use crate::base::random::Stream;

/// Trials at random before the first guided one.
pub const STARTUP: usize = 10;
const CANDIDATES: u64 = 24;
/// The least width of a kernel, as a share of the range.
const NARROWEST: f64 = 0.01;

/// A trial that ended, or that is under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Its values.
    pub settings: Vec<Setting>,
    /// How good it was, more being better; `None` while it is under way, or if it failed.
    pub score: Option<f64>,
}

/// A trial as a point: where its values stand.
type Point = Vec<Coordinate>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Coordinate {
    /// In 0..1.
    Unit(f64),
    /// Which choice.
    Choice(usize),
    /// A key that the trial does not have: anywhere.
    Any,
}

/// The values of trial `number`. Observations that do not fit the space are passed over; what one lacks of its keys says
/// nothing of them.
pub fn suggest(space: &Space, seen: &[Observation], seed: u64, number: u64) -> Vec<Setting> {
    let mut points: Vec<(Point, f64)> =
        seen.iter().filter_map(|o| Some((point(space, &o.settings)?, o.score.unwrap_or(f64::NEG_INFINITY)))).collect();
    let ended = points.iter().filter(|(_, score)| score.is_finite()).count();
    if ended < STARTUP || space.dimensions.is_empty() {
        return space.draw(seed, number);
    }
    // Trials under way and failed ones stand with the rest, which drives others away from them.
    points.sort_by(|a, b| b.1.total_cmp(&a.1));
    let best = ((ended as f64 * 0.15).ceil() as usize).clamp(1, 25);
    let (good, rest): (Vec<Point>, Vec<Point>) = {
        let rest = points.split_off(best);
        (points.into_iter().map(|p| p.0).collect(), rest.into_iter().map(|p| p.0).collect())
    };
    let (good, rest) = (Density::new(space, good), Density::new(space, rest));
    let stream = Stream::named(seed, &format!("tpe/{number}"));
    let candidates = (0..CANDIDATES).map(|i| good.draw(space, &stream, i));
    let gain = |point: &Point| good.log(point) - rest.log(point);
    let chosen = candidates.max_by(|a, b| gain(a).total_cmp(&gain(b)));
    chosen.map_or_else(|| space.draw(seed, number), |point| settings(space, &point))
}

fn point(space: &Space, settings: &[Setting]) -> Option<Point> {
    let coordinate = |domain: &Domain, value: &Value| match domain {
        Domain::Numbers(numbers) => numbers.unit(value.as_f64()?).map(Coordinate::Unit),
        Domain::Choice { values, .. } => values.iter().position(|v| v == value).map(Coordinate::Choice),
    };
    let of = |d: &Dimension| match settings.iter().find(|s| s.path == d.path) {
        Some(setting) => coordinate(&d.domain, &setting.value),
        None => Some(Coordinate::Any),
    };
    let point: Option<Point> = space.dimensions.iter().map(of).collect();
    point.filter(|point| point.iter().any(|coordinate| *coordinate != Coordinate::Any))
}

fn settings(space: &Space, point: &Point) -> Vec<Setting> {
    let value = |domain: &Domain, coordinate: &Coordinate| match (domain, coordinate) {
        (Domain::Choice { values, .. }, Coordinate::Choice(i)) => values[*i].clone(),
        (domain, Coordinate::Unit(unit)) => domain.at(*unit),
        (domain, _) => domain.at(0.5),
    };
    let pairs = space.dimensions.iter().zip(point);
    pairs.map(|(d, coordinate)| Setting { path: d.path.clone(), value: value(&d.domain, coordinate) }).collect()
}

/// One kernel per point, and a flat one.
struct Density {
    points: Vec<Point>,
    width: f64,
    /// Per key the probabilities of the choices; empty for numbers.
    prior: Vec<Vec<f64>>,
}

impl Density {
    fn new(space: &Space, points: Vec<Point>) -> Self {
        // Scott's rule, from a deviation of a fifth of the range.
        let width = 0.2 * (points.len().max(1) as f64).powf(-1.0 / (space.dimensions.len() as f64 + 4.0));
        let prior = |domain: &Domain| match domain {
            Domain::Choice { probabilities, .. } => probabilities.clone(),
            Domain::Numbers(_) => Vec::new(),
        };
        let prior = space.dimensions.iter().map(|d| prior(&d.domain)).collect();
        Self { points, width: width.max(NARROWEST), prior }
    }

    /// A point of candidate `index`: near one of the points, or anywhere.
    fn draw(&self, space: &Space, stream: &Stream, index: u64) -> Point {
        let of = |slot: u64| (stream.u64(index << 16 | slot) >> 11) as f64 / (1u64 << 53) as f64;
        let kernel = self.points.get((of(0) * (self.points.len() + 1) as f64) as usize);
        let mut slot = 0;
        let mut next = || {
            slot += 1;
            of(slot)
        };
        let one = |d: usize| match (&space.dimensions[d].domain, kernel.map(|point| point[d])) {
            (Domain::Numbers(_), Some(Coordinate::Unit(centre))) => {
                // A normal kernel cut off at the bounds, by rejection; the last resort is the centre.
                let inside = (0..16).find_map(|_| {
                    let radius = (-2.0 * (1.0 - next()).ln()).sqrt();
                    let x = centre + self.width * radius * (std::f64::consts::TAU * next()).cos();
                    (0.0..1.0).contains(&x).then_some(x)
                });
                Coordinate::Unit(inside.unwrap_or(centre))
            }
            (Domain::Numbers(_), _) => Coordinate::Unit(next()),
            (Domain::Choice { values, .. }, centre) => {
                let mut left = next();
                let chance = |i: usize| self.chance(d, centre, i);
                let found = (0..values.len()).find(|i| {
                    left -= chance(*i);
                    left < 0.0
                });
                Coordinate::Choice(found.unwrap_or(values.len() - 1))
            }
        };
        (0..space.dimensions.len()).map(one).collect()
    }

    /// The probability of a choice in a kernel: half at its own, half as the prior; in the flat one the prior.
    fn chance(&self, dimension: usize, centre: Option<Coordinate>, choice: usize) -> f64 {
        let prior = self.prior[dimension][choice];
        match centre {
            Some(Coordinate::Choice(own)) => 0.5 * prior + if own == choice { 0.5 } else { 0.0 },
            _ => prior,
        }
    }

    /// The logarithm of the density at a point.
    fn log(&self, at: &Point) -> f64 {
        let kernel = |centre: Option<&Point>| -> f64 {
            let factor = |(d, x): (usize, &Coordinate)| match (x, centre.map(|c| c[d])) {
                (Coordinate::Unit(x), Some(Coordinate::Unit(c))) => {
                    let z = (x - c) / self.width;
                    let cut = normal_share(c, self.width);
                    -0.5 * z * z - (self.width * (2.0 * std::f64::consts::PI).sqrt() * cut).ln()
                }
                (Coordinate::Choice(choice), centre) => self.chance(d, centre, *choice).max(1e-12).ln(),
                _ => 0.0,
            };
            at.iter().enumerate().map(factor).sum()
        };
        let logs: Vec<f64> = self.points.iter().map(Some).chain([None]).map(kernel).collect();
        let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        largest + (logs.iter().map(|log| (log - largest).exp()).sum::<f64>() / logs.len() as f64).ln()
    }
}

/// The share of a normal kernel that lies between 0 and 1.
fn normal_share(centre: f64, width: f64) -> f64 {
    let below =
        |x: f64| 0.5 * (1.0 + <f64 as crate::graph::Real>::erf((x - centre) / (width * std::f64::consts::SQRT_2)));
    (below(1.0) - below(0.0)).max(1e-12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Problems;
    use crate::sweep::SweepConfig;

    fn space(parameters: Value) -> Space {
        let config: SweepConfig = serde_json::from_value(serde_json::json!({"parameters": parameters})).unwrap();
        config.space(&[], &mut Problems::default())
    }

    /// `train.x0`, `train.x1`, …, each between two bounds.
    fn cube(bounds: &[(f64, f64)]) -> Space {
        let parameter = |(i, (min, max)): (usize, &(f64, f64))| {
            (format!("train.x{i}"), serde_json::json!({"distribution": "uniform", "min": min, "max": max}))
        };
        space(bounds.iter().enumerate().map(parameter).collect::<serde_json::Map<_, _>>().into())
    }

    /// The least value of a function in some trials.
    fn least(space: &Space, seed: u64, trials: u64, guided: bool, of: impl Fn(&[f64]) -> f64) -> f64 {
        let mut seen: Vec<Observation> = Vec::new();
        for number in 0..trials {
            let settings = if guided { suggest(space, &seen, seed, number) } else { space.draw(seed, number) };
            let x: Vec<f64> = settings.iter().map(|s| s.value.as_f64().unwrap()).collect();
            seen.push(Observation { settings, score: Some(-of(&x)) });
        }
        seen.iter().filter_map(|o| o.score).map(|score| -score).fold(f64::INFINITY, f64::min)
    }

    /// Branin's function; its least value is 0.397887.
    fn branin(x: &[f64]) -> f64 {
        let (a, b) = (x[0], x[1]);
        let pi = std::f64::consts::PI;
        (b - 5.1 / (4.0 * pi * pi) * a * a + 5.0 / pi * a - 6.0).powi(2)
            + 10.0 * (1.0 - 1.0 / (8.0 * pi)) * a.cos()
            + 10.0
    }

    /// Hartmann's function of six numbers; its least value is -3.32237.
    fn hartmann6(x: &[f64]) -> f64 {
        const ALPHA: [f64; 4] = [1.0, 1.2, 3.0, 3.2];
        const A: [[f64; 6]; 4] = [
            [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
            [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
            [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
            [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
        ];
        const P: [[f64; 6]; 4] = [
            [0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886],
            [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991],
            [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650],
            [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381],
        ];
        let bump = |i: usize| (0..6).map(|j| A[i][j] * (x[j] - P[i][j]).powi(2)).sum::<f64>();
        -(0..4).map(|i| ALPHA[i] * (-bump(i)).exp()).sum::<f64>()
    }

    /// The means over 20 seeds at 60 trials, guided and at random.
    fn means(space: &Space, of: fn(&[f64]) -> f64) -> [f64; 2] {
        [true, false].map(|guided| (0..20).map(|seed| least(space, seed, 60, guided, of)).sum::<f64>() / 20.0)
    }

    #[test]
    fn branin_is_found_better_than_at_random() {
        assert!((branin(&[std::f64::consts::PI, 2.275]) - 0.397_887).abs() < 1e-5);
        let [guided, random] = means(&cube(&[(-5.0, 10.0), (0.0, 15.0)]), branin);
        assert!(guided < 0.6 * random, "{guided} against {random}");
    }

    #[test]
    fn hartmann6_is_found_better_than_at_random() {
        assert!((hartmann6(&[0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573]) + 3.32237).abs() < 1e-4);
        let [guided, random] = means(&cube(&[(0.0, 1.0); 6]), hartmann6);
        assert!(guided < random - 0.4, "{guided} against {random}");
    }

    #[test]
    fn choices_are_learnt_and_strangers_passed_over() {
        let space =
            space(serde_json::json!({"optimizer": {"values": ["sgd", "adamw", "lion"]}, "lr": "log_uniform(1e-4,1)"}));
        let mut seen = vec![Observation { settings: vec![], score: Some(9.0) }];
        for number in 0..40 {
            let settings = suggest(&space, &seen, 1, number);
            let right = settings[0].value == "lion";
            let score = f64::from(u8::from(right)) - (settings[1].value.as_f64().unwrap().log10() + 2.0).abs();
            seen.push(Observation { settings, score: Some(score) });
        }
        let lions = seen[21..].iter().filter(|o| o.settings[0].value == "lion").count();
        assert!(lions >= 13, "{lions} of 20");
        assert_eq!(suggest(&space, &seen, 1, 40), suggest(&space, &seen, 1, 40));
        // Trials that lack a key are learnt from as well.
        let settings = |kind: &str| vec![Setting { path: "train.optimizer.kind".into(), value: kind.into() }];
        let observation =
            |i: usize| Observation { settings: settings(["sgd", "lion"][i % 2]), score: Some((i % 2) as f64) };
        let partial: Vec<Observation> = (0..20).map(observation).collect();
        let lions = (0..20).filter(|n| suggest(&space, &partial, 1, *n)[0].value == "lion").count();
        assert!(lions >= 13, "{lions} of 20");
    }
}
