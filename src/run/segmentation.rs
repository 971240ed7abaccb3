//! Masks as targets. Each token of a vision transformer sees one place of the picture, so each place is a row of its own:
//! the tokens are the features, and the class of most of the place's pixels is the target. A place of which most pixels
//! are void is no row. What is used and exported is the same graph at all places at once, with the classes of pixels
//! behind it.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::training;
use crate::base::{Error, Result};
use crate::data::{self, TargetKind};
use crate::graph::{Graph, Weights};
use crate::metric::PerClass;
use crate::plan::ResolvedPlan;
use crate::postprocess::{Argmax, PostprocessConfig};
use crate::sample::image::mask;
use crate::train::{self, Features, InputSpec, Prediction};

/// The target of a place of no class.
pub const VOID: u32 = u32::MAX;

/// Pictures that are measured at a time.
const BLOCK: usize = 16;

/// Where the places of a picture are among its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Tokens before those of the places: of the class, and registers.
    pub prefix: usize,
    side: usize,
}

impl Grid {
    /// The largest square of tokens, at the end of outputs `[tokens, dim]`.
    ///
    /// # Errors
    /// An output is of another shape, or they have different numbers of tokens.
    pub fn of(specs: &[InputSpec]) -> Result<Self> {
        let mut found = None;
        for InputSpec { name, shape } in specs {
            let &[tokens, _] = &shape[..] else {
                let what = format!("masks need outputs of one token per place, `[tokens, dim]`; `{name}` is {shape:?}");
                return Err(Error::bad_input(what).hint("name the backbone's output of tokens as `outputs`"));
            };
            let side = tokens.isqrt();
            let grid = Self { prefix: tokens - side * side, side };
            if *found.get_or_insert(grid) != grid {
                return Err(Error::bad_input(format!("`{name}` has other tokens than the outputs before it")));
            }
        }
        found.filter(|grid| grid.side > 0).ok_or_else(|| Error::bad_input("there are no tokens to train on"))
    }

    /// Places of a picture.
    pub fn places(self) -> usize {
        self.side * self.side
    }

    /// Tokens of a picture.
    pub fn tokens(self) -> usize {
        self.prefix + self.places()
    }

    /// Outputs of one place.
    pub fn specs(self, specs: &[InputSpec]) -> Vec<InputSpec> {
        specs.iter().map(|spec| InputSpec { shape: spec.shape[1..].to_vec(), ..spec.clone() }).collect()
    }

    /// The class of most pixels of each place of a mask `[height, width]`, of equals the first; [`VOID`] where most
    /// are of no class.
    fn classes(self, mask: &[u8], [height, width]: [usize; 2], classes: usize) -> Vec<u32> {
        let cell = |i: usize, size: usize| i * size / self.side..(i + 1) * size / self.side;
        let mut all = Vec::with_capacity(self.places());
        for (row, column) in (0..self.places()).map(|place| (place / self.side, place % self.side)) {
            // The last is of no class.
            let mut counts = vec![0; classes + 1];
            for y in cell(row, height) {
                mask[y * width..][cell(column, width)]
                    .iter()
                    .for_each(|value| counts[usize::from(*value).min(classes)] += 1);
            }
            let best = (0..=classes).fold(0, |best, class| if counts[class] > counts[best] { class } else { best });
            all.push(if best == classes { VOID } else { best as u32 });
        }
        all
    }
}

/// The masks of some rows, and where the network sees them.
pub struct Masks {
    grid: Grid,
    size: [usize; 2],
    classes: usize,
    /// By picture, `[height, width]`: class numbers, and [`Masks::classes`] for void.
    pixels: Vec<Vec<u8>>,
}

impl Masks {
    /// Those of some rows of a data set; `None` if its targets are others.
    ///
    /// # Errors
    /// A mask cannot be read, or has values that are no class; the outputs have no place for each token.
    pub fn of(
        targets: &data::Targets,
        rows: &[usize],
        plan: &ResolvedPlan,
        specs: &[InputSpec],
    ) -> Result<Option<Self>> {
        let data::Targets::Masks { names, void, of_row } = targets else { return Ok(None) };
        let steps = plan.plan.model.backbone.preprocess.image();
        let steps = mask::steps(steps.ok_or_else(|| Error::bad_input("masks are of pictures"))?);
        let [_, height, width] = steps.output_shape();
        let read = |row: &usize| -> Result<Vec<u8>> {
            let path = &of_row[*row].path;
            let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
            let shown = |e| Error::bad_input(format!("`{}` cannot be taken as a mask", path.display())).because(e);
            let mut values = mask::read(&bytes, &steps).map_err(shown)?;
            for value in &mut values {
                if Some(*value) == *void {
                    *value = names.len() as u8;
                } else if usize::from(*value) >= names.len() {
                    let (path, count) = (path.display(), names.len());
                    return Err(Error::bad_input(format!(
                        "`{path}` has the value {value}, and there are {count} classes"
                    ))
                    .hint("`data.names` names them in the order of their numbers from 0; `data.void` is of none"));
                }
            }
            Ok(values)
        };
        let pixels = rows.par_iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok(Some(Self { grid: Grid::of(specs)?, size: [height, width], classes: names.len(), pixels }))
    }

