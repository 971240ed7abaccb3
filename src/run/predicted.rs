//! What a run says of a sample.

use serde::Serialize;

use crate::base::Result;
use crate::graph::Task;
use crate::metric::argmax;
use crate::sample::image::mask;

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
    /// Predicted values in the order of their names, or an embedding; of a mask the share of each class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<f32>,
    /// The class of each pixel, of a run on masks.
    #[serde(skip)]
    pub mask: Option<PixelClasses>,
}

/// The class of each pixel of a picture, as the network sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelClasses {
    /// Height and width.
    pub size: [usize; 2],
    /// Class numbers, row by row.
    pub pixels: Vec<u8>,
}

impl PixelClasses {
    /// As an 8-bit grey PNG whose values are class numbers.
    ///
    /// # Errors
    /// None is known.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        mask::to_png(&self.pixels, self.size)
    }
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
            mask: None,
        }
    }
}
