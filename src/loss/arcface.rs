//! The additive angular margin.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CrossEntropy, Loss, LossSum, TargetFacts};
use crate::base::Result;
use crate::graph::{Real, Targets};

/// ArcFace (Deng and others, 2019): cross-entropy of a `cosine` head's logits in which the angle to the row's own
/// class is larger by a margin, so that classes are learnt to lie apart by it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Arcface {
    /// The margin, in radians.
    #[schemars(range(min = 0.0, max = 1.5))]
    pub margin: f64,
    /// What the head multiplies cosines by: its `scale`.
    #[schemars(range(min = 1.0e-6))]
    pub scale: f64,
}

impl Default for Arcface {
    fn default() -> Self {
        Self { margin: 0.5, scale: 16.0 }
    }
}

impl Arcface {
    pub(super) fn build<F: Real>(&self, facts: &TargetFacts) -> Result<Box<dyn Loss<F>>> {
        let inner = CrossEntropy::default().build(facts)?;
        Ok(Box::new(Ready { config: self.clone(), width: facts.width, inner, logits: Vec::new() }))
    }
}

struct Ready<F> {
    config: Arcface,
    width: usize,
    inner: Box<dyn Loss<F>>,
    logits: Vec<F>,
}

impl Ready<()> {
    /// The logit of a row's own class, and its derivative. Where the angle and the margin would go past π the
    /// logit falls on in a straight line, as in the authors' code.
    fn own(config: &Arcface, logit: f64) -> (f64, f64) {
        let Arcface { margin, scale } = *config;
        let cosine = (logit / scale).clamp(-1.0, 1.0);
        if cosine <= (std::f64::consts::PI - margin).cos() {
            return (scale * (cosine - margin * margin.sin()), 1.0);
        }
        // The slope is infinite at an angle of 0; there it is cut.
        let sine = (1.0 - cosine * cosine).max(1e-6).sqrt();
        (scale * (cosine * margin.cos() - sine * margin.sin()), margin.cos() + cosine / sine * margin.sin())
    }
}

impl<F: Real> Loss<F> for Ready<F> {
    fn compute(&mut self, outputs: &[F], targets: Targets<'_>, row_losses: &mut [f64], grad: &mut [F]) -> LossSum {
        let Targets::Classes(classes) = targets else { return LossSum::default() };
        self.logits.clear();
        self.logits.extend_from_slice(outputs);
        for (row, y) in self.logits.chunks_exact_mut(self.width).zip(classes) {
            let own = &mut row[*y as usize];
            *own = F::of(Ready::own(&self.config, own.wide()).0);
        }
        let loss = self.inner.compute(&self.logits, targets, row_losses, grad);
        let rows = grad.chunks_exact_mut(self.width).zip(outputs.chunks_exact(self.width));
        for ((grad, outputs), y) in rows.zip(classes) {
            grad[*y as usize] *= F::of(Ready::own(&self.config, outputs[*y as usize].wide()).1);
        }
        loss
    }
}
