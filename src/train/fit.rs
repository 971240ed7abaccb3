//! Statistics of the training rows, fitted before the first epoch.

use super::batch::Reader;
use super::{Batch, Data, Trainer};
use crate::base::{Cancel, Error, Result};
use crate::graph::{Graph, ValueId, Weights};
use crate::loss::TargetFacts;

/// Fits all of the graph's statistics, in order, each in one pass over the training rows: the mean and
/// `1 / sqrt(variance + eps)` (of the population) along the last dimension.
pub(super) fn statistics(
    trainer: &mut dyn Trainer,
    graph: &Graph,
    data: &Data<'_>,
    reader: &mut Reader<'_>,
    cancel: &Cancel,
) -> Result<()> {
    for fit in 0..graph.fits().len() {
        let values = |batch: &mut Batch, values: &mut dyn FnMut(&[f32])| trainer.value(fit, batch, values);
        let found = statistic(graph, fit, data.train, reader, cancel, values)?;
        let mut weights = trainer.weights()?;
        found.into_iter().for_each(|(name, values)| weights.insert(name, [values.len()], values));
        trainer.set_weights(&weights)?;
    }
    Ok(())
}

/// The buffers of the `fit`th statistic of some rows; `values_of` gives the value of a batch that it is of.
pub(super) fn statistic(
    graph: &Graph,
    fit: usize,
    rows: &[u32],
    reader: &mut Reader<'_>,
    cancel: &Cancel,
    mut values_of: impl FnMut(&mut Batch, &mut dyn FnMut(&[f32])) -> Result<()>,
) -> Result<[(String, Vec<f32>); 2]> {
    let mut moments = Moments::of(graph, fit);
    reader.each(rows, |batch| {
        cancel.check()?;
        values_of(batch, &mut |values| moments.add(values))
    })?;
    moments.buffers(graph, fit)
}

fn name(graph: &Graph, id: ValueId) -> String {
    graph.values()[id.index()].name.clone()
}

/// Puts the statistics of the targets into the graph's buffers, where it asks for them.
pub(super) fn targets(trainer: &mut dyn Trainer, graph: &Graph, facts: &TargetFacts) -> Result<()> {
    if graph.target_fit().is_none() {
        return Ok(());
    }
    let mut weights = trainer.weights()?;
    target_statistics(graph, facts, &mut weights)?;
    trainer.set_weights(&weights)
}

/// Puts the statistics of the targets into weights, where the graph asks for them.
pub(super) fn target_statistics(graph: &Graph, facts: &TargetFacts, weights: &mut Weights) -> Result<()> {
    let Some(fit) = graph.target_fit() else { return Ok(()) };
    if facts.moments.len() != facts.width {
        return Err(Error::bad_input("the head predicts values, and the rows are labelled with something else"));
    }
    let varying = |deviation: f64| if deviation > 0.0 { deviation as f32 } else { 1.0 };
    let (means, deviations) = facts.moments.iter().map(|(mean, d)| (*mean as f32, varying(*d))).unzip();
    weights.insert(name(graph, fit.mean), [facts.width], means);
    weights.insert(name(graph, fit.deviation), [facts.width], deviations);
    Ok(())
}

/// The mean and the standard deviation of each of `width` values over rows.
pub(super) fn moments(values: &[f32], width: usize) -> Result<Vec<(f64, f64)>> {
    let mut moments = Moments::new(width);
    moments.add(values);
    let rows = moments.count.max(1.0);
    if moments.squares.iter().any(|s| !s.is_finite()) {
        return Err(Error::bad_input("a value to be predicted is not finite"));
    }
    Ok(moments.mean.iter().zip(&moments.squares).map(|(mean, squares)| (*mean, (squares / rows).sqrt())).collect())
}

/// Streaming mean and variance per feature, merged batch by batch (Chan, Golub and LeVeque, 1979), in f64.
pub(super) struct Moments {
    count: f64,
    mean: Vec<f64>,
    /// The sum of squared deviations from the mean.
    squares: Vec<f64>,
}

impl Moments {
    /// Of no rows yet, for the `fit`th statistic of a graph.
    pub fn of(graph: &Graph, fit: usize) -> Self {
        Self::new(graph.shape(graph.fits()[fit].value).last())
    }

    /// The buffers of the `fit`th statistic.
    ///
    /// # Errors
    /// A feature is not finite.
    pub fn buffers(self, graph: &Graph, fit: usize) -> Result<[(String, Vec<f32>); 2]> {
        let fit = &graph.fits()[fit];
        let (mean, inverse) = self.finish(fit.eps)?;
        Ok([(name(graph, fit.mean), mean), (name(graph, fit.inverse_deviation), inverse)])
    }

    fn new(width: usize) -> Self {
        Self { count: 0.0, mean: vec![0.0; width], squares: vec![0.0; width] }
    }

    /// Takes rows of values.
    pub fn add(&mut self, values: &[f32]) {
        let width = self.mean.len();
        let rows = (values.len() / width.max(1)) as f64;
        if rows == 0.0 {
            return;
        }
        let mut mean = vec![0.0; width];
        for row in values.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(m, x)| *m += f64::from(*x));
        }
        mean.iter_mut().for_each(|m| *m /= rows);
        let mut squares = vec![0.0; width];
        for row in values.chunks_exact(width) {
            for ((s, x), m) in squares.iter_mut().zip(row).zip(&mean) {
                *s += (f64::from(*x) - m).powi(2);
            }
        }
        let total = self.count + rows;
        for i in 0..width {
            let difference = mean[i] - self.mean[i];
            self.squares[i] += squares[i] + difference * difference * self.count * rows / total;
            self.mean[i] += difference * rows / total;
        }
        self.count = total;
    }

    fn finish(self, eps: f64) -> Result<(Vec<f32>, Vec<f32>)> {
        let count = self.count.max(1.0);
        if let Some(i) = self.squares.iter().position(|s| !s.is_finite()) {
            return Err(Error::bad_input(format!("feature {i} is not finite in some training row")));
        }
        // A feature that never varies gives 0 whatever its factor is; with `eps` 0 the factor must not be
        // infinite.
        let inverse = |s: &f64| if s / count + eps > 0.0 { (1.0 / (s / count + eps).sqrt()) as f32 } else { 1.0 };
        Ok((self.mean.iter().map(|m| *m as f32).collect(), self.squares.iter().map(inverse).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_do_not_depend_on_the_batches() {
        let values: Vec<f32> = (0..60).map(|i| 1000.0 + ((i * 37) % 17) as f32).collect();
        let mut whole = Moments::new(3);
        whole.add(&values);
        let mut parts = Moments::new(3);
        parts.add(&values[..9]);
        parts.add(&[]);
        parts.add(&values[9..]);
        let (a, b) = (whole.finish(0.0).unwrap(), parts.finish(0.0).unwrap());
        assert_eq!(a.0, b.0);
        assert!(a.1.iter().zip(&b.1).all(|(a, b)| (a - b).abs() < 1e-6));
        let column: Vec<f64> = values.iter().step_by(3).map(|x| f64::from(*x)).collect();
        let mean = column.iter().sum::<f64>() / 20.0;
        let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20.0;
        assert!((f64::from(a.1[0]) - 1.0 / variance.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn a_feature_that_never_varies_stays_finite() {
        let mut moments = Moments::new(1);
        moments.add(&[2.0, 2.0]);
        assert_eq!(moments.finish(0.0).unwrap(), (vec![2.0], vec![1.0]));
        let mut moments = Moments::new(1);
        moments.add(&[2.0, f32::NAN]);
        assert!(moments.finish(0.0).is_err());
    }
}