    /// Where places are.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// The class of every place of every picture.
    pub fn places(&self) -> Vec<u32> {
        self.pixels.par_iter().flat_map_iter(|mask| self.grid.classes(mask, self.size, self.classes)).collect()
    }

    /// Every place of some pictures that has a class.
    pub fn rows(&self, places: &[u32], pictures: &[u32]) -> Vec<u32> {
        let count = self.grid.places() as u32;
        let all = pictures.iter().flat_map(|picture| picture * count..(picture + 1) * count);
        all.filter(|row| places[*row as usize] != VOID).collect()
    }

    /// `pixel_accuracy` and `pixel_mean_iou` over the pixels of some pictures that have a class, as the network sees
    /// them. `features` has the tokens of all pictures.
    ///
    /// # Errors
    /// Those of the cache and of the graph.
    pub fn measure(
        &self,
        graph: &Graph,
        weights: &Weights,
        features: &dyn Features,
        pictures: &[u32],
    ) -> Result<BTreeMap<&'static str, f64>> {
        let mut counts = PerClass::new(self.classes, PerClass::mean_iou);
        for block in pictures.chunks(BLOCK) {
            let classes = train::predict(graph, weights, features, block, Prediction::Raw)?;
            for (picture, classes) in block.iter().zip(classes.chunks_exact(self.size[0] * self.size[1])) {
                for (class, truth) in classes.iter().zip(&self.pixels[*picture as usize]) {
                    if usize::from(*truth) < self.classes {
                        counts.count(usize::from(*truth), *class as usize);
                    }
                }
            }
        }
        Ok([("pixel_accuracy", counts.micro_recall()), ("pixel_mean_iou", counts.mean_iou())].into())
    }
}

/// Whether a run was trained on masks.
pub fn is_of(plan: &ResolvedPlan) -> bool {
    plan.target == TargetKind::Masks
}

/// The height and the width of the masks that a run gives.
pub fn size(plan: &ResolvedPlan) -> [usize; 2] {
    plan.plan.model.backbone.preprocess.image().map_or([0; 2], |steps| {
        let [_, height, width] = steps.output_shape();
        [height, width]
    })
}

/// The graph from the tokens of a picture, `specs`, to the class of each of its pixels `[height, width]`.
///
/// # Errors
/// The outputs have no token for each place; the neck or the head does not work at each place.
pub fn graph(plan: &ResolvedPlan, specs: &[InputSpec], stored_rows: usize) -> Result<Graph> {
    let grid = Grid::of(specs)?;
    let of_place = training::graph(plan, None, &grid.specs(specs), stored_rows)?;
    let mut graph = of_place.lifted(grid.places(), grid.prefix)?;
    let logits = graph.outputs().first().map(|(_, id)| *id);
    let logits = logits.ok_or_else(|| Error::failed("the trained part has no output"))?;
    let classes = PostprocessConfig::Argmax(Argmax { size: size(plan) }).build(&mut graph, logits)?;
    graph.set_only_output("classes", classes);
    Ok(graph)
}

/// Class numbers of one picture from what the graph gives.
pub fn classes(values: &[f32]) -> Vec<u8> {
    values.iter().map(|class| *class as u8).collect()
}

/// The share of each class among the pixels.
pub fn shares(pixels: &[u8], classes: usize) -> Vec<f32> {
    let mut counts = vec![0u32; classes];
    pixels.iter().for_each(|class| {
        if let Some(count) = counts.get_mut(usize::from(*class)) {
            *count += 1;
        }
    });
    counts.into_iter().map(|count| count as f32 / pixels.len().max(1) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_of_the_class_of_most_of_its_pixels() {
        let spec = |shape: &[usize]| InputSpec { name: "tokens".into(), shape: shape.to_vec() };
        let grid = Grid::of(&[spec(&[5, 8])]).unwrap();
        assert_eq!((grid.prefix, grid.places(), grid.tokens()), (1, 4, 5));
        assert_eq!(Grid::of(&[spec(&[201, 8])]).unwrap().prefix, 5);
        assert!(Grid::of(&[spec(&[8])]).is_err() && Grid::of(&[spec(&[5, 8]), spec(&[4, 8])]).is_err());
        // Two classes; 2 is void.
        let mask = [0, 0, 1, 2, 0, 1, 1, 2, 2, 2, 0, 1, 2, 0, 1, 1];
        assert_eq!(grid.classes(&mask, [4, 4], 2), [0, 1, VOID, 1]);
        assert_eq!(shares(&[0, 1, 1, 1], 3), [0.25, 0.75, 0.0]);
    }
}
