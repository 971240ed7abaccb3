//! Masks. Each place of what a frozen backbone sees of a picture, a token of a transformer or a position of its maps, is a
//! row of training: its vector are the features, and the class of most of its pixels is the target. A place of which most
//! pixels are void is no row. What is used and exported is the same graph at all places at once, with the postprocessing
//! behind it.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::parts::{Grid, NOTHING, Parts};
use super::{Base, Kept, Kind, Samples, Whole};
use crate::base::{Error, Result};
use crate::data::Targets;
use crate::graph::op::{Reshape, Transpose};
use crate::graph::{Graph, Weights};
use crate::metric::PerClass;
use crate::plan::ResolvedPlan;
use crate::sample::image::{ImagePreprocess, mask};
use crate::train::{self, Features, InputSpec, Prediction};

/// See the module.
pub struct Masks;

/// Pictures that are measured at a time.
const BLOCK: usize = 16;

impl Kind for Masks {
    /// Their rows are places, which [`Whole::parts`] has.
    fn kept(&self, _: &Targets, _: &[usize]) -> Result<Kept> {
        Ok(Kept::Classes(Vec::new()))
    }

    fn graph_in_use(&self, plan: &ResolvedPlan, base: Base<'_>) -> Result<Graph> {
        let grid = Grid::of(base.inputs, size(steps(plan)?))?;
        let inputs = grid.inputs(base.inputs);
        let of_place = self.graph(plan, Base { inputs: &inputs, ..base })?;
        let mut graph = of_place.lifted(grid.places(), &grid.layouts)?;
        let logits = graph.outputs().first().map(|(_, id)| *id);
        let logits = logits.ok_or_else(|| Error::failed("the trained part has no output"))?;
        let planes = graph.node("maps.planes", Transpose { order: vec![1, 0] }, &[logits])?;
        let dims = vec![plan.classes.len(), grid.height, grid.width];
        let maps = graph.node("maps", Reshape { dims }, &[planes])?;
        graph.set_only_output("maps", maps);
        super::postprocess(plan, &mut graph)?;
        Ok(graph)
    }

    fn must_be_stored(&self) -> bool {
        true
    }

    fn whole(&self, samples: &Samples<'_>) -> Result<Option<Box<dyn Whole>>> {
        let Targets::Masks { names, void, of_row } = samples.targets else { return Err(Kept::of_another_kind()) };
        let steps = mask::steps(steps(samples.plan)?);
        let read = |view: &super::View| -> Result<Vec<u8>> {
            let path = &of_row[view.row].path;
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
        let pixels = samples.views.par_iter().map(read).collect::<Result<Vec<_>>>()?;
        let shown = samples.plan.plan.model.postprocess.as_ref().map(|postprocess| postprocess.output().shape);
        let shown = match shown.as_deref() {
            Some(&[height, width]) => [height, width],
            _ => return Err(Error::failed("the plan does not say what is made of maps")),
        };
        Ok(Some(Box::new(Pictures { size: size(&steps), shown, classes: names.len(), pixels })))
    }
}

/// How pictures become inputs.
fn steps(plan: &ResolvedPlan) -> Result<&ImagePreprocess> {
    plan.plan.model.backbone.preprocess.image().ok_or_else(|| Error::bad_input("masks are of pictures"))
}

/// The height and the width of the network's input.
fn size(steps: &ImagePreprocess) -> [usize; 2] {
    let [_, height, width] = steps.output_shape();
    [height, width]
}

/// The masks of some pictures, as the network sees them.
struct Pictures {
    size: [usize; 2],
    /// Height and width of the class maps that are measured.
    shown: [usize; 2],
    classes: usize,
    /// By picture, `[height, width]`: class numbers, and `classes` for void.
    pixels: Vec<Vec<u8>>,
}

impl Pictures {
    /// The class of most pixels of each place, of equals the first.
    fn classes(&self, grid: &Grid, mask: &[u8]) -> Vec<u32> {
        let [height, width] = self.size;
        let cell =
            |i: usize, size: usize, count: usize| i * size / count..((i + 1) * size / count).max(i * size / count + 1);
        let mut all = Vec::with_capacity(grid.places());
        for (row, column) in (0..grid.places()).map(|place| (place / grid.width, place % grid.width)) {
            // The last is of no class.
            let mut counts = vec![0; self.classes + 1];
            for y in cell(row, height, grid.height) {
                let of_row = &mask[y * width..][cell(column, width, grid.width)];
                of_row.iter().for_each(|value| counts[usize::from(*value).min(self.classes)] += 1);
            }
            let most =
                (0..=self.classes).fold(0, |best, class| if counts[class] > counts[best] { class } else { best });
            all.push(if most == self.classes { NOTHING } else { most as u32 });
        }
        all
    }

