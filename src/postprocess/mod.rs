//! Rank 2: postprocessing, from the outputs of a head to what is asked for, one file per kind. A kind is a function from
//! its config and the shape of the outputs to nodes of a [`Graph`] without weights: predictions run them, and an exported
//! file holds them, so both give the same. It also says what its output is called, and what a row of it means.
//!
//! A further kind is a file here, a variant of [`PostprocessConfig`] and, if its rows mean something new, one of
//! [`Answer`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Result;
use crate::graph::{Graph, ValueId};

mod argmax;

pub use argmax::{Argmax, Interpolation, PixelClasses};

/// What is made of the outputs of the head when a model is used; an exported file has it inside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PostprocessConfig {
    /// The class of each pixel, from maps of logits.
    Argmax(Argmax),
}

/// What is known of the model that is postprocessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surroundings {
    /// Height and width of the network's input in pixels.
    pub input: [usize; 2],
}

/// What a kind gives for a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What an exported file calls it.
    pub name: &'static str,
    /// The shape of a row.
    pub shape: Vec<usize>,
    /// What it is, for people: `class numbers as floats`.
    pub what: &'static str,
}

/// What a row of a kind's output says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The class of each pixel.
    Pixels(PixelClasses),
}

impl PostprocessConfig {
    /// The name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Argmax(_) => "argmax",
        }
    }

    /// With nothing left open.
    #[must_use]
    pub fn filled(&self, surroundings: Surroundings) -> Self {
        match self {
            Self::Argmax(argmax) => Self::Argmax(argmax.filled(surroundings)),
        }
    }

    /// Adds its nodes behind the outputs of a head. Names begin with `postprocess`.
    ///
    /// # Errors
    /// It cannot take outputs of this shape; something is left open.
    pub fn build(&self, graph: &mut Graph, outputs: ValueId) -> Result<ValueId> {
        match self {
            Self::Argmax(argmax) => argmax.build(graph, outputs),
        }
    }

    /// What it gives.
    pub fn output(&self) -> Output {
        match self {
            Self::Argmax(argmax) => argmax.output(),
        }
    }

    /// What a row of its output says.
    pub fn answer(&self, row: &[f32]) -> Answer {
        match self {
            Self::Argmax(argmax) => Answer::Pixels(argmax.answer(row)),
        }
    }

    /// How much two rows of its output differ, from 0 to 1, and how much of that is tolerated between two computations
    /// of the same numbers, and between two precisions.
    pub fn difference(&self, a: &[f32], b: &[f32]) -> Difference {
        match self {
            Self::Argmax(_) => Argmax::difference(a, b),
        }
    }
}

/// How much two rows of an output differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// From 0, the same, to 1.
    pub share: f32,
    /// What may differ where only the order of sums does.
    pub same_precision: f32,
    /// What may differ where the precision does.
    pub other_precision: f32,
}

impl Answer {
    /// A few numbers that stand for it, one for each of so many classes.
    pub fn values(&self, classes: usize) -> Vec<f32> {
        match self {
            Self::Pixels(pixels) => pixels.shares(classes),
        }
    }
}
