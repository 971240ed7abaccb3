//! What a run says of a sample.

use serde::Serialize;

use crate::graph::Task;
use crate::metric::argmax;
use crate::postprocess::Answer;

/// What a run says of one sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Predicted {
    /// The file, or the text.
    #[serde(rename = "file")]
    pub input: String,
    /// The class of the greatest probability; of several labels those above one half, with commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The greatest probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f32>,
    /// The probability of every class or label, in the order of the classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probabilities: Vec<f32>,
    /// Predicted values in the order of their names, or an embedding; of class maps the share of each class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<f32>,
    /// What was made of the outputs, by a run with postprocessing.
    #[serde(skip)]
    pub answer: Option<Answer>,
}

impl Predicted {
    /// Of a row of what was made of the head's outputs.
    pub(super) fn of(task: Task, input: &str, classes: &[String], row: &[f32]) -> Self {
        let best = argmax(row);
        let label = match task {
            Task::Classes => Some(classes[best].clone()),
            Task::MultiLabel => {
                let said = classes.iter().zip(row).filter(|(_, p)| **p > 0.5).map(|(name, _)| name.as_str());
                Some(said.collect::<Vec<_>>().join(", "))
            }
            Task::Values | Task::Embedding => None,
        };
        let (probabilities, values) =
            if label.is_some() { (row.to_vec(), Vec::new()) } else { (Vec::new(), row.to_vec()) };
        Self {
            input: input.into(),
            probability: label.as_ref().map(|_| row[best]),
            label,
            probabilities,
            values,
            answer: None,
        }
    }

    /// Of what was made of the outputs.
    pub(super) fn told(input: &str, classes: &[String], answer: Answer) -> Self {
        let (label, probability, probabilities) = (None, None, Vec::new());
        let values = answer.values(classes.len());
        Self { input: input.into(), label, probability, probabilities, values, answer: Some(answer) }
    }
}
