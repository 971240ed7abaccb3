//! Steps on all training rows at once.

use super::batch::Reader;
use super::{Data, Trainer};
use crate::base::{Cancel, Error, Result};
use crate::graph::{Graph, Origin};
use crate::loss::LossSum;
use crate::optim::{Lbfgs, LbfgsState};

/// One step of L-BFGS. Gives the loss without the weight decay, and whether the minimum is reached. After an
/// error the trainer is as before.
pub(super) fn step(
    trainer: &mut dyn Trainer,
    reader: &mut Reader<'_>,
    graph: &Graph,
    data: &Data<'_>,
    (config, state): (&Lbfgs, &mut LbfgsState),
    cancel: &Cancel,
) -> Result<(LossSum, bool)> {
    let decays = decays(graph, config.weight_decay);
    let penalty = |point: &[f32]| -> f64 {
        let squares = |(length, decay): (usize, f64), at: usize| {
            0.5 * decay * point[at..at + length].iter().map(|w| f64::from(*w).powi(2)).sum::<f64>()
        };
        let mut at = 0;
        decays.iter().map(|part| (squares(*part, at), at += part.0).0).sum()
    };
    let before = trainer.point();
    let mut point = before.clone();
    let mut evaluate = |point: &[f32]| -> Result<(f64, Vec<f32>)> {
        trainer.set_point(point)?;
        let mut loss = LossSum::default();
        let read = reader.each(data.train, |batch| {
            cancel.check()?;
            loss.add(trainer.accumulate(batch, None)?);
            Ok(())
        });
        // Also after an interruption, for the next sum begins at 0.
        let mut gradient = trainer.take_gradient();
        read?;
        let mut at = 0;
        for (length, decay) in &decays {
            let part = at..at + length;
            gradient[part.clone()].iter_mut().zip(&point[part]).for_each(|(g, w)| *g += *decay as f32 * *w);
            at += length;
        }
        Ok((loss.mean() + penalty(point), gradient))
    };
    let outcome = state.step(&mut point, &mut evaluate);
    trainer.set_point(if outcome.is_ok() { &point } else { &before })?;
    let (loss, ends) = outcome?;
    if !loss.is_finite() {
        return Err(Error::failed("the loss is not finite").hint("standardize the features"));
    }
    let weight = data.train.len() as f64;
    Ok((LossSum { sum: (loss - penalty(&point)) * weight, weight }, ends))
}

/// The length of each parameter and its weight decay, in the order of the graph.
fn decays(graph: &Graph, weight_decay: f64) -> Vec<(usize, f64)> {
    let of_value = |value: &crate::graph::Value| match value.origin {
        Origin::Parameter { decay, .. } => Some((value.shape.elements(), if decay { weight_decay } else { 0.0 })),
        _ => None,
    };
    graph.values().iter().filter_map(of_value).collect()
}
