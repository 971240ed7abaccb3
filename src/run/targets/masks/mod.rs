//! Masks. Each place of what a frozen backbone sees of a picture, a token of a transformer or a position of its maps, is a
//! row of training: its vector are the features, and the class of most of its pixels is the target. A place of which most
//! pixels are void is no row. What is used and exported is the same graph at all places at once, with the postprocessing
//! behind it.

use std::fs::File;
use std::io::Read as _;

use rayon::prelude::*;

use super::parts::{Grid, NOTHING, Parts};
use super::{Base, Kept, Kind, Measured, Samples, Seen, Whole};
use crate::base::{Error, Result};
use crate::data::{Row, Targets};
use crate::graph::op::{Reshape, Transpose};
use crate::graph::{Graph, Weights};
use crate::metric::PerClass;
use crate::plan::ResolvedPlan;
use crate::sample::Source;
use crate::sample::image::mask::VOID;
use crate::sample::image::{ImagePreprocess, decode};
use crate::train::{self, Features, InputSpec, Prediction};

/// See the module.
pub struct Masks;

/// Pictures that are measured at a time.
const BLOCK: usize = 16;
/// Pictures that went worst, of which what was found is kept.
const WORST: usize = 12;

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
        let Targets::Masks { names, meaning, of_row } = samples.targets else { return Err(Kept::of_another_kind()) };
        let steps = steps(samples.plan)?;
        let augment = samples.plan.plan.augment().map(|(augment, _)| augment);
        let read = |view: &super::View| -> Result<Vec<u8>> {
            let path = &of_row[view.row].path;
            let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
            let shown = |e: Error| {
                let hint = e.hint_text().map(str::to_string);
                let error = Error::bad_input(format!("`{}` cannot be taken as a mask: {e}", path.display()));
                hint.into_iter().fold(error, Error::hint)
            };
            let mask = meaning.read(&bytes).map_err(shown)?;
            // A pack has no pictures.
            let picture = samples.data.get(view.row).map(picture_size).transpose()?;
            if let Some(picture) = picture.filter(|size| *size != (mask.width, mask.height)) {
                let (path, found) = (path.display(), (mask.width, mask.height));
                let what = format!("the mask `{path}` is of {found:?} pixels, and its picture of {picture:?}");
                return Err(Error::bad_input(what).hint("masks have the size of their pictures"));
            }
            let of_view = augment.as_ref().filter(|_| view.number > 0);
            mask.prepared(steps, of_view.map(|augment| augment.view(&view.digest, view.number))).map_err(shown)
        };
        let pixels = samples.views.par_iter().map(read).collect::<Result<Vec<_>>>()?;
        let shown = samples.plan.plan.model.postprocess.as_ref().map(|postprocess| postprocess.output().shape);
        let shown = match shown.as_deref() {
            Some(&[height, width]) => [height, width],
            _ => return Err(Error::failed("the plan does not say what is made of maps")),
        };
        Ok(Some(Box::new(Pictures { size: size(steps), shown, classes: names.len(), pixels })))
    }
}

/// Bytes in which the headers of most pictures end.
const HEADER: u64 = 256 << 10;

/// The width and the height of a row's picture.
fn picture_size(row: &Row) -> Result<(u32, u32)> {
    let sample = row.samples.iter().next().ok_or_else(|| Error::failed("a row has no picture"))?;
    let mut bytes = Vec::new();
    if let Source::File(path) = &sample.source {
        let file = File::open(path).map_err(Error::io("read", path))?;
        file.take(HEADER).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        if let Ok(size) = decode::size(&bytes, &sample.encoding) {
            return Ok(size);
        }
    }
    sample.read(&mut bytes)?;
    decode::size(&bytes, &sample.encoding)
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
    /// By picture, `[height, width]`: class numbers, and [`VOID`](crate::sample::image::mask::VOID).
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
    fn at(&self, mask: &[u8], pixel: usize) -> u8 {
        if self.shown == self.size {
            return mask[pixel];
        }
        let near = |at: usize, from: usize, to: usize| (2 * at + 1) * from / (2 * to);
        let row = near(pixel / self.shown[1], self.size[0], self.shown[0]);
        let column = near(pixel % self.shown[1], self.size[1], self.shown[1]);
        mask[row * self.size[1] + column]
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
    fn measure(&self, graph: &Graph, weights: &Weights, features: &dyn Features, samples: &[u32]) -> Result<Measured> {
        let mut counts = PerClass::new(self.classes, PerClass::mean_iou);
        let mut worst: Vec<Seen> = Vec::new();
        for block in samples.chunks(BLOCK) {
            let classes = train::predict(graph, weights, features, block, Prediction::Raw)?;
            for (sample, classes) in block.iter().zip(classes.chunks_exact(self.shown[0] * self.shown[1])) {
                let mask = &self.pixels[*sample as usize];
                let truth: Vec<u8> = (0..classes.len()).map(|pixel| self.at(mask, pixel)).collect();
                let found: Vec<u8> = classes.iter().map(|class| *class as u8).collect();
                let (mut right, mut known) = (0u32, 0u32);
                for (truth, found) in truth.iter().zip(&found).filter(|(truth, _)| **truth != VOID) {
                    counts.count(usize::from(*truth), usize::from(*found));
                    (right, known) = (right + u32::from(truth == found), known + 1);
                }
                if known > 0 {
                    let right = f64::from(right) / f64::from(known);
                    worst.push(Seen { sample: *sample, right, size: self.shown, truth, found });
                    worst.sort_by(|a, b| a.right.total_cmp(&b.right));
                    worst.truncate(WORST);
                }
            }
        }
        let metrics = [("pixel_accuracy", counts.micro_recall()), ("pixel_mean_iou", counts.mean_iou())].into();
        let of_class = |&(right, there, found): &(u64, u64, u64)| super::PerClass { there, found, right };
        Ok(Measured { metrics, classes: counts.counts().iter().map(of_class).collect(), worst })
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

    #[test]
    fn pixels_are_measured_as_scikit_learn_does() {
        let json: serde_json::Value =
            serde_json::from_str(include_str!("../../../../tests/reference/masks.json")).unwrap();
        let numbers = |key: &str| -> Vec<f32> { serde_json::from_value(json[key].clone()).unwrap() };
        let truth: Vec<u8> = serde_json::from_value(json["truth"].clone()).unwrap();
        let size = [9, 13];
        let masks = Pictures { size, shown: size, classes: 3, pixels: vec![truth] };
        let mut graph = Graph::new();
        let input = graph.input("classes", &size).unwrap();
        graph.output("classes", input);
        let features = train::InMemory::new(1).with("classes", &size, numbers("bilinear")).unwrap();
        let measured = masks.measure(&graph, &Weights::default(), &features, &[0]).unwrap();
        for (name, value) in &measured.metrics {
            assert!((value - json[name].as_f64().unwrap()).abs() < 1e-9, "{name}: {value}");
        }
        for (class, iou) in measured.classes.iter().zip(numbers("iou")) {
            let found = class.right as f64 / (class.there + class.found - class.right) as f64;
            assert!((found - f64::from(iou)).abs() < 1e-6, "{class:?}: {iou}");
        }
        assert_eq!(measured.worst[0].right, measured.metrics["pixel_accuracy"]);
    }
}
