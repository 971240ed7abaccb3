//! `kind: argmax`: the class of each pixel.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Difference, Output, Surroundings};
use crate::base::{Error, Result};
use crate::graph::op::{ArgMax, Coordinates, Resize, ResizeMode};
use crate::graph::{Graph, ValueId};
use crate::sample::image::mask;

/// Maps of logits are resized to the size of a picture; the class of each pixel is that of its largest logit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Argmax {
    /// Height and width in pixels; those of the network's input if they are not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(inner(inner(range(min = 1, max = 4096))))]
    pub size: Option<[u32; 2]>,
    /// How logits between two places are made.
    pub mode: Interpolation,
}

/// How logits between two places are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// A mean of the four places around, by distance; pixels are areas.
    #[default]
    Bilinear,
    /// Those of the nearest place.
    Nearest,
}

/// The largest side of a class map.
const MAX_SIDE: u32 = 4096;

impl Argmax {
    pub(super) fn filled(&self, Surroundings { input }: Surroundings) -> Self {
        let input = input.map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        Self { size: Some(self.size.unwrap_or(input)), mode: self.mode }
    }

    fn size(&self) -> [usize; 2] {
        self.size.map_or([0; 2], |size| size.map(|side| side as usize))
    }

    /// Logits `[classes, rows, columns]` → class numbers `[height, width]`.
    pub(super) fn build(&self, graph: &mut Graph, logits: ValueId) -> Result<ValueId> {
        let shape = graph.shape(logits).clone();
        if shape.dims.len() != 3 {
            let what = format!("`argmax` takes maps of logits `[classes, height, width]`, not `{shape}`");
            return Err(Error::bad_input(what));
        }
        if self.size.is_none_or(|size| size.iter().any(|side| !(1..=MAX_SIDE).contains(side))) {
            let what = format!("`argmax` needs a height and a width from 1 to {MAX_SIDE}");
            return Err(Error::bad_input(what).hint("give them as `model.postprocess.size`"));
        }
        let mode = match self.mode {
            Interpolation::Bilinear => ResizeMode::Bilinear,
            Interpolation::Nearest => ResizeMode::Nearest,
        };
        let resize = Resize { size: self.size(), mode, coordinates: Coordinates::HalfPixel };
        let resized = graph.node("postprocess.resized", resize, &[logits])?;
        graph.node("postprocess.classes", ArgMax { axis: 0 }, &[resized])
    }

    pub(super) fn output(&self) -> Output {
        Output { name: "classes", shape: self.size().to_vec(), what: "class numbers of pixels, as floats" }
    }

    pub(super) fn answer(&self, row: &[f32]) -> PixelClasses {
        PixelClasses { size: self.size(), pixels: row.iter().map(|class| *class as u8).collect() }
    }

    /// The share of pixels that are of another class; those near a border may fall to either side.
    pub(super) fn difference(a: &[f32], b: &[f32]) -> Difference {
        let differ = a.iter().zip(b).filter(|(a, b)| a != b).count();
        Difference { share: differ as f32 / a.len().max(1) as f32, same_precision: 1e-2, other_precision: 0.1 }
    }
}

/// The class of each pixel of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PixelClasses {
    /// Height and width.
    pub size: [usize; 2],
    /// Class numbers, row by row.
    pub pixels: Vec<u8>,
}

impl PixelClasses {
    /// The share of each class among the pixels.
    pub fn shares(&self, classes: usize) -> Vec<f32> {
        let mut counts = vec![0u32; classes];
        for class in &self.pixels {
            if let Some(count) = counts.get_mut(usize::from(*class)) {
                *count += 1;
            }
        }
        counts.into_iter().map(|count| count as f32 / self.pixels.len().max(1) as f32).collect()
    }

    /// As an 8-bit grey PNG whose values are class numbers.
    ///
    /// # Errors
    /// None for as many pixels as the size says.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        mask::to_png(&self.pixels, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::execution::Pass;
    use crate::graph::{Execution, Weights};

    fn classes(argmax: &Argmax, dims: &[usize], logits: &[f32]) -> Vec<f32> {
        let mut graph = Graph::new();
        let input = graph.input("logits", dims).unwrap();
        let classes = argmax.build(&mut graph, input).unwrap();
        assert_eq!(graph.shape(classes).dims, argmax.output().shape);
        let mut run: Execution<f32> = Execution::new(&graph, &Weights::default(), 1, false).unwrap();
        run.value_mut(input).copy_from_slice(logits);
        run.forward(1, Pass::EVALUATION);
        run.value(classes).to_vec()
    }

    #[test]
    fn every_pixel_gets_the_class_of_the_place_that_it_lies_in() {
        let four = Argmax::default().filled(Surroundings { input: [4, 4] });
        // The second class is that of the right half.
        let found = classes(&four, &[2, 2, 2], &[1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
        assert_eq!(found, [0.0, 0.0, 1.0, 1.0].repeat(4));
        assert_eq!(four.answer(&found).shares(3), [0.5, 0.5, 0.0]);
        // A strong place reaches beyond its own pixels where logits are mixed, and only there.
        let logits = [4.0, 0.0, 0.0, 1.0];
        let wide = Argmax { size: Some([1, 4]), mode: Interpolation::Bilinear };
        assert_eq!(classes(&wide, &[2, 1, 2], &logits), [0.0, 0.0, 0.0, 1.0]);
        let wide = Argmax { mode: Interpolation::Nearest, ..wide };
        assert_eq!(classes(&wide, &[2, 1, 2], &logits), [0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn classes_are_those_of_pytorch() {
        let json: serde_json::Value = serde_json::from_str(include_str!("../../tests/reference/masks.json")).unwrap();
        let numbers = |key: &str| -> Vec<f32> { serde_json::from_value(json[key].clone()).unwrap() };
        let modes = [("bilinear", [9, 13], Interpolation::Bilinear), ("nearest", [8, 13], Interpolation::Nearest)];
        for (key, size, mode) in modes {
            let argmax = Argmax { size: Some(size), mode };
            assert_eq!(classes(&argmax, &[3, 4, 5], &numbers("logits")), numbers(key), "{key}");
        }
    }

    #[test]
    fn what_it_cannot_take_is_told() {
        let mut graph = Graph::new();
        let row = graph.input("row", &[6]).unwrap();
        let message = |argmax: Argmax, graph: &mut Graph, id| argmax.build(graph, id).unwrap_err().to_string();
        assert!(
            message(Argmax { size: Some([4, 4]), ..Argmax::default() }, &mut graph, row).contains("maps of logits")
        );
        let maps = graph.input("maps", &[2, 2, 2]).unwrap();
        assert!(message(Argmax::default(), &mut graph, maps).contains("a height and a width"));
        assert_eq!(Argmax::difference(&[0.0, 1.0], &[0.0, 2.0]).share, 0.5);
    }
}