    /// The class of the pixel of a mask that a pixel of a class map lies on.
    fn at(&self, mask: &[u8], pixel: usize) -> usize {
        if self.shown == self.size {
            return usize::from(mask[pixel]);
        }
        let near = |at: usize, from: usize, to: usize| (2 * at + 1) * from / (2 * to);
        let row = near(pixel / self.shown[1], self.size[0], self.shown[0]);
        let column = near(pixel % self.shown[1], self.size[1], self.shown[1]);
        usize::from(mask[row * self.size[1] + column])
    }
}

impl Whole for Pictures {
    fn parts(&self, inputs: &[InputSpec]) -> Result<Parts> {
        let grid = Grid::of(inputs, self.size)?;
        if grid.height > self.size[0] || grid.width > self.size[1] {
            return Err(Error::bad_input("the outputs have more places than the network's input has pixels"));
        }
        let targets = self.pixels.par_iter().flat_map_iter(|mask| self.classes(&grid, mask)).collect();
        Ok(Parts { grid, targets })
    }

    /// `pixel_accuracy` and `pixel_mean_iou` over the pixels that have a class, as the network sees them.
    fn measure(
        &self,
        graph: &Graph,
        weights: &Weights,
        features: &dyn Features,
        samples: &[u32],
    ) -> Result<BTreeMap<&'static str, f64>> {
        let mut counts = PerClass::new(self.classes, PerClass::mean_iou);
        for block in samples.chunks(BLOCK) {
            let classes = train::predict(graph, weights, features, block, Prediction::Raw)?;
            for (sample, classes) in block.iter().zip(classes.chunks_exact(self.shown[0] * self.shown[1])) {
                let mask = &self.pixels[*sample as usize];
                for (pixel, class) in classes.iter().enumerate() {
                    let truth = self.at(mask, pixel);
                    if truth < self.classes {
                        counts.count(truth, *class as usize);
                    }
                }
            }
        }
        Ok([("pixel_accuracy", counts.micro_recall()), ("pixel_mean_iou", counts.mean_iou())].into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(size: [usize; 2], shown: [usize; 2]) -> Pictures {
        Pictures { size, shown, classes: 2, pixels: Vec::new() }
    }

    #[test]
    fn a_place_is_of_the_class_of_most_of_its_pixels() {
        let grid = |height, width| Grid { height, width, layouts: Vec::new() };
        // Two classes; 2 is void.
        let mask = [0, 0, 1, 2, 0, 1, 1, 2, 2, 2, 0, 1, 2, 0, 1, 1];
        assert_eq!(pictures([4, 4], [4, 4]).classes(&grid(2, 2), &mask), [0, 1, NOTHING, 1]);
        assert_eq!(pictures([2, 8], [2, 8]).classes(&grid(1, 2), &mask), [0, 1]);
    }

    #[test]
    fn class_maps_of_another_size_are_measured_at_the_nearest_pixels() {
        let mask = [0, 1, 2, 1];
        let wide = pictures([2, 2], [2, 4]);
        assert_eq!((0..8).map(|pixel| wide.at(&mask, pixel)).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2, 1, 1]);
        let one = pictures([2, 2], [1, 1]);
        assert_eq!(one.at(&mask, 0), 1);
    }
}
