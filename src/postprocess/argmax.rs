//! `kind: argmax`: the class of each pixel.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};
use crate::graph::op::{ArgMax, Coordinates, Reshape, Resize, ResizeMode, Transpose};
use crate::graph::{Graph, ValueId};

/// Logits at the places of a square grid, `[places, classes]` row by row, become maps that are resized to the picture's
/// size (bilinear, pixels are areas); the class of each pixel is that of its largest logit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Argmax {
    /// Height and width of the picture in pixels.
    pub size: [usize; 2],
}

impl Argmax {
    /// Logits `[places, classes]` → class numbers `[height, width]`.
    pub(super) fn build(&self, graph: &mut Graph, logits: ValueId) -> Result<ValueId> {
        let shape = graph.shape(logits).clone();
        let &[places, classes] = &shape.dims[..] else {
            return Err(Error::bad_input(format!("`argmax` takes logits `[places, classes]`, not `{shape}`")));
        };
        let side = places.isqrt();
        if side * side != places {
            return Err(Error::bad_input(format!(
                "`argmax` takes the places of a square grid, and there are {places}"
            )));
        }
        let planes = graph.node("postprocess.planes", Transpose { order: vec![1, 0] }, &[logits])?;
        let maps = graph.node("postprocess.maps", Reshape { dims: vec![classes, side, side] }, &[planes])?;
        let resize = Resize { size: self.size, mode: ResizeMode::Bilinear, coordinates: Coordinates::HalfPixel };
        let resized = graph.node("postprocess.resized", resize, &[maps])?;
        graph.node("postprocess.classes", ArgMax { axis: 0 }, &[resized])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::execution::Pass;
    use crate::graph::{Execution, Weights};

    #[test]
    fn every_pixel_gets_the_class_of_the_place_that_it_lies_in() {
        let mut graph = Graph::new();
        let logits = graph.input("logits", &[4, 2]).unwrap();
        let classes = Argmax { size: [4, 4] }.build(&mut graph, logits).unwrap();
        assert_eq!(graph.shape(classes).dims, [4, 4]);
        let mut run: Execution<f32> = Execution::new(&graph, &Weights::default(), 1, false).unwrap();
        // The second class is that of the right half.
        run.value_mut(logits).copy_from_slice(&[1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
        run.forward(1, Pass::EVALUATION);
        assert_eq!(run.value(classes), [0.0, 0.0, 1.0, 1.0].repeat(4));
        let six = graph.input("six", &[6, 2]).unwrap();
        assert!(Argmax { size: [4, 4] }.build(&mut graph, six).unwrap_err().to_string().contains("square grid"));
    }
}
