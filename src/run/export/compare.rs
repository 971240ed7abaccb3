//! How an exported file compares with the live run.

use serde::Serialize;

use crate::base::{Error, Result};
use crate::graph::Task;
use crate::metric::argmax;
use crate::postprocess::PostprocessConfig;

/// How an exported file compares with the live run.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Where the file ran.
    pub runtime: String,
    /// Samples that were compared.
    pub samples: usize,
    /// The largest difference of an output.
    pub max_difference: f32,
    /// The largest magnitude of an output of the run.
    pub largest: f32,
    /// Samples with the same class, or with the same labels; of classes and labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_prediction: Option<usize>,
    /// The least cosine of a sample's outputs; of embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f32>,
    /// The difference that would have been refused; none where it is only told.
    pub tolerance: Option<f32>,
}

/// What is compared.
pub struct Compared<'a> {
    /// Where the file ran.
    pub runtime: String,
    /// What the run gives, `[samples, width]`.
    pub live: &'a [f32],
    /// What the file gives.
    pub export: &'a [f32],
    /// Outputs of a sample.
    pub width: usize,
    /// What the outputs are.
    pub task: Task,
    /// Above it a label is said.
    pub threshold: f32,
    /// Whether precision and provider are the run's own, so that outputs differ by the order of sums alone; another
    /// precision shows in the predictions.
    pub exact: bool,
    /// Whether a difference is only told, and never refused.
    pub told: bool,
    /// What was made of outputs, which says how much two rows differ.
    pub postprocess: Option<&'a PostprocessConfig>,
}

/// The least cosine of an embedding in another precision.
const LEAST_COSINE: f32 = 0.95;

impl Compared<'_> {
    /// Compares.
    pub fn compare(self) -> Comparison {
        let Self { live, export, width, task, threshold, exact, told, postprocess, runtime } = self;
        if let Some(postprocess) = postprocess {
            return of_answers(postprocess, (live, export, width), exact, told, runtime);
        }
        let largest = live.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let mut differences = live.iter().zip(export).map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() });
        let most = differences.try_fold(0.0f32, |most, x| if x.is_nan() { Err(x) } else { Ok(most.max(x)) });
        let max_difference = if live.len() == export.len() { most.unwrap_or(f32::INFINITY) } else { f32::INFINITY };
        let width = width.max(1);
        let rows = || live.chunks_exact(width).zip(export.chunks_exact(width));
        let said = |row: &[f32]| -> Vec<bool> { row.iter().map(|x| *x > threshold).collect() };
        let same_prediction = match task {
            Task::Classes => Some(rows().filter(|(a, b)| argmax(a) == argmax(b)).count()),
            Task::MultiLabel => Some(rows().filter(|(a, b)| said(a) == said(b)).count()),
            Task::Values | Task::Embedding => None,
        };
        let cosine = (task == Task::Embedding).then(|| rows().map(|(a, b)| cosine(a, b)).fold(1.0, f32::min));
        let tolerance = (!told).then(|| if exact { 2e-2 } else { 0.5 } * largest.max(1e-3));
        Comparison { samples: live.len() / width, max_difference, largest, same_prediction, cosine, tolerance, runtime }
    }
}

/// The largest difference of two rows that were postprocessed.
fn of_answers(
    postprocess: &PostprocessConfig,
    (live, export, width): (&[f32], &[f32], usize),
    exact: bool,
    told: bool,
    runtime: String,
) -> Comparison {
    let width = width.max(1);
    let rows = live.chunks_exact(width).zip(export.chunks_exact(width));
    let (mut most, mut tolerated) = (0.0f32, 0.0f32);
    for difference in rows.map(|(a, b)| postprocess.difference(a, b)) {
        most = most.max(difference.share);
        tolerated = if exact { difference.same_precision } else { difference.other_precision };
    }
    let max_difference = if live.len() == export.len() { most } else { f32::INFINITY };
    let tolerance = (!told).then_some(tolerated);
    let (same_prediction, cosine) = (None, None);
    Comparison {
        samples: live.len() / width,
        max_difference,
        largest: 1.0,
        same_prediction,
        cosine,
        tolerance,
        runtime,
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)) as f32
}

impl Comparison {
    /// Refuses a file that is not the run.
    ///
    /// # Errors
    /// Outputs differ by more than is tolerated, or predictions do.
    pub fn check(&self, shown: &str) -> Result<()> {
        let differs = self.tolerance.is_some_and(|tolerance| self.max_difference > tolerance);
        // An output near a tie may fall to either side.
        let agrees = self.same_prediction.is_none_or(|same| same * 10 >= self.samples * 9);
        let points = self.cosine.is_none_or(|cosine| cosine >= LEAST_COSINE);
        if !differs && agrees && points {
            return Ok(());
        }
        let Self { runtime, samples, max_difference, largest, .. } = self;
        let same =
            self.same_prediction.map(|same| format!(", with the same prediction for {same} of {samples} samples"));
        let cosine = self.cosine.map(|cosine| format!(", with a cosine of {cosine:.4}"));
        let more = same.or(cosine).unwrap_or_default();
        Err(Error::failed(format!(
            "the export differs from the run on `{runtime}`: by up to {max_difference:.2e} where outputs go up to \
             {largest:.2e}{more}; `{shown}` was not written"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared<'a>(live: &'a [f32], export: &'a [f32], task: Task, exact: bool) -> Comparison {
        let runtime = "cpu, fp32".to_string();
        Compared { runtime, live, export, width: 2, task, threshold: 0.0, exact, told: false, postprocess: None }
            .compare()
    }

    #[test]
    fn each_task_is_compared_in_its_own_way() {
        let live = [1.0, -1.0, -2.0, 2.0];
        let classes = compared(&live, &[1.0, -1.01, 2.0, -2.0], Task::Classes, false);
        assert_eq!((classes.same_prediction, classes.samples), (Some(1), 2));
        assert!(classes.check("x").unwrap_err().to_string().contains("1 of 2 samples"));
        assert_eq!(compared(&live, &[0.9, -0.1, -1.0, 1.5], Task::MultiLabel, false).same_prediction, Some(2));
        let values = compared(&live, &[1.0, -1.0, -2.0, 2.1], Task::Values, true);
        assert_eq!((values.same_prediction, values.cosine), (None, None));
        assert!(values.check("x").is_err(), "the same precision gives the same numbers");
        assert!(compared(&live, &[1.0, -1.0, -2.0, 2.1], Task::Values, false).check("x").is_ok());
        let turned = compared(&live, &[1.0, 1.0, -2.0, 2.0], Task::Embedding, false);
        assert!(turned.cosine.unwrap() < 0.1 && turned.check("x").is_err());
        assert!(compared(&live, &[f32::NAN; 4], Task::Values, false).check("x").is_err());
    }
}
